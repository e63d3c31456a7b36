"""How lines reach a file: appended under a lock, and synced to the disk before the call goes on."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
import time
from pathlib import Path

from typing_extensions import override

from sealgate.audit.records import LONGEST, printable
from sealgate.audit.sinks.interface import NotDurable, NotWritten, Sink, WriteTimeout, not_written

_LOCK_RETRY_SECONDS = 0.002
_LONGEST_PATH_SHOWN = 200


class File(Sink):
    """Appends lines to a file that only its owner may read (mode 0600).

    If the file is moved away, as log rotation does, the next line creates a new one at the same path. Several processes
    may append to one file: each holds a lock while it writes a line.
    """

    def __init__(self, path: Path) -> None:
        self.name = f"file {printable(str(path), _LONGEST_PATH_SHOWN)}"
        self._path = path
        self._fd = -1

    @override
    def write(self, line: bytes, seconds: float) -> None:
        """Append the line. `seconds` limits the wait for the lock; the time that the disk takes has no limit."""
        self._open()
        try:
            self._lock(seconds)
            try:
                self._append(line)
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)
        except OSError as error:
            raise not_written(error) from None
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise NotDurable(str(not_written(error))) from None

    @override
    def try_out(self, seconds: float) -> str:
        """Append a blank line, which is no record; if there is no file yet, only write beside it, and create none."""
        if not os.path.lexists(self._path):
            self._try_directory()
            return "it does not exist yet, and its directory can be written to"
        self.write(b"\n", seconds)
        facts = os.fstatvfs(self._fd)
        if facts.f_bavail * facts.f_frsize < LONGEST:
            raise NotWritten(os.strerror(errno.ENOSPC).lower())
        return "appended a blank line, which is no record"

    def _try_directory(self) -> None:
        """Write a temporary file of the size of the longest record into the directory of the file."""
        try:
            with tempfile.TemporaryFile(dir=self._path.parent) as file:
                file.write(bytes(LONGEST))
                file.flush()
                os.fdatasync(file.fileno())
        except OSError as error:
            raise not_written(error) from None

    @override
    def close(self) -> None:
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
                    raise WriteTimeout("another process holds its lock") from None
                time.sleep(_LOCK_RETRY_SECONDS)

    def _append(self, line: bytes) -> None:
        """Append the whole line or nothing. If another process left an unfinished line, end that one first."""
        size = os.fstat(self._fd).st_size
        rest = line if self._ends_a_line(size) else b"\n" + line
        end = size
        try:
            while rest:
                written = os.write(self._fd, rest)
                rest, end = rest[written:], end + written
        except OSError:
            # An append-only file cannot be truncated. A reader of the trail skips the rest that stays there.
            with contextlib.suppress(OSError):
                if os.fstat(self._fd).st_size == end:
                    os.ftruncate(self._fd, size)
            raise

    def _ends_a_line(self, size: int) -> bool:
        try:
            return not size or os.pread(self._fd, 1, size - 1) == b"\n"
        except OSError:
            return True  # the process may have the right to write and not to read

    def _open(self) -> None:
        if self._fd >= 0 and self._is_still_at_its_path():
            return
        self.close()
        # O_NONBLOCK: opening a named pipe must not wait for a reader.
        flags = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            try:
                fd = os.open(self._path, os.O_RDWR | flags, 0o600)
            except PermissionError:
                fd = os.open(self._path, os.O_WRONLY | flags, 0o600)
        except OSError as error:
            raise not_written(error) from None
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise NotWritten("its path is not a regular file")
        self._fd = fd

    def _is_still_at_its_path(self) -> bool:
        with contextlib.suppress(OSError):
            at_path, opened = os.stat(self._path, follow_symlinks=False), os.fstat(self._fd)
            return (at_path.st_dev, at_path.st_ino) == (opened.st_dev, opened.st_ino)
        return False
