"""Sealing and opening files by positioned reads and writes, large ones by several threads.

Segments are independent once the body key is known, so threads share out their numbers; every thread
reuses one pair of buffers, and memory does not depend on the size of the file.
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
_ALONE = 8
"""Files of at most so many segments are not worth a second thread."""
_GIVE_BACK = 64
"""How many opened segments are given back to the file system at a time."""

Check = Callable[[], None]
Admit = Callable[[str, int | None, bool], None]
"""Told of each file before a byte of it is sealed or opened, and refuses it by raising: the artifact key, the size of
the plaintext if it is known, and whether the file is sealed."""


def admit_any(key: str, size: int | None, sealed: bool) -> None:
    """Refuses nothing."""


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
        source: a descriptor of a regular file; its size when this is called is what gets sealed.
        target: a descriptor that can be written.
        header: the artifact's header.
        data_key: what the header is the wrap of.
        artifact_key: what the body is bound to, where the header binds.
        check: called before each segment; stops the work by raising.
        admit: see `Admit`.

    Returns:
        Plaintext bytes and stored bytes.

    Raises:
        BadRequest: the file shrank while it was read.
    """
    size = os.fstat(source).st_size
    admit(artifact_key, size, True)
    prefix = header.encode()
    body = Body.new(data_key, header.associated_data(artifact_key))
    start, count = len(prefix), segment_count(size)
    _write(target, memoryview(prefix + body.stream_header), 0)

    def seal(index: int, plaintext: memoryview, sealed: memoryview) -> None:
        offset, length = plaintext_span(index, size)
        if _read(source, plaintext[:length], offset) < length:
            raise BadRequest("the local file shrank while it was read", remedy="Save it once it is complete")
        stored = body.seal(index, plaintext[:length], sealed, last=index == count - 1)
        _write(target, sealed[:stored], start + stored_offset(index))

    _share_out(range(count), size, seal, check)
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

    The plaintext in `target` may be used only if this returns. With `consume`, the sealed file is cut off
    from its end as its segments are opened, so that both together never take much more than one of them;
    not if it has a second name, because then it is somebody else's file, too, or if `source` cannot be written.
    With `plain`, a file that is not sealed is copied as it is.

    Returns:
        Plaintext bytes and stored bytes.

    Raises:
        NotSealed: `source` does not begin as a sealed file does.
        DataLoss: it is cut short, was changed, or belongs to another artifact.
    """
    facts = os.fstat(source)
    stored = facts.st_size
    consume = consume and facts.st_nlink <= 1 and fcntl.fcntl(source, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
    if plain and _read_bytes(source, len(MAGIC), 0) != MAGIC:
        admit(artifact_key, stored, False)
        return _copy(source, target, stored, check), stored
    header, start = read_header(lambda size, offset: _read_bytes(source, size, offset))
    size = plaintext_size(stored - start)
    admit(artifact_key, size, True)
    data_key = unlock(header)
    header.require_key(data_key)
    stream_header = _read_bytes(source, STREAM_HEADER, start)
    body = Body.of(data_key, header.associated_data(artifact_key), stream_header)
    count = segment_count(size)
    give_back = _GiveBack(source, start, count) if consume else None

    def open_(index: int, plaintext: memoryview, sealed: memoryview) -> None:
        offset, length = plaintext_span(index, size)
        sealed = sealed[: length + TAG]
        if _read(source, sealed, start + stored_offset(index)) < len(sealed):
            raise Truncated("the sealed file became shorter while it was read")
        body.open(index, sealed, plaintext, last=index == count - 1)
        _write(target, plaintext[:length], offset)
        if give_back:
            give_back.done(index)

    _share_out(range(count)[::-1] if consume else range(count), size, open_, check)
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
        _write(target, buffer[:length], offset)
    return size


class _GiveBack:
    """Cuts a file off behind the segments that are still to be read, whichever thread finishes first."""

    def __init__(self, fd: int, start: int, count: int) -> None:
        self._fd = fd
        self._start = start
        self._end = count
        self._done: set[int] = set()
        self._lock = threading.Lock()

    def done(self, index: int) -> None:
        with self._lock:
            self._done.add(index)
            if len(self._done) < _GIVE_BACK:
                return
            while self._end - 1 in self._done:
                self._end -= 1
                self._done.remove(self._end)
            os.ftruncate(self._fd, self._start + stored_offset(self._end))


def _share_out(
    indices: Sequence[int], size: int, work: Callable[[int, memoryview, memoryview], None], check: Check
) -> None:
    """Run `work` once for each index, with a plaintext and a stored buffer of the thread's own."""
    largest = min(PLAINTEXT, size)
    left = iter(indices)
    take = threading.Lock()
    failed = False

    def run() -> None:
        nonlocal failed
        plaintext, sealed = memoryview(bytearray(largest)), memoryview(bytearray(largest + TAG))
        try:
            while not failed:
                with take:
                    index = next(left, None)
                if index is None:
                    return
                check()
                work(index, plaintext, sealed)
        except BaseException:
            failed = True
            raise

    if len(indices) <= _ALONE or THREADS == 1:
        run()
        return
    with ThreadPoolExecutor(THREADS - 1, "sealgate-segments") as helpers:
        others = [helpers.submit(run) for _ in range(THREADS - 1)]
        run()
        for other in others:
            other.result()


def _read(fd: int, out: memoryview, offset: int) -> int:
    """Fill `out` from `offset`; fewer bytes only at the end of the file."""
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


def _write(fd: int, data: memoryview, offset: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(fd, data[written:], offset + written)
