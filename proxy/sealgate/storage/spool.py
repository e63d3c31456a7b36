"""The spool: where ciphertext waits on its way between this process and a downstream that works by path.

It contains only ciphertext, except for objects that a policy stores unsealed. It is private to this user (0600, 0700),
and its files are removed after every call. Each process has its own directory in it and holds a lock on that
directory, so that the leftovers of a crashed process can be recognized and removed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path

from sealgate.errors import NotConfigured
from sealgate.storage.destination import remove_entry
from sealgate.storage.local_paths import local_errors

_PREFIX = ".sealgate-spool-"
_LOCK = "lock"
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Spool:
    """The spool of one process beneath `directory`. Its own directory is created when it is first needed.

    Other users may be able to write to `directory`, and can rename what is in it. So the process's own directory is
    used and cleaned through a descriptor, and its path is compared with that descriptor before each call.
    """

    def __init__(self, directory: Path) -> None:
        self._beneath = directory
        self._own: Path | None = None
        self._fd = self._locked = -1
        self._left: set[str] = set()
        """Directories of ended calls that could not be removed yet."""
        self._lock = threading.Lock()

    @contextmanager
    def place(self) -> Iterator[Path]:
        """Yield a private directory for one call, and remove it with its content at the end.

        Raises:
            NotConfigured: another user has replaced the directory of this process.
        """
        name = secrets.token_hex(8)
        with local_errors(f"the spool {self._beneath}"):
            own = self._directory()
            fd = self._fd
            os.mkdir(name, 0o700, dir_fd=fd)
            os.chmod(name, 0o700, dir_fd=fd)  # whatever the umask
        try:
            self._require_in_place(own)
            yield own / name
        finally:
            self._remove(name, fd)

    def _remove(self, name: str, fd: int) -> None:
        """Remove what a call has spooled, and what earlier ends of calls could not: they had no descriptor for it."""
        with self._lock:
            names, self._left = {name, *self._left}, set()
        for each in names:
            remove_entry(each, fd)
            with suppress(OSError):
                os.stat(each, dir_fd=fd, follow_symlinks=False)
                with self._lock:
                    self._left.add(each)

    def free_bytes(self) -> int:
        """Return how many bytes the file system of the spool has free for this user."""
        with local_errors(f"the spool {self._beneath}"):
            self._directory()
            facts = os.fstatvfs(self._fd)
        return facts.f_bavail * facts.f_frsize

    def _directory(self) -> Path:
        with self._lock:
            if self._own is None:
                self._beneath.mkdir(parents=True, exist_ok=True)
                if guard(self._beneath) is Guard.OWN:
                    self._beneath.chmod(stat.S_IMODE(self._beneath.stat().st_mode) | stat.S_ISVTX)
                own = self._beneath / f"{_PREFIX}{secrets.token_hex(8)}"
                private_directory(own)
                self._fd = _open_own(own)
                # The lock is held until `close`; after a crash, the kernel releases it. The file
                # gets its final name only once it is locked, so that no other process can find it and lock it first.
                unnamed = secrets.token_hex(8)
                flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._locked = os.open(unnamed, flags, 0o600, dir_fd=self._fd)
                fcntl.flock(self._locked, fcntl.LOCK_EX)
                os.rename(unnamed, _LOCK, src_dir_fd=self._fd, dst_dir_fd=self._fd)
                self._own = own
            return self._own

    def _require_in_place(self, own: Path) -> None:
        facts = os.fstat(self._fd)
        with suppress(OSError):
            found = os.stat(own, follow_symlinks=False)
            if (found.st_dev, found.st_ino) == (facts.st_dev, facts.st_ino):
                return
        raise NotConfigured(
            f"the spool {own} was replaced by another user or removed",
            says="file system",
            remedy="Set spool.directory to a directory that only this user may write to, and restart the plugin",
        )

    def close(self) -> None:
        """Remove the whole spool of this process."""
        with self._lock:
            if self._own is not None:
                with suppress(OSError):
                    _remove(self._own, self._fd)
                os.close(self._fd)
                os.close(self._locked)
                self._own, self._fd, self._locked = None, -1, -1


class Guard(Enum):
    """Why another user cannot replace the files that this process creates in a directory."""

    MODE = "mode"
    """Not every user may write to it, or it is sticky."""
    OWN = "own"
    """It belongs to this user, who can make it sticky."""
    VOLUME = "volume"
    """It is a volume of its own, such as an emptyDir of Kubernetes: only the containers that mount it reach it."""


def guard(directory: Path) -> Guard:
    """Return what keeps other users from replacing files in `directory`.

    Raises:
        NotConfigured: nothing does.
    """
    facts = directory.stat()
    if not facts.st_mode & stat.S_IWOTH or facts.st_mode & stat.S_ISVTX:
        return Guard.MODE
    if facts.st_uid == os.geteuid():
        return Guard.OWN
    if os.path.ismount(directory):
        return Guard.VOLUME
    raise NotConfigured(
        f"the spool {directory} has mode {stat.S_IMODE(facts.st_mode):04o}: every user can replace the files in it",
        says="file system",
        remedy="Remove write permission for others, or set spool.directory to another directory",
    )


def private_file(path: str, flags: int) -> int:
    """Open `path` for the builtin `open` (its `opener`), with mode 0600 whatever the umask."""
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    os.fchmod(fd, 0o600)
    return fd


def private_directory(path: Path) -> None:
    """Create a directory with mode 0700 whatever the umask."""
    path.mkdir(mode=0o700)
    # By descriptor: another user could have put a link in its place by now.
    fd = os.open(path, _OPEN_DIRECTORY)
    try:
        os.fchmod(fd, 0o700)
    finally:
        os.close(fd)


def remove_leftovers(directory: Path) -> int:
    """Remove the spools that crashed processes of this user left beneath `directory`; return how many were removed.

    No link is followed, and a directory that another user owns or may write to is left alone: it is not a spool.
    """
    removed = 0
    with suppress(OSError):
        for spool in list(directory.glob(f"{_PREFIX}*")):
            removed += _remove_if_abandoned(spool)
    return removed


def _remove_if_abandoned(spool: Path) -> bool:
    try:
        fd = _open_own(spool)
    except OSError:
        return False
    try:
        lock = os.open(_LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
    except OSError:
        # Its process is about to lock it, or was killed just before that or while it removed the spool. There is no
        # ciphertext in it either way: a spool is used only once it is locked, and its lock is removed last.
        os.close(fd)
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(spool, fd)
    except OSError:
        return False
    finally:
        os.close(lock)
        os.close(fd)
    return True


def _open_own(path: Path) -> int:
    """Open a directory that belongs to this user alone.

    Raises:
        OSError: it is a link, or another user owns it or may use it.
    """
    fd = os.open(path, _OPEN_DIRECTORY)
    facts = os.fstat(fd)
    if facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) & 0o077:
        os.close(fd)
        raise PermissionError
    return fd


def _remove(spool: Path, fd: int) -> None:
    """Remove the spool open as `fd`, its lock last: if this process is killed meanwhile, the next start finds the rest.

    Its content is removed relative to `fd`; `rmdir` removes the directory itself only if it is empty and not a link.
    """
    for name in os.listdir(fd):
        if name != _LOCK:
            remove_entry(name, fd)
    remove_entry(_LOCK, fd)
    os.rmdir(spool)
