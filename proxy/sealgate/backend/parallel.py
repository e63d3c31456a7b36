"""Doing several things at once, within bounds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


class Budget:
    """So many bytes of memory that the threads of one call share."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Wait until `size` bytes are free, and keep them for the body. More than there are means all."""
        size = min(size, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


def each(work: Callable[[T], object], items: Iterator[T], workers: int) -> None:
    """Do `work` on every item, by `workers` threads at once. The first failure stops all, and is raised.

    Items are taken by one thread at a time, each only when somebody is free to work on it.
    """
    if workers == 1:
        for item in items:
            work(item)
        return
    taking = threading.Lock()
    failures: list[BaseException] = []

    def worker() -> None:
        try:
            while not failures:
                with taking:
                    item = next(items, done)
                if item is done:
                    return
                work(item)  # type: ignore[arg-type]  # it is not `done`
        except BaseException as failure:  # noqa: BLE001 - raised below, in the thread that waits
            failures.append(failure)

    done = object()
    with ThreadPoolExecutor(workers, "backend") as pool:
        for _ in range(workers):
            pool.submit(worker)
    if failures:
        raise failures[0]
