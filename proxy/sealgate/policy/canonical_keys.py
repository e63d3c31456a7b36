"""Canonical artifact keys: the one spelling of a key that every rule and every storage agree on.

A key that has a second spelling can be allowed under one and stored under the other. Such keys are
rejected and never normalised: what Argo recorded is what storage must hold.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST_KEY = 1024
"""In bytes of UTF-8: the longest object name that the common stores take."""

_PLAIN = re.compile(r"[A-Za-z0-9_=+,@:-][A-Za-z0-9_=+,@:. -]*(?:/[A-Za-z0-9_=+,@:-][A-Za-z0-9_=+,@:. -]*)*")
_ESCAPED = re.compile(r"%(?:u[0-9A-Fa-f]{4}|[0-9A-Fa-f]{2})", re.IGNORECASE)
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""What Unicode calls letters, marks or symbols, and shows as nothing (Default_Ignorable_Code_Point, blank Braille)."""
_LIKE_SEPARATORS = frozenset(
    "\u1735\u2041\u2044\u2215\u2571\u27cb\u29f6\u29f7\u29f8\u2afb\u2afd\u2cc6\u2e4a\u3033\u31d3\U0001d23a\U0001f67c"
    "\u2216\u2572\u27cd\u29f5\u29f9\u31d4\U0001d20f\U0001d23b\U0001f67d"
)
"""What Unicode's table of confusables has for the slash and the backslash, and kin of theirs; NFKC leaves them as they
are. The Kana and Han letters of that table are letters here."""


def fault_of(key: str) -> str:
    """Say in a few words why `key` is not canonical, or return the empty string if it is."""
    if not key:
        return "the key is empty"
    if len(key) <= LONGEST_KEY and _PLAIN.fullmatch(key) and " /" not in key and key[-1] != " ":
        return ""  # the common case: ASCII, no dot or space where it could matter
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "the key is not valid Unicode"
    if size > LONGEST_KEY:
        return f"the key has {size} bytes, {LONGEST_KEY} are the most"
    return _segment_fault(key) or _spelling_fault(key)


def _segment_fault(key: str) -> str:
    if key.startswith("/") or key.endswith("/"):
        return "the key begins or ends with a slash"
    for segment in key.split("/"):
        if not segment:
            return "the key has an empty segment"
        if _is_relative(segment):
            return "the key has a relative segment"
        if segment != segment.strip():
            return "a segment of the key begins or ends with white space"
    return ""


def _is_relative(segment: str) -> bool:
    return segment.partition(";")[0] in {".", ".."}


def _spelling_fault(key: str) -> str:
    hidden = next((c for c in key if _is_invisible(c)), "")
    folded = unicodedata.normalize("NFKC", key)
    faults = (
        ("\\" in key, "the key has a backslash"),
        (_ESCAPED.search(folded) is not None, "the key has a percent-encoded character"),
        (hidden != "", f"the key has the invisible character U+{ord(hidden or ' '):04X}"),
        (not unicodedata.is_normalized("NFC", key), "the key is not in Unicode's composed form (NFC)"),
        (
            folded.count("/") != key.count("/") or "\\" in folded or not _LIKE_SEPARATORS.isdisjoint(folded),
            "the key has a character that looks like a separator",
        ),
        (any(map(_is_relative, folded.split("/"))), "the key has a segment that looks like a relative one"),
    )
    return next((fault for found, fault in faults if found), "")


def _is_invisible(c: str) -> bool:
    """Whether nothing of it is seen; of spaces only the plain one is seen for what it is."""
    category = unicodedata.category(c)
    return category in _FORBIDDEN_CATEGORIES or (category == "Zs" and c != " ") or bool(_INVISIBLE.match(c))
