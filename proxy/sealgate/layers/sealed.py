"""The layer that seals: ciphertext below it, plaintext above it.

Nothing is written to a disk in plaintext but the file or directory that a Load asked for, and that only
once its last segment has been verified.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from typing_extensions import override

from sealgate import envelope
from sealgate.call import Call, WrappedKey
from sealgate.envelope import Header, Totals, Unlock
from sealgate.errors import DataLoss, DownstreamStatus, LimitReached, NotConfigured, Refused, shown_key
from sealgate.keys import KeyProvider
from sealgate.layers.author_block import forwarded, split
from sealgate.layers.flow import admitting, counted, metered, record, require_terms, stored_as_it_is, undone
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
from sealgate.storage.stored_objects import SPOOLED, StoredObjects, Transfer, left_behind

_Save = Callable[[Artifact, Iterator[Chunk]], None]

PUBLIC_FILE, PUBLIC_DIRECTORY = 0o644, 0o755
"""Modes of what a Load creates: its reader may run as another user (docs/argo.md)."""
_LARGE_HEADER = 512
"""More than a header takes, for an estimate."""
SPARE_SPACE = 64 << 20
"""What a spooled Save leaves free for everybody else on that file system."""
_FULL = 1 << 20
"""A file system with less room than this is what made a spooled Load fail."""


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
        """What lies in storage, read and written object by object."""
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
            artifact, chosen = split(artifact, call.instructions.author_keys)
            survey = _survey(source, call, artifact.key)
            if call.instructions.passthrough:
                if survey.empty_directory is not None:
                    raise _cannot_carry(survey.empty_directory, "Save an archive of the directory")
                by_stream = self.stored.writes_by_stream(call)
                self._save_each(call, artifact, source, lambda to, chunks: self._pass(call, to, chunks, by_stream))
                return
            by_file = self._saves_by_file(call, survey)
            header, data_key = self._new_key(call, chosen)
            if by_file:
                self._save_by_file(call, artifact, source, header, data_key)
            else:
                self._save_each(
                    call, artifact, source, lambda to, chunks: self._save_by_stream(call, to, chunks, header, data_key)
                )

    @override
    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        """Seal what `chunks` yields: forwarded segment by segment, or spooled as ciphertext and saved."""
        artifact, chosen = split(artifact, call.instructions.author_keys)
        by_stream = self.stored.writes_by_stream(call)
        if call.instructions.passthrough:
            self._pass(call, artifact, chunks, by_stream)
            return
        self._save_by_stream(call, artifact, chunks, *self._new_key(call, chosen), by_stream=by_stream)

    def _saves_by_file(self, call: Call, survey: _Survey) -> bool:
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
            f"the spool has {free} bytes free, {needed} are needed, and it cannot go by stream",
            remedy="Give spool.directory a larger file system",
        )

    def _save_by_file(
        self, call: Call, artifact: Artifact, source: LocalSource, header: Header, data_key: bytes
    ) -> None:
        with self._spool.place() as place:
            stored = place / SPOOLED
            with call.trace.step("seal"), local_errors("the local path", written="the spool"):
                totals = _seal_to(stored, source, header, data_key, artifact.key, call)
            if source.is_directory:  # a file that was there for the survey may be gone: what it replaced would be, too
                call.instructions.meter.will_replace(is_directory=True)
            record(call, totals)
            call.check()
            self._downstream.save(call, artifact, stored)

    def _save_by_stream(
        self,
        call: Call,
        artifact: Artifact,
        chunks: Iterator[Chunk],
        header: Header,
        data_key: bytes,
        *,
        by_stream: bool = True,
    ) -> None:
        sealed = self._seal(call, artifact, chunks, header, data_key)
        self.stored.write(call, artifact, sealed, by_stream=by_stream)

    def _pass(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk], by_stream: bool) -> None:
        """Store plaintext as it is, where a policy says so."""
        call.sealed.unsealed_files += 1
        call.sealed.files += 1
        plaintext = stored_as_it_is(call, metered(call, artifact.key, chunks))
        self.stored.write(call, artifact, plaintext, by_stream=by_stream)

    def _save_each(self, call: Call, artifact: Artifact, source: LocalSource, save: _Save) -> None:
        """Save a file, or each file of a directory under its own key. What ends midway is undone; see `undone`."""
        if not source.is_directory:
            save(artifact, read_chunks(source.fd, call.check))
            return
        with undone(call, artifact, self._downstream) as written, local_errors("the local path"), envelope.savable():
            for place in envelope.walk(source.fd, skip_links=call.instructions.skips_links):
                for name in place.files:
                    child = _child(artifact, place.path_of(name))
                    with envelope.open_regular(name, place.fd) as fd:
                        save(child, read_chunks(fd, call.check))
                    written.append(child)

    def _seal(
        self, call: Call, artifact: Artifact, chunks: Iterator[Chunk], header: Header, data_key: bytes
    ) -> Generator[Chunk]:
        call.sealed.files += 1
        plaintext = metered(call, artifact.key, chunks)
        with call.trace.step("seal"):
            for sealed in envelope.seal_stream(header, data_key, artifact.key, plaintext):
                call.check()
                call.sealed.stored_bytes += len(sealed)
                yield sealed

    def _new_key(self, call: Call, chosen: str) -> tuple[Header, bytes]:
        data_key = self._keys.new_data_key(call, chosen or call.instructions.key)
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
        """Open the stored file or directory to `path`, whole and verified or not at all."""
        artifact = forwarded(artifact)
        with self._roots.destination(path) as destination:
            call.instructions.meter.resolved_path(destination.path)
            if self._transfer is Transfer.STREAM or not self._loaded_by_file(call, artifact, destination):
                self._load_by_stream(call, artifact, destination)

    @override
    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        """Yield the plaintext, each segment only once it has been verified."""
        artifact = forwarded(artifact)
        call.sealed.files += 1
        with closing(self.stored.read(call, artifact)) as stored:
            yield from self._open(call, artifact, stored, self._unlock(call))

    def _loaded_by_file(self, call: Call, artifact: Artifact, destination: Destination) -> bool:
        """Load through the spool; false if it takes a stream instead, which `auto` may then use."""
        with self._spool.place() as place:
            stored = place / SPOOLED
            try:
                self._downstream.load(call, artifact, stored)
            except (Refused, DownstreamStatus) as error:
                lacking = isinstance(error, DownstreamStatus) and error.code == "UNIMPLEMENTED"
                if self._transfer is Transfer.AUTO and (lacking or self._spool.free_bytes() < _FULL):
                    return False
                raise
            call.check()
            self._open_spooled(call, artifact, stored, destination)
        return True

    def _open_spooled(self, call: Call, artifact: Artifact, stored: Path, destination: Destination) -> None:
        unlock, admit, plain = self._unlock(call), admitting(call), call.instructions.reads_plaintext
        with left_behind(stored) as (found, is_directory), call.trace.step("open"):
            if is_directory:
                modes = (PUBLIC_FILE, PUBLIC_DIRECTORY)
                with destination.new_directory(PUBLIC_DIRECTORY) as into:
                    totals = envelope.open_tree(
                        found, into, unlock, artifact.key, modes, call.check, admit, consume=True, plain=plain
                    )
            else:
                with destination.new_file(PUBLIC_FILE) as into:
                    totals = Totals(
                        1,
                        *envelope.open_file(
                            found, into, unlock, artifact.key, call.check, admit, consume=True, plain=plain
                        ),
                    )
        record(call, totals)

    def _load_by_stream(self, call: Call, artifact: Artifact, destination: Destination) -> None:
        try:
            with destination.new_file(PUBLIC_FILE) as into:
                self._open_to(call, artifact, into, self._unlock(call))
        except (Refused, DownstreamStatus, DataLoss):
            # Some plugins refuse to stream a directory, some stream nothing: ask only then.
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
                    self._open_to(call, _child(artifact, path), file, unlock)

    def _open_to(self, call: Call, artifact: Artifact, into: int, unlock: Unlock) -> None:
        call.sealed.files += 1
        with closing(self._downstream.open_stream(call, artifact)) as stored:
            for plaintext in self._open(call, artifact, stored, unlock):
                write_all(into, plaintext)

    def _open(self, call: Call, artifact: Artifact, stored: Iterator[Chunk], unlock: Unlock) -> Iterator[Chunk]:
        arriving = counted(stored, lambda size: record(call, Totals(0, 0, size)))
        opened = envelope.open_stream(
            arriving, unlock, artifact.key, admitting(call), plain=call.instructions.reads_plaintext
        )
        with call.trace.step("open"):
            for plaintext in opened:
                call.check()
                call.instructions.meter.add_bytes(len(plaintext))
                call.sealed.plaintext_bytes += len(plaintext)
                yield plaintext
        call.instructions.meter.finish()

    def _unlock(self, call: Call) -> Unlock:
        """Finds data keys for one call, and asks the provider once for each, however many files share it."""
        known: dict[WrappedKey, bytes] = {}

        def unlock(header: Header) -> bytes:
            require_terms(header, call.instructions)
            if header.key not in known:
                known[header.key] = self._keys.unwrap(call, header.key)
                call.sealed.key = header.key
            return known[header.key]

        return unlock

    # --- the rest -----------------------------------------------------------------------------------------

    @override
    def delete(self, call: Call, artifact: Artifact) -> None:
        """Forwarded: what is sealed is deleted like anything else."""
        self._downstream.delete(call, forwarded(artifact))

    @override
    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        return self.stored.list_objects(call, forwarded(artifact))

    @override
    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        return self.stored.is_directory(call, forwarded(artifact))

    @override
    def get_capabilities(self, call: Call) -> Capabilities:
        """Streams are always taken: where the downstream has no SaveStream, ciphertext is spooled."""
        return Capabilities(save_stream=True)


@dataclass(frozen=True, slots=True)
class _Survey:
    """What is about to be sealed, for the choice of the way there."""

    stored_bytes: int
    empty_directory: str | None = None
    """The path of one, relative to the artifact; a stream cannot carry it."""


def _survey(source: LocalSource, call: Call, key: str) -> _Survey:
    """What is there now. A policy's limits are tried on it before anything is done, and hold again while it flows."""
    meter = call.instructions.meter.dry_run()
    if not source.is_directory:
        meter.next_object(key, source.size, sealed=True)
        meter.will_replace(is_directory=False)
        return _Survey(_LARGE_HEADER + envelope.stored_size(source.size))
    stored, empty = 0, None
    with local_errors("the local path"), envelope.savable():
        for place in envelope.walk(source.fd, skip_links=call.instructions.skips_links):
            for name in place.files:
                size = os.stat(name, dir_fd=place.fd, follow_symlinks=False).st_size
                meter.next_object(f"{key}/{place.path_of(name)}", size, sealed=True)
                stored += _LARGE_HEADER + envelope.stored_size(size)
            if not place.files and not place.directories:
                empty = place.path
    meter.will_replace(is_directory=True)
    return _Survey(stored, empty)


def _seal_to(stored: Path, source: LocalSource, header: Header, data_key: bytes, key: str, call: Call) -> Totals:
    admit, skip_links = admitting(call), call.instructions.skips_links
    if source.is_directory:
        private_directory(stored)
        with opened_directory(stored) as fd:
            return envelope.seal_tree(source.fd, fd, header, data_key, key, call.check, admit, skip_links=skip_links)
    with open(stored, "xb", buffering=0, opener=private_file) as file:
        return Totals(1, *envelope.seal_file(source.fd, file.fileno(), header, data_key, key, call.check, admit))


def _cannot_carry(directory: str, remedy: str) -> NotConfigured:
    fact = f'the directory "{shown_key(directory) or "."}" is empty, and a stream cannot carry it'
    return NotConfigured(fact, remedy=remedy)


def _child(artifact: Artifact, path: str) -> Artifact:
    return replace(artifact, key=f"{artifact.key}/{path}")
