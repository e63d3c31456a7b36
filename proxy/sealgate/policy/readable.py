"""Sizes, ages and times as people read them. A text has them beside the exact number, or instead of it."""

from __future__ import annotations

from datetime import UTC, datetime

_SIZES = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
_AGES = ((86_400, "days"), (3600, "hours"), (60, "minutes"))


def size_beside(size: int) -> str:
    """Return a size in bytes as ` (6 GiB)` or ` (1.5 KiB)`, to follow the exact number; empty below 1 KiB."""
    found = _scaled(size, _SIZES, 1)
    return f" ({found})" if found else ""


def age_beside(age: int) -> str:
    """Return an age in seconds as ` (30 days)` or ` (36 hours)`, to follow the number; empty below two minutes."""
    found = _scaled(age, _AGES, 2)
    return f" ({found})" if found else ""


def age(seconds: int) -> str:
    """Return an age as `30 days`, `36 hours` or `90 s`."""
    return _scaled(seconds, _AGES, 2) or f"{seconds} s"


def time(seconds: int) -> str:
    """Return Unix seconds as `2026-12-01T18:00:00Z`, the form of `expires` in a policy."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _scaled(number: int, units: tuple[tuple[int, str], ...], least: int) -> str:
    """Return `number` in the largest unit of which it has at least `least`; empty if there is none."""
    for factor, name in units:
        if number >= least * factor:
            whole, rest = divmod(number, factor)
            return f"{number / factor:.1f} {name}" if rest else f"{whole} {name}"
    return ""
