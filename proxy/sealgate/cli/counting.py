"""Numbers with their nouns, as people read them."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return "1 case", "2 cases" and so on. The plural of `noun` ends in s unless it is given."""
    return f"{count} {noun}" if count == 1 else f"{count} {plural or noun + 's'}"
