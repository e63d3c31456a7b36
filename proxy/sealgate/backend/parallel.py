"""Bounded parallel work: a memory budget, and a loop over several threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


class Budget:
    """A number of bytes of memory that all work on one event loop shares, until some of the work fails."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._waiting: list[asyncio.Future[None]] = []
        self._failure: BaseException | None = None

    @asynccontextmanager
    async def of(self, size: int) -> AsyncIterator[None]:
        """Wait until `size` bytes are free, and reserve them for the body. A larger `size` takes all.

        Raises:
            BaseException: another body raised it. No body begins after that.
        """
        size = min(size, self._size)
        while self._free < size:
            freed = asyncio.get_running_loop().create_future()
            self._waiting.append(freed)
            await freed
        if self._failure:
            raise self._failure
        self._free -= size
        try:
            yield
        except BaseException as failure:
            self._failure = failure
            raise
        finally:
            self._free += size
            waiting, self._waiting = self._waiting, []
            for one in waiting:
                if not one.done():
                    one.set_result(None)


def each(work: Callable[[T], object], items: Iterator[T], workers: int) -> None:
    """Call `work` on every item, on `workers` threads. The first failure stops all of them and is raised.

    One thread at a time takes an item, and only when it is ready to work on it.
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
