"""Local paths of a request: what a Save reads and what a Load creates.

The content of a local directory may change while it is read, so every file is opened through the descriptor of its
directory and no link is followed. Names in a store may be hostile, so a Load writes beneath a new directory that only
this user can enter until it is complete.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sealgate import envelope
from sealgate.backend import keys
from sealgate.errors import BadRequest, shown_key
from sealgate.storage.destination import Destination, filling
from sealgate.storage.local_paths import LocalSource, local_errors

FILE_MODE, DIRECTORY_MODE = 0o644, 0o755
"""Modes of what a Load creates. The process that reads it may run as another user."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


# --- reading ----------------------------------------------------------------------------------------------


@contextmanager
def source(path: Path) -> Iterator[LocalSource]:
    """Open the regular file or directory at `path`. An `OSError` in the body becomes a `PluginError` too.

    Raises:
        BadRequest: the path is not absolute, or is neither a regular file nor a directory, or cannot be read.
    """
    _require_absolute(path)
    with local_errors("the local path"):
        fd = os.open(path, _READ)
        try:
            facts = os.fstat(fd)
            is_directory = stat.S_ISDIR(facts.st_mode)
            if not is_directory and not stat.S_ISREG(facts.st_mode):
                raise BadRequest("the local path is neither a file nor a directory")
            yield LocalSource(fd, is_directory, facts.st_size, str(path))
        finally:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class LocalEntry:
    """A file in a directory that is saved."""

    path: str
    """Relative to the saved directory, with `/` as separator: the end of the object's key."""
    name: str
    directory: int
    """A descriptor of the directory that contains the file. It is open until the next entry is taken."""

    def open(self) -> int:
        """Open the file and return a descriptor, which the caller closes.

        Raises:
            BadRequest: it was removed or replaced since it was listed.
        """
        with envelope.savable(), envelope.open_regular(self.name, self.directory) as fd:
            return os.dup(fd)


def entries(root: int) -> Generator[LocalEntry]:
    """Yield every file beneath the directory open as `root`.

    An empty directory is refused, because no object would keep it. Only where `root` has a manifest it is left out:
    Sealgate has sealed such a directory, and the manifest lists what was empty (docs/format.md, "Directories").

    Raises:
        BadRequest: an entry cannot be stored, or the directory changed while it was read.
    """
    with envelope.savable():
        has_manifest = False
        for place in envelope.walk(root):
            has_manifest = has_manifest or (not place.path and envelope.MANIFEST in place.files)
            if not (place.directories or place.files or has_manifest):
                raise _empty(place.path)
            for name in (*place.directories, *place.files):
                _require_storable(place.path_of(name))
            for name in place.files:
                yield LocalEntry(place.path_of(name), name, place.fd)


def _empty(path: str) -> BadRequest:
    return BadRequest(
        f'the directory cannot be saved: "{shown_key(path) or "."}" is empty, and object stores have no directories',
        remedy="Save an archive of the directory",
    )


def _require_storable(path: str) -> None:
    if flaw := keys.flaw(path):
        raise BadRequest(f'the directory cannot be saved: "{shown_key(path)}" cannot be part of a key: {flaw}')


def _require_absolute(path: Path) -> None:
    # A relative path, also an empty one, would depend on the directory in which this process was started.
    if not path.is_absolute():
        raise BadRequest("the local path of the request is not absolute")


# --- writing ----------------------------------------------------------------------------------------------


@contextmanager
def destination(path: Path) -> Iterator[Destination]:
    """Prepare to create `path`, complete or not at all. An `OSError` in the body becomes a `PluginError` too.

    Raises:
        BadRequest: the path is not absolute, or nothing can be created there.
    """
    _require_absolute(path)
    with local_errors("the local path"):
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with filling(parent, path.name, str(path)) as new:
                yield new
        finally:
            os.close(parent)
