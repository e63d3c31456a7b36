"""How whole lines are written to a standard stream that other processes share, in limited time.

The log and the audit trail use it.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time


class LineWriter:
    """Writes lines to `fd`. If a line was cut short, the next one begins on a new line.

    The non-blocking mode of a pipe belongs to the open file, which all its users share, and other users may not expect
    it. So a pipe is opened a second time, in non-blocking mode. A pipe of another user cannot be opened again: there
    each write asks for `RWF_NOWAIT`. On a kernel without that flag for pipes, a write may block if another process
    fills the pipe after `poll` reported room.
    """

    def __init__(self, fd: int) -> None:
        self._fd, self._is_own = _non_blocking(fd)
        self._is_borrowed_pipe = not self._is_own and _is_pipe(fd)
        self._torn = False

    def write(self, line: bytes, seconds: float) -> None:
        """Write the line within `seconds`.

        Raises:
            TimeoutError: the stream had no room in time.
            OSError: the stream cannot be written to.
        """
        until = time.monotonic() + seconds
        rest = b"\n" + line if self._torn else line
        while rest:
            self.await_room(until - time.monotonic())
            try:
                rest = rest[self._write(rest) :]
                self._torn = True
            except BlockingIOError:  # another process used the room first
                if time.monotonic() >= until:
                    raise TimeoutError from None
        self._torn = False

    def _write(self, text: bytes) -> int:
        if self._is_borrowed_pipe:
            try:
                return os.pwritev(self._fd, [text], -1, os.RWF_NOWAIT)
            except OSError as error:
                if error.errno != errno.EOPNOTSUPP:
                    raise
                self._is_borrowed_pipe = False
        return os.write(self._fd, text)

    def close(self) -> None:
        """Close the second descriptor, if one was opened. The descriptor that was given stays open."""
        if self._is_own:
            os.close(self._fd)
            self._fd, self._is_own = -1, False

    def await_room(self, seconds: float) -> None:
        """Wait up to `seconds` until a write would not block.

        Raises:
            TimeoutError: the stream had no room in time.
            BrokenPipeError: the stream is closed.
        """
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        ready = poll.poll(max(0, round(seconds * 1000)))
        if not ready:
            raise TimeoutError
        if ready[0][1] & (select.POLLERR | select.POLLNVAL):
            raise BrokenPipeError


def _non_blocking(fd: int) -> tuple[int, bool]:
    """Return a descriptor for the same file, and whether it was opened here. If it was, its writes never block."""
    try:
        if _is_pipe(fd):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC), True
    except OSError:
        pass  # the pipe has no reader, or belongs to another user; the first write reports that
    return fd, False


def _is_pipe(fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False  # the descriptor is closed; the first write reports that
