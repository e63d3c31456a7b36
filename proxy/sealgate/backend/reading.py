"""Reads one object from one version, with several ranges in flight (docs/decisions/parallel-transfers.md)."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Generator, Iterator
from typing import TYPE_CHECKING

import obstore

from sealgate.backend.errors import SAYS, Missing, store_errors
from sealgate.backend.in_flight import Background, each_at_once, run
from sealgate.backend.spare import Share, SpareMemory
from sealgate.call import Call
from sealgate.errors import Unavailable
from sealgate.storage.local_paths import write_all_at

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ObjectStore

_MIB = 1 << 20
_CHUNK = 256 << 10
"""Bytes that the library collects before it returns them."""
_RANGES = 8
"""How many ranges are in flight when an object goes to a file. Each goes to its place as it arrives."""
_RANGE = 8 * _MIB
"""The size of such a range, in bytes."""
_PARTS, _PART = 6, 4 * _MIB
"""The same when an object is read in order. Each range then waits in memory until those before it were taken. One of
them is the reader's own, and the others are taken from the spare memory of the process."""
_BATCH = _MIB
"""Bytes of an object without a version that wait in memory while as many are on their way."""
READING = _RANGES * 2 * _CHUNK
"""The most memory that it takes to read an object to a file, in bytes."""


class ObjectReading:
    """An object whose first answer has arrived. Every further one must be of the same version.

    Args:
        store: the library's store.
        name: the object's name in it.
        result: the answer to a request for the whole object.
    """

    def __init__(self, store: ObjectStore, name: str, result: GetResult) -> None:
        self._store = store
        self._name = name
        self._result = result
        self._size = result.meta["size"]
        self._version = result.meta["e_tag"]
        self._is_weak = self._version is not None and self._version.startswith("W/")  # If-Match never matches it

    @classmethod
    async def begin(cls, store: ObjectStore, name: str) -> ObjectReading:
        """Request the object.

        Raises:
            Missing: there is no such object.
        """
        with store_errors():
            return cls(store, name, await obstore.get_async(store, name))

    async def if_small(self) -> list[memoryview] | None:
        """Return all bytes if they are at most one chunk; else None."""
        return [chunk async for chunk in self._range(0, self._size)] if self._size <= _CHUNK else None

    async def to_file(self, call: Call, fd: int) -> None:
        """Write all bytes to the new file open as `fd`."""

        async def write(offset: int) -> None:
            async for chunk in self._range(offset, min(offset + size, self._size)):
                call.check()
                write_all_at(fd, chunk, offset)
                offset += len(chunk)

        size = self._most_at_once(_RANGE)
        await each_at_once(write, iter(range(0, self._size, size)), min(_RANGES, self._size // size + 1))

    def in_order(self, requests: Background, share: Share) -> Iterator[memoryview]:
        """Yield all bytes, while the next parts are already on their way.

        Args:
            requests: runs the requests.
            share: the memory for parts beyond the first one, each of `_PART`.
        """
        first = self._range(0, min(self._most_at_once(_PART), self._size))
        yield from requests.begin(_taken(first, 1))()  # whoever reads only a header takes no more than this
        if self._version:
            yield from self._parts(requests, share, first)
        else:
            yield from _batches(requests, first)

    def _parts(self, requests: Background, share: Share, first: AsyncIterator[memoryview]) -> Iterator[memoryview]:
        """Yield the rest of the first part, and the others."""

        async def fetched(offset: int) -> list[memoryview]:
            return [chunk async for chunk in self._range(offset, min(offset + _PART, self._size))]

        offsets = deque(range(_PART, self._size, _PART))
        window = deque([requests.begin(_taken(first, _PART))])
        while window:
            while offsets and len(window) < _PARTS and share.take():
                window.append(requests.begin(fetched(offsets.popleft())))
            part = deque(window.popleft()())
            while part:
                yield part.popleft()
            if window:
                share.give_back()
            elif offsets:
                window.append(requests.begin(fetched(offsets.popleft())))

    def _most_at_once(self, size: int) -> int:
        """Return how many bytes one request asks for. Without a version, two answers could be of two objects."""
        return size if self._version else max(1, self._size)

    async def _range(self, start: int, end: int) -> AsyncIterator[memoryview]:
        result, left = self._result if start == 0 else await self._requested(start, end), end - start
        with store_errors():
            async for chunk in result.stream(_CHUNK):
                view = memoryview(chunk)[:left]
                left -= len(view)
                yield view
                if not left:
                    return
        if left:
            raise Unavailable(f"the store sent {end - start - left} of {end - start} bytes", says=SAYS)

    async def _requested(self, start: int, end: int) -> GetResult:
        options: GetOptions = {"range": (start, end)}
        if not self._is_weak:
            options["if_match"] = self._version
        try:
            with store_errors():
                result = await obstore.get_async(self._store, self._name, options=options)
        except Missing:
            raise Unavailable("the object was deleted while it was read", says=SAYS) from None
        if result.meta["e_tag"] != self._version:
            raise Unavailable("the object was replaced while it was read", says=SAYS)
        return result


async def _taken(chunks: AsyncIterator[memoryview], most: int) -> list[memoryview]:
    """Take chunks until they have `most` bytes or more, or are at their end."""
    taken, size = [], 0
    async for chunk in chunks:
        taken.append(chunk)
        size += len(chunk)
        if size >= most:
            break
    return taken


def _batches(requests: Background, chunks: AsyncIterator[memoryview]) -> Iterator[memoryview]:
    """Yield all chunks of one answer, a batch while the next one arrives."""
    arriving = requests.begin(_taken(chunks, _BATCH))
    while batch := deque(arriving()):
        arriving = requests.begin(_taken(chunks, _BATCH))
        while batch:
            yield batch.popleft()


def in_order(call: Call, store: ObjectStore, name: str, spare: SpareMemory) -> Generator[memoryview]:
    """Yield the bytes of an object, while the next parts are already on their way.

    The generator ends normally only after the last byte. Closing it ends every request.

    Raises:
        Missing: there is no such object.
    """

    async def begun() -> tuple[ObjectReading, list[memoryview] | None]:
        reading = await ObjectReading.begin(store, name)
        return reading, await reading.if_small()

    reading, small = run(call, begun())
    if small is not None:  # a thread would take longer than the request
        yield from small
        return
    with Share(spare, _PART) as share, Background(call) as requests:
        for chunk in reading.in_order(requests, share):
            call.check()
            yield chunk
