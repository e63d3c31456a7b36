"""Sealing and opening a stream of chunks of any size, one segment in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator

from sealgate.envelope.files import Admit, admit_any
from sealgate.envelope.header import MAGIC, PRELUDE_SIZE, Header, Unlock, decode, header_size
from sealgate.envelope.segments import FIRST_PLAINTEXT, PLAINTEXT, SEGMENT, STREAM_HEADER, Body
from sealgate.errors import DataLoss, NotSealed, Truncated, UnsupportedFormat
from sealgate.plugin import Chunk


def seal_stream(header: Header, data_key: bytes, artifact_key: str, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Seal what `chunks` yields: the file's header and stream header first, then a segment at a time.

    If `chunks` raises, so does this, and no last segment was yielded: what was cannot be taken for a whole.
    """
    body = Body.new(data_key, header.associated_data(artifact_key))
    yield header.encode() + body.stream_header
    plaintext, sealed = bytearray(PLAINTEXT), memoryview(bytearray(SEGMENT))
    source = _Refill(chunks)
    index, size = 0, FIRST_PLAINTEXT
    while True:
        filled = source.fill(memoryview(plaintext)[:size])
        last = source.at_end()
        yield sealed[: body.seal(index, memoryview(plaintext)[:filled], sealed, last=last)]
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
) -> Iterator[Chunk]:
    """Open a sealed file that arrives as `chunks`, and yield each segment once it has been verified.

    Ends normally only after the last segment has been verified and nothing follows it. With `plain`, what is not
    sealed is yielded as it is.

    Raises:
        NotSealed: `chunks` does not begin as a sealed file does.
        DataLoss: it is cut short, was changed, or belongs to another artifact.
    """
    source = _Refill(chunks)
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
    body = Body.of(data_key, header.associated_data(artifact_key), source.take(STREAM_HEADER))
    sealed, plaintext = memoryview(bytearray(SEGMENT)), memoryview(bytearray(PLAINTEXT))
    index, length = 0, SEGMENT - STREAM_HEADER
    while True:
        filled = source.fill(sealed[:length])
        last = source.at_end()
        opened = body.open(index, sealed[:filled], plaintext, last=last)
        if opened:
            yield plaintext[:opened]
        if last:
            return
        index, length = index + 1, SEGMENT


def split_stream(chunks: Iterator[Chunk]) -> tuple[Header, Iterator[Chunk]]:
    """The header of a sealed file that arrives as `chunks`, and its body, neither opened nor verified.

    Raises:
        NotSealed: `chunks` does not begin as a sealed file does.
        DataLoss: it ends inside its header, or the header cannot be read.
    """
    source = _Refill(chunks)
    return source.take_header(source.take(PRELUDE_SIZE)), source.rest()


def sealed_at(chunks: Iterator[Chunk]) -> int | None:
    """When a file that begins as `chunks` do says it was sealed; None if it does not begin as a sealed one does.

    Nothing is authenticated: whoever can write to storage can write a header.
    """
    try:
        return split_stream(chunks)[0].sealed_at
    except (NotSealed, DataLoss, UnsupportedFormat):
        return None


class _Refill:
    """Chunks of any size, handed out again in runs of the size that is wanted."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def fill(self, out: memoryview) -> int:
        """Copy the next bytes to `out`, and return how many: fewer than it holds only at the end."""
        filled = 0
        while filled < len(out) and not self.at_end():
            step = min(len(self._rest), len(out) - filled)
            out[filled : filled + step] = self._rest[:step]
            self._rest = self._rest[step:]
            filled += step
        return filled

    def take(self, size: int) -> bytes:
        """The next `size` bytes, or what is left."""
        out = bytearray(size)
        return bytes(memoryview(out)[: self.fill(memoryview(out))])

    def take_header(self, prelude: bytes) -> Header:
        """The header that follows its prelude."""
        size = header_size(prelude) - PRELUDE_SIZE
        encoded = self.take(size)
        if len(encoded) < size:
            raise Truncated(f"the sealed file ends after {PRELUDE_SIZE + len(encoded)} bytes, inside its header")
        return decode(encoded)

    def rest(self) -> Iterator[Chunk]:
        """Everything that is left, as it comes."""
        while not self.at_end():
            rest, self._rest = self._rest, memoryview(b"")
            yield rest

    def at_end(self) -> bool:
        """Whether nothing is left. Asks for a further chunk only when it must."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return True
            self._rest = memoryview(chunk)
        return False
