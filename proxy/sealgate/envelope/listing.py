"""The rules for the entries of a manifest: their paths, their order and their number (docs/format.md, "Directories").

A reader and a writer hold to the same rules, so that everything that was saved can be loaded. The limits bound what a
hostile manifest can cost its reader: memory, inodes, and the depth of a tree that other programs have to remove.
"""

from __future__ import annotations

import re

from sealgate.errors import BadRequest, LimitReached, shown_key

MANIFEST = ".sealgate-manifest"
"""The name of the manifest beneath a directory's key. No file and no directory of a tree may have it."""
MOST_ENTRIES = 100_000
"""Files and empty directories of one directory artifact."""
MOST_DIRECTORIES = 100_000
"""Directories of one directory artifact: the empty ones, and those on the way to an entry."""
LONGEST_MANIFEST = 16 << 20
"""Bytes of plaintext."""
DEEPEST = 255
"""Segments of a path."""
LONGEST_SEGMENT = 255
"""Bytes. The common file systems have no longer names."""

HEAD = 4 + 4
"""Bytes of the magic and of the number of entries."""
ENTRY_HEAD = 1 + 2
"""Bytes of the kind and of the length of the path."""
SIZE = 8
"""Bytes of the size of a file."""

_PLAIN = re.compile(rb"[A-Za-z0-9_-][A-Za-z0-9_. -]*(?:/[A-Za-z0-9_-][A-Za-z0-9_. -]*)*")
"""The common paths: ASCII, and no segment begins with a dot."""
_SLASH = ord("/")
_ARCHIVE = "Save an archive of the directory"


class EntryOrder:
    """Holds the entries of a manifest to the canonical form, in the order in which they come."""

    def __init__(self) -> None:
        self._last = b""
        self._parents: list[bytes] = []
        self._prefixes: list[bytes] = []
        """The entries that are the beginning of the last one, byte by byte; each is the beginning of the next."""
        self.directories = 0
        """How many directories the entries need so far."""

    def fault_of(self, path: bytes, *, is_directory: bool) -> str:
        """Say why the entry `path` may not come next; empty if it may."""
        if fault := path_fault(path):
            return fault
        if path <= self._last:
            return "it is listed twice" if path == self._last else "it is out of order"
        while self._prefixes and not path.startswith(self._prefixes[-1]):
            self._prefixes.pop()
        # Only the longest prefix can be a parent of this path: a shorter one that is a parent would be a parent of the
        # longest one too, which was refused then.
        if self._prefixes and path[len(self._prefixes[-1])] == _SLASH:
            return "a part of its path is listed as a file or as an empty directory"
        self._prefixes.append(path)
        self._last = path
        self._count_directories(path, is_directory=is_directory)
        return ""

    def _count_directories(self, path: bytes, *, is_directory: bool) -> None:
        # The entries beneath one directory follow each other, so only those that the last path lacks are new.
        *parents, _ = path.split(b"/")
        known = 0
        for parent, last in zip(parents, self._parents, strict=False):
            if parent != last:
                break
            known += 1
        self._parents = parents
        self.directories += len(parents) - known + is_directory


class ListingLimits:
    """Counts what a Save is about to list, and refuses at once what no manifest can list.

    Every file and every directory beneath the saved one is added once, in any order.
    """

    def __init__(self) -> None:
        self._entries = 0
        self._directories = 0
        self._bytes = HEAD

    def add_file(self, path: str) -> None:
        """Count the file at `path`, which is relative to the saved directory.

        Raises:
            BadRequest: no manifest can list this path.
            LimitReached: there are too many entries, or their names are too long together.
        """
        self._add_entry(_listable(path), SIZE)

    def add_directory(self, path: str, *, is_empty: bool) -> None:
        """Count the directory at `path`. Raises the same errors as `add_file`."""
        encoded = _listable(path)
        self._directories += 1
        if self._directories > MOST_DIRECTORIES:
            raise LimitReached(
                f"the directory contains more than {MOST_DIRECTORIES} directories, which is the limit", remedy=_ARCHIVE
            )
        if is_empty:
            self._add_entry(encoded, 0)

    def _add_entry(self, path: bytes, tail: int) -> None:
        self._entries += 1
        if self._entries > MOST_ENTRIES:
            raise LimitReached(
                f"the directory has more than {MOST_ENTRIES} files and empty directories, which is the limit",
                remedy=_ARCHIVE,
            )
        self._bytes += ENTRY_HEAD + len(path) + tail
        if self._bytes > LONGEST_MANIFEST:
            raise LimitReached(
                f"the names in the directory need a manifest of more than {LONGEST_MANIFEST} bytes, which is the limit",
                remedy=_ARCHIVE,
            )


def _listable(path: str) -> bytes:
    encoded = path.encode()
    if fault := path_fault(encoded):
        raise BadRequest(f'"{shown_key(path)}" cannot be stored in a directory: {fault}', remedy=_ARCHIVE)
    return encoded


def path_fault(path: bytes) -> str:
    """Say why no manifest can list `path`; empty if one can."""
    if len(path) <= LONGEST_SEGMENT and _PLAIN.fullmatch(path):
        return ""
    segments = path.split(b"/")
    longest = max(map(len, segments))
    faults = (
        (not path, "it is empty"),
        (len(segments) > DEEPEST, f"it has {len(segments)} segments; the limit is {DEEPEST}"),
        (not {b"", b".", b".."}.isdisjoint(segments), "it has an empty or a relative segment"),
        (longest > LONGEST_SEGMENT, f"it has a segment of {longest} bytes; the limit is {LONGEST_SEGMENT}"),
        (MANIFEST.encode() in segments, f"the name {MANIFEST} is reserved"),
        (b"\0" in path, "it contains a NUL byte"),
        (not _is_utf8(path), "it is not UTF-8"),
    )
    return next((fault for found, fault in faults if found), "")


def _is_utf8(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True
