"""Numbers with their nouns, as people read them."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return "1 case", "2 cases" and so on. `noun` is a singular whose plural ends in s."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
