"""The spool: where ciphertext waits on its way between this process and a downstream that works by path.

Only ciphertext is ever in it, it is private to this user (0600, 0700), and it is gone after every call.
A directory of its own for each process, held by a lock, tells a crashed process's leftovers from the
files of a living one.
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
    """One process's spool beneath `directory`, which is made when it is first needed."""

    def __init__(self, directory: Path) -> None:
        self._beneath = directory
        self._own: Path | None = None
        self._lock = threading.Lock()

    @contextmanager
    def place(self) -> Iterator[Path]:
        """A private directory for one call, removed with all that is in it at the end."""
        with local_errors(f"the spool {self._beneath}"):
            place = self._directory() / secrets.token_hex(8)
            private_directory(place)
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def free_bytes(self) -> int:
        """What the file system of the spool has left for this user."""
        with local_errors(f"the spool {self._beneath}"):
            facts = os.statvfs(self._directory())
        return facts.f_bavail * facts.f_frsize

    def _directory(self) -> Path:
        with self._lock:
            if self._own is None:
                own = self._beneath / f"{_PREFIX}{secrets.token_hex(8)}"
                self._beneath.mkdir(parents=True, exist_ok=True)
                private_directory(own)
                # Held until the process ends, however it ends: the kernel lets go of it.
                # It gets its name once it is held, so that nobody ever finds it and takes it first.
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
    """An opener for `open`: the file is this user's alone, whatever the umask."""
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    os.fchmod(fd, 0o600)
    return fd


def private_directory(path: Path) -> None:
    """Make a directory that is this user's alone, whatever the umask."""
    path.mkdir(mode=0o700)
    path.chmod(0o700)


def remove_leftovers(directory: Path) -> int:
    """Remove the spools that crashed processes left beneath `directory`, and tell how many there were."""
    removed = 0
    with suppress(OSError):
        for found in list(directory.glob(f"{_PREFIX}*")):
            removed += _remove_if_dead(found)
    return removed


def _remove_if_dead(found: Path) -> bool:
    try:
        lock = os.open(found / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        # Its process is about to lock it, or was killed just before or while removing an empty one. There
        # is no ciphertext in it either way: what is not locked was never used.
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(found)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _remove(spool: Path) -> None:
    """Remove a spool, its lock last: whoever is killed on the way leaves what the next start finds."""
    with suppress(OSError):
        for found in list(spool.iterdir()):
            if found.name != _LOCK:
                shutil.rmtree(found, ignore_errors=True)
        shutil.rmtree(spool, ignore_errors=True)
