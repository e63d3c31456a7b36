"""Sealing and opening directories, file by file: one header for all, each body bound to its own path.

No symbolic link is followed, in either direction, and memory and open descriptors do not depend on how
many files there are or how deep they lie.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from sealgate.envelope.files import Admit, Check, admit_any, open_file, seal_file
from sealgate.envelope.header import Header, Unlock
from sealgate.errors import BadRequest, Tampered, shown_key

PRIVATE_FILE, PRIVATE_DIRECTORY = 0o600, 0o700
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
"""What the system says of an entry that was removed or replaced since it was listed."""
_CREATE_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class Totals:
    """What a tree came to."""

    files: int = 0
    plaintext_bytes: int = 0
    stored_bytes: int = 0

    def add(self, plaintext: int, stored: int) -> None:
        """Count one more file."""
        self.files += 1
        self.plaintext_bytes += plaintext
        self.stored_bytes += stored


@dataclass(frozen=True, slots=True)
class OpenDirectory:
    """One directory of a tree, open as `fd` while the walk stands in it."""

    fd: int
    path: str
    """Relative to the tree's root, with `/` separators; empty for the root itself."""
    files: list[str]
    directories: list[str]

    def path_of(self, name: str) -> str:
        """The path of an entry, relative to the tree's root."""
        return f"{self.path}/{name}" if self.path else name


class NotRegular(Exception):
    """A tree holds something that is neither a regular file nor a directory."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(path)
        self.fact = f'"{shown_key(path)}" is {what}'

    def unsavable(self) -> BadRequest:
        """The error for a local directory that holds such a thing."""
        return BadRequest(
            f"the directory cannot be saved: {self.fact}",
            remedy="Replace it by a copy of what it stands for, or save an archive of the directory",
        )


def walk(root: int, *, skip_links: bool = False) -> Iterator[OpenDirectory]:
    """Stand in each directory of the tree open as `root`, a parent always before its children.

    Symbolic links are left out with `skip_links`, and never followed.

    Raises:
        NotRegular: an entry is neither a file nor a directory, or its name is not UTF-8.
    """
    waiting = [""]
    while waiting:
        path = waiting.pop()
        with descend(root, path) as fd:
            files, directories = _entries(fd, path, skip_links=skip_links)
            yield OpenDirectory(fd, path, files, directories)
        waiting += [f"{path}/{name}" if path else name for name in reversed(directories)]


def _entries(fd: int, path: str, *, skip_links: bool) -> tuple[list[str], list[str]]:
    files, directories = [], []
    with os.scandir(fd) as entries:
        for entry in entries:
            shown = f"{path}/{entry.name}" if path else entry.name
            if not _is_utf8(entry.name):
                raise NotRegular(shown, "a name that is not UTF-8")
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            elif entry.is_file(follow_symlinks=False):
                files.append(entry.name)
            elif not (skip_links and entry.is_symlink()):
                raise NotRegular(shown, "a symbolic link" if entry.is_symlink() else "a device, socket or pipe")
    return sorted(files), sorted(directories)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


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
    """Open the regular file `name`, and nothing else by that name, without waiting on a pipe.

    `writable` asks to write, too; a file that its owner alone may read is only read.

    Raises:
        OSError: it is gone, or a symbolic link stands there now.
        NotRegular: something else stands there now.
    """
    try:
        fd = os.open(name, _OPEN_FILE | (os.O_RDWR if writable else 0), dir_fd=directory)
    except PermissionError:
        fd = os.open(name, _OPEN_FILE, dir_fd=directory)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise NotRegular(name, "no regular file any more")
        yield fd
    finally:
        os.close(fd)


@contextmanager
def create_regular(name: str, directory: int, mode: int) -> Iterator[int]:
    """Create the file `name`, which must not exist, with exactly `mode` whatever the umask."""
    fd = os.open(name, _CREATE_FILE, PRIVATE_FILE, dir_fd=directory)
    try:
        yield fd
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def create_directory(name: str, directory: int, mode: int) -> None:
    """Create the directory `name`, which must not exist, with exactly `mode` whatever the umask."""
    os.mkdir(name, PRIVATE_DIRECTORY, dir_fd=directory)
    if mode != PRIVATE_DIRECTORY:
        fd = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
        try:
            os.fchmod(fd, mode)
        finally:
            os.close(fd)


@contextmanager
def savable() -> Iterator[None]:
    """While a local directory is read: what cannot be saved there, or was exchanged, is a `BadRequest`."""
    try:
        yield
    except NotRegular as fault:
        raise fault.unsavable() from None
    except OSError as error:
        if error.errno not in _GONE:
            raise
        raise BadRequest(
            "the local directory changed while it was read", remedy="Save it once it is complete"
        ) from None


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
    """Seal every file of the directory open as `source` to the same path in the empty one open as `target`.

    Empty directories are made again, too. What is created is private to this user (0600, 0700). Symbolic links are
    left out with `skip_links`.

    Raises:
        BadRequest: the tree holds a link, a device or a name that is no UTF-8, or changed while it was read.
    """
    totals = Totals()
    with savable():
        for place in walk(source, skip_links=skip_links):
            with descend(target, place.path) as into:
                for name in place.directories:
                    create_directory(name, into, PRIVATE_DIRECTORY)
                for name in place.files:
                    key = f"{artifact_key}/{place.path_of(name)}"
                    with (
                        open_regular(name, place.fd) as plain,
                        create_regular(name, into, PRIVATE_FILE) as sealed,
                    ):
                        totals.add(*seal_file(plain, sealed, header, data_key, key, check, admit))
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
    """Open every sealed file of the directory `source` to the same path in the empty directory `target`.

    Args:
        source: a descriptor of the stored tree.
        target: a descriptor of an empty directory; what is in it may be used only if this returns.
        unlock: finds a header's data key.
        artifact_key: the key of the whole directory.
        modes: of the files and of the directories that are made, whatever the umask.
        check: called before each segment; stops the work by raising.
        admit: see `Admit`.
        consume: give the space of `source` back while it is read.
        plain: copy what is not sealed as it is.

    Raises:
        DataLoss: a file is not what was sealed at its place, or the tree holds anything but files.
    """
    totals = Totals()
    file_mode, directory_mode = modes
    try:
        for place in walk(source):
            with descend(target, place.path) as into:
                for name in place.directories:
                    create_directory(name, into, directory_mode)
                for name in place.files:
                    key = f"{artifact_key}/{place.path_of(name)}"
                    with (
                        open_regular(name, place.fd, writable=consume) as sealed,
                        create_regular(name, into, file_mode) as opened,
                    ):
                        facts = open_file(sealed, opened, unlock, key, check, admit, consume=consume, plain=plain)
                        totals.add(*facts)
    except NotRegular as fault:
        raise Tampered(f"the stored directory holds what was never sealed: {fault.fact}") from None
    return totals


@contextmanager
def create_beneath(root: int, path: str, modes: tuple[int, int]) -> Iterator[int]:
    """Create the file `path` beneath the directory open as `root`, and the directories on the way.

    `modes` are those of the file and of each directory, whatever the umask. No link is followed.

    Raises:
        Tampered: `path` leads out of the directory, or collides with what was created before.
    """
    file_mode, directory_mode = modes
    *parents, name = path.split("/")
    if any(segment in {"", ".", ".."} or "\0" in segment for segment in (*parents, name)):
        raise Tampered(f'the stored directory lists "{shown_key(path)}", which is no path beneath it')
    fd = os.open(".", _OPEN_DIRECTORY, dir_fd=root)
    try:
        for segment in parents:
            with suppress(FileExistsError):
                create_directory(segment, fd, directory_mode)
            deeper = os.open(segment, _OPEN_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = deeper
        with create_regular(name, fd, file_mode) as file:
            yield file
    except (FileExistsError, NotADirectoryError):
        raise Tampered(f'the stored directory lists "{shown_key(path)}" both as a file and as a directory') from None
    finally:
        os.close(fd)
