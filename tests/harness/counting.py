"""Counts how often functions run. Counts can gate where times cannot: they are the same on a busy machine."""

from __future__ import annotations

import cProfile
import pstats
import re
from collections.abc import Callable
from types import FunctionType

_BUILTIN = re.compile(r"<built-in method posix\.(\w+)>")
_NO_CALLS = {"fspath"}
"""Functions of the module `posix` that make no system call."""


def calls_of(function: Callable[..., object], work: Callable[[], object]) -> int:
    """Return how often `function`, which is written in Python, is called on this thread while `work` runs."""
    assert isinstance(function, FunctionType)
    code = function.__code__
    return _counted(work).get((code.co_filename, code.co_firstlineno, code.co_name), 0)


def system_calls(work: Callable[[], object]) -> dict[str, int]:
    """Return how often functions of the module `os` make which system call on this thread while `work` runs."""
    found = ((_BUILTIN.fullmatch(name), count) for (_, _, name), count in _counted(work).items())
    return {name[1]: count for name, count in found if name and name[1] not in _NO_CALLS}


def _counted(work: Callable[[], object]) -> dict[tuple[str, int, str], int]:
    profile = cProfile.Profile()
    profile.runcall(work)
    stats: dict[tuple[str, int, str], tuple[int, ...]] = vars(pstats.Stats(profile))["stats"]
    return {place: counts[1] for place, counts in stats.items()}
