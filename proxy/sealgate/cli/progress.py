"""The progress of long work: one line that is rewritten on a terminal, and no output where stderr is not a terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Self, TypeVar

_FIRST_AFTER, _EVERY = 0.5, 0.2
"""Seconds before the line first appears, and between two updates of it."""
_WIDTH = 30
"""Characters of the bar."""

T = TypeVar("T")


class Progress:
    """Count steps, and show the count and the seconds while the context is open, also while no step ends.

    A thread writes the line, so that a user sees it while the command waits for a server or for input. A command that
    prints in the meantime takes what it prints from `each`, which hides the line.

    Args:
        verb: what has been done with the units, such as "sealed", or what is being done where there is no unit.
        unit: the name of one step, such as "MiB"; empty if steps are not counted.
        total: the number of steps, which adds a bar; None if it is not known.
        shown: whether a terminal shows the line.
    """

    def __init__(self, verb: str, unit: str = "", total: int | None = None, *, shown: bool = True) -> None:
        self._verb = verb
        self._unit = unit
        self._total = total
        self._steps = 0
        self._began = time.monotonic()
        self._hidden = False
        self._drawn = False
        self._ended = threading.Event()
        self._drawing = threading.Lock()
        on_terminal = shown and sys.stderr is not None and sys.stderr.isatty()
        self._thread = (
            threading.Thread(target=self._draw, name="sealgate-progress", daemon=True) if on_terminal else None
        )

    def __enter__(self) -> Self:
        if self._thread:
            self._thread.start()
        return self

    def step(self) -> None:
        """Count one step."""
        self._steps += 1

    def counted(self, items: Iterable[T]) -> Iterator[T]:
        """Yield `items`, and count each as a step."""
        for item in items:
            self._steps += 1
            yield item

    def each(self, items: Iterable[T]) -> Iterator[T]:
        """Yield `items`, and hide the line while the caller works with one, and after the last one."""
        for item in items:
            self._hide()
            yield item
            self._hidden = False
        self._hide()

    def _draw(self) -> None:
        wait = _FIRST_AFTER
        while not self._ended.wait(wait):
            wait = _EVERY
            with self._drawing:
                if not self._hidden:
                    self._drawn = True
                    print(f"\r{self._line()}", end="", file=sys.stderr, flush=True)

    def _hide(self) -> None:
        with self._drawing:
            self._hidden = True
            if self._drawn:
                self._drawn = False
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _line(self) -> str:
        seconds = f"{time.monotonic() - self._began:.0f} s"
        if not self._unit:
            return f"{self._verb}, {seconds}"
        if not self._total:
            return f"{self._verb} {self._steps} {self._unit}, {seconds}"
        filled = min(_WIDTH, _WIDTH * self._steps // self._total)
        bar = "#" * filled + "." * (_WIDTH - filled)
        return f"{self._verb} [{bar}] {self._steps} of {self._total} {self._unit}, {seconds}"

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread:
            self._thread.join()
        self._hide()
