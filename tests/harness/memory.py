"""How much a process grows while something happens."""

from __future__ import annotations

import contextlib
import threading
from typing import Self

import psutil


class Watch:
    """Samples the resident memory of a process between entry and exit.

    Args:
        process: its id.
        idle: its resident memory before, in bytes; None for that of now.
        with_children: whether the memory of its descendants counts as well, as it does in a container.
    """

    def __init__(self, process: int, idle: int | None = None, *, with_children: bool = False) -> None:
        self._process = psutil.Process(process)
        self._with_children = with_children
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._peak = self._resident()
        self._idle = self._peak if idle is None else idle

    @property
    def peak(self) -> int:
        return self._peak

    @property
    def grown(self) -> int:
        return self._peak - self._idle

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(0.01):
            self._peak = max(self._peak, self._resident())

    def _resident(self) -> int:
        total = self._process.memory_info().rss
        for child in self._process.children(recursive=True) if self._with_children else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += child.memory_info().rss
        return total
