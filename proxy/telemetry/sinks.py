"""Where the lines of the audit trail go. A sink takes a line whole, within a bound of time, or says that it did not."""

from __future__ import annotations

import contextlib
import os
import select
import stat
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_MOST_PENDING = 256
"""Lines of at most 4 KiB that one sink may lag behind the others."""


class NotTaken(Exception):
    """A sink did not take a line. It says why, in words of ours."""


class Sink(Protocol):
    """A place for lines."""

    name: str

    def write(self, line: bytes, seconds: float) -> None:
        """Take the line, whole, within so many seconds.

        Raises:
            NotTaken: it did not.
        """

    def close(self) -> None:
        """Let go of it."""


class NotSafe(NotTaken):
    """The line is there, and may not survive the machine."""


class _Lines:
    """Lines into a descriptor, one write each. After one that was cut short the next begins a new line."""

    def __init__(self) -> None:
        self._torn = False

    def _put(self, fd: int, line: bytes) -> None:
        rest = b"\n" + line if self._torn else line
        try:
            while rest:
                rest = rest[os.write(fd, rest) :]
                self._torn = True
        except OSError as error:
            raise _reason(error) from None
        self._torn = False


class Copy(Protocol):
    """A place for lines that were written already. It may lose them."""

    def add(self, line: bytes) -> None:
        """Take the line, at once."""

    def close(self) -> None:
        """Let go of it."""


class Stdout(_Lines):
    """Standard output: in a pod, the container's log.

    The line goes out in one write of at most PIPE_BUF bytes once there is room for it, and so can neither block nor
    mix with what others write there. The descriptor's mode is left alone: others share it.
    """

    name = "stdout"

    def __init__(self, fd: int = 1) -> None:
        super().__init__()
        self._fd = fd

    def write(self, line: bytes, seconds: float) -> None:
        """See `Sink.write`."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        ready = poll.poll(max(0, round(seconds * 1000)))
        if not ready:
            raise NotTaken("nobody reads standard output")
        if ready[0][1] & (select.POLLERR | select.POLLNVAL):
            raise NotTaken("standard output is closed")
        self._put(self._fd, line)

    def close(self) -> None:
        """Standard output is not ours to close."""


class File(_Lines):
    """A file that is appended to, for its owner alone; on the disk before a call goes on.

    A file that was moved away, as a rotation does, is begun anew under its name.
    """

    name = "file"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._fd = -1

    def write(self, line: bytes, seconds: float) -> None:  # noqa: ARG002 - a disk's time cannot be bounded from here
        """See `Sink.write`."""
        self._open()
        self._put(self._fd, line)
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise NotSafe(str(_reason(error))) from None

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        if self._fd >= 0 and self._is_there():
            return
        self.close()
        # O_NONBLOCK: a pipe must not make this wait.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            fd = os.open(self._path, flags, 0o600)
        except OSError as error:
            raise _reason(error) from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotTaken("its path is no regular file")
        self._fd = fd
        # Whoever wrote before may have been stopped in the middle of a line.
        self._torn = not _ends_a_line(self._path)

    def _is_there(self) -> bool:
        with contextlib.suppress(OSError):
            there, own = os.stat(self._path, follow_symlinks=False), os.fstat(self._fd)
            return (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino)
        return False


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a line at one sink."""

    fault: str
    """Why it does not count as written; empty if it does."""
    there: bool
    """Whether it lies there all the same."""


class Lagging:
    """A sink that is given again what it did not take, in order, so that its copy of the trail has no gap."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.name = sink.name
        self._pending: deque[bytes] = deque(maxlen=_MOST_PENDING)

    def write(self, line: bytes, until: float) -> Taken:
        """Take the line and all before it, before `until` on the monotonic clock."""
        self._pending.append(line)
        try:
            while self._pending:
                self._sink.write(self._pending[0], until - time.monotonic())
                self._pending.popleft()
        except NotSafe as fault:
            there = len(self._pending) == 1
            self._pending.popleft()
            return Taken(str(fault), there=there)
        except NotTaken as fault:
            return Taken(str(fault), there=False)
        return Taken("", there=True)

    def forget_last(self) -> None:
        """The last line was taken by nobody, and so was never written."""
        if self._pending:
            self._pending.pop()

    def close(self) -> None:
        """Let go of it."""
        self._sink.close()


def _ends_a_line(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            return not size or os.pread(file.fileno(), 1, size - 1) == b"\n"
    except OSError:
        return True  # it may be written and not read


def _reason(error: OSError) -> NotTaken:
    return NotTaken(os.strerror(error.errno or 0).lower())
