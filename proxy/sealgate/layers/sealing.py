"""The half of `Sealed` that writes: it seals files and directories, and stores them by file or by stream."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sealgate import envelope
from sealgate.call import Call
from sealgate.envelope import Header, Manifest, Totals
from sealgate.errors import LimitReached, NotConfigured, shown_key
from sealgate.keys import KeyProvider
from sealgate.layers.beside import SmallTransfers, resumed, take_small
from sealgate.layers.directories import EarlierSaves, child
from sealgate.layers.flow import (
    add_totals,
    admit_callback,
    counted_to_storage,
    keys_above,
    metered_plaintext,
    undo_partial_save,
)
from sealgate.layers.save_survey import SaveSurvey, survey_source
from sealgate.plugin import Artifact, Chunk
from sealgate.storage.deletion import Deleter
from sealgate.storage.local_paths import LocalSource, local_errors, opened_directory, read_chunks
from sealgate.storage.spool import private_directory, private_file
from sealgate.storage.stored_objects import SPOOLED, StoredObjects, Transfer

_Prepare = Callable[[Artifact, Iterator[Chunk]], Generator[Chunk]]
"""Yields what is stored for one file of a directory, from the file's plaintext."""

SPARE_SPACE = 64 << 20
"""Bytes that a spooled Save leaves free for other users of that file system."""


@dataclass(frozen=True, slots=True)
class _SmallFile:
    """A small file of a directory, ready to be stored."""

    path: str
    artifact: Artifact
    size: int
    """Bytes of plaintext."""
    content: list[Chunk]


class Sealer:
    """Seals what is saved.

    Args:
        stored: where the ciphertext is stored.
        keys: creates data keys.
        deleter: deletes what an earlier Save left.
        beside: the places for small files of a directory that are stored at once.
    """

    def __init__(self, stored: StoredObjects, keys: KeyProvider, deleter: Deleter, beside: SmallTransfers) -> None:
        self._deleter = deleter
        self._beside = beside
        self._stored = stored
        self._downstream = stored.downstream
        self._spool = stored.spool
        self._keys = keys

    def save(self, call: Call, artifact: Artifact, source: LocalSource, author_key: str) -> None:
        """Seal `source` under one data key, and store it.

        Args:
            call: the call.
            artifact: where it is stored, with the configuration for the downstream.
            source: the local file or directory.
            author_key: the name of the key that the workflow's author chose; empty without one.
        """
        survey = survey_source(source, call, artifact.key)
        if call.instructions.passthrough:
            self._save_unsealed(call, artifact, source, survey)
        elif self._saves_by_file(call, survey, is_directory=source.is_directory):
            self._save_by_file(call, artifact, source, *self._new_key(call, author_key))
        else:
            self._save_by_stream(call, artifact, source, *self._new_key(call, author_key))
        if not source.is_directory:
            self._earlier(call, artifact).remove_directory()

    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk], author_key: str) -> None:
        """Seal what `chunks` yields, and store it as one file. The other arguments are those of `save`."""
        by_stream = self._stored.writes_by_stream(call)
        if call.instructions.passthrough:
            self._stored.write(call, artifact, self._unsealed(call, artifact, chunks), by_stream=by_stream)
        else:
            sealed = self._seal(call, artifact, chunks, *self._new_key(call, author_key))
            self._stored.write(call, artifact, sealed, by_stream=by_stream)
        self._earlier(call, artifact).remove_directory()

    def _saves_by_file(self, call: Call, survey: SaveSurvey, *, is_directory: bool) -> bool:
        """Choose between the spool (True) and a stream (False) for a Save, by `spool.transfer` and free space.

        Raises:
            NotConfigured: `spool.transfer` is stream, and the downstream has no SaveStream.
            LimitReached: the spool is too small, and a stream is not possible.
        """
        if self._stored.transfer is Transfer.FILE:
            return True
        streams_first = self._stored.transfer is Transfer.STREAM or not is_directory
        if streams_first and self._stored.writes_by_stream(call):
            return False
        needed = survey.stored_bytes + SPARE_SPACE
        if needed <= (free := self._spool.free_bytes()):
            return True
        if not streams_first and self._stored.writes_by_stream(call):
            return False
        raise LimitReached(
            f"the spool has {free} bytes free, {needed} are needed, and the artifact cannot be streamed instead",
            remedy="Give spool.directory a larger file system",
        )

    def _save_by_file(
        self, call: Call, artifact: Artifact, source: LocalSource, header: Header, data_key: bytes
    ) -> None:
        """Seal `source` into the spool, and have the downstream save it from there."""
        earlier = self._earlier(call, artifact)
        keeps_objects = source.is_directory and not call.only_new and not self._stored.replaces_whole(call)
        has_file = keeps_objects and earlier.has_file_at_key()
        with self._spool.place() as place:
            spooled = place / SPOOLED
            with call.trace.step("seal"), local_errors("the local path", written="the spool"):
                totals = _seal_into_spool(spooled, source, header, data_key, artifact.key, call)
            if source.is_directory:
                # A file that the survey counted can be gone. The object that it would have replaced is then removed.
                call.instructions.meter.will_replace(is_directory=True)
            add_totals(call, totals)
            call.check()
            if has_file:
                earlier.remove_file_at_key()
            before = (earlier.keys_beneath() if keeps_objects else None) or frozenset()
            old = in_the_way = frozenset[str]()
            if before:
                with opened_directory(spooled) as sealed:
                    old, in_the_way = _not_in_tree(before, sealed, artifact.key)
            call.instructions.meter.will_remove(old)
            earlier.remove_objects(in_the_way)
            self._downstream.save(call, artifact, spooled)
            earlier.remove_objects(old - in_the_way)

    def _save_by_stream(
        self, call: Call, artifact: Artifact, source: LocalSource, header: Header, data_key: bytes
    ) -> None:
        """Seal each file of `source` into a SaveStream of the downstream."""

        def prepare(file: Artifact, chunks: Iterator[Chunk]) -> Generator[Chunk]:
            return self._seal(call, file, chunks, header, data_key)

        if not source.is_directory:
            sealed = prepare(artifact, read_chunks(source.fd, call.check))
            self._stored.write(call, artifact, sealed, by_stream=True)
            return
        manifest = child(artifact, envelope.MANIFEST)

        def store_manifest(files: Manifest) -> None:
            sealed = envelope.seal_manifest(header, data_key, artifact.key, files)
            self._stored.write(call, manifest, counted_to_storage(call, sealed), by_stream=True)

        self._replace_directory(call, artifact, source, prepare, store_manifest, by_stream=True)

    def _save_unsealed(self, call: Call, artifact: Artifact, source: LocalSource, survey: SaveSurvey) -> None:
        """Store each file of `source` as plaintext, because a policy says so."""
        if survey.empty_directory is not None:
            raise _cannot_keep(survey.empty_directory)
        by_stream = self._stored.writes_by_stream(call)

        if not source.is_directory:
            plaintext = self._unsealed(call, artifact, read_chunks(source.fd, call.check))
            self._stored.write(call, artifact, plaintext, by_stream=by_stream)
            return

        def prepare(file: Artifact, chunks: Iterator[Chunk]) -> Generator[Chunk]:
            return self._unsealed(call, file, chunks)

        self._earlier(call, artifact).remove_manifest()
        self._replace_directory(call, artifact, source, prepare, lambda _: None, by_stream=by_stream)

    def _replace_directory(
        self,
        call: Call,
        artifact: Artifact,
        source: LocalSource,
        prepare: _Prepare,
        store_manifest: Callable[[Manifest], None],
        *,
        by_stream: bool,
    ) -> None:
        """Store the files of a directory and its manifest, and remove what earlier Saves left under its key."""
        earlier = self._earlier(call, artifact)
        before: frozenset[str] | None = frozenset()
        if not call.only_new:  # else nothing was stored, and what is stored by now is another Save's
            if earlier.has_file_at_key():
                earlier.remove_file_at_key()
            before = earlier.keys_beneath()
        if before is not None and not before:
            call.sealed.vacant = artifact.key
        removed: frozenset[str] = frozenset()
        if before:
            removed = _in_the_way_of(source, call, artifact, before)
            earlier.remove_objects(removed)
        whenever = self._stored.replaces_whole(call)  # such a downstream undoes what it did, if a Save by file fails
        with undo_partial_save(call, artifact, before, self._downstream, whenever=whenever) as files:
            stored = self._store_each_file(call, artifact, source, prepare, files, by_stream=by_stream)
            old = _not_in(stored, artifact.key, (before or frozenset()) - removed)
            # A file that was there before can be gone. The object that it would have replaced is then removed.
            call.instructions.meter.will_remove(old)
            store_manifest(stored)
        if old:
            # A file that appeared since its directory was read may be beneath an old key, which then stays.
            new = (f"{artifact.key}/{path}" for path in stored.files)
            earlier.remove_objects(old - _in_the_way(old, new))

    def _store_each_file(
        self,
        call: Call,
        artifact: Artifact,
        source: LocalSource,
        prepare: _Prepare,
        files: dict[str, int],
        *,
        by_stream: bool,
    ) -> Manifest:
        """Store each file of a directory under the file's own artifact key, and return what was stored.

        By stream, several small files are on their way at once. The error is that of the first file, in the order of
        the directory, that cannot be stored; what had begun by then has ended. The path and the plaintext size of each
        file that was stored are added to `files`.
        """
        empty: set[str] = set()

        def store(small: _SmallFile) -> None:
            self._stored.write(call, small.artifact, iter(small.content), by_stream=True)
            files[small.path] = small.size

        def small_files() -> Generator[_SmallFile | None]:
            for place in envelope.walk(source.fd, skip_links=call.instructions.skips_links):
                if place.path and not place.files and not place.directories:
                    empty.add(place.path)
                for name in place.files:
                    path = place.path_of(name)
                    file, counted = child(artifact, path), call.sealed.plaintext_bytes
                    with (
                        envelope.open_regular(name, place.fd) as fd,
                        closing(prepare(file, read_chunks(fd, call.check))) as content,
                    ):
                        taken, is_small = take_small(content) if by_stream else ([], False)
                        if not is_small:
                            self._stored.write(call, file, resumed(taken, content), by_stream=by_stream)
                            files[path] = call.sealed.plaintext_bytes - counted
                    size = call.sealed.plaintext_bytes - counted
                    yield _SmallFile(path, file, size, taken) if is_small else None

        with (
            local_errors("the local path"),
            envelope.savable(),
            closing(small_files()) as small,
            closing(self._beside.in_order(store, small, is_local=self._downstream.is_local())) as outcomes,
        ):
            for _, outcome in outcomes:
                outcome.result()
        return Manifest(files, frozenset(empty))

    def _unsealed(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> Generator[Chunk]:
        """Yield the plaintext in `chunks`, which is stored as it is."""
        call.sealed.unsealed_files += 1
        call.sealed.files += 1
        yield from counted_to_storage(call, metered_plaintext(call, artifact.key, chunks))

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

    def _earlier(self, call: Call, artifact: Artifact) -> EarlierSaves:
        return EarlierSaves(call, artifact, self._stored, self._deleter)


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


def _in_the_way_of(source: LocalSource, call: Call, artifact: Artifact, before: frozenset[str]) -> frozenset[str]:
    """Return the keys `before` that must be deleted before the files of a local directory are stored.

    Raises:
        Denied: a policy refuses the removal of one of them, or of another one that the directory does not have.
    """
    with local_errors("the local path"), envelope.savable():
        old, in_the_way = _not_in_tree(before, source.fd, artifact.key, skip_links=call.instructions.skips_links)
    # All of them: a downstream may delete what is beneath the key of a file when it stores the file.
    call.instructions.meter.will_remove(old)
    return in_the_way


def _not_in_tree(
    before: frozenset[str], directory: int, key: str, *, skip_links: bool = False
) -> tuple[frozenset[str], frozenset[str]]:
    """Return the keys `before` that a local directory has no file for, and those of them that must be deleted first.

    Args:
        before: keys of stored objects.
        directory: a descriptor of the directory.
        key: the artifact key of the directory; each key in `before` is beneath it.
        skip_links: whether links in it are left out.
    """

    def keys() -> Generator[str]:
        for place in envelope.walk(directory, skip_links=skip_links):
            yield from (f"{key}/{place.path_of(name)}" for name in place.files)

    # The directory is read twice if need be, because a set of its 100,000 keys would take 15 MiB.
    old = before.difference(keys())
    return old, _in_the_way(old, keys()) if old else old


def _in_the_way(old: AbstractSet[str], new: Iterable[str]) -> frozenset[str]:
    """Return the keys `old`, none of which is new, that must be deleted before the objects `new` are stored.

    Many downstreams delete what is stored beneath a key with the key. So an old object above a new one goes first, with
    the old objects beneath it.
    """
    roots = {above for key in new for above in keys_above(key)} & old
    return frozenset(key for key in old if key in roots or not roots.isdisjoint(keys_above(key)))


def _not_in(manifest: Manifest, key: str, before: AbstractSet[str]) -> frozenset[str]:
    """Return the keys `before` of files that the directory `key` with this manifest does not have."""
    # No second set of 100,000 keys is made: the manifest has the paths.
    prefix, kept = f"{key}/", f"{key}/{envelope.MANIFEST}"
    return frozenset(old for old in before if old != kept and old.removeprefix(prefix) not in manifest.files)


def _cannot_keep(directory: str) -> NotConfigured:
    fact = f'the directory "{shown_key(directory) or "."}" is empty, and nothing keeps it where files are not sealed'
    return NotConfigured(fact, remedy="Save an archive of the directory")
