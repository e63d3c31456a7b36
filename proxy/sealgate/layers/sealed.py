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
from dataclasses import replace
from pathlib import Path

from typing_extensions import override

from sealgate import envelope
from sealgate.call import Call, WrappedKey
from sealgate.envelope import Header, Totals, Unlock
from sealgate.errors import DataLoss, DownstreamStatus, LimitReached, NotConfigured, Refused, shown_key
from sealgate.keys import KeyProvider
from sealgate.layers.author_block import split_author_block, without_author_block
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
from sealgate.storage.stored_objects import SPOOLED, StoredObjects, Transfer, open_spooled

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
    ) -> None:
        self._downstream = downstream
        self.stored = StoredObjects(downstream, spool, transfer)
        """The stored objects, still sealed, one at a time."""
        self._keys = keys
        self._roots = roots
        self._spool = spool
        self._transfer = transfer

    # --- writing ------------------------------------------------------------------------------------------

    @override
    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        """Seal the file or directory at `path` under one data key, and store it."""
        with self._roots.source(path) as source:
            call.instructions.meter.resolved_path(source.path)
            artifact, key_name = split_author_block(artifact, call.instructions.author_keys)
            survey = survey_source(source, call, artifact.key)
            if call.instructions.passthrough:
                self._save_unsealed(call, artifact, source, survey)
            elif self._saves_by_file(call, survey):
                self._save_by_file(call, artifact, source, *self._new_key(call, key_name))
            else:
                self._save_by_stream(call, artifact, source, *self._new_key(call, key_name))

    @override
    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        """Seal what `chunks` yields: forwarded segment by segment, or spooled as ciphertext and saved."""
        artifact, key_name = split_author_block(artifact, call.instructions.author_keys)
        by_stream = self.stored.writes_by_stream(call)
        if call.instructions.passthrough:
            self._store_unsealed(call, artifact, chunks, by_stream=by_stream)
        else:
            sealed = self._seal(call, artifact, chunks, *self._new_key(call, key_name))
            self.stored.write(call, artifact, sealed, by_stream=by_stream)

    def _saves_by_file(self, call: Call, survey: SaveSurvey) -> bool:
        """Choose between the spool (True) and a stream (False) for a Save, by `spool.transfer` and free space.

        Raises:
            NotConfigured: `spool.transfer` is stream, and the downstream or the directory does not allow that.
            LimitReached: the spool is too small, and a stream is not possible.
        """
        if self._transfer is Transfer.STREAM and survey.empty_directory is not None:
            remedy = "Set spool.transfer to auto or file, or save an archive of the directory"
            raise _cannot_carry(survey.empty_directory, remedy)
        if self._transfer is Transfer.STREAM:
            return not self.stored.writes_by_stream(call)
        needed = survey.stored_bytes + SPARE_SPACE
        if self._transfer is Transfer.FILE or needed <= (free := self._spool.free_bytes()):
            return True
        if survey.empty_directory is None and self.stored.writes_by_stream(call):
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

    def _save_by_stream(
        self, call: Call, artifact: Artifact, source: LocalSource, header: Header, data_key: bytes
    ) -> None:
        """Seal each file of `source` into a SaveStream of the downstream."""

        def store(file: Artifact, chunks: Iterator[Chunk]) -> None:
            self.stored.write(call, file, self._seal(call, file, chunks, header, data_key), by_stream=True)

        self._store_each_file(call, artifact, source, store)

    def _save_unsealed(self, call: Call, artifact: Artifact, source: LocalSource, survey: SaveSurvey) -> None:
        """Store each file of `source` as plaintext, because a policy says so."""
        if survey.empty_directory is not None:
            raise _cannot_carry(survey.empty_directory, "Save an archive of the directory")
        by_stream = self.stored.writes_by_stream(call)

        def store(file: Artifact, chunks: Iterator[Chunk]) -> None:
            self._store_unsealed(call, file, chunks, by_stream=by_stream)

        self._store_each_file(call, artifact, source, store)

    def _store_each_file(self, call: Call, artifact: Artifact, source: LocalSource, store: _StoreFile) -> None:
        """Call `store` for a file, or for each file of a directory under the file's own artifact key."""
        if not source.is_directory:
            store(artifact, read_chunks(source.fd, call.check))
            return
        with (
            undo_partial_save(call, artifact, self._downstream) as written,
            local_errors("the local path"),
            envelope.savable(),
        ):
            for directory in envelope.walk(source.fd, skip_links=call.instructions.skips_links):
                for name in directory.files:
                    file = _child(artifact, directory.path_of(name))
                    with envelope.open_regular(name, directory.fd) as fd:
                        store(file, read_chunks(fd, call.check))
                    written.append(file)

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
        with self._roots.destination(path) as destination:
            call.instructions.meter.resolved_path(destination.path)
            if self._transfer is Transfer.STREAM or not self._load_by_file(call, artifact, destination):
                self._load_by_stream(call, artifact, destination)

    @override
    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        """Yield the plaintext, each segment only once it has been verified."""
        artifact = without_author_block(artifact)
        call.sealed.files += 1
        with closing(self.stored.read(call, artifact)) as stored:
            yield from self._open(call, artifact, stored, self._unlock(call))

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

    def _load_by_stream(self, call: Call, artifact: Artifact, destination: Destination) -> None:
        """Load through OpenStream: first as one file, and as a directory if it turns out to be one."""
        try:
            with destination.new_file(PUBLIC_FILE) as into:
                self._open_into(call, artifact, into, self._unlock(call))
        except (Refused, DownstreamStatus, DataLoss):
            # For a directory, some plugins refuse the stream and others send an empty one. Only then ask which it is.
            if call.sealed.stored_bytes or not self.stored.is_directory(call, artifact):
                raise
            destination.discard()
            self._load_tree_by_stream(call, artifact, destination)

    def _load_tree_by_stream(self, call: Call, artifact: Artifact, destination: Destination) -> None:
        unlock = self._unlock(call)
        with destination.new_directory(PUBLIC_DIRECTORY) as into:
            for key in sorted(self.stored.list_objects(call, artifact)):
                path = key.removeprefix(f"{artifact.key}/")
                if path == key:
                    raise DataLoss("the downstream lists an object outside the artifact", says="downstream")
                with envelope.create_beneath(into, path, (PUBLIC_FILE, PUBLIC_DIRECTORY)) as file:
                    self._open_into(call, _child(artifact, path), file, unlock)

    def _open_into(self, call: Call, artifact: Artifact, into: int, unlock: Unlock) -> None:
        """Open the artifact's stream into the file descriptor `into`."""
        call.sealed.files += 1
        with closing(self._downstream.open_stream(call, artifact)) as stored:
            for plaintext in self._open(call, artifact, stored, unlock):
                write_all(into, plaintext)

    def _open(self, call: Call, artifact: Artifact, stored: Iterator[Chunk], unlock: Unlock) -> Iterator[Chunk]:
        """Yield the plaintext of the sealed file in `stored`; count it and report it to the meter."""
        arriving = counted_from_storage(call, stored)
        plain = call.instructions.reads_plaintext
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
            if header.key not in known:
                known[header.key] = self._keys.unwrap(call, header.key)
                call.sealed.key = header.key
            return known[header.key]

        return unlock

    # --- the rest -----------------------------------------------------------------------------------------

    @override
    def delete(self, call: Call, artifact: Artifact) -> None:
        self._downstream.delete(call, without_author_block(artifact))

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


def _cannot_carry(directory: str, remedy: str) -> NotConfigured:
    fact = f'the directory "{shown_key(directory) or "."}" is empty, and a stream cannot carry it'
    return NotConfigured(fact, remedy=remedy)


def _child(artifact: Artifact, path: str) -> Artifact:
    return replace(artifact, key=f"{artifact.key}/{path}")
