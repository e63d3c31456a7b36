"""Directory artifacts in storage: the manifest, what is stored beside it, and what an earlier Save left behind.

`Sealed` stores the manifest of a directory last and reads it first (docs/format.md, "Directories").
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import chain, islice

from sealgate import envelope
from sealgate.call import Call, logged_key
from sealgate.envelope import SavedDirectory, Unlock
from sealgate.errors import (
    BadRequest,
    DataLoss,
    DirectoryIncomplete,
    DownstreamStatus,
    NotSealed,
    PluginError,
    Refused,
    UnsupportedFormat,
)
from sealgate.layers.flow import counted_from_storage
from sealgate.plugin import Artifact
from sealgate.storage.stored_objects import StoredHeader, StoredObjects, says_absent

log = logging.getLogger("sealgate.call")

_MOST_HEADERS_READ = 100
"""How many stored files are read to count the faults of a directory that is refused."""


def child(artifact: Artifact, path: str) -> Artifact:
    """Return the artifact for the file at `path` beneath a directory artifact."""
    return replace(artifact, key=f"{artifact.key}/{path}")


def require_unreserved(key: str) -> None:
    """Refuse a key that names a manifest.

    Raises:
        BadRequest: a segment of `key` is the name that is reserved for manifests.
    """
    if envelope.MANIFEST in key.split("/"):
        raise BadRequest(
            f"the name {envelope.MANIFEST} is reserved for the manifests of directories", remedy="Choose another key"
        )


@dataclass(frozen=True, slots=True)
class StoredDirectory:
    """One directory artifact as the downstream stores it."""

    call: Call
    artifact: Artifact
    stored: StoredObjects

    @property
    def manifest(self) -> Artifact:
        """The artifact of the manifest object."""
        return child(self.artifact, envelope.MANIFEST)

    def read_manifest(self, unlock: Unlock) -> SavedDirectory | None:
        """Read and open the manifest; None if there is none.

        Raises:
            DataLoss: the object is not the manifest of this directory.
        """
        with closing(self.stored.read(self.call, self.manifest)) as chunks:
            try:
                first = [*islice(chunks, 1)]
            except (Refused, DownstreamStatus, BadRequest) as error:
                if says_absent(error, self.manifest):
                    return None
                raise
            arriving = counted_from_storage(self.call, chain(first, chunks))
            return envelope.open_manifest(arriving, unlock, self.artifact.key)

    def incomplete(self, path: str, what: str, rest: list[str], saved: SavedDirectory) -> DirectoryIncomplete:
        """Return the error for the file at `path`; `rest` are the files that were not opened yet."""
        checked = rest[:_MOST_HEADERS_READ]
        faults = sum(self._is_faulty(path, saved) for path in checked)
        return envelope.incomplete(path, what, faults, at_least=len(checked) < len(rest))

    def _is_faulty(self, path: str, saved: SavedDirectory) -> bool:
        try:
            with closing(self.stored.downstream.open_stream(self.call, child(self.artifact, path))) as chunks:
                header, _ = envelope.split_stream(chunks)
        except (Refused, DownstreamStatus, NotSealed, DataLoss, UnsupportedFormat):
            return True
        return header.key_commitment != saved.key_commitment

    def count_left_out(self, saved: SavedDirectory) -> None:
        """Record how many stored objects the manifest does not list, if the downstream can list what is there."""
        with suppress(PluginError):
            prefix = f"{self.artifact.key}/"
            stored = self.stored.downstream.list_objects(self.call, self.artifact)
            beneath = {key.removeprefix(prefix) for key in stored if key.startswith(prefix)}
            foreign = {path for path in beneath if path.rpartition("/")[2] != envelope.MANIFEST}
            note_left_out(self.call, self.artifact.key, len(foreign - saved.manifest.files.keys()))

    # --- what an earlier Save left behind -----------------------------------------------------------------

    def has_file_at_key(self) -> bool:
        """Return whether a file artifact is stored at the directory's own key, as far as the downstream says.

        Most downstreams keep it when objects are stored beneath its key, and would go on serving it.
        """
        header = self._header(self.artifact)
        return header is not None and not (header.is_empty and self._is_directory())

    def remove_file_at_key(self) -> None:
        """Delete a file artifact that is stored at the directory's own key."""
        if self.has_file_at_key():
            self.stored.downstream.delete(self.call, self.artifact)

    def remove_manifest(self) -> None:
        """Delete the manifest of an earlier Save, if there is one."""
        if self._header(self.manifest) is not None:
            self.stored.downstream.delete(self.call, self.manifest)

    def remove_objects_beneath(self) -> None:
        """Delete everything beneath the key after a file was saved at it, unless the downstream does that itself.

        Most downstreams keep it, and would go on serving the directory.

        Raises:
            DataLoss: objects remain.
        """
        if self.stored.replaces_whole(self.call) or not self._is_directory():
            return
        for key in self._all_beneath():
            self.stored.downstream.delete(self.call, replace(self.artifact, key=key))
        if self._is_directory():
            raise DataLoss(
                "the file was stored, and the downstream keeps objects of an earlier directory beneath its key",
                says="downstream",
                remedy="Delete the artifact, and save it again",
            )

    def _header(self, artifact: Artifact) -> StoredHeader | None:
        """Return the header of the object at this key; None if there is none, or if the downstream refuses to say."""
        with suppress(Refused, DownstreamStatus, DataLoss):
            return self.stored.header(self.call, artifact)
        return None

    def _is_directory(self) -> bool:
        """Return whether objects are stored beneath the key; False if the downstream refuses to say."""
        with suppress(Refused, DownstreamStatus):
            return self.stored.is_directory(self.call, self.artifact)
        return False

    def _all_beneath(self) -> Iterator[str]:
        """Yield the keys beneath the directory's key, the manifest first: without it nothing of the directory opens."""
        yield self.manifest.key
        prefix = f"{self.artifact.key}/"
        yield from (key for key in self.stored.list_objects(self.call, self.artifact) if key.startswith(prefix))


def note_left_out(call: Call, key: str, count: int) -> None:
    """Count stored objects that were left out of a directory, and warn of them."""
    if count > 0:
        call.sealed.left_out += count
        shown = logged_key(call, key)
        log.warning(
            "%s left out %d objects that are not in the directory's manifest: %s [d=%s]",
            call.operation,
            count,
            shown,
            call.id,
        )
