"""Small objects of one call that are on their way at once, so that none of them waits for the one before it.

Most of the time that a small object takes is the way to the storage and back. Several are therefore moved at once, each
on a thread of its own and in memory. The rest of the work, which sealing, opening and the meter do, stays in the order
of the files and on one thread. If the storage is a local directory, one thread does all of the work: no object waits
for a network, and several threads would only take the interpreter from each other.
"""

from __future__ import annotations

import resource
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from itertools import takewhile
from typing import Generic, Protocol, TypeVar

from sealgate.plugin import Chunk

MOST = 16
"""Small objects that all calls of a process together move at once, beside the one that each call moves itself
(`rpc.streams.MOST_WORK`)."""
SMALL = 256 << 10
"""Bytes. A stored object of at most this size is small. It is in memory as a whole while it is moved."""
_WAIT = 0.0002
"""Seconds. An object that takes so long because of its storage is worth a thread, which costs about half of that."""
_WAITED, _AT_ONCE, _MOST_WAITS = 2, -1, 6
"""What an object adds that was waited for, and one that was not. From the third number on, the storage is one that has
to be waited for: after three in a row, or in the long run more than a third of the objects."""

_T = TypeVar("_T")
_R = TypeVar("_R")
_R_co = TypeVar("_R_co", covariant=True)


class WorkOutcome(Protocol[_R_co]):
    """What became of the work on one item."""

    def result(self) -> _R_co:
        """Return the result; raise the error if the work failed. It may wait for the end of the work."""


class SmallTransfers:
    """The places of one process for small objects that are moved at once.

    Args:
        most: how many places there are.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._places = threading.Semaphore(most)

    def in_order(
        self, work: Callable[[_T], _R], items: Iterator[_T | None], *, is_local: bool
    ) -> Generator[tuple[_T, WorkOutcome[_R]]]:
        """Call `work` on several items at once. Yield each item in order, with the outcome.

        An item keeps its place until the next one is taken from this generator. Where other calls have all places, an
        item is worked on in this thread. Once the first error among the results is known, no further item is taken
        before that result is. So where `items` itself works between two items, it yields None from time to time. If
        `items` raises, that exception comes after all items before it. Closing the generator waits for the work that
        has begun; no work begins after that.

        Args:
            work: moves one item. It is called on other threads, too.
            items: yields the items; see above for None.
            is_local: see `ArtifactPlugin.is_local`. `work` is then called in this thread, one item after the other,
                until it waits for most of them, as it does where the local directory is on another machine.
        """
        if is_local:
            yield from _until_it_waits(work, items)
        yield from self._at_once(work, items)

    def _at_once(self, work: Callable[[_T], _R], items: Iterator[_T | None]) -> Generator[tuple[_T, WorkOutcome[_R]]]:
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


def _until_it_waits(work: Callable[[_T], _R], items: Iterator[_T | None]) -> Generator[tuple[_T, WorkOutcome[_R]]]:
    """Call `work` on one item after the other, as long as it hardly ever waits."""
    waits = 0
    for item in items:
        if item is not None:
            done = _done_here(work, item)
            waits = max(0, waits + (_WAITED if done.waited else _AT_ONCE))
            yield item, done
            if waits >= _MOST_WAITS:
                return


def _has_failed(in_order: Iterator[Future[_R]]) -> bool:
    """Return whether the first error among the results is known."""
    return any(future.exception() for future in takewhile(Future.done, in_order))


@dataclass(frozen=True, slots=True)
class _Done(Generic[_R]):
    """The outcome of work that was done in the thread that asks for it."""

    returned: list[_R]
    """The result alone; nothing if the work failed."""
    error: Exception | None
    waited: bool
    """Whether the work took a while, and this thread gave up the processor by itself meanwhile."""

    def result(self) -> _R:
        if self.error is not None:
            raise self.error
        return self.returned[0]


def _done_here(work: Callable[[_T], _R], item: _T) -> _Done[_R]:
    returned: list[_R] = []
    error: Exception | None = None
    began, pauses = time.perf_counter(), _pauses()
    try:
        returned.append(work(item))
    except Exception as fault:  # noqa: BLE001 - the outcome raises it
        error = fault
    return _Done(returned, error, time.perf_counter() - began > _WAIT and _pauses() > pauses)


def _pauses() -> int:
    """Return how often this thread has given up the processor to wait for something."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


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
