"""Local paths from requests: opened only beneath the allowed roots, and through no link that leads out of one.

A path in a request names a place in the *caller's* file system, where user code may create symbolic links at any
time. Therefore no path is checked first and used later. Each is walked one segment at a time by directory descriptor,
and the file at its end is used only through its descriptor. An absolute link is followed only if its text begins with
the root; the walk then starts again at the root's descriptor, so that the text alone decides and nothing is resolved.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sealgate.errors import BadRequest, LimitReached, NotConfigured, PluginError, one_line, out_of_descriptors
from sealgate.plugin import Chunk
from sealgate.storage.destination import Destination, filling, remove_entry

_MOST_LINKS = 40
_READ_SIZE, _LEAST_READ = 1 << 20, 1 << 12
_OPEN_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_ACCESS = {errno.EACCES, errno.EPERM}


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A local file or directory that is saved, open as `fd`."""

    fd: int
    is_directory: bool
    size: int
    """Of a file, in bytes, when it was opened. Without meaning for a directory."""
    path: str
    """The absolute path, with every symbolic link beneath the root resolved."""


class Roots:
    """The directories beneath which the local paths of requests must be (`paths.roots`)."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = sorted((Path(os.path.normpath(root)) for root in roots), key=lambda r: -len(r.parts))

    @contextmanager
    def source(self, path: Path) -> Iterator[LocalSource]:
        """Open the regular file or directory at `path` for reading.

        Raises:
            BadRequest: the path is outside the roots, does not exist, or is neither a file nor a directory.
        """
        with local_errors(f"the local path {_shown(path)}"), self._parent(path) as (parent, name, reached):
            fd = _open_source(parent, name, path)
        try:
            facts = os.fstat(fd)
            yield LocalSource(fd, stat.S_ISDIR(facts.st_mode), facts.st_size, reached)
        finally:
            os.close(fd)

    @contextmanager
    def destination(self, path: Path) -> Iterator[Destination]:
        """Prepare to create `path`, whole or not at all. What was begun and not committed is removed at the end.

        What a killed process of this user left beside `path` is removed at the beginning.

        Raises:
            BadRequest: the path is outside the roots or is a symbolic link, or its directory does not exist.
            LimitReached: the file system is full.
        """
        with (
            local_errors(f"the local path {_shown(path)}"),
            self._parent(path, follow_last=False) as (parent, name, reached),
        ):
            try:
                existing = os.stat(name, dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                existing = None
            if existing and stat.S_ISLNK(existing.st_mode):
                raise BadRequest(
                    f"the local path {_shown(path)} is a symbolic link, and Sealgate does not write through links"
                )
            with filling(parent, name, reached) as destination:
                yield destination

    def remove(self, path: Path) -> None:
        """Remove the file or directory at `path`, without following a link. Errors are ignored."""
        with suppress(OSError), self._parent(path, follow_last=False) as (parent, name, _):
            remove_entry(name, parent)

    @contextmanager
    def _parent(self, path: Path, *, follow_last: bool = True) -> Iterator[tuple[int, str, str]]:
        """Yield an open descriptor of the directory that contains `path`, the last segment, and the resolved path.

        Symbolic links are followed while they stay beneath the root; the last segment only with `follow_last`.
        """
        root, segments = self._split(path)
        walk = _Walk(os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), segments, path, root)
        try:
            parent, name = walk.to_parent(follow_last=follow_last)
            yield parent, name, os.path.join(root, *walk.reached, name)
        finally:
            walk.close()

    def _split(self, path: Path) -> tuple[Path, list[str]]:
        if "\0" in str(path) or not path.is_absolute() or ".." in path.parts:
            raise BadRequest(f"the local path {_shown(path)} is not an absolute path without relative segments")
        for root in self._roots:
            if path.is_relative_to(root) and path != root:
                return root, list(path.relative_to(root).parts)
        allowed = ", ".join(str(root) for root in sorted(self._roots))
        raise BadRequest(
            f"the local path {_shown(path)} is not beneath an allowed root",
            remedy=f"Use a path beneath {allowed}, or add its root to paths.roots",
        )


class _Walk:
    """The walk from a root to a path: the directories that are open on the way, and the segments that remain."""

    def __init__(self, root_fd: int, segments: list[str], path: Path, root: Path) -> None:
        self._root = root
        self._directories = [root_fd]
        self.reached: list[str] = []
        """The names of those directories beneath the root."""
        self._remaining = segments[::-1]
        """The next segment is the last item."""
        self._links = 0
        self._leads_out = BadRequest(
            f"a symbolic link in the local path {_shown(path)} leads out of {root}",
            remedy="Use the path that the link points to",
        )

    def to_parent(self, *, follow_last: bool) -> tuple[int, str]:
        """Walk until one segment remains; return the descriptor of its directory, and its name."""
        while True:
            segment = self._remaining.pop()
            if not self._remaining and not follow_last:
                return self._directories[-1], segment
            target = _link_target(segment, self._directories[-1])
            if target is not None:
                self._follow(target)
            elif segment == "..":
                self._up()
            elif not self._remaining:
                return self._directories[-1], segment
            else:
                self._directories.append(os.open(segment, _OPEN_STEP | os.O_DIRECTORY, dir_fd=self._directories[-1]))
                self.reached.append(segment)

    def _follow(self, target: str) -> None:
        self._links += 1
        if self._links > _MOST_LINKS:
            raise self._leads_out
        segments = [part for part in target.split("/") if part not in {"", "."}]
        if target.startswith("/"):
            segments = self._beneath_root(segments)
            self._to_root()
        self._remaining += segments[::-1]
        self._remaining = self._remaining or ["."]

    def _beneath_root(self, segments: list[str]) -> list[str]:
        """Return the segments of an absolute path that follow those of the root, by its own name or its real one."""
        for root in (self._root, Path(os.path.realpath(self._root))):
            beginning = list(root.parts[1:])
            if segments[: len(beginning)] == beginning:
                return segments[len(beginning) :]
        raise self._leads_out

    def _to_root(self) -> None:
        """Go back to the root."""
        while len(self._directories) > 1:
            os.close(self._directories.pop())
        self.reached.clear()

    def _up(self) -> None:
        if len(self._directories) == 1:
            raise self._leads_out
        os.close(self._directories.pop())
        self.reached.pop()
        self._remaining = self._remaining or ["."]

    def close(self) -> None:
        """Close every directory on the way."""
        for fd in self._directories:
            os.close(fd)


@contextmanager
def opened_directory(path: Path) -> Iterator[int]:
    """Yield a descriptor of the directory `path`, which this process owns. A symbolic link is refused."""
    fd = os.open(path, _OPEN | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def read_chunks(fd: int, check: Callable[[], None]) -> Iterator[memoryview]:
    """Yield the bytes of the file open as `fd`. Each chunk is valid until the next one; `check` may raise to stop."""
    # A duplicate, because a client may still request chunks after the call has ended and `fd` is closed.
    own = os.dup(fd)
    try:
        # Many files are small, and a large buffer takes longer to create than to fill.
        buffer = memoryview(bytearray(min(_READ_SIZE, max(_LEAST_READ, os.fstat(own).st_size))))
        offset = 0
        while size := os.preadv(own, [buffer], offset):
            check()
            offset += size
            yield buffer[:size]
    finally:
        os.close(own)


def write_all(fd: int, data: Chunk) -> None:
    """Write all of `data` at the current position of the descriptor."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def write_all_at(fd: int, data: memoryview, offset: int) -> None:
    """Write all of `data` at `offset`. The current position of the descriptor does not change."""
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


@contextmanager
def local_errors(what: str, written: str = "") -> Iterator[None]:
    """Turn an `OSError` in the body into a named error about `what`.

    Args:
        what: what the body reads or writes, as the error names it.
        written: what the error names instead if space runs out, where the body writes something else.

    Raises:
        LimitReached: space or descriptors ran out.
        NotConfigured: the file system is read-only.
        BadRequest: any other error.
    """
    try:
        yield
    except OSError as error:
        raise _named(error, written or what if error.errno in _OUT_OF_SPACE else what) from None


def _named(error: OSError, what: str) -> PluginError:
    if busy := out_of_descriptors(error):
        return busy
    reason = os.strerror(error.errno or 0).lower()
    if error.errno in _OUT_OF_SPACE:
        return LimitReached(f"{what} could not be written: {reason}", says="file system", remedy="Free space there")
    if error.errno == errno.EROFS:
        return NotConfigured(f"{what} cannot be used: {reason}", says="file system", remedy="Mount it writable")
    if error.errno in _NO_ACCESS:
        remedy = "Run the plugin's container with the uid of argoexec, or make the path accessible to it"
        return BadRequest(f"{what} cannot be used: {reason}", says="file system", remedy=remedy)
    return BadRequest(f"{what} cannot be used: {reason}", says="file system", remedy="Check that the path is right")


def _open_source(parent: int, name: str, path: Path) -> int:
    # Checked before it is opened, because opening a device can already have an effect.
    kind = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    if stat.S_ISREG(kind) or stat.S_ISDIR(kind):
        fd = os.open(name, _OPEN, dir_fd=parent)
        kind = os.fstat(fd).st_mode
        if stat.S_ISREG(kind) or stat.S_ISDIR(kind):
            return fd
        os.close(fd)
    raise BadRequest(f"the local path {_shown(path)} is neither a file nor a directory but {_kind_of(kind)}")


def _kind_of(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISLNK, "a symbolic link"))
    return next((name for test, name in kinds if test(mode)), "a device")


def _link_target(name: str, directory: int) -> str | None:
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return None
        raise


def _shown(path: Path) -> str:
    text = one_line(str(path))
    return text if len(text) <= 200 else f"{text[:200]}…"  # noqa: PLR2004 - keeps an error near one line
