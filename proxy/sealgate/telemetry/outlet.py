"""A standard stream as the trail and the log write to it: whole lines, within a bound of time, whoever else writes."""

from __future__ import annotations

import errno
import os
import select
import stat
import time


class Outlet:
    """Lines into a descriptor that others share. After one that was cut short the next begins a new line.

    A pipe is opened once more: the mode of an open file belongs to all who share it, and stays as it is for them. One
    that cannot be opened again, as another user's cannot, is asked for each write alone not to wait. A kernel that does
    not know that of pipes says so: there a write may wait, where somebody else was quicker to use the room there was.
    """

    def __init__(self, fd: int) -> None:
        self._fd, self._is_own = _not_blocking(fd)
        self._is_borrowed_pipe = not self._is_own and _is_pipe(fd)
        self._torn = False

    def put(self, line: bytes, seconds: float) -> None:
        """Write the line, within so many seconds.

        Raises:
            TimeoutError: there was no room for it in time.
            OSError: the descriptor takes nothing.
        """
        until = time.monotonic() + seconds
        rest = b"\n" + line if self._torn else line
        while rest:
            self._await_room(until)
            try:
                rest = rest[self._write(rest) :]
                self._torn = True
            except BlockingIOError:  # somebody else was quicker
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
        """Let go of what was opened for it; the descriptor itself belongs to others."""
        if self._is_own:
            os.close(self._fd)
            self._fd, self._is_own = -1, False

    def _await_room(self, until: float) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        ready = poll.poll(max(0, round((until - time.monotonic()) * 1000)))
        if not ready:
            raise TimeoutError
        if ready[0][1] & (select.POLLERR | select.POLLNVAL):
            raise BrokenPipeError


def _not_blocking(fd: int) -> tuple[int, bool]:
    """A descriptor whose writes never wait, and whether it was opened for it."""
    try:
        if _is_pipe(fd):
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC), True
    except OSError:
        pass  # without a reader, or somebody else's: it is told by the first write
    return fd, False


def _is_pipe(fd: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(fd).st_mode)
    except OSError:
        return False  # closed: it is told by the first write
