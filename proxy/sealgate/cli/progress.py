"""The progress of long work: one line that is rewritten on a terminal, and no output where stderr is not a terminal."""

from __future__ import annotations

import sys
import time
from typing import Self

_FIRST_AFTER, _EVERY = 0.5, 0.1
"""Seconds before the line first appears, and between two updates of it."""
_WIDTH = 30
"""Characters of the bar."""


class Progress:
    """Count steps, and show the count while the context is open.

    Args:
        verb: what has been done with the units, such as "sealed".
        unit: the name of one step, such as "MiB".
        total: the number of steps, which adds a bar; None if it is not known.
    """

    def __init__(self, verb: str, unit: str, total: int | None = None) -> None:
        self._verb = verb
        self._unit = unit
        self._total = total
        self._shown = sys.stderr.isatty()
        self._steps = 0
        self._next = time.monotonic() + _FIRST_AFTER

    def __enter__(self) -> Self:
        return self

    def step(self) -> None:
        """Count one step."""
        self._steps += 1
        if self._shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY
            print(f"\r{self._line()}", end="", file=sys.stderr, flush=True)

    def _line(self) -> str:
        if not self._total:
            return f"{self._verb} {self._steps} {self._unit}"
        filled = min(_WIDTH, _WIDTH * self._steps // self._total)
        bar = "#" * filled + "." * (_WIDTH - filled)
        return f"{self._verb} [{bar}] {self._steps} of {self._total} {self._unit}"

    def __exit__(self, *_: object) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
