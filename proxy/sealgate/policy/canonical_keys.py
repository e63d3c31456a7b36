"""Artifact keys: which keys are accepted, and the normal form in which policies compare them.

The storage gets the key that Argo recorded, byte for byte. A key is refused if a decoder could turn it into another
path: by a separator, a dot or a control character that is encoded, or by a character that looks like a separator.
Other keys may have several spellings, such as `date=10%3A00` and `date=10:00`, or an accented letter in one or in two
characters. Rules compare normal forms, so no spelling of a key escapes a rule (docs/policy-reference.md, "Keys").
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

LONGEST_KEY = 1024
"""Bytes of UTF-8. Common object stores accept no longer name."""

_PLAIN = re.compile(r"[A-Za-z0-9_=+,@:-][A-Za-z0-9_=+,@:. -]*(?:/[A-Za-z0-9_=+,@:-][A-Za-z0-9_=+,@:. -]*)*")
_ESCAPES = re.compile(r"%u([0-9A-F]{4})|(?:%[0-9A-F]{2})+", re.IGNORECASE)
_NOT_ASCII_ESCAPES = re.compile(r"()(?:%[89A-F][0-9A-F])+", re.IGNORECASE)
_MOST_DECODINGS = 8
"""How often a character may be encoded: `%253A` is `:` encoded twice."""
_LONGEST_REMEMBERED = 4096
"""Characters. A storage may list longer keys; their normal forms are not kept in memory."""
_STRUCTURE = frozenset("/.")
"""Characters that are never decoded, because they would change the segments of a key."""
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_VISIBLE_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
"""Signs of numbers and verses, which Unicode counts among the format controls (Cf)."""
_IGNORED = re.compile(
    "[\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200d\u2060-\u2064\u206a-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f\U000e0100-\U000e01ef]"
)
"""Characters that are displayed as nothing (Default_Ignorable_Code_Point), but for the bidirectional controls. Emoji,
Persian and Indic words, and text that was copied from a page contain them. Rules ignore them."""
_SPACES = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u2800\u3000]")
"""Spaces other than the ASCII space, and blank Braille. Rules take them for the ASCII space."""
_RESERVED_FOR_EMOJI = re.compile("[\U0001f000-\U0001faff]")
"""Unicode assigns all of these to pictographs, of which this Python may not know the newest."""
_LIKE_SEPARATORS = frozenset(
    "\u1735\u2041\u2044\u2215\u2571\u27cb\u29f6\u29f7\u29f8\u2afb\u2afd\u2cc6\u2e4a\u3033\u31d3\U0001d23a\U0001f67c"
    "\u2216\u2572\u27cd\u29f5\u29f9\u31d4\U0001d20f\U0001d23b\U0001f67d"
)
"""Characters that look like a slash or a backslash (Unicode's table of confusables, and similar ones), and that NFKC
does not change. The Kana and Han letters of that table are accepted."""


def normal_form(key: str) -> str:
    """Return the form of `key` in which policies compare it. It is the same for all spellings of a key.

    Harmless escapes are decoded, however deeply they are nested. Characters that are displayed as nothing are left
    out, every space is the ASCII space, and the rest is in Unicode's composed form (NFC). An escape that would change
    the segments of the key, or that is not UTF-8, stays.
    """
    if key.isascii() and "%" not in key:
        return key
    return _remembered(key) if len(key) <= _LONGEST_REMEMBERED else _normal_form(key)


def _normal_form(key: str) -> str:
    for _ in range(_MOST_DECODINGS + 1):
        before, key = key, _ESCAPES.sub(_decoded, _IGNORED.sub("", key))
        if key == before:
            break
    # The last decoding may have made characters that are ignored.
    return unicodedata.normalize("NFC", _SPACES.sub(" ", _IGNORED.sub("", key)))


_remembered = lru_cache(maxsize=256)(_normal_form)


def is_forbidden(c: str) -> bool:
    """Return whether `c` is in no key: a control, also of the direction of text, or private or not yet assigned."""
    category = unicodedata.category(c)
    if category in _FORBIDDEN_CATEGORIES:
        return not (_IGNORED.match(c) or c in _VISIBLE_FORMATS)
    return category == "Cn" and not _RESERVED_FOR_EMOJI.match(c)


def has_escape(text: str) -> bool:
    """Return whether `text`, in normal form, has an escape that was not decoded.

    The composed form can hide one: a combining mark joins the last digit of `%2F`. So the letters are taken apart.
    """
    return _ESCAPES.search(unicodedata.normalize("NFKD", text)) is not None


def fault_of(key: str) -> str:
    """Say in a few words why `key` is refused; empty if it is accepted."""
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
    normal = normal_form(key)
    return _segment_fault(key) or _spelling_fault(key, normal) or _segment_fault(normal)


def remedy_of(key: str) -> str:
    """Return what the author of a key that is refused can do."""
    if key.endswith("/") and not fault_of(key[:-1]):
        return "Leave out the slash at the end: a directory has a key without one"
    return "Change the key of the artifact"


def _decoded(found: re.Match[str]) -> str:
    """Return what a run of escapes stands for. An escape of `/` or `.`, or one that is not UTF-8, stays."""
    escapes = found[0]
    if found[1]:
        char = chr(int(found[1], 16))
        return escapes if char in _STRUCTURE or unicodedata.category(char) == "Cs" else char
    # Half of a UTF-8 sequence becomes surrogates, which mark the bytes that must stay.
    text = bytes.fromhex(escapes.replace("%", "")).decode(errors="surrogateescape")
    return "".join(_kept(c) if c in _STRUCTURE or unicodedata.category(c) == "Cs" else c for c in text)


def _kept(char: str) -> str:
    """Return the escape of `char`, one byte of a run that is not decoded."""
    return f"%{char.encode(errors='surrogateescape').hex().upper()}"


def _segment_fault(key: str) -> str:
    if key.startswith("/"):
        return "the key begins with a slash"
    if key.endswith("/"):
        return "the key ends with a slash"
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


def _spelling_fault(key: str, normal: str) -> str:
    forbidden = next((c for c in key + normal if is_forbidden(c)), "")
    folded = unicodedata.normalize("NFKC", normal)
    faults = (
        ("\\" in normal, "the key has a backslash"),
        (
            has_escape(normal),
            "the key has a percent-encoded separator or dot, or an escape that is not UTF-8",
        ),
        (forbidden != "", f"the key has the control, private or unassigned character U+{ord(forbidden or ' '):04X}"),
        (_is_ambiguous(key, normal), "the key has a combining mark after a percent-encoded character"),
        (
            folded.count("/") != normal.count("/") or "\\" in folded or not _LIKE_SEPARATORS.isdisjoint(folded),
            "the key has a character that looks like a separator",
        ),
        (any(map(_is_relative, folded.split("/"))), "the key has a segment that looks like a relative segment"),
    )
    return next((fault for found, fault in faults if found), "")


def _is_ambiguous(key: str, normal: str) -> bool:
    """Return whether a program that composes letters and then decodes reads another key than one that only decodes.

    A combining mark after an escape can be composed with its last digit, as in `%4A` and an acute accent.
    """
    if normal.isascii() or "%" not in key:
        return False
    for _ in range(_MOST_DECODINGS):
        for text in (key, _NOT_ASCII_ESCAPES.sub(_decoded, key)):
            if any(normal_form(unicodedata.normalize(form, text)) != normal for form in ("NFC", "NFD")):
                return True
        before, key = key, _ESCAPES.sub(_decoded, key)
        if key == before:
            break
    return False
