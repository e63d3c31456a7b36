"""Counts how often a function runs. Counts can gate where times cannot: they are the same on a busy machine."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable
from types import FunctionType


def calls_of(function: Callable[..., object], work: Callable[[], object]) -> int:
    """Return how often `function`, which is written in Python, is called on this thread while `work` runs."""
    assert isinstance(function, FunctionType)
    profile = cProfile.Profile()
    profile.runcall(work)
    code = function.__code__
    place = (code.co_filename, code.co_firstlineno, code.co_name)
    stats: dict[tuple[str, int, str], tuple[int, ...]] = vars(pstats.Stats(profile))["stats"]
    return stats[place][1] if place in stats else 0
