"""The destination of a Load: filled under a temporary name, and whole or absent under its own.

A process that SIGKILL ends leaves the temporary name behind, with plaintext in it. So each one is locked while it is
filled, and the next Load into the same directory removes those of this user that no process holds locked.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import islice

_PREFIX = ".sealgate-load-"
_MOST_ENTRIES_READ = 100_000
"""Leftovers are looked for among this many entries of a directory."""
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Destination:
    """A file or directory that is filled under a temporary name, and gets its own name only when it is whole."""

    def __init__(self, parent: int, name: str, path: str) -> None:
        self.path = path
        """The absolute path, with every symbolic link beneath the root resolved."""
        self._parent = parent
        self._name = name
        self._temporary = ""
        self._uncommitted = False

    @contextmanager
    def new_file(self, mode: int) -> Iterator[int]:
        """Create the file, and commit it with `mode` if the body ends normally."""
        with self._filled(is_directory=False) as fd:
            yield fd
            os.fchmod(fd, mode)
            self._commit()

    @contextmanager
    def new_directory(self, mode: int) -> Iterator[int]:
        """Create the directory, and commit it with `mode` if the body ends normally."""
        with self._filled(is_directory=True) as fd:
            yield fd
            os.fchmod(fd, mode)
            self._commit()

    @contextmanager
    def _filled(self, *, is_directory: bool) -> Iterator[int]:
        fd = self._create(is_directory=is_directory)
        try:
            yield fd
        finally:
            os.close(fd)

    def _create(self, *, is_directory: bool) -> int:
        """Create the file or directory under a temporary name, and return a descriptor that holds its lock.

        Another process may take it for a leftover before it is locked. Then it is created again.
        """
        while True:
            self._temporary = f"{_PREFIX}{secrets.token_hex(8)}"
            self._uncommitted = True
            if is_directory:
                os.mkdir(self._temporary, 0o700, dir_fd=self._parent)
                try:
                    fd = os.open(self._temporary, _OPEN | os.O_DIRECTORY, dir_fd=self._parent)
                except FileNotFoundError:
                    continue
            else:
                fd = os.open(self._temporary, _CREATE, 0o600, dir_fd=self._parent)
            with suppress(OSError):  # a file system without locks: then no other process can lock it, either
                fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink:
                return fd
            os.close(fd)

    def _commit(self) -> None:
        # The descriptor is still open: without its lock the entry would be a leftover.
        os.rename(self._temporary, self._name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
        self._uncommitted = False

    def discard(self) -> None:
        """Remove what was begun and not committed."""
        if self._uncommitted:
            remove_entry(self._temporary, self._parent)


@contextmanager
def filling(parent: int, name: str, path: str) -> Iterator[Destination]:
    """Yield the destination `name` in the directory open as `parent`. What was begun and not committed is then removed.

    What a killed process of this user left in the directory is removed at the beginning.

    Args:
        parent: a descriptor of the directory, which may be open for its path alone.
        name: the name of the file or directory in it.
        path: the absolute path, with every symbolic link beneath the root resolved.
    """
    remove_leftovers_beside(parent)
    destination = Destination(parent, name, path)
    try:
        yield destination
    finally:
        destination.discard()


def remove_leftovers_beside(parent: int) -> int:
    """Remove what killed processes of this user left in the directory open as `parent`; return how many entries.

    A directory that this user may not list is left as it is.
    """
    removed = 0
    with suppress(OSError), _listed(parent) as names:
        for name in names:
            removed += _remove_if_abandoned(name, parent)
    return removed


@contextmanager
def _listed(parent: int) -> Iterator[list[str]]:
    """Yield the temporary names in a directory, which may be open for its path alone."""
    fd = os.open(".", _OPEN | os.O_DIRECTORY, dir_fd=parent)
    try:
        with os.scandir(fd) as entries:
            names = [one.name for one in islice(entries, _MOST_ENTRIES_READ) if one.name.startswith(_PREFIX)]
        yield names
    finally:
        os.close(fd)


def _remove_if_abandoned(name: str, parent: int) -> bool:
    try:
        fd = os.open(name, _OPEN, dir_fd=parent)
    except OSError:  # a link, or another user's
        return False
    try:
        facts = os.fstat(fd)
        ours = facts.st_uid == os.geteuid() and (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode))
        if ours:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_entry(name, parent)
    except OSError:  # its process is filling it
        return False
    finally:
        os.close(fd)
    return ours


def remove_entry(name: str, parent: int) -> None:
    """Remove the file, link or directory `name` in the directory open as `parent`, and follow no link."""
    with suppress(OSError):
        os.unlink(name, dir_fd=parent)
        return
    shutil.rmtree(name, ignore_errors=True, dir_fd=parent)
