"""Directories of a local file system, read and filled through descriptors; no part of the format itself.

No symbolic link is followed. The number of open descriptors depends neither on how many files a directory has nor on
how deep it is.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sealgate.errors import BadRequest, Tampered, shown_key

PRIVATE_FILE, PRIVATE_DIRECTORY = 0o600, 0o700
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHANGED = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENXIO}
"""The error numbers for an entry that was removed, or replaced by one of another kind, after it was listed.

EISDIR is a directory that is opened for writing, and ENXIO a socket."""


@dataclass(frozen=True, slots=True)
class OpenDirectory:
    """One directory of a tree. `fd` is open until the walk continues."""

    fd: int
    path: str
    """Relative to the tree's root, with `/` as separator; empty for the root itself."""
    files: list[str]
    directories: list[str]

    def path_of(self, name: str) -> str:
        """Return the path of the entry `name`, relative to the tree's root."""
        return f"{self.path}/{name}" if self.path else name


class NotRegular(Exception):
    """A tree has an entry that is neither a regular file nor a directory, or whose name is not UTF-8."""

    def __init__(self, path: str, what: str, remedy: str = "Replace it with a regular file") -> None:
        super().__init__(path)
        self.fact = f'"{shown_key(path)}" is {what}'
        self._remedy = remedy

    def unsavable(self) -> BadRequest:
        """Return the error for a local directory that has such an entry."""
        return BadRequest(
            f"the directory cannot be saved: {self.fact}",
            remedy=f"{self._remedy}, or save an archive of the directory",
        )


def walk(root: int, *, skip_links: bool = False, any_entry: bool = False) -> Iterator[OpenDirectory]:
    """Yield each directory of the tree open as `root`, a parent always before its children, entries sorted by name.

    Args:
        root: a descriptor of the tree's root.
        skip_links: leave out symbolic links instead of raising. They are never followed.
        any_entry: report every entry that is not a directory among the files, whatever its kind and name.

    Raises:
        NotRegular: see there.
        OSError: a directory was removed or replaced after it was listed.
    """
    waiting = [""]
    while waiting:
        path = waiting.pop()
        with descend(root, path) as fd:
            files, directories = _entries(fd, path, skip_links=skip_links, any_entry=any_entry)
            yield OpenDirectory(fd, path, files, directories)
        waiting += [f"{path}/{name}" if path else name for name in reversed(directories)]


def _entries(fd: int, path: str, *, skip_links: bool, any_entry: bool) -> tuple[list[str], list[str]]:
    """Return the names of the files and of the directories in the directory `fd`."""
    files, directories = [], []
    with os.scandir(fd) as entries:
        for entry in entries:
            entry_path = f"{path}/{entry.name}" if path else entry.name
            if any_entry and not entry.is_dir(follow_symlinks=False):
                files.append(entry.name)
                continue
            if not any_entry and not _is_utf8(entry.name):
                raise NotRegular(entry_path, "a name that is not UTF-8", "Rename it")
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            elif entry.is_file(follow_symlinks=False):
                files.append(entry.name)
            elif not (skip_links and entry.is_symlink()):
                raise NotRegular(entry_path, "a symbolic link" if entry.is_symlink() else "a device, socket or pipe")
    return sorted(files), sorted(directories)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_absent(fault: OSError | NotRegular) -> bool:
    """Return whether `fault`, raised by `descend` or `open_regular`, means that no regular file has this path."""
    return isinstance(fault, NotRegular) or fault.errno in _CHANGED


@contextmanager
def savable() -> Iterator[None]:
    """Turn what goes wrong with the entries of a local directory that is saved into a `BadRequest`."""
    try:
        yield
    except NotRegular as fault:
        raise fault.unsavable() from None
    except OSError as error:
        if error.errno not in _CHANGED:
            raise
        raise BadRequest(
            "the local directory changed while it was read", remedy="Save it once it is complete"
        ) from None


@contextmanager
def descend(root: int, path: str) -> Iterator[int]:
    """Open the directory `path` beneath `root`, one segment at a time, through no symbolic link."""
    fd = os.open(".", _OPEN_DIRECTORY, dir_fd=root)
    try:
        for segment in path.split("/") if path else ():
            deeper = os.open(segment, _OPEN_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = deeper
        yield fd
    finally:
        os.close(fd)


@contextmanager
def open_regular(name: str, directory: int, *, writable: bool = False) -> Iterator[int]:
    """Open the regular file `name` in the directory open as `directory`. Never waits for a pipe.

    Args:
        name: the file's name.
        directory: a descriptor of the directory.
        writable: open it for writing too. If this user may not write it, it is opened for reading alone.

    Raises:
        OSError: no file has this name, or a symbolic link or a socket has it.
        NotRegular: it is a directory, a device or a pipe.
    """
    try:
        fd = os.open(name, _OPEN_FILE | (os.O_RDWR if writable else 0), dir_fd=directory)
    except PermissionError:
        fd = os.open(name, _OPEN_FILE, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise NotRegular(name, "no longer a regular file")
        yield fd
    finally:
        os.close(fd)


@contextmanager
def create_regular(name: str, directory: int, mode: int) -> Iterator[int]:
    """Create the file `name`, which must not exist. It has exactly `mode`, whatever the umask, once the body ends."""
    fd = os.open(name, _CREATE_FILE, PRIVATE_FILE, dir_fd=directory)
    try:
        yield fd
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def create_directory(name: str, directory: int, mode: int) -> None:
    """Create the directory `name`, which must not exist, with exactly `mode`, whatever the umask."""
    os.mkdir(name, PRIVATE_DIRECTORY, dir_fd=directory)
    if mode != PRIVATE_DIRECTORY:
        fd = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
        try:
            os.fchmod(fd, mode)
        finally:
            os.close(fd)


@contextmanager
def create_beneath(root: int, path: str, modes: tuple[int, int]) -> Iterator[int]:
    """Create the file `path` beneath the directory open as `root`, with all directories on the way.

    Args:
        root: a descriptor of the directory.
        path: relative to `root`, with `/` as separator.
        modes: exact modes of the file and of each directory that is created, whatever the umask.

    Raises:
        Tampered: `path` is not a path beneath `root`, or is in conflict with what was created before.
    """
    file_mode, directory_mode = modes
    *parents, name = path.split("/")
    if any(segment in {"", ".", ".."} or "\0" in segment for segment in (*parents, name)):
        raise Tampered(f'the stored directory lists "{shown_key(path)}", which is not a path beneath it')
    try:
        with (
            create_directories(root, "/".join(parents), directory_mode) as fd,
            create_regular(name, fd, file_mode) as file,
        ):
            yield file
    except (FileExistsError, NotADirectoryError):
        raise Tampered(f'the stored directory lists "{shown_key(path)}" both as a file and as a directory') from None


@contextmanager
def create_directories(root: int, path: str, mode: int) -> Iterator[int]:
    """Open the directory `path` beneath the directory open as `root`; create what is missing of it with `mode`."""
    fd = os.open(".", _OPEN_DIRECTORY, dir_fd=root)
    try:
        for segment in path.split("/") if path else ():
            try:  # most files are in the same directory as the one before
                deeper = os.open(segment, _OPEN_DIRECTORY, dir_fd=fd)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    create_directory(segment, fd, mode)
                deeper = os.open(segment, _OPEN_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = deeper
        yield fd
    finally:
        os.close(fd)
