"""The manifest of a directory artifact (docs/format.md, "Directories"): which files one Save stored.

The files of a directory are sealed one by one, and each proves its own name and content. The manifest proves the set.
It is one more sealed object beneath the directory's key, and its plaintext lists every file with its size and every
empty directory. These rules hold for a directory that is opened:

1. The manifest opens for the directory's key, in the manifests' own domain: no file opens as a manifest, nor a
   manifest as a file.
2. It is canonical, as `sealgate.envelope.listing` says: entries ascend by the bytes of their paths, no path is listed
   twice or climbs, and no path is both a file and a directory.
3. Every listed file is there, under exactly its listed path.
4. The header of each file carries the manifest's key commitment: all files are from the Save that wrote the manifest.
5. The plaintext of each file has the listed size, and opens for its own path.
6. Whatever else is stored beneath the key is not part of the directory: it is left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sealgate.envelope.header import Header, Unlock
from sealgate.envelope.listing import (
    LONGEST_MANIFEST,
    MOST_DIRECTORIES,
    MOST_ENTRIES,
    SIZE,
    EntryOrder,
    ListingLimits,
)
from sealgate.envelope.streams import open_stream, seal_stream
from sealgate.errors import BadRequest, DirectoryIncomplete, LimitReached, ManifestInvalid, shown_key
from sealgate.plugin import Chunk

_MAGIC = b"SGM1"
_FILE, _EMPTY_DIRECTORY = 1, 2


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of one directory artifact, by paths relative to its key with `/` separators."""

    files: Mapping[str, int] = field(default_factory=dict)
    """The plaintext size of each file in bytes."""
    empty_directories: frozenset[str] = frozenset()

    def encode(self) -> Iterator[bytes]:
        """Yield the manifest's plaintext. Nothing is yielded of a manifest that no reader would accept.

        Raises:
            BadRequest: a path cannot be listed.
            LimitReached: there are too many entries, or their names are too long together.
        """
        limits = ListingLimits()
        for name in self.files:
            limits.add_file(name)
        for name in self.empty_directories:
            limits.add_directory(name, is_empty=True)
        # UTF-8 keeps the order of code points, so texts ascend as their bytes do. No second copy of the paths is kept.
        paths = sorted([*self.files, *self.empty_directories])
        order = EntryOrder()
        for name in paths:
            if fault := order.fault_of(name.encode(), is_directory=name not in self.files):
                raise BadRequest(f'"{shown_key(name)}" cannot be stored in a directory: {fault}')
        if order.directories > MOST_DIRECTORIES:
            raise LimitReached(
                f"the directory contains {order.directories} directories; the limit is {MOST_DIRECTORIES}"
            )
        yield _MAGIC + len(paths).to_bytes(4, "big")
        for name in paths:
            size, path = self.files.get(name), name.encode()
            head = (_EMPTY_DIRECTORY if size is None else _FILE).to_bytes(1, "big") + len(path).to_bytes(2, "big")
            yield head + path + (b"" if size is None else size.to_bytes(SIZE, "big"))

    @classmethod
    def decode(cls, chunks: Iterable[Chunk]) -> Manifest:
        """Read a manifest's plaintext.

        Raises:
            ManifestInvalid: it breaks a rule of docs/format.md, "Directories".
        """
        source = _Bytes(chunks)
        if source.take(len(_MAGIC)) != _MAGIC:
            raise _invalid("it does not begin as a manifest of version 1 does")
        count = source.number(4)
        if count > MOST_ENTRIES:
            raise _invalid(f"it claims {count} entries; the limit is {MOST_ENTRIES}")
        files: dict[str, int] = {}
        empty: set[str] = set()
        order = EntryOrder()
        for _ in range(count):
            kind = source.number(1)
            if kind not in {_FILE, _EMPTY_DIRECTORY}:
                raise _invalid(f"it has an entry of the unknown kind {kind}")
            path = source.take(source.number(2))
            if fault := order.fault_of(path, is_directory=kind == _EMPTY_DIRECTORY):
                raise _invalid(f'"{_shown(path)}": {fault}')
            if order.directories > MOST_DIRECTORIES:
                raise _invalid(f"it needs more than {MOST_DIRECTORIES} directories, which is the limit")
            if kind == _FILE:
                files[path.decode()] = source.number(SIZE)
            else:
                empty.add(path.decode())
        if not source.at_end():
            raise _invalid("bytes follow its last entry")
        return cls(files, frozenset(empty))


@dataclass(frozen=True, slots=True)
class SavedDirectory:
    """One Save of a directory: a manifest that was opened, and the rules that its files must keep.

    The errors of its methods are the rest of a sentence about a file; `incomplete` completes it.
    """

    manifest: Manifest
    key_commitment: bytes

    def same_save(self, unlock: Unlock) -> Unlock:
        """Return `unlock` for a listed file; it refuses a header from another Save (rule 4)."""

        def unlock_file(header: Header) -> bytes:
            if header.key_commitment != self.key_commitment:
                raise DirectoryIncomplete("is from another Save")
            return unlock(header)

        return unlock_file

    def require_size(self, path: str, size: int) -> None:
        """Refuse a file whose plaintext has another size than the manifest lists (rule 5)."""
        if size != self.manifest.files[path]:
            raise DirectoryIncomplete(f"has {size} bytes instead of {self.manifest.files[path]}")


def seal_manifest(header: Header, data_key: bytes, directory_key: str, manifest: Manifest) -> Iterator[Chunk]:
    """Seal `manifest` under the header and the data key of the directory's files."""
    return seal_stream(header, data_key, directory_key, manifest.encode(), manifest=True)


def open_manifest(chunks: Iterator[Chunk], unlock: Unlock, directory_key: str) -> SavedDirectory:
    """Open the sealed manifest that arrives as `chunks` (rules 1 and 2).

    Raises:
        DataLoss: it is not the manifest of the directory `directory_key`, or breaks a rule.
    """
    headers: list[Header] = []

    def unlock_manifest(header: Header) -> bytes:
        headers.append(header)
        return unlock(header)

    manifest = Manifest.decode(open_stream(chunks, unlock_manifest, directory_key, manifest=True))
    return SavedDirectory(manifest, headers[0].key_commitment)


def no_manifest() -> DirectoryIncomplete:
    """Return the error for a directory without a manifest."""
    return DirectoryIncomplete(
        "the directory has no manifest: no Save through Sealgate has finished storing it",
        remedy="Save the directory again",
    )


def incomplete(path: str, what: str, others: int, *, at_least: bool = False) -> DirectoryIncomplete:
    """Return the error for a directory that is not as listed.

    Args:
        path: the first file that is not.
        what: what is wrong with it, as the rest of a sentence.
        others: how many further files are missing or from another Save.
        at_least: whether not all files were counted.
    """
    count = f"{'at least ' if at_least else ''}{others}"
    more = f"; {count} more of its files are missing or from another Save" if others else ""
    return DirectoryIncomplete(f'"{shown_key(path)}" in the directory {what}{more}', remedy=_RESTORE)


_RESTORE = "Restore the directory from a copy that was not changed, or save it again"


class _Bytes:
    """A plaintext that arrives in chunks, read by exact sizes and never beyond `LONGEST_MANIFEST`."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._chunks = iter(chunks)
        self._data = b""
        self._offset = self._total = 0

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        while len(self._data) - self._offset < size:
            if not self._more():
                raise _invalid("it ends inside an entry")
        self._offset += size
        return self._data[self._offset - size : self._offset]

    def number(self, size: int) -> int:
        """Return the next `size` bytes as an unsigned big-endian number."""
        return int.from_bytes(self.take(size), "big")

    def at_end(self) -> bool:
        """Return whether nothing is left."""
        while self._offset == len(self._data):
            if not self._more():
                return True
        return False

    def _more(self) -> bool:
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        self._total += len(chunk)
        if self._total > LONGEST_MANIFEST:
            raise _invalid(f"it has more than {LONGEST_MANIFEST} bytes")
        self._data, self._offset = self._data[self._offset :] + bytes(chunk), 0
        return True


def _invalid(fault: str) -> ManifestInvalid:
    return ManifestInvalid(
        f"the manifest of the directory is not valid: {fault}",
        remedy="Restore the directory from a copy that was not changed",
    )


def _shown(path: bytes) -> str:
    return shown_key(path.decode(errors="replace"))
