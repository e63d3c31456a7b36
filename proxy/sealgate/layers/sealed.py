"""The layer that seals: plaintext above it, ciphertext below it.

A Save surveys the local files, creates one data key, and seals either into the spool (by file) or into the
downstream's SaveStream (by stream). A Load opens what the downstream put into the spool, or the downstream's stream.
Plaintext reaches a disk only as the file or directory that a Load requested, and gets its final name only after its
last segment has been verified.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

from typing_extensions import override

from sealgate import envelope
from sealgate.call import Call, WrappedKey
from sealgate.envelope import Binding, Header, SavedDirectory, Totals, Unlock
from sealgate.errors import (
    DataLoss,
    DirectoryIncomplete,
    DownstreamStatus,
    LimitReached,
    NotBound,
    NotConfigured,
    Refused,
    shown_key,
)
from sealgate.keys import KeyProvider
from sealgate.layers.author_block import split_author_block, without_author_block
from sealgate.layers.directories import StoredDirectory, child, note_foreign, require_unreserved
from sealgate.layers.flow import (
    add_totals,
    admit_callback,
    counted_from_storage,
    counted_to_storage,
    metered_plaintext,
    require_key_and_context,
    undo_partial_save,
)
from sealgate.layers.save_survey import SaveSurvey, survey_source
from sealgate.plugin import Artifact, ArtifactPlugin, Capabilities, Chunk
from sealgate.storage.local_paths import (
    Destination,
    LocalSource,
    Roots,
    local_errors,
    opened_directory,
    read_chunks,
    write_all,
)
from sealgate.storage.spool import Spool, private_directory, private_file
from sealgate.storage.stored_objects import SPOOLED, StoredObjects, Transfer, open_spooled, says_absent

_StoreFile = Callable[[Artifact, Iterator[Chunk]], None]

PUBLIC_FILE, PUBLIC_DIRECTORY = 0o644, 0o755
"""Modes of what a Load creates: its reader may run as another user (docs/argo.md)."""
SPARE_SPACE = 64 << 20
"""Bytes that a spooled Save leaves free for other users of that file system."""
_FULL = 1 << 20
"""Bytes. If the spool has less free, a full file system is why a spooled Load failed."""


class Sealed(ArtifactPlugin):
    """Seals on Save and SaveStream, opens on Load and OpenStream, and forwards the rest."""

    def __init__(
        self,
        downstream: ArtifactPlugin,
        keys: KeyProvider,
        *,
        roots: Roots,
        spool: Spool,
        transfer: Transfer = Transfer.AUTO,
        allows_unbound: bool = False,
    ) -> None:
        self._downstream = downstream
        self.stored = StoredObjects(downstream, spool, transfer)
        """The stored objects, still sealed, one at a time."""
        self._keys = keys
        self._roots = roots
        self._spool = spool
        self._transfer = transfer
        self._allows_unbound = allows_unbound

    # --- writing ------------------------------------------------------------------------------------------

    @override
    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        """Seal the file or directory at `path` under one data key, and store it."""
        with self._roots.source(path) as source:
            call.instructions.meter.resolved_path(source.path)
            artifact, key_name = split_author_block(artifact, call.instructions.author_keys)
            require_unreserved(artifact.key)
            survey = survey_source(source, call, artifact.key)
            if call.instructions.passthrough:
                self._save_unsealed(call, artifact, source, survey)
            elif self._saves_by_file(call, survey):
                self._save_by_file(call, artifact, source, *self._new_key(call, key_name))
            else:
                self._save_by_stream(call, artifact, source, *self._new_key(call, key_name))
            if not source.is_directory:
                self._directory(call, artifact).remove_objects_beneath()

    @override
    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        """Seal what `chunks` yields: forwarded segment by segment, or spooled as ciphertext and saved."""
        artifact, key_name = split_author_block(artifact, call.instructions.author_keys)
        require_unreserved(artifact.key)
        by_stream = self.stored.writes_by_stream(call)
        if call.instructions.passthrough:
            self._store_unsealed(call, artifact, chunks, by_stream=by_stream)
        else:
            sealed = self._seal(call, artifact, chunks, *self._new_key(call, key_name))
            self.stored.write(call, artifact, sealed, by_stream=by_stream)
        self._directory(call, artifact).remove_objects_beneath()

    def _saves_by_file(self, call: Call, survey: SaveSurvey) -> bool:
        """Choose between the spool (True) and a stream (False) for a Save, by `spool.transfer` and free space.

        Raises:
            NotConfigured: `spool.transfer` is stream, and the downstream has no SaveStream.
            LimitReached: the spool is too small, and a stream is not possible.
        """
        if self._transfer is Transfer.STREAM:
            return not self.stored.writes_by_stream(call)
        needed = survey.stored_bytes + SPARE_SPACE
        if self._transfer is Transfer.FILE or needed <= (free := self._spool.free_bytes()):
            return True
        if self.stored.writes_by_stream(call):
            return False
        raise LimitReached(
            f"the spool has {free} bytes free, {needed} are needed, and the artifact cannot be streamed instead",
            remedy="Give spool.directory a larger file system",
        )

    def _save_by_file(
        self, call: Call, artifact: Artifact, source: LocalSource, header: Header, data_key: bytes
    ) -> None:
        """Seal `source` into the spool, and have the downstream save it from there."""
        with self._spool.place() as place:
            spooled = place / SPOOLED
            with call.trace.step("seal"), local_errors("the local path", written="the spool"):
                totals = _seal_into_spool(spooled, source, header, data_key, artifact.key, call)
            if source.is_directory:
                # A file that the survey counted can be gone. The object that it would have replaced is then removed.
                call.instructions.meter.will_replace(is_directory=True)
            add_totals(call, totals)
            call.check()
            self._downstream.save(call, artifact, spooled)
        directory = self._directory(call, artifact)
        if source.is_directory and directory.remove_file_at_key() and not self.stored.header(call, directory.manifest):
            raise DirectoryIncomplete(
                "the downstream kept a file at the directory's key, and deleted the directory together with it",
                says="downstream",
                remedy="Save the directory again",
            )

    def _save_by_stream(
        self, call: Call, artifact: Artifact, source: LocalSource, header: Header, data_key: bytes
    ) -> None:
        """Seal each file of `source` into a SaveStream of the downstream."""

        def store(file: Artifact, chunks: Iterator[Chunk]) -> None:
            self.stored.write(call, file, self._seal(call, file, chunks, header, data_key), by_stream=True)

        if not source.is_directory:
            store(artifact, read_chunks(source.fd, call.check))
            return
        directory = self._directory(call, artifact)
        directory.remove_file_at_key()
        manifest = self._store_each_file(call, artifact, source, store)
        sealed = envelope.seal_manifest(header, data_key, artifact.key, manifest)
        self.stored.write(call, directory.manifest, counted_to_storage(call, sealed), by_stream=True)

    def _save_unsealed(self, call: Call, artifact: Artifact, source: LocalSource, survey: SaveSurvey) -> None:
        """Store each file of `source` as plaintext, because a policy says so."""
        if survey.empty_directory is not None:
            raise _cannot_keep(survey.empty_directory)
        by_stream = self.stored.writes_by_stream(call)

        def store(file: Artifact, chunks: Iterator[Chunk]) -> None:
            self._store_unsealed(call, file, chunks, by_stream=by_stream)

        if not source.is_directory:
            store(artifact, read_chunks(source.fd, call.check))
            return
        directory = self._directory(call, artifact)
        directory.remove_file_at_key()
        self._downstream.delete(call, directory.manifest)  # an earlier Save may have been sealed
        self._store_each_file(call, artifact, source, store)

    def _store_each_file(
        self, call: Call, artifact: Artifact, source: LocalSource, store: _StoreFile
    ) -> envelope.Manifest:
        """Call `store` for each file of a directory, under the file's own artifact key; return what was stored."""
        files: dict[str, int] = {}
        empty: set[str] = set()
        with (
            undo_partial_save(call, artifact, self._downstream) as written,
            local_errors("the local path"),
            envelope.savable(),
        ):
            for place in envelope.walk(source.fd, skip_links=call.instructions.skips_links):
                if place.path and not place.files and not place.directories:
                    empty.add(place.path)
                for name in place.files:
                    path = place.path_of(name)
                    before = call.sealed.plaintext_bytes
                    with envelope.open_regular(name, place.fd) as fd:
                        store(child(artifact, path), read_chunks(fd, call.check))
                    files[path] = call.sealed.plaintext_bytes - before
                    written.append(child(artifact, path))
        return envelope.Manifest(files, frozenset(empty))

    def _store_unsealed(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk], *, by_stream: bool) -> None:
        call.sealed.unsealed_files += 1
        call.sealed.files += 1
        plaintext = counted_to_storage(call, metered_plaintext(call, artifact.key, chunks))
        self.stored.write(call, artifact, plaintext, by_stream=by_stream)

    def _seal(
        self, call: Call, artifact: Artifact, chunks: Iterator[Chunk], header: Header, data_key: bytes
    ) -> Generator[Chunk]:
        """Yield the sealed file for the plaintext in `chunks`."""
        call.sealed.files += 1
        plaintext = metered_plaintext(call, artifact.key, chunks)
        with call.trace.step("seal"):
            yield from counted_to_storage(call, envelope.seal_stream(header, data_key, artifact.key, plaintext))

    def _new_key(self, call: Call, author_key: str) -> tuple[Header, bytes]:
        """Create a data key, wrapped under the author's key or else the rule's; return the header and the data key."""
        data_key = self._keys.new_data_key(call, author_key or call.instructions.key)
        call.sealed.key = data_key.wrapped
        header = envelope.new_header(
            data_key.plaintext,
            data_key.wrapped,
            sealed_at=int(time.time()),
            context=call.instructions.context,
            audit_chain=call.audit.chain,
            audit_sequence=call.audit.sequence,
        )
        return header, data_key.plaintext

    # --- reading ------------------------------------------------------------------------------------------

    @override
    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        """Open the stored file or directory to `path`: whole and verified, or not at all."""
        artifact = without_author_block(artifact)
        require_unreserved(artifact.key)
        with self._roots.destination(path) as destination:
            call.instructions.meter.resolved_path(destination.path)
            if self._transfer is Transfer.STREAM or not self._load_by_file(call, artifact, destination):
                self._load_by_stream(call, artifact, destination)

    @override
    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        """Yield the plaintext, each segment only once it has been verified."""
        artifact = without_author_block(artifact)
        require_unreserved(artifact.key)
        call.sealed.files += 1
        with closing(self.stored.read(call, artifact)) as stored:
            yield from self._open(call, artifact, stored, self._unlock(call), plain=call.instructions.reads_plaintext)

    def _load_by_file(self, call: Call, artifact: Artifact, destination: Destination) -> bool:
        """Load through the spool. Return False if that did not work and `spool.transfer` permits a stream instead."""
        with self._spool.place() as place:
            spooled = place / SPOOLED
            try:
                self._downstream.load(call, artifact, spooled)
            except (Refused, DownstreamStatus) as error:
                unimplemented = isinstance(error, DownstreamStatus) and error.code == "UNIMPLEMENTED"
                if self._transfer is Transfer.AUTO and (unimplemented or self._spool.free_bytes() < _FULL):
                    return False
                raise
            call.check()
            self._open_from_spool(call, artifact, spooled, destination)
        return True

    def _open_from_spool(self, call: Call, artifact: Artifact, spooled: Path, destination: Destination) -> None:
        """Open the sealed file or directory at `spooled` into `destination`, and free its space meanwhile."""
        unlock, admit, plain = self._unlock(call), admit_callback(call), call.instructions.reads_plaintext
        key, check = artifact.key, call.check
        with open_spooled(spooled) as (stored, is_directory), call.trace.step("open"):
            if is_directory:
                modes = (PUBLIC_FILE, PUBLIC_DIRECTORY)
                with destination.new_directory(PUBLIC_DIRECTORY) as into:
                    totals = envelope.open_tree(
                        stored, into, unlock, key, modes, check, admit, consume=True, plain=plain
                    )
            else:
                with destination.new_file(PUBLIC_FILE) as into:
                    sizes = envelope.open_file(stored, into, unlock, key, check, admit, consume=True, plain=plain)
                totals = Totals(1, *sizes)
        add_totals(call, totals)
        note_foreign(call, key, totals.foreign)

    def _load_by_stream(self, call: Call, artifact: Artifact, destination: Destination) -> None:
        """Load through OpenStream: first as one file, and as a directory if it turns out to be one."""
        unlock, plain = self._unlock(call), call.instructions.reads_plaintext
        try:
            with destination.new_file(PUBLIC_FILE) as into:
                self._open_into(call, artifact, into, unlock, plain=plain)
        except (Refused, DownstreamStatus, DataLoss):
            # For a directory, some plugins refuse the stream and others send an empty one. Only then look for one.
            if call.sealed.stored_bytes:
                raise
            saved = self._directory(call, artifact).read_manifest(unlock)
            if saved is None and not self.stored.is_directory(call, artifact):
                raise
            destination.discard()
            call.sealed.files = 0
            with destination.new_directory(PUBLIC_DIRECTORY) as into:
                if saved is not None:
                    self._load_saved(call, artifact, into, saved, unlock)
                elif plain:
                    self._load_unsealed(call, artifact, into)
                else:
                    raise envelope.no_manifest() from None

    def _load_saved(self, call: Call, artifact: Artifact, into: int, saved: SavedDirectory, unlock: Unlock) -> None:
        """Open exactly what the manifest lists, each file from its own stream, into the directory open as `into`."""
        directory = self._directory(call, artifact)
        for path in sorted(saved.manifest.empty_directories):
            with envelope.create_directories(into, path, PUBLIC_DIRECTORY):
                pass
        unlock_file = saved.same_save(unlock)
        paths = sorted(saved.manifest.files)
        for index, path in enumerate(paths):
            file, what = child(artifact, path), ""
            try:
                with envelope.create_beneath(into, path, (PUBLIC_FILE, PUBLIC_DIRECTORY)) as fd:
                    saved.require_size(path, self._open_into(call, file, fd, unlock_file))
            except DirectoryIncomplete as fault:
                what = fault.fact
            except (Refused, DownstreamStatus) as error:
                if not says_absent(error, file):
                    raise
                what = "is missing"
            if what:
                raise directory.incomplete(path, what, paths[index + 1 :], saved)
        directory.count_foreign(saved)

    def _load_unsealed(self, call: Call, artifact: Artifact, into: int) -> None:
        """Copy a directory that was never sealed, because a policy allows it. A sealed file in it is refused."""
        for key in sorted(self.stored.list_objects(call, artifact)):
            path = key.removeprefix(f"{artifact.key}/")
            if path == key:
                raise DataLoss("the downstream lists an object outside the artifact", says="downstream")
            with envelope.create_beneath(into, path, (PUBLIC_FILE, PUBLIC_DIRECTORY)) as file:
                self._open_into(call, child(artifact, path), file, _refuse_sealed, plain=True)

    def _open_into(self, call: Call, artifact: Artifact, into: int, unlock: Unlock, *, plain: bool = False) -> int:
        """Open the artifact's stream into the file descriptor `into`; return the plaintext size in bytes."""
        call.sealed.files += 1
        size = 0
        with closing(self._downstream.open_stream(call, artifact)) as stored:
            for plaintext in self._open(call, artifact, stored, unlock, plain=plain):
                write_all(into, plaintext)
                size += len(plaintext)
        return size

    def _open(
        self, call: Call, artifact: Artifact, stored: Iterator[Chunk], unlock: Unlock, *, plain: bool
    ) -> Iterator[Chunk]:
        """Yield the plaintext of the sealed file in `stored`; count it and report it to the meter."""
        arriving = counted_from_storage(call, stored)
        opened = envelope.open_stream(arriving, unlock, artifact.key, admit_callback(call), plain=plain)
        with call.trace.step("open"):
            for plaintext in opened:
                call.check()
                call.instructions.meter.add_bytes(len(plaintext))
                call.sealed.plaintext_bytes += len(plaintext)
                yield plaintext
        call.instructions.meter.finish()

    def _unlock(self, call: Call) -> Unlock:
        """Return a function that finds the data key of a header. It unwraps each wrapped key only once per call."""
        known: dict[WrappedKey, bytes] = {}

        def unlock(header: Header) -> bytes:
            require_key_and_context(header, call.instructions)
            if header.binding is Binding.NONE and not self._allows_unbound:
                raise NotBound(
                    "the object is not bound to an artifact key, so it can be any other artifact's",
                    remedy="Save it through Sealgate, or set allowUnbound where such objects are trusted",
                )
            if header.key not in known:
                known[header.key] = self._keys.unwrap(call, header.key)
                call.sealed.key = header.key
            return known[header.key]

        return unlock

    def _directory(self, call: Call, artifact: Artifact) -> StoredDirectory:
        return StoredDirectory(call, artifact, self._downstream, self.stored)

    # --- the rest -----------------------------------------------------------------------------------------

    @override
    def delete(self, call: Call, artifact: Artifact) -> None:
        artifact = without_author_block(artifact)
        require_unreserved(artifact.key)
        self._downstream.delete(call, artifact)

    @override
    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        return self.stored.list_objects(call, without_author_block(artifact))

    @override
    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        return self.stored.is_directory(call, without_author_block(artifact))

    @override
    def get_capabilities(self, call: Call) -> Capabilities:
        """Always offer SaveStream: where the downstream has none, the ciphertext is spooled."""
        return Capabilities(save_stream=True)


def _seal_into_spool(
    spooled: Path, source: LocalSource, header: Header, data_key: bytes, key: str, call: Call
) -> Totals:
    admit, skip_links = admit_callback(call), call.instructions.skips_links
    if source.is_directory:
        private_directory(spooled)
        with opened_directory(spooled) as fd:
            return envelope.seal_tree(source.fd, fd, header, data_key, key, call.check, admit, skip_links=skip_links)
    with open(spooled, "xb", buffering=0, opener=private_file) as file:
        return Totals(1, *envelope.seal_file(source.fd, file.fileno(), header, data_key, key, call.check, admit))


def _cannot_keep(directory: str) -> NotConfigured:
    fact = f'the directory "{shown_key(directory) or "."}" is empty, and nothing keeps it where files are not sealed'
    return NotConfigured(fact, remedy="Save an archive of the directory")


def _refuse_sealed(_: Header) -> bytes:
    raise envelope.no_manifest()
