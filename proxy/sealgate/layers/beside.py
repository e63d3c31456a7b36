"""Small objects of one call that are on their way at once, so that none of them waits for the one before it.

Most of the time that a small object takes is the way to the storage and back. Several are therefore moved at once, each
on a thread of its own and in memory. The rest of the work, which sealing, opening and the meter do, stays in the order
of the files and on one thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from itertools import takewhile
from typing import TypeVar

from sealgate.plugin import Chunk

MOST = 16
"""Small objects that all calls of a process together move at once, beside the one that each call moves itself
(`rpc.streams.MOST_WORK`)."""
SMALL = 256 << 10
"""Bytes. A stored object of at most this size is small. It is in memory as a whole while it is moved."""

_T = TypeVar("_T")
_R = TypeVar("_R")


class SmallTransfers:
    """The places of one process for small objects that are moved at once.

    Args:
        most: how many places there are.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._places = threading.Semaphore(most)

    def in_order(self, work: Callable[[_T], _R], items: Iterator[_T | None]) -> Generator[tuple[_T, Future[_R]]]:
        """Call `work` on several items at once. Yield each item in order, with the future of the result.

        An item keeps its place until the next one is taken from this generator. Where other calls have all places, an
        item is worked on in this thread. Once the first error among the results is known, no further item is taken
        before that result is. So where `items` itself works between two items, it yields None from time to time. If
        `items` raises, that exception comes after all items before it. Closing the generator waits for the work that
        has begun; no work begins after that.
        """
        begun: deque[tuple[_T, Future[_R]]] = deque()
        """Each has a place."""
        try:
            with ThreadPoolExecutor(self._most, "sealgate-beside") as pool:
                while True:
                    if _has_failed(future for _, future in begun):
                        yield from self._in_turn(begun, len(begun))
                    try:
                        item = next(items)
                    except StopIteration:
                        break
                    except BaseException:
                        yield from self._in_turn(begun, len(begun))
                        raise
                    if item is None:  # that took a while: give back the places of what is done
                        while begun and begun[0][1].done():
                            yield from self._in_turn(begun, 1)
                        continue
                    while not self._places.acquire(blocking=False):
                        if not begun:
                            yield item, _done_here(work, item)
                            break
                        yield from self._in_turn(begun, 1)
                    else:
                        begun.append((item, pool.submit(copy_context().run, work, item)))
                yield from self._in_turn(begun, len(begun))
        finally:
            if begun:
                self._places.release(len(begun))

    def _in_turn(self, begun: deque[tuple[_T, Future[_R]]], count: int) -> Generator[tuple[_T, Future[_R]]]:
        """Yield the first `count` of what has begun, and release their places."""
        for _ in range(count):
            yield begun[0]
            begun.popleft()
            self._places.release()


def _has_failed(in_order: Iterator[Future[_R]]) -> bool:
    """Return whether the first error among the results is known."""
    return any(future.exception() for future in takewhile(Future.done, in_order))


def _done_here(work: Callable[[_T], _R], item: _T) -> Future[_R]:
    future: Future[_R] = Future()
    try:
        future.set_result(work(item))
    except Exception as error:  # noqa: BLE001 - the future raises it
        future.set_exception(error)
    return future


def take_small(content: Iterator[Chunk]) -> tuple[list[Chunk], bool]:
    """Take chunks as long as they are a small object together; return them, and whether `content` has ended.

    If it has not ended, the last of the chunks is valid only until another one is taken.
    """
    taken: list[Chunk] = []
    size = 0
    for chunk in content:
        size += len(chunk)
        if size > SMALL:
            return [*taken, chunk], False
        taken.append(bytes(chunk))
    return [b"".join(taken)], True


def resumed(taken: list[Chunk], content: Iterator[Chunk]) -> Generator[Chunk]:
    """Yield `taken`, and then what is left of `content`."""
    yield from taken
    yield from content
