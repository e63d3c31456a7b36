"""The bytes of objects on their way to the store library."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator

from sealgate.errors import LimitReached
from sealgate.plugin import Chunk

_MAPPED = 1 << 17
"""From this many bytes on, memory is mapped from the system instead of allocated with malloc."""


def bounded(chunks: Iterable[Chunk], most: int) -> Iterator[Chunk]:
    """Yield `chunks`, at most `most` bytes.

    Raises:
        LimitReached: there are more.
    """
    written = 0
    for chunk in chunks:
        written += len(chunk)
        if written > most:
            raise LimitReached(f"an object of more than {most} bytes cannot be stored")
        yield chunk


def copied(chunk: Chunk) -> Chunk:
    """Return a copy of `chunk`, whose own buffer may be used again before the library has sent it.

    A mapping returns to the system as soon as the library drops it. malloc keeps freed memory, separately for each
    thread: with a directory of large files it kept three times the memory in use.
    """
    if isinstance(chunk, bytes) or len(chunk) < _MAPPED:
        return bytes(chunk)
    copy = mmap.mmap(-1, len(chunk))
    copy[:] = chunk
    return memoryview(copy)
