"""Where the lines of the audit trail go. A sink takes a line whole, within a bound of time, or says that it did not."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from typing_extensions import override

from sealgate.audit.records import shown
from sealgate.telemetry.outlet import Outlet

log = logging.getLogger("sealgate.audit")

_MOST_PENDING = 256
"""Lines of at most 4 KiB that one sink may lag behind the others."""
_LOCK_EVERY = 0.002
"""Seconds between two looks at a lock that somebody else holds."""
_LONGEST_PATH_SHOWN = 200


class NotTaken(Exception):
    """A sink did not take a line. It says why, in words of ours."""


class TooLate(NotTaken):
    """It might have, with more time."""


class Sink(Protocol):
    """A place for lines."""

    name: str
    """Tells it from the other sinks, in metrics and texts."""

    def write(self, line: bytes, seconds: float) -> None:
        """Take the line, whole, within so many seconds.

        Raises:
            NotTaken: it did not.
        """

    def close(self) -> None:
        """Let go of it."""


class NotSafe(NotTaken):
    """The line is there, and may not survive the machine."""


class Copy(Protocol):
    """A place for lines that were written already. It may lose them."""

    def add(self, line: bytes) -> None:
        """Take the line, at once."""

    def close(self) -> None:
        """Let go of it."""


class Stdout(Sink):
    """Standard output: in a pod, the container's log.

    The line goes out in one write of at most PIPE_BUF bytes once there is room for it: it mixes with nothing that
    others write there, and waits for nobody (but see `Outlet`).
    """

    name = "stdout"

    def __init__(self, fd: int = 1) -> None:
        self._outlet = Outlet(fd)

    @override
    def write(self, line: bytes, seconds: float) -> None:
        try:
            self._outlet.put(line, seconds)
        except TimeoutError:
            raise TooLate("nobody reads standard output") from None
        except BrokenPipeError:
            raise NotTaken("standard output is closed") from None
        except OSError as error:
            raise _reason(error) from None

    @override
    def close(self) -> None:
        self._outlet.close()


class File(Sink):
    """A file that is appended to, for its owner alone; on the disk before a call goes on.

    A file that was moved away, as a rotation does, is begun anew under its name. Several processes may share one: each
    holds its lock for a line.
    """

    def __init__(self, path: Path) -> None:
        self.name = f"file {shown(str(path), _LONGEST_PATH_SHOWN)}"
        self._path = path
        self._fd = -1

    @override
    def write(self, line: bytes, seconds: float) -> None:
        """The disk's own time cannot be bounded from here."""
        self._open()
        try:
            self._lock(seconds)
            try:
                self._append(line)
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        except OSError as error:
            raise _reason(error) from None
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise NotSafe(str(_reason(error))) from None

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _lock(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while True:
            try:
                return fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise TooLate("another process holds its lock") from None
                time.sleep(_LOCK_EVERY)

    def _append(self, line: bytes) -> None:
        """The line, whole or not at all, after the end of whatever somebody left unfinished."""
        size = os.fstat(self._fd).st_size
        rest = line if self._ends_a_line(size) else b"\n" + line
        end = size
        try:
            while rest:
                written = os.write(self._fd, rest)
                rest, end = rest[written:], end + written
        except OSError:
            # An append-only file keeps it, and a reader passes over it.
            with contextlib.suppress(OSError):
                if os.fstat(self._fd).st_size == end:
                    os.ftruncate(self._fd, size)
            raise

    def _ends_a_line(self, size: int) -> bool:
        try:
            return not size or os.pread(self._fd, 1, size - 1) == b"\n"
        except OSError:
            return True  # it may be written and not read

    def _open(self) -> None:
        if self._fd >= 0 and self._is_there():
            return
        self.close()
        # O_NONBLOCK: a pipe must not make this wait.
        flags = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            try:
                fd = os.open(self._path, os.O_RDWR | flags, 0o600)
            except PermissionError:
                fd = os.open(self._path, os.O_WRONLY | flags, 0o600)
        except OSError as error:
            raise _reason(error) from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotTaken("its path is no regular file")
        self._fd = fd

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
    late: bool = False
    """Whether more time might have helped."""


class Lagging:
    """A sink that is given again what it did not take, in order, so that its copy of the trail has no gap."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.name = sink.name
        self.late = False
        """Whether it was not in time for the last line: more time for it is time for the others less."""
        self._pending: deque[bytes] = deque(maxlen=_MOST_PENDING)
        self._has_lost = False

    def add(self, line: bytes) -> None:
        """Have it written next, after all that was not taken yet."""
        if len(self._pending) == _MOST_PENDING and not self._has_lost:
            self._has_lost = True
            log.error("%s missed more than %d records: its copy of the trail has a gap", self.name, _MOST_PENDING)
        self._pending.append(line)

    def write(self, until: float) -> Taken:
        """Have it take the line that was added last and all before it, before `until` on the monotonic clock."""
        taken = self._written(until)
        self.late = taken.late
        self._has_lost = self._has_lost and bool(self._pending)
        return taken

    def _written(self, until: float) -> Taken:
        try:
            while self._pending:
                self._sink.write(self._pending[0], until - time.monotonic())
                self._pending.popleft()
        except NotSafe as fault:
            there = len(self._pending) == 1
            self._pending.popleft()
            return Taken(str(fault), there=there)
        except NotTaken as fault:
            return Taken(str(fault), there=False, late=isinstance(fault, TooLate))
        return Taken("", there=True)

    def forget_last(self) -> None:
        """The last line was taken by nobody, and so was never written."""
        if self._pending:
            self._pending.pop()

    def close(self) -> None:
        """Let go of it."""
        self._sink.close()


def _reason(error: OSError) -> NotTaken:
    return NotTaken(os.strerror(error.errno or 0).lower())
