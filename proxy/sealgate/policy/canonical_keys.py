"""Canonical artifact keys: keys that every rule and every store read the same way.

A key with a second spelling could be allowed under one spelling and stored under the other. Such a key is rejected.
It is never normalised, because the storage must contain the key that Argo recorded.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST_KEY = 1024
"""Bytes of UTF-8. Common object stores accept no longer name."""

_PLAIN = re.compile(r"[A-Za-z0-9_=+,@:-][A-Za-z0-9_=+,@:. -]*(?:/[A-Za-z0-9_=+,@:-][A-Za-z0-9_=+,@:. -]*)*")
_ESCAPED = re.compile(r"%(?:u[0-9A-Fa-f]{4}|[0-9A-Fa-f]{2})", re.IGNORECASE)
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters, marks and symbols that are displayed as nothing: Default_Ignorable_Code_Point, and blank Braille."""
_LIKE_SEPARATORS = frozenset(
    "\u1735\u2041\u2044\u2215\u2571\u27cb\u29f6\u29f7\u29f8\u2afb\u2afd\u2cc6\u2e4a\u3033\u31d3\U0001d23a\U0001f67c"
    "\u2216\u2572\u27cd\u29f5\u29f9\u31d4\U0001d20f\U0001d23b\U0001f67d"
)
"""Characters that look like a slash or a backslash (Unicode's table of confusables, and similar ones), and that NFKC
does not change. The Kana and Han letters of that table are accepted."""


def fault_of(key: str) -> str:
    """Say in a few words why `key` is not canonical; empty if it is."""
    if not key:
        return "the key is empty"
    if len(key) <= LONGEST_KEY and _PLAIN.fullmatch(key) and " /" not in key and key[-1] != " ":
        return ""  # the common case: ASCII, with no dot or space at the edge of a segment
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "the key is not valid Unicode"
    if size > LONGEST_KEY:
        return f"the key has {size} bytes; the limit is {LONGEST_KEY}"
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
        (any(map(_is_relative, folded.split("/"))), "the key has a segment that looks like a relative segment"),
    )
    return next((fault for found, fault in faults if found), "")


def _is_invisible(c: str) -> bool:
    """Return whether `c` is not displayed, or is a space other than the ASCII space."""
    category = unicodedata.category(c)
    return category in _FORBIDDEN_CATEGORIES or (category == "Zs" and c != " ") or bool(_INVISIBLE.match(c))
