"""A directory artifact (docs/format.md, "Directories"): one header for all files, and a manifest that lists them.

Each body is bound to the path of its file, and the manifest to the directory. No symbolic link is followed, neither on
reading nor on writing. Open descriptors depend neither on the number of files nor on their depth.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from sealgate.envelope.directories import (
    PRIVATE_DIRECTORY,
    PRIVATE_FILE,
    NotRegular,
    create_directories,
    create_directory,
    create_regular,
    descend,
    is_absent,
    open_regular,
    savable,
    walk,
)
from sealgate.envelope.files import Admit, Check, admit_any, open_file, seal_file
from sealgate.envelope.header import Header, Unlock, read_header
from sealgate.envelope.listing import MANIFEST, ListingLimits
from sealgate.envelope.manifest import (
    Manifest,
    SavedDirectory,
    incomplete,
    no_manifest,
    open_manifest,
    seal_manifest,
)
from sealgate.errors import DataLoss, DirectoryIncomplete, NotSealed, Tampered, UnsupportedFormat
from sealgate.plugin import Chunk

_READ_SIZE = 1 << 20


@dataclass(slots=True)
class Totals:
    """How many files of a tree were sealed or opened, and their sizes."""

    files: int = 0
    plaintext_bytes: int = 0
    stored_bytes: int = 0
    foreign: int = 0
    """Stored objects beneath the directory that its manifest does not list, but for manifests; they were left out."""

    def add(self, plaintext: int, stored: int) -> None:
        """Count one more file of `plaintext` plaintext bytes and `stored` stored bytes."""
        self.files += 1
        self.plaintext_bytes += plaintext
        self.stored_bytes += stored


def seal_tree(
    source: int,
    target: int,
    header: Header,
    data_key: bytes,
    artifact_key: str,
    check: Check = lambda: None,
    admit: Admit = admit_any,
    *,
    skip_links: bool = False,
) -> Totals:
    """Seal every file of the directory open as `source` to the same path in the empty directory open as `target`.

    The manifest is written last. All that is created is private to this user (0600, 0700).

    Args:
        source: a descriptor of the directory to seal.
        target: a descriptor of an empty directory.
        header: the artifact's header.
        data_key: the data key that `header` contains in wrapped form.
        artifact_key: the key of the whole directory.
        check: see `Check`.
        admit: see `Admit`.
        skip_links: leave out symbolic links instead of refusing the directory.

    Raises:
        BadRequest: the directory has a link, a device or a path that cannot be stored, or changed while it was read.
        LimitReached: the directory has more entries than a manifest may list.
    """
    totals, limits = Totals(), ListingLimits()
    files: dict[str, int] = {}
    empty: set[str] = set()
    with savable():
        for place in walk(source, skip_links=skip_links):
            check()
            if place.path:
                is_empty = not place.files and not place.directories
                limits.add_directory(place.path, is_empty=is_empty)
                empty |= {place.path} if is_empty else set()
            with descend(target, place.path) as into:
                for name in place.directories:
                    create_directory(name, into, PRIVATE_DIRECTORY)
                for name in place.files:
                    path = place.path_of(name)
                    limits.add_file(path)
                    with (
                        open_regular(name, place.fd) as plain,
                        create_regular(name, into, PRIVATE_FILE) as sealed,
                    ):
                        sizes = seal_file(plain, sealed, header, data_key, f"{artifact_key}/{path}", check, admit)
                    totals.add(*sizes)
                    files[path] = sizes[0]
    with create_regular(MANIFEST, target, PRIVATE_FILE) as sealed:
        for chunk in seal_manifest(header, data_key, artifact_key, Manifest(files, frozenset(empty))):
            totals.stored_bytes += _write_all(sealed, chunk)
    return totals


def open_tree(
    source: int,
    target: int,
    unlock: Unlock,
    artifact_key: str,
    modes: tuple[int, int],
    check: Check = lambda: None,
    admit: Admit = admit_any,
    *,
    consume: bool = False,
    plain: bool = False,
) -> Totals:
    """Open the sealed directory `source` into the empty directory `target`: exactly what its manifest lists.

    The content of `target` may be used only if this returns.

    Args:
        source: a descriptor of the stored directory.
        target: a descriptor of an empty directory.
        unlock: see `Unlock`.
        artifact_key: the key of the whole directory.
        modes: exact modes of the files and of the directories that are created, whatever the umask.
        check: see `Check`.
        admit: see `Admit`.
        consume: truncate the files of `source` while they are opened, see `open_file`.
        plain: copy a directory that was never sealed, file by file, instead of refusing it.

    Raises:
        DirectoryIncomplete: the manifest or a listed file is missing, or a file is from another Save.
        DataLoss: the manifest or a file is not the one that was sealed at its path.
    """
    with ExitStack() as stack:
        try:
            stored = _enter(stack, open_regular(MANIFEST, source))
        except DirectoryIncomplete:
            if plain:
                return _copy_tree(source, target, artifact_key, modes, check, admit)
            raise no_manifest() from None
        saved = open_manifest(_read(stored, check), unlock, artifact_key)
        manifest_size = os.fstat(stored).st_size
    reader = _TreeReader(source, target, saved, unlock, artifact_key, modes, check, admit, consume=consume)
    totals = reader.open_all()
    totals.stored_bytes += manifest_size
    totals.foreign = max(0, _count_files(source, check) - len(saved.manifest.files))
    return totals


class _TreeReader:
    """Opens what one manifest lists, file by file."""

    def __init__(
        self,
        source: int,
        target: int,
        saved: SavedDirectory,
        unlock: Unlock,
        artifact_key: str,
        modes: tuple[int, int],
        check: Check,
        admit: Admit,
        *,
        consume: bool,
    ) -> None:
        self._source, self._target = source, target
        self._saved = saved
        self._unlock = saved.same_save(unlock)
        self._key = artifact_key
        self._modes = modes
        self._check, self._admit = check, admit
        self._consume = consume
        self._totals = Totals()

    def open_all(self) -> Totals:
        """Open every listed file, and create every listed empty directory."""
        for path in sorted(self._saved.manifest.empty_directories):
            self._check()
            with create_directories(self._target, path, self._modes[1]):
                pass
        paths = sorted(self._saved.manifest.files)
        done = 0
        for parent, beneath in groupby(paths, key=_parent_of):
            with create_directories(self._target, parent, self._modes[1]) as into, ExitStack() as stack:
                directory: int | None = None
                for path in beneath:
                    done += 1
                    try:
                        if directory is None:
                            directory = _enter(stack, descend(self._source, parent))
                        self._open(path, directory, into)
                    except DirectoryIncomplete as fault:
                        raise incomplete(path, fault.fact, self._count_faults(paths[done:])) from None
        return self._totals

    def _open(self, path: str, directory: int, into: int) -> None:
        """Open the listed file at `path`; `directory` and `into` are the directories that contain it and its copy."""
        name = path.rpartition("/")[2]
        with ExitStack() as stack:
            sealed = _enter(stack, open_regular(name, directory, writable=self._consume))
            opened = stack.enter_context(create_regular(name, into, self._modes[0]))
            key = f"{self._key}/{path}"
            sizes = open_file(sealed, opened, self._unlock, key, self._check, self._admit, consume=self._consume)
        self._saved.require_size(path, sizes[0])
        self._totals.add(*sizes)

    def _count_faults(self, paths: list[str]) -> int:
        """Return how many of `paths` are missing or from another Save, by their headers alone."""
        faults = 0
        for path in paths:
            self._check()
            parent, _, name = path.rpartition("/")
            try:
                with descend(self._source, parent) as directory, open_regular(name, directory) as sealed:
                    header, _ = read_header(partial(_pread, sealed))
                faults += header.key_commitment != self._saved.key_commitment
            except (OSError, NotRegular, NotSealed, DataLoss, UnsupportedFormat):
                faults += 1
        return faults


def _enter(stack: ExitStack, stored: AbstractContextManager[int]) -> int:
    """Open a stored file or directory that must be there, until `stack` ends.

    Only what goes wrong with `stored` itself means that it is missing. So nothing else is done in the `try`.
    """
    try:
        return stack.enter_context(stored)
    except (OSError, NotRegular) as fault:
        if not is_absent(fault):
            raise
        raise DirectoryIncomplete("is missing") from None


def _parent_of(path: str) -> str:
    return path.rpartition("/")[0]


def _pread(fd: int, size: int, offset: int) -> bytes:
    return os.pread(fd, size, offset)


def _copy_tree(
    source: int, target: int, artifact_key: str, modes: tuple[int, int], check: Check, admit: Admit
) -> Totals:
    """Copy a directory that was never sealed. A sealed file in it belongs to a directory that lost its manifest."""
    totals = Totals()
    file_mode, directory_mode = modes
    try:
        for place in walk(source):
            check()
            with descend(target, place.path) as into:
                for name in place.directories:
                    create_directory(name, into, directory_mode)
                for name in place.files:
                    key = f"{artifact_key}/{place.path_of(name)}"
                    with open_regular(name, place.fd) as stored, create_regular(name, into, file_mode) as copied:
                        totals.add(*open_file(stored, copied, _refuse_sealed, key, check, admit, plain=True))
    except NotRegular as fault:
        raise Tampered(f"the stored directory has an entry that was not sealed: {fault.fact}") from None
    return totals


def _refuse_sealed(_: Header) -> bytes:
    raise no_manifest()


def _count_files(root: int, check: Check) -> int:
    """Return how many entries of the tree open as `root` are neither directories nor manifests.

    What this user may not read is not counted: nothing depends on the number.
    """
    count = 0
    with suppress(OSError):
        for place in walk(root, any_entry=True):
            check()
            count += len(place.files) - (MANIFEST in place.files)
    return count


def _read(fd: int, check: Check) -> Iterator[Chunk]:
    while chunk := os.read(fd, _READ_SIZE):
        check()
        yield chunk


def _write_all(fd: int, data: Chunk) -> int:
    """Write all of `data`; return its size in bytes."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
    return len(data)
