"""The spool: where ciphertext waits on its way between this process and a downstream that works by path.

It contains only ciphertext, except for objects that a policy stores unsealed. It is private to this user (0600, 0700),
and its files are removed after every call. Each process has its own directory in it and holds a lock on that
directory, so that the leftovers of a crashed process can be recognized and removed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sealgate.storage.local_paths import local_errors

_PREFIX = ".sealgate-spool-"
_LOCK = "lock"


class Spool:
    """The spool of one process beneath `directory`. Its own directory is created when it is first needed."""

    def __init__(self, directory: Path) -> None:
        self._beneath = directory
        self._own: Path | None = None
        self._lock = threading.Lock()

    @contextmanager
    def place(self) -> Iterator[Path]:
        """Yield a private directory for one call, and remove it with its content at the end."""
        with local_errors(f"the spool {self._beneath}"):
            place = self._directory() / secrets.token_hex(8)
            private_directory(place)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def free_bytes(self) -> int:
        """Return how many bytes the file system of the spool has free for this user."""
        with local_errors(f"the spool {self._beneath}"):
            facts = os.statvfs(self._directory())
        return facts.f_bavail * facts.f_frsize

    def _directory(self) -> Path:
        with self._lock:
            if self._own is None:
                own = self._beneath / f"{_PREFIX}{secrets.token_hex(8)}"
                self._beneath.mkdir(parents=True, exist_ok=True)
                private_directory(own)
                # The lock is held until the process ends; the kernel then releases it, even after a crash. The file
                # gets its final name only once it is locked, so that no other process can find it and lock it first.
                unnamed = own / secrets.token_hex(8)
                lock = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(lock, fcntl.LOCK_EX)
                unnamed.rename(own / _LOCK)
                self._own = own
            return self._own

    def close(self) -> None:
        """Remove the whole spool of this process."""
        with self._lock:
            if self._own is not None:
                _remove(self._own)
                self._own = None


def private_file(path: str, flags: int) -> int:
    """Open `path` for the builtin `open` (its `opener`), with mode 0600 whatever the umask."""
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    os.fchmod(fd, 0o600)
    return fd


def private_directory(path: Path) -> None:
    """Create a directory with mode 0700 whatever the umask."""
    path.mkdir(mode=0o700)
    path.chmod(0o700)


def remove_leftovers(directory: Path) -> int:
    """Remove the spools that crashed processes left beneath `directory`, and return how many were removed."""
    removed = 0
    with suppress(OSError):
        for spool in list(directory.glob(f"{_PREFIX}*")):
            removed += _remove_if_abandoned(spool)
    return removed


def _remove_if_abandoned(spool: Path) -> bool:
    try:
        lock = os.open(spool / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        # Its process is about to lock it, or was killed just before that or while it removed the spool. There is no
        # ciphertext in it either way: a spool is used only once it is locked, and its lock is removed last.
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(spool)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _remove(spool: Path) -> None:
    """Remove a spool, its lock last, so that the next start finds the rest if this process is killed meanwhile."""
    with suppress(OSError):
        for entry in list(spool.iterdir()):
            if entry.name != _LOCK:
                shutil.rmtree(entry, ignore_errors=True)
        shutil.rmtree(spool, ignore_errors=True)
