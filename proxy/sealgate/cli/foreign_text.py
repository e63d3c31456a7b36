"""Shows texts of other programs in a report: on one line, of limited length, and without an author's secrets."""

from __future__ import annotations

from sealgate.errors import one_line

_LONGEST_TEXT = 1000
"""The most characters of a text that are shown, because a plugin's text can have any length."""


def shown(text: str, secrets: frozenset[str], longest: int = _LONGEST_TEXT) -> str:
    """Return `text` as one line of at most `longest` characters, without `secrets`, which a plugin may repeat."""
    for secret in sorted(secrets, key=len, reverse=True):  # one can be a part of another
        text = text.replace(secret, "…")
    return one_line(text if len(text) <= longest else f"{text[:longest]}…")
