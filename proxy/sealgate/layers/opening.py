"""The half of `Sealed` that reads: it opens stored files and directories to a local path, or as a stream."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

from sealgate import envelope
from sealgate.call import Call, StoredFacts, WrappedKey
from sealgate.envelope import Binding, Header, SavedDirectory, Totals, Unlock
from sealgate.errors import (
    DataLoss,
    DirectoryIncomplete,
    DownstreamStatus,
    LimitReached,
    NotBound,
    NotSealed,
    Refused,
)
from sealgate.keys import KeyProvider
from sealgate.layers.beside import SMALL, SmallTransfers, resumed, take_small
from sealgate.layers.directories import StoredDirectory, child, note_left_out
from sealgate.layers.flow import add_totals, admit_callback, counted_from_storage, require_key_and_context
from sealgate.plugin import Artifact, Chunk
from sealgate.storage.destination import Destination
from sealgate.storage.local_paths import write_all
from sealgate.storage.stored_objects import SPOOLED, StoredObjects, Transfer, open_spooled

PUBLIC_FILE, PUBLIC_DIRECTORY = 0o644, 0o755
"""Modes of what a Load creates: its reader may run as another user (docs/argo.md)."""
_MODES = (PUBLIC_FILE, PUBLIC_DIRECTORY)
_FULL = 1 << 20
"""Bytes. If the spool has less free, a full file system is why a spooled Load failed."""
_BY_PATH_ALONE = {"UNIMPLEMENTED", "DATA_LOSS", "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"}
"""Statuses of a downstream's Load that need not concern its streams.

All objects beneath the key have to be files of one directory there. One that the manifest does not list can prevent
that: it is both a file and a directory, its name is too long, or it does not fit."""


class Opener:
    """Opens what is loaded.

    Args:
        stored: where the ciphertext is stored.
        keys: unwraps data keys.
        beside: the places for small files of a directory that are read at once.
        allows_unbound: whether objects are opened that were sealed without an artifact key.
    """

    def __init__(
        self, stored: StoredObjects, keys: KeyProvider, beside: SmallTransfers, *, allows_unbound: bool
    ) -> None:
        self._stored = stored
        self._beside = beside
        self._downstream = stored.downstream
        self._spool = stored.spool
        self._keys = keys
        self._allows_unbound = allows_unbound

    def load(self, call: Call, artifact: Artifact, destination: Destination) -> None:
        """Open the stored file or directory to `destination`: whole and verified, or not at all."""
        if self._stored.transfer is Transfer.AUTO and self._load_sealed_file(call, artifact, destination):
            return
        refusal: Refused | DownstreamStatus | None = None
        if self._stored.transfer is not Transfer.STREAM:
            refusal = self._load_by_file(call, artifact, destination)
            if refusal is None:
                return
        # Nothing proves plaintext, so what the downstream calls lost is not read as plaintext in another way.
        plain = call.instructions.reads_plaintext
        withheld = plain and isinstance(refusal, DownstreamStatus) and refusal.code == "DATA_LOSS"
        try:
            self._load_by_stream(call, artifact, destination, plain=plain and not withheld)
        except NotSealed:
            if withheld and refusal is not None:
                raise refusal from None
            raise
        except DownstreamStatus as status:
            if status.code == "UNIMPLEMENTED" and refusal is not None:
                raise refusal from None
            raise

    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        """Yield the plaintext of a stored file, each segment only once it has been verified."""
        call.sealed.files += 1
        with closing(self._stored.read(call, artifact)) as stored:
            yield from self._open(call, artifact, stored, self._unlock(call), plain=call.instructions.reads_plaintext)
        self._require_file(call, artifact)

    # --- by file ------------------------------------------------------------------------------------------

    def _load_by_file(
        self, call: Call, artifact: Artifact, destination: Destination
    ) -> Refused | DownstreamStatus | None:
        """Load through the spool.

        Returns:
            The downstream's refusal if a stream may be tried instead; nothing has been opened then. None for success.
        """
        with self._spool.place() as place:
            spooled = place / SPOOLED
            try:
                self._downstream.load(call, artifact, spooled)
            except (Refused, DownstreamStatus) as error:
                by_path_alone = isinstance(error, DownstreamStatus) and error.code in _BY_PATH_ALONE
                if self._stored.transfer is Transfer.AUTO and (by_path_alone or self._spool.free_bytes() < _FULL):
                    return error
                raise
            call.check()
            self._open_from_spool(call, artifact, spooled, destination)
        return None

    def _open_from_spool(self, call: Call, artifact: Artifact, spooled: Path, destination: Destination) -> None:
        """Open the sealed file or directory at `spooled` into `destination`, and free its space meanwhile."""
        unlock, admit, plain = self._unlock(call), admit_callback(call), call.instructions.reads_plaintext
        key, check = artifact.key, call.check
        with open_spooled(spooled) as (stored, is_directory), call.trace.step("open"):
            if is_directory:
                with destination.new_directory(PUBLIC_DIRECTORY) as into:
                    totals = envelope.open_tree(
                        stored, into, unlock, key, _MODES, check, admit, consume=True, plain=plain
                    )
            else:
                with destination.new_file(PUBLIC_FILE) as into:
                    sizes = envelope.open_file(stored, into, unlock, key, check, admit, consume=True, plain=plain)
                totals = Totals(1, *sizes)
        add_totals(call, totals)
        note_left_out(call, key, totals.foreign)

    # --- by stream ----------------------------------------------------------------------------------------

    def _load_sealed_file(self, call: Call, artifact: Artifact, destination: Destination) -> bool:
        """Load through OpenStream if a sealed file comes that way; return False if none does, and nothing was opened.

        Opening overlaps with the transfer, and needs no room in the spool (docs/decisions/file-or-stream.md).
        """
        unlock, header_came = self._unlock(call), False

        def unlock_first(header: Header) -> bytes:
            nonlocal header_came
            header_came = True
            return unlock(header)

        try:
            with destination.new_file(PUBLIC_FILE) as into:
                self._open_into(call, artifact, into, unlock_first)
        except (Refused, DownstreamStatus, DataLoss, NotSealed, LimitReached) as error:
            # A directory, plaintext that a policy may allow, no OpenStream, or nothing at all: the path tells.
            is_lost = isinstance(error, DownstreamStatus) and error.code == "DATA_LOSS"
            if header_came or (is_lost and call.instructions.reads_plaintext):  # nothing proves plaintext
                raise
            destination.discard()
            call.sealed.files = call.sealed.stored_bytes = 0
            call.stored = StoredFacts()
            return False
        return True

    def _load_by_stream(self, call: Call, artifact: Artifact, destination: Destination, *, plain: bool) -> None:
        """Load through OpenStream: first as one file, and as a directory if it turns out to be one."""
        unlock = self._unlock(call)
        try:
            with destination.new_file(PUBLIC_FILE) as into:
                self._open_into(call, artifact, into, unlock, plain=plain)
                self._require_file(call, artifact)
        except (Refused, DownstreamStatus, DataLoss):
            # For a directory, some plugins refuse the stream and others send an empty one. Only then look for one.
            if call.sealed.stored_bytes:
                raise
            directory = StoredDirectory(call, artifact, self._stored)
            saved = directory.read_manifest(unlock)
            if saved is None and not self._stored.is_directory(call, artifact):
                raise
            destination.discard()
            call.sealed.files = call.sealed.unsealed_files = 0
            with destination.new_directory(PUBLIC_DIRECTORY) as into:
                if saved is not None:
                    self._load_saved(call, directory, into, saved, unlock)
                elif plain:
                    self._load_unsealed(call, artifact, into)
                else:
                    raise envelope.no_manifest() from None

    def _load_saved(
        self, call: Call, directory: StoredDirectory, into: int, saved: SavedDirectory, unlock: Unlock
    ) -> None:
        """Open exactly what the manifest lists, each file from its own stream, into the directory open as `into`.

        Several small files are read at once, and opened in the order of their paths.
        """
        for path in sorted(saved.manifest.empty_directories):
            with envelope.create_directories(into, path, PUBLIC_DIRECTORY):
                pass
        unlock_file = saved.same_save(unlock)
        paths = sorted(saved.manifest.files)
        files = ((path, child(directory.artifact, path)) for path in paths)

        def read(listed: tuple[str, Artifact]) -> list[Chunk] | None:
            path, file = listed
            return self._read_small(call, file) if envelope.stored_size(saved.manifest.files[path]) < SMALL else None

        is_local = self._downstream.is_local()
        with closing(self._beside.in_order(read, files, is_local=is_local)) as contents:
            for index, ((path, file), content) in enumerate(contents):
                fault = ""
                try:
                    with envelope.create_beneath(into, path, _MODES) as fd:
                        size = self._open_into(call, file, fd, unlock_file, content=content.result())
                        saved.require_size(path, size)
                except DirectoryIncomplete as error:
                    fault = error.fact
                except (Refused, DownstreamStatus) as error:
                    if not self._stored.absence.of_object(error, file):
                        raise
                    fault = "is missing"
                if fault:
                    raise directory.incomplete(path, fault, paths[index + 1 :], saved)
        directory.count_left_out(saved)

    def _read_small(self, call: Call, artifact: Artifact) -> list[Chunk] | None:
        """Return all that is stored under the artifact's key; None if it is not small."""
        with closing(self._downstream.open_stream(call, artifact)) as stored:
            taken, is_small = take_small(stored)
        return taken if is_small else None

    def _load_unsealed(self, call: Call, artifact: Artifact, into: int) -> None:
        """Copy a directory that was never sealed, because a policy allows it. A sealed file in it is refused."""
        for key in sorted(self._stored.list_objects(call, artifact)):
            path = key.removeprefix(f"{artifact.key}/")
            if path == key:
                raise DataLoss("the downstream lists an object outside the artifact", says="downstream")
            with envelope.create_beneath(into, path, _MODES) as file:
                self._open_into(call, child(artifact, path), file, _refuse_sealed, plain=True)

    def _require_file(self, call: Call, artifact: Artifact) -> None:
        """Refuse an artifact that came as an empty stream, and is a directory."""
        if not call.sealed.stored_bytes and self._stored.is_directory(call, artifact):
            raise DataLoss("the downstream sends an empty stream for a directory", says="downstream")

    def _open_into(
        self,
        call: Call,
        artifact: Artifact,
        into: int,
        unlock: Unlock,
        *,
        plain: bool = False,
        content: list[Chunk] | None = None,
    ) -> int:
        """Open a stored file into the file descriptor `into`; return the plaintext size in bytes.

        `content` is what is stored; without it, the artifact's stream is read.
        """
        call.sealed.files += 1
        size = 0
        read = self._downstream.open_stream(call, artifact) if content is None else resumed(content, iter(()))
        with closing(read) as stored:
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


def _refuse_sealed(_: Header) -> bytes:
    raise envelope.no_manifest()
