"""The local side: what a Save reads and what a Load writes.

Names in a store may be hostile, and directories may change while they are read. So a Save opens every file
by its directory's descriptor and follows no link, and a Load writes beneath a new directory that nobody else
can enter until it is whole.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sealgate.backend import keys
from sealgate.backend.errors import local_errors
from sealgate.call import Call
from sealgate.errors import BadRequest, shown_key
from sealgate.plugin import Chunk

_FILE, _DIRECTORY = 0o644, 0o755
"""Modes of what a Load creates: its reader may run as another user."""
_READ_SIZE = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


# --- reading ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenSource:
    """An open local file or directory. Whoever gets one closes it."""

    fd: int
    size: int
    is_directory: bool

    def chunks(self, call: Call) -> Iterator[memoryview]:
        """The bytes of a file, one buffer full after the other."""
        buffer = memoryview(bytearray(min(self.size + 1, _READ_SIZE)))
        while True:
            call.check()
            with local_errors():
                size = os.readv(self.fd, [buffer])
            if not size:
                return
            yield buffer[:size]

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)


def absolute(path: Path) -> Path:
    """The path that a request names.

    Raises:
        BadRequest: it depends on where this process was started, as one that is empty does.
    """
    if not path.is_absolute():
        raise BadRequest("the request names no absolute local path")
    return path


def opened(path: Path | str, directory: int | None = None) -> OpenSource:
    """Open a regular file or a directory for reading.

    Raises:
        BadRequest: it is neither, or cannot be opened.
    """
    with local_errors():
        fd = os.open(path, _READ, dir_fd=directory)
        facts = os.fstat(fd)
    if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
        os.close(fd)
        raise BadRequest("the local path is neither a file nor a directory")
    return OpenSource(fd, facts.st_size, stat.S_ISDIR(facts.st_mode))


@dataclass(frozen=True, slots=True)
class LocalEntry:
    """A file beneath a directory, or an empty directory by the name of its marker."""

    path: str
    """Relative to the top, as the key will have it."""
    name: str
    directory: int
    """The descriptor of the directory that holds it; open only until the next one is asked for."""

    @property
    def is_marker(self) -> bool:
        """Whether it stands for an empty directory."""
        return self.name == keys.MARKER


def walk(top: int, above: str = "") -> Generator[LocalEntry]:
    """All files beneath the directory `top`, and all empty directories.

    Raises:
        BadRequest: something in it cannot be stored.
    """
    with local_errors(), os.scandir(top) as scan:
        entries = list(scan)
    if not entries:
        yield LocalEntry(f"{above}{keys.MARKER}", keys.MARKER, top)
    for entry in entries:
        path = f"{above}{entry.name}"
        _check(path, entry)
        if entry.is_file(follow_symlinks=False):
            yield LocalEntry(path, entry.name, top)
            continue
        directory = opened(entry.name, top)
        try:
            yield from walk(directory.fd, f"{path}/")
        finally:
            directory.close()


def _check(path: str, entry: os.DirEntry[str]) -> None:
    flaw = ""
    if entry.name == keys.MARKER:
        flaw = "the name is kept for empty directories"
    elif entry.is_symlink():
        flaw = "it is a symbolic link, and none is followed"
    elif not entry.is_file(follow_symlinks=False) and not entry.is_dir(follow_symlinks=False):
        flaw = "it is neither a file nor a directory"
    elif not _is_unicode(entry.name):
        flaw = "its name is not UTF-8"
    else:
        flaw = keys.flaw(path)
    if flaw:
        shown = shown_key(os.fsencode(path).decode(errors="replace"))
        raise BadRequest(f'"{shown}" in the directory cannot be stored: {flaw}')


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


# --- writing ----------------------------------------------------------------------------------------------


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name beside `path` for the body to create; renamed to `path` if it ends normally, else removed."""
    temporary = path.with_name(f".sealgate-{secrets.token_hex(8)}")
    try:
        yield temporary
        with local_errors():
            temporary.rename(path)
    except BaseException:
        remove(temporary)
        raise


def remove(path: Path) -> None:
    """Remove what is there, if anything."""
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def create(path: Path, chunks: Iterable[Chunk]) -> None:
    """Create a file of these bytes, readable by everybody."""
    with local_errors():
        fd = os.open(path, _CREATE, 0o600)
    try:
        for chunk in chunks:
            rest = memoryview(chunk)
            with local_errors():
                while rest:
                    rest = rest[os.write(fd, rest) :]
        with local_errors():
            os.fchmod(fd, _FILE)
    finally:
        os.close(fd)


def create_directories(top: Path, directories: Iterable[str]) -> None:
    """Create `top`, which nobody else can enter yet, and what is beneath it, by relative paths."""
    with local_errors():
        top.mkdir(mode=0o700)
        for path in sorted(directories):
            (top / path).mkdir()
            (top / path).chmod(_DIRECTORY)


def open_to_all(top: Path) -> None:
    """Let everybody enter a directory that `create_directories` made."""
    with local_errors():
        top.chmod(_DIRECTORY)
