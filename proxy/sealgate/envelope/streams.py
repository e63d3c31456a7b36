"""A whole sealed file (docs/format.md, "Layout"), written and read as a stream of chunks of any size.

One segment is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

from sealgate.envelope.files import Admit, admit_any
from sealgate.envelope.header import MAGIC, PRELUDE_SIZE, Header, Unlock, decode, header_size
from sealgate.envelope.segments import FIRST_PLAINTEXT, PLAINTEXT, SEGMENT, STREAM_HEADER, TAG, Body
from sealgate.errors import DataLoss, NotSealed, Truncated, UnsupportedFormat
from sealgate.plugin import Chunk


def seal_stream(
    header: Header, data_key: bytes, artifact_key: str, chunks: Iterator[Chunk], *, manifest: bool = False
) -> Iterator[Chunk]:
    """Seal the bytes of `chunks`: yield the header and the stream header first, then one segment at a time.

    `manifest` seals in the domain of manifests instead of files.

    An exception of `chunks` is passed on. In that case no last segment was yielded, and no reader accepts the output
    as a whole file.
    """
    body = Body.new(data_key, header.associated_data(artifact_key, manifest=manifest))
    yield header.encode() + body.stream_header
    source, sealed = _ChunkReader(chunks), memoryview(bytearray())
    index, size = 0, FIRST_PLAINTEXT
    while True:
        plaintext, last = source.segment(size, PLAINTEXT)
        sealed = _with_room(sealed, len(plaintext) + TAG, SEGMENT, last=last)
        yield sealed[: body.seal(index, plaintext, sealed, last=last)]
        if last:
            return
        index, size = index + 1, PLAINTEXT


def open_stream(
    chunks: Iterator[Chunk],
    unlock: Unlock,
    artifact_key: str,
    admit: Admit = admit_any,
    *,
    plain: bool = False,
    manifest: bool = False,
) -> Iterator[Chunk]:
    """Open a sealed file that arrives as `chunks`, and yield each segment once it has been verified.

    The iterator ends normally only after the last segment has been verified and nothing follows it.

    Args:
        chunks: the stored bytes.
        unlock: see `Unlock`.
        artifact_key: the key under which the artifact is read.
        admit: see `Admit`.
        plain: yield a file that is not sealed unchanged instead of refusing it.
        manifest: open in the domain of manifests instead of files.

    Raises:
        NotSealed: `chunks` does not begin with the magic bytes.
        DataLoss: the sealed file is cut short, was changed, or belongs to another artifact.
    """
    source = _ChunkReader(chunks)
    prelude = source.take(PRELUDE_SIZE)
    if plain and not prelude.startswith(MAGIC):
        admit(artifact_key, None, False)
        if prelude:
            yield prelude
        yield from source.rest()
        return
    header = source.take_header(prelude)
    admit(artifact_key, None, True)
    data_key = unlock(header)
    header.require_key(data_key)
    body = Body.of(data_key, header.associated_data(artifact_key, manifest=manifest), source.take(STREAM_HEADER))
    plaintext = memoryview(bytearray())
    index, length = 0, SEGMENT - STREAM_HEADER
    while True:
        sealed, last = source.segment(length, SEGMENT)
        plaintext = _with_room(plaintext, max(0, len(sealed) - TAG), PLAINTEXT, last=last)
        opened = body.open(index, sealed, plaintext, last=last)
        if opened:
            yield plaintext[:opened]
        if last:
            return
        index, length = index + 1, SEGMENT


def split_stream(chunks: Iterator[Chunk]) -> tuple[Header, Iterator[Chunk]]:
    """Return the header of a sealed file that arrives as `chunks`, and its stored body. Nothing is authenticated.

    Raises:
        NotSealed: `chunks` does not begin with the magic bytes.
        DataLoss: the file ends inside its header, or the header is damaged.
        UnsupportedFormat: a newer version of the program wrote it.
    """
    source = _ChunkReader(chunks)
    return source.take_header(source.take(PRELUDE_SIZE)), source.rest()


def sealed_at(chunks: Iterator[Chunk]) -> int | None:
    """Return the time of sealing that the header in `chunks` states, in Unix seconds; None without a valid header.

    Nothing is authenticated: anyone who can write to storage can write a header.
    """
    try:
        return split_stream(chunks)[0].sealed_at
    except (NotSealed, DataLoss, UnsupportedFormat):
        return None


def _with_room(buffer: memoryview, needed: int, most: int, *, last: bool) -> memoryview:
    """Return `buffer`, or one of `most` bytes if `needed` do not fit: of `needed` alone for its last use."""
    return buffer if len(buffer) >= needed else memoryview(bytearray(needed if last else most))


class _ChunkReader:
    """Reads from chunks of any size as from one file."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self._segment = memoryview(bytearray())

    def segment(self, size: int, most: int) -> tuple[memoryview, bool]:
        """Return the next `size` bytes, or fewer at the end, and whether they are the last ones.

        They are valid until the next segment, whose buffer is the same. Many files have one small chunk alone, and get
        no buffer of `most` bytes: to create that takes longer than to seal such a file.
        """
        filled = 0
        if not self.at_end():
            filled = min(len(self._rest), size)
            self._segment = _with_room(self._segment, filled, most, last=filled < size)
            self._segment[:filled] = self._rest[:filled]
            self._rest = self._rest[filled:]
        if self.at_end():
            return self._segment[:filled], True
        if filled < size:
            begun, self._segment = self._segment, _with_room(self._segment, size, most, last=False)
            if begun is not self._segment:
                self._segment[:filled] = begun[:filled]
            filled += self.fill(self._segment[filled:size])
        return self._segment[:filled], self.at_end()

    def fill(self, out: memoryview) -> int:
        """Copy the next bytes to `out` and return how many: less than `len(out)` only at the end."""
        filled = 0
        while filled < len(out) and not self.at_end():
            step = min(len(self._rest), len(out) - filled)
            out[filled : filled + step] = self._rest[:step]
            self._rest = self._rest[step:]
            filled += step
        return filled

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes, or fewer at the end."""
        out = bytearray(size)
        return bytes(memoryview(out)[: self.fill(memoryview(out))])

    def take_header(self, prelude: bytes) -> Header:
        """Return the header that follows `prelude`."""
        size = header_size(prelude) - PRELUDE_SIZE
        encoded = self.take(size)
        if len(encoded) < size:
            raise Truncated(f"the sealed file ends after {PRELUDE_SIZE + len(encoded)} bytes, inside its header")
        return decode(encoded)

    def rest(self) -> Iterator[Chunk]:
        """Yield all remaining bytes, in chunks of any size."""
        while not self.at_end():
            rest, self._rest = self._rest, memoryview(b"")
            yield rest

    def at_end(self) -> bool:
        """Return whether no byte is left. Takes another chunk only if the current one is used up."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return True
            self._rest = memoryview(chunk)
        return False
