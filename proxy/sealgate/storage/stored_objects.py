"""Stored objects as streams of bytes, whichever of the downstream's operations that requires.

Some downstreams have streams, others work by path only, and `spool.transfer` may forbid one of the two.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path

from sealgate import envelope
from sealgate.call import Call
from sealgate.errors import BadRequest, DataLoss, DownstreamStatus, NotConfigured, PluginError, Refused
from sealgate.plugin import Artifact, ArtifactPlugin, Capabilities, Chunk
from sealgate.storage.local_paths import local_errors, opened_directory, read_chunks, write_all
from sealgate.storage.spool import Spool, private_file

SPOOLED = "sealed"
"""The name of the spooled file or directory, in the spool's directory for the call."""

_ABSENT = (
    ("not", "found"),
    ("no", "such", "key"),
    ("no", "such", "file"),
    ("no", "such", "object"),
    ("does", "not", "exist"),
    ("no", "object"),
    ("is", "a", "directory"),
)
"""Word sequences by which stores report that there is no such object."""
_WORD = re.compile(r"[^\W_]+")
_ABSENT_TEXTS = tuple((words, re.compile(r"[\s_-]*".join(words), re.IGNORECASE)) for words in _ABSENT)


class Transfer(StrEnum):
    """How ciphertext travels between this process and the downstream (`spool.transfer`)."""

    AUTO = "auto"
    """By file if the spool has room and the downstream can, and else by stream."""
    FILE = "file"
    """Through the spool: the downstream's Save and Load."""
    STREAM = "stream"
    """Without a disk: the downstream's SaveStream and OpenStream."""


class IsDirectory(BadRequest):
    """The artifact was read as one object, and is a directory."""


@dataclass(frozen=True, slots=True)
class StoredHeader:
    """What the header of a stored object says. Nothing has authenticated it."""

    sealed_at: int | None
    """Unix seconds; None for an object that does not begin with a sealed header."""
    is_empty: bool
    """Whether the stream has no bytes. Some downstreams send such a stream for a directory."""


class StoredObjects:
    """The objects in the downstream: reads and writes one at a time as a stream, lists them, reads headers."""

    def __init__(self, downstream: ArtifactPlugin, spool: Spool, transfer: Transfer) -> None:
        self.downstream = downstream
        self.spool = spool
        self.transfer = transfer
        self._replaces_whole: bool | None = None

    def writes_by_stream(self, call: Call) -> bool:
        """Return whether `write` can use a stream, and so needs no disk.

        Raises:
            NotConfigured: `spool.transfer` is stream, and the downstream has no SaveStream.
        """
        if self.transfer is Transfer.FILE:
            return False
        offered = self._ask_capabilities(call).save_stream
        if self.transfer is Transfer.STREAM and not offered:
            fact = "spool.transfer is stream, and the downstream has no SaveStream"
            raise NotConfigured(fact, remedy="Set spool.transfer to auto")
        return offered

    def replaces_whole(self, call: Call) -> bool:
        """Return whether a write of the downstream removes what was stored at the key and beneath it before.

        The downstream is asked once. If it does not answer, it counts as one that keeps old objects.
        """
        if self._replaces_whole is None:
            self._replaces_whole = False
            with suppress(PluginError):
                self._ask_capabilities(call)
        return self._replaces_whole

    def _ask_capabilities(self, call: Call) -> Capabilities:
        capabilities = self.downstream.get_capabilities(call)
        self._replaces_whole = capabilities.replaces_whole
        return capabilities

    def write(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk], *, by_stream: bool) -> None:
        """Store what `chunks` yields and replace what was stored before; if `chunks` raises, change nothing.

        Args:
            call: the call.
            artifact: what is stored, with its configuration for the downstream.
            chunks: the bytes.
            by_stream: the answer of `writes_by_stream`.
        """
        if by_stream:
            self.downstream.save_stream(call, artifact, chunks)
            return
        with self.spool.place() as place:
            spooled = place / SPOOLED
            with local_errors("the spool"), open(spooled, "xb", buffering=0, opener=private_file) as file:
                for chunk in chunks:
                    write_all(file.fileno(), chunk)
            call.check()
            self.downstream.save(call, artifact, spooled)

    def read(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        """Yield the bytes of a stored object.

        Raises:
            IsDirectory: the artifact is a directory.
            DataLoss: the downstream reported success, and the object is not there.
            PluginError: the downstream does not deliver the object.
        """
        if self.transfer is not Transfer.FILE:
            try:
                yield from self.downstream.open_stream(call, artifact)
            except DownstreamStatus as status:
                if status.code != "UNIMPLEMENTED" or self.transfer is Transfer.STREAM:
                    raise
            else:
                return
        with self.spool.place() as place:
            spooled = place / SPOOLED
            self.downstream.load(call, artifact, spooled)
            with open_spooled(spooled) as (fd, is_directory):
                if is_directory:
                    raise IsDirectory("the artifact is a directory", remedy="Open one of its files by its own key")
                yield from read_chunks(fd, call.check)

    def header(self, call: Call, artifact: Artifact) -> StoredHeader | None:
        """Return the header of the object at exactly this key; None if there is no such object.

        Raises:
            PluginError: the downstream does not say whether the object exists.
        """
        try:
            with closing(self.read(call, artifact)) as stored:
                first = next((chunk for chunk in stored if chunk), None)
                if first is None:
                    return StoredHeader(None, is_empty=True)
                return StoredHeader(envelope.sealed_at(chain([first], stored)), is_empty=False)
        except (Refused, DownstreamStatus, BadRequest) as error:
            if says_absent(error, artifact):
                return None
            raise

    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        """Return the keys that the downstream lists for the artifact, without the manifests of directories."""
        listed = self.downstream.list_objects(call, artifact)
        return [key for key in listed if not key.endswith(f"/{envelope.MANIFEST}")]

    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        """Return whether objects are stored beneath the key; False if the downstream does not implement IsDirectory."""
        try:
            return self.downstream.is_directory(call, artifact)
        except DownstreamStatus as status:
            if status.code == "UNIMPLEMENTED":
                return False
            raise


def says_absent(error: PluginError, artifact: Artifact) -> bool:
    """Return whether `error`, a plugin's answer to a read of `artifact`, means that there is no such object.

    Argo's contract defines no answer for this. It can be a gRPC status, or only a text by the store. Such a text may
    repeat words of the artifact, which its author wrote. So words that the author could have put there, in one field
    or spread over several, do not count.
    """
    if isinstance(error, IsDirectory):
        return True
    if isinstance(error, DownstreamStatus) and error.code != "UNKNOWN":
        return error.code == "NOT_FOUND"
    if any(escape in artifact.configuration for escape in ("\\", "%", "!!")):  # an escape can spell every word
        return False
    written = [value for value in asdict(artifact).values() if isinstance(value, str)]
    spelled = [_letters(value) for value in written]
    pieces = {word for value in written for word in _WORD.findall(value.lower())}
    return any(
        pattern.search(error.fact)
        and not pieces.issuperset(words)
        and not any("".join(words) in value for value in spelled)
        for words, pattern in _ABSENT_TEXTS
    )


def _letters(text: str) -> str:
    """Return the lower-case ASCII letters and digits of `text`: a store may repeat a text without the rest."""
    return "".join(c for c in text.lower() if c.isascii() and c.isalnum())


@contextmanager
def open_spooled(spooled: Path) -> Iterator[tuple[int, bool]]:
    """Open what a downstream's Load left at `spooled`; yield its descriptor, and whether it is a directory.

    Raises:
        DataLoss: the downstream left neither a regular file nor a directory.
    """
    with ExitStack() as stack:
        try:
            place = stack.enter_context(opened_directory(spooled.parent))
            is_directory = stat.S_ISDIR(os.stat(spooled.name, dir_fd=place, follow_symlinks=False).st_mode)
            opened = (
                envelope.descend(place, spooled.name)
                if is_directory
                else envelope.open_regular(spooled.name, place, writable=True)
            )
            fd = stack.enter_context(opened)
        except FileNotFoundError:
            fact = "the downstream reported success and created nothing"
            raise DataLoss(fact, says="downstream", remedy="Look at the downstream's log") from None
        except (OSError, envelope.NotRegular):
            fact = "the downstream reported success and left neither a file nor a directory"
            raise DataLoss(fact, says="downstream", remedy="Look at the downstream's log") from None
        yield fd, is_directory
