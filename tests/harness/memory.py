"""How much a process grows while something happens."""

from __future__ import annotations

import threading
from typing import Self

import psutil


class Watch:
    """Samples the resident memory of a process between entry and exit."""

    def __init__(self, process: int) -> None:
        self._process = psutil.Process(process)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._idle = self._peak = self._process.memory_info().rss

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
            self._peak = max(self._peak, self._process.memory_info().rss)
