"""A whole sealed file (docs/format.md, "Layout"), written and read at offsets in files, by several threads if large.

Segments are independent once the body key is known, so each thread takes the next segment number. Every thread reuses
one pair of buffers: memory does not depend on the size of the file.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sealgate.envelope.header import MAGIC, Header, Unlock, read_header
from sealgate.envelope.segments import (
    PLAINTEXT,
    STREAM_HEADER,
    TAG,
    Body,
    plaintext_size,
    plaintext_span,
    segment_count,
    stored_offset,
)
from sealgate.errors import BadRequest, Truncated

THREADS = min(4, len(os.sched_getaffinity(0)))
_SINGLE_THREAD_SEGMENTS = 8
"""A file of at most this many segments is not worth a second thread."""
_BEGINNING = 1024
"""Bytes that are read at once from the beginning of a sealed file. Most headers, and the stream header, are in them."""
_CUT_AFTER = 64
"""How many opened segments are cut off the sealed file at a time."""

Check = Callable[[], None]
"""Called before each segment; stops the work by raising."""
Admit = Callable[[str, int | None, bool], None]
"""Called before a byte of a file is sealed or opened; refuses the file by raising.

The arguments are the artifact key, the plaintext size in bytes if it is known, and whether the file is sealed."""


def admit_any(key: str, size: int | None, sealed: bool) -> None:
    """Admit every file."""


def seal_file(
    source: int,
    target: int,
    header: Header,
    data_key: bytes,
    artifact_key: str,
    check: Check = lambda: None,
    admit: Admit = admit_any,
) -> tuple[int, int]:
    """Seal the file open as `source` into the empty file open as `target`.

    Args:
        source: a descriptor of a regular file. Its size at the time of the call is the size that is sealed.
        target: a writable descriptor.
        header: the artifact's header.
        data_key: the data key that `header` contains in wrapped form.
        artifact_key: the key that the body is bound to if the header's binding is `ARTIFACT_KEY`.
        check: see `Check`.
        admit: see `Admit`.

    Returns:
        The number of plaintext bytes and of stored bytes.

    Raises:
        BadRequest: the file shrank while it was read.
    """
    size = os.fstat(source).st_size
    admit(artifact_key, size, True)
    prefix = header.encode()
    body = Body.new(data_key, header.associated_data(artifact_key))
    start, count = len(prefix), segment_count(size)

    def seal(index: int, plaintext: memoryview, sealed: memoryview) -> None:
        offset, length = plaintext_span(index, size)
        if _read(source, plaintext[:length], offset) < length:
            raise BadRequest("the local file shrank while it was read", remedy="Save it once it is complete")
        stored = body.seal(index, plaintext[:length], sealed, last=index == count - 1)
        if index == 0:  # with all that comes before it, so that a small file is written by one system call
            _write(target, 0, memoryview(prefix + body.stream_header), sealed[:stored])
        else:
            _write(target, start + stored_offset(index), sealed[:stored])

    _for_each_segment(range(count), size, seal, check)
    return size, start + stored_offset(count - 1) + plaintext_span(count - 1, size)[1] + TAG


def open_file(
    source: int,
    target: int,
    unlock: Unlock,
    artifact_key: str,
    check: Check = lambda: None,
    admit: Admit = admit_any,
    *,
    consume: bool = False,
    plain: bool = False,
) -> tuple[int, int]:
    """Open the sealed file `source` into the empty file `target`.

    The plaintext in `target` may be used only if this returns.

    Args:
        source: a descriptor of the sealed file.
        target: a writable descriptor.
        unlock: see `Unlock`.
        artifact_key: the key under which the artifact is read.
        check: see `Check`.
        admit: see `Admit`.
        consume: truncate the sealed file from its end while its segments are opened, so that both files together
            take little more disk space than one. Ignored if the file has a second hard link, because the other name
            must keep its content, and if `source` is not writable.
        plain: copy a file that is not sealed unchanged instead of refusing it.

    Returns:
        The number of plaintext bytes and of stored bytes.

    Raises:
        NotSealed: `source` does not begin with the magic bytes.
        DataLoss: the sealed file is cut short, was changed, or belongs to another artifact.
    """
    facts = os.fstat(source)
    stored = facts.st_size
    consume = consume and facts.st_nlink <= 1 and fcntl.fcntl(source, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    beginning = _read_bytes(source, min(stored, _BEGINNING), 0)
    if plain and not beginning.startswith(MAGIC):
        admit(artifact_key, stored, False)
        return _copy(source, target, stored, check), stored

    def read(size: int, offset: int) -> bytes:
        is_there = offset + size <= len(beginning)
        return beginning[offset : offset + size] if is_there else _read_bytes(source, size, offset)

    header, start = read_header(read)
    size = plaintext_size(stored - start)
    admit(artifact_key, size, True)
    data_key = unlock(header)
    header.require_key(data_key)
    body = Body.of(data_key, header.associated_data(artifact_key), read(STREAM_HEADER, start))
    count = segment_count(size)
    tail = _Tail(source, start, count) if consume else None

    def open_(index: int, plaintext: memoryview, sealed: memoryview) -> None:
        offset, length = plaintext_span(index, size)
        sealed = sealed[: length + TAG]
        if _read(source, sealed, start + stored_offset(index)) < len(sealed):
            raise Truncated("the sealed file became shorter while it was read")
        body.open(index, sealed, plaintext, last=index == count - 1)
        _write(target, offset, plaintext[:length])
        if tail:
            tail.opened(index)

    _for_each_segment(range(count)[::-1] if consume else range(count), size, open_, check)
    if consume:
        os.ftruncate(source, 0)
    return size, stored


def _copy(source: int, target: int, size: int, check: Check) -> int:
    buffer = memoryview(bytearray(min(size, PLAINTEXT)))
    for offset in range(0, size, PLAINTEXT):
        check()
        length = min(size - offset, PLAINTEXT)
        if _read(source, buffer[:length], offset) < length:
            raise Truncated("the stored file became shorter while it was read")
        _write(target, offset, buffer[:length])
    return size


class _Tail:
    """Truncates a sealed file behind the last segment that is not opened yet. Threads may finish in any order."""

    def __init__(self, fd: int, start: int, count: int) -> None:
        self._fd = fd
        self._start = start
        self._end = count
        self._opened: set[int] = set()
        self._lock = threading.Lock()

    def opened(self, index: int) -> None:
        with self._lock:
            self._opened.add(index)
            if len(self._opened) < _CUT_AFTER:
                return
            while self._end - 1 in self._opened:
                self._end -= 1
                self._opened.remove(self._end)
            os.ftruncate(self._fd, self._start + stored_offset(self._end))


def _for_each_segment(
    indices: Sequence[int], size: int, work: Callable[[int, memoryview, memoryview], None], check: Check
) -> None:
    """Call `work` once for each index, with a plaintext buffer and a ciphertext buffer that belong to its thread."""
    largest = min(PLAINTEXT, size)
    remaining = iter(indices)
    taking = threading.Lock()
    failed = False

    def run() -> None:
        nonlocal failed
        plaintext, sealed = memoryview(bytearray(largest)), memoryview(bytearray(largest + TAG))
        try:
            while not failed:
                with taking:
                    index = next(remaining, None)
                if index is None:
                    return
                check()
                work(index, plaintext, sealed)
        except BaseException:
            failed = True
            raise

    if len(indices) <= _SINGLE_THREAD_SEGMENTS or THREADS == 1:
        run()
        return
    with ThreadPoolExecutor(THREADS - 1, "sealgate-segments") as helpers:
        others = [helpers.submit(run) for _ in range(THREADS - 1)]
        run()
        for other in others:
            other.result()


def _read(fd: int, out: memoryview, offset: int) -> int:
    """Fill `out` from `offset` and return the number of bytes: less than `len(out)` only at the end of the file."""
    filled = 0
    while filled < len(out):
        step = os.preadv(fd, [out[filled:]], offset + filled)
        if step == 0:
            break
        filled += step
    return filled


def _read_bytes(fd: int, size: int, offset: int) -> bytes:
    out = memoryview(bytearray(size))
    return bytes(out[: _read(fd, out, offset)])


def _write(fd: int, offset: int, *parts: memoryview) -> None:
    """Write `parts` one after the other from `offset` on, by one system call unless the system takes less."""
    while parts:
        written = os.pwritev(fd, parts, offset)
        offset += written
        while parts and written >= len(parts[0]):
            written -= len(parts[0])
            parts = parts[1:]
        if written:
            parts = (parts[0][written:], *parts[1:])
