"""Directory artifacts in storage: the manifest, what is stored beside it, and what an earlier Save left behind.

`Sealed` stores the manifest of a directory last and reads it first (docs/format.md, "Directories").
"""

from __future__ import annotations

import logging
from collections.abc import Set as AbstractSet
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
    UnclearAnswer,
    UnsupportedFormat,
)
from sealgate.layers.flow import counted_from_storage
from sealgate.log_event import LogEvent
from sealgate.plugin import Artifact
from sealgate.storage.deletion import Deleter
from sealgate.storage.stored_objects import StoredHeader, StoredObjects

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
                if self.stored.absence.of_object(error, self.manifest):
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
            stored = self.stored.list_objects(self.call, self.artifact)
            beneath = {key.removeprefix(prefix) for key in stored if key.startswith(prefix)}
            note_left_out(self.call, self.artifact.key, len(beneath - saved.manifest.files.keys()))


class EarlierSaves:
    """What earlier Saves left under one key. Most downstreams keep it when something else is saved there.

    A downstream that refuses to read or to list can still be written: nothing is removed then.

    Args:
        call: the Save.
        artifact: what it saves.
        stored: the objects in the downstream.
        deleter: deletes them.
    """

    def __init__(self, call: Call, artifact: Artifact, stored: StoredObjects, deleter: Deleter) -> None:
        self._call = call
        self._artifact = artifact
        self._manifest = child(artifact, envelope.MANIFEST)
        self._stored = stored
        self._deleter = deleter

    def has_file_at_key(self) -> bool:
        """Return whether a file artifact is stored at the directory's own key, as far as the downstream says.

        Most downstreams keep it when objects are stored beneath its key, and would go on serving it.
        """
        header = self._header(self._artifact)
        return header is not None and not (header.is_empty and self._is_directory())

    def remove_file_at_key(self) -> None:
        """Delete the file artifact that is stored at the directory's own key.

        Raises:
            DataLoss: the downstream reported success, and the file is left.
        """
        self._remove(self._artifact)

    def remove_manifest(self) -> None:
        """Delete the manifest of an earlier Save, if there is one.

        Raises:
            DataLoss: the downstream reported success, and the manifest is left.
        """
        if not self._call.only_new and self._header(self._manifest) is not None:
            self._remove(self._manifest)

    def keys_beneath(self) -> frozenset[str] | None:
        """Return the keys that are stored beneath the directory's key; None if the downstream refuses to say."""
        prefix = f"{self._artifact.key}/"
        with suppress(Refused, DownstreamStatus, UnclearAnswer):
            return frozenset(key for key in self._stored.keys(self._call, self._artifact) if key.startswith(prefix))
        return None

    def remove_objects(self, keys: AbstractSet[str]) -> None:
        """Delete objects of an earlier directory that the new one does not have.

        Args:
            keys: those of the objects. None of them may be above a key that must stay.

        Raises:
            DataLoss: the downstream reported success, and objects are left.
        """
        self._deleter.delete_objects(self._call, self._artifact, keys)

    def remove_directory(self) -> None:
        """Delete everything beneath the key after a file was saved at it, unless the downstream does that itself.

        Most downstreams keep it, and would go on serving the directory.

        Raises:
            DataLoss: objects remain.
        """
        if self._call.only_new or self._stored.replaces_whole(self._call) or not self._is_directory():
            return
        beneath = self.keys_beneath() or frozenset()
        # The manifest first: without it nothing of the directory opens.
        for key in sorted(beneath | {self._manifest.key}, key=lambda key: (key != self._manifest.key, key)):
            self._stored.delete(self._call, replace(self._artifact, key=key))
        if self._is_directory():
            raise DataLoss(
                "the file was stored, and the downstream keeps objects of an earlier directory beneath its key",
                says="downstream",
                remedy="Delete the artifact, and save it again",
            )

    def _remove(self, artifact: Artifact) -> None:
        """Delete one object, and check that it is gone, unless the downstream does not say so."""
        is_answered = self._stored.delete(self._call, artifact)
        with suppress(UnclearAnswer):  # else nothing could be saved where something was stored
            self._deleter.require_gone(self._call, artifact, is_answered=is_answered)

    def _header(self, artifact: Artifact) -> StoredHeader | None:
        """Return the header of the object at this key; None if there is none, or if the downstream refuses to say."""
        with suppress(Refused, DownstreamStatus, UnclearAnswer, DataLoss):
            return self._stored.header(self._call, artifact)
        return None

    def _is_directory(self) -> bool:
        """Return whether objects are stored beneath the key; False if the downstream refuses to say."""
        with suppress(Refused, DownstreamStatus):
            return self._stored.is_directory(self._call, self._artifact)
        return False


def note_left_out(call: Call, key: str, count: int) -> None:
    """Count stored objects that were left out of a directory, and warn of them."""
    if count > 0:
        call.sealed.left_out += count
        log.warning(
            LogEvent(
                "objects were left out",
                operation=call.operation,
                key=logged_key(call, key),
                reason="they are not in the directory's manifest",
                objects=count,
                decision_id=call.id,
            )
        )
