"""Stored objects as streams of bytes, whichever of the downstream's operations that requires.

Some downstreams have streams, others work by path only, and `spool.transfer` may forbid one of the two.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TypeVar

from sealgate import envelope
from sealgate.call import Call
from sealgate.errors import DataLoss, DownstreamStatus, NotConfigured, PluginError, Refused, out_of_descriptors
from sealgate.plugin import Artifact, ArtifactPlugin, Capabilities, Chunk
from sealgate.storage.absence import Absence, IsDirectory, explained, is_status
from sealgate.storage.local_paths import local_errors, opened_directory, read_chunks, write_all
from sealgate.storage.spool import Spool, private_file

SPOOLED = "sealed"
"""The name of the spooled file or directory, in the spool's directory for the call."""

_T = TypeVar("_T")
_S = TypeVar("_S")


class Transfer(StrEnum):
    """How ciphertext travels between this process and the downstream (`spool.transfer`)."""

    AUTO = "auto"
    """Files by stream, directories by file; each in the other way where this one is not possible."""
    FILE = "file"
    """Through the spool: the downstream's Save and Load."""
    STREAM = "stream"
    """Without a disk: the downstream's SaveStream and OpenStream."""


@dataclass(frozen=True, slots=True)
class StoredHeader:
    """What the header of a stored object says. Nothing has authenticated it."""

    sealed_at: int | None
    """Unix seconds; None for an object that does not begin with a sealed header."""
    is_empty: bool
    """Whether the stream has no bytes. Some downstreams send such a stream for a directory."""


class StoredObjects:
    """The objects in the downstream: reads and writes one at a time as a stream, lists them, reads headers.

    Args:
        downstream: the plugin that stores them.
        spool: where ciphertext waits for a downstream that works by path.
        transfer: how ciphertext travels.
        absence: recognizes the answers by which this downstream says that nothing is stored.
    """

    def __init__(
        self,
        downstream: ArtifactPlugin,
        spool: Spool,
        transfer: Transfer,
        absence: Absence = Absence(),  # noqa: B008 - it has no state that changes
    ) -> None:
        self.downstream = downstream
        self.spool = spool
        self.transfer = transfer
        self.absence = absence
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
            UnclearAnswer: the downstream does not say whether the object exists.
            PluginError: the object cannot be read for another reason.
        """

        def read() -> StoredHeader:
            with closing(self.read(call, artifact)) as stored:
                first = next((chunk for chunk in stored if chunk), None)
                if first is None:
                    return StoredHeader(None, is_empty=True)
                return StoredHeader(envelope.sealed_at(chain([first], stored)), is_empty=False)

        return self._answer("OpenStream", read, None, lambda error: self.absence.of_object(error, artifact))

    def is_stored(self, call: Call, artifact: Artifact) -> bool:
        """Return whether an object that is not empty is stored at exactly this key.

        Where the downstream has OpenStream, no more than the first chunk is read, also if `spool.transfer` is file.

        Raises:
            UnclearAnswer: the downstream does not say whether the object exists.
            PluginError: the object cannot be read for another reason.
        """
        if self.transfer is Transfer.FILE:
            try:
                with closing(self.downstream.open_stream(call, artifact)) as chunks:
                    if any(len(chunk) for chunk in chunks):
                        return True
            except (Refused, DownstreamStatus) as error:
                if self.absence.of_object(error, artifact):
                    return False
        header = self.header(call, artifact)
        return header is not None and not header.is_empty

    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        """Return the keys that the downstream lists for the artifact, without the manifests of directories.

        A failure is the downstream's own, unchanged, unless it means that nothing is stored there.
        """
        try:
            listed = self.downstream.list_objects(call, artifact)
        except (Refused, DownstreamStatus) as error:
            if not self.absence.of_all(error, artifact):
                raise
            return []
        return [key for key in listed if not is_manifest(key)]

    def keys(self, call: Call, artifact: Artifact) -> list[str]:
        """Return every key that the downstream lists for the artifact, those of manifests included.

        Raises:
            UnclearAnswer: the downstream does not say whether objects are stored there.
        """

        def ask() -> list[str]:
            return self.downstream.list_objects(call, artifact)

        return self._answer("ListObjects", ask, [], lambda error: self.absence.of_all(error, artifact))

    def has_keys_beneath(self, call: Call, artifact: Artifact) -> bool:
        """Return whether objects are stored beneath the key; False if the downstream does not implement IsDirectory.

        Raises:
            UnclearAnswer: the downstream does not say whether objects are stored there.
        """
        return self._answer("IsDirectory", lambda: self.is_directory(call, artifact), False, lambda _: False)

    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        """Return whether objects are stored beneath the key; False if the downstream does not implement IsDirectory.

        A failure is the downstream's own, unchanged, unless it means that nothing is stored there.
        """
        try:
            return self.downstream.is_directory(call, artifact)
        except (Refused, DownstreamStatus) as error:
            is_unimplemented = isinstance(error, DownstreamStatus) and error.code == "UNIMPLEMENTED"
            if is_unimplemented or self.absence.of_all(error, artifact):
                return False
            raise

    def delete(self, call: Call, artifact: Artifact) -> bool:
        """Send one Delete. That nothing is stored at the key is not an error.

        Return False if only the text of an error says that nothing is stored. The object must then be read. The
        downstream's report of success is no proof either: `storage.deletion` verifies it.
        """
        try:
            self.downstream.delete(call, artifact)
        except (Refused, DownstreamStatus) as error:
            if not self.absence.of_all(error, artifact):
                raise
            return is_status(error)
        return True

    @staticmethod
    def _answer(
        question: str, ask: Callable[[], _T], absent: _S, means_absent: Callable[[PluginError], bool]
    ) -> _T | _S:
        """Return the answer of `ask`, or `absent` if its failure means that nothing is stored.

        Raises:
            UnclearAnswer: the failure does not say whether something is stored.
        """
        try:
            return ask()
        except (Refused, DownstreamStatus, IsDirectory) as error:
            if means_absent(error):
                return absent
            raise explained(error, question) from None


def is_manifest(key: str) -> bool:
    """Return whether `key` names the manifest of a directory."""
    return key.endswith(f"/{envelope.MANIFEST}")


@contextmanager
def open_spooled(spooled: Path) -> Iterator[tuple[int, bool]]:
    """Open what a downstream's Load left at `spooled`; yield its descriptor, and whether it is a directory.

    Raises:
        DataLoss: the downstream left neither a regular file nor a directory.
        Busy: no further file can be opened.
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
        except (OSError, envelope.NotRegular) as error:
            if busy := out_of_descriptors(error):
                raise busy from None
            fact = "the downstream reported success and left neither a file nor a directory"
            raise DataLoss(fact, says="downstream", remedy="Look at the downstream's log") from None
        yield fd, is_directory
