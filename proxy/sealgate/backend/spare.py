"""The memory that all transfers of a process share, for the parts that each has in flight beyond those it must have."""

from __future__ import annotations

import threading
from typing import Self

MOST = 256 << 20
"""Bytes, where memory is not limited."""


class SpareMemory:
    """Memory that transfers take to be faster. No transfer waits for it: without it, one goes on with fewer parts.

    Args:
        size: bytes.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Take `size` bytes if so many are free, and return whether they were."""
        with self._lock:
            if taken := size <= self._free:
                self._free -= size
            return taken

    def give_back(self, size: int) -> None:
        """Give back `size` bytes that were taken."""
        with self._lock:
            self._free += size


class Share:
    """What one transfer has taken of the spare memory. The end of the context gives it back.

    Args:
        memory: what it is taken from.
        part: bytes that are taken at a time.
    """

    def __init__(self, memory: SpareMemory, part: int) -> None:
        self._memory = memory
        self._part = part
        self.parts = 0
        """How many parts are taken."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.give_back(self.parts * self._part)
        self.parts = 0

    def take(self) -> bool:
        """Take one part more if it is free, and return whether it was."""
        taken = self._memory.take(self._part)
        self.parts += taken
        return taken

    def give_back(self) -> None:
        """Give back one part."""
        self.parts -= 1
        self._memory.give_back(self._part)
