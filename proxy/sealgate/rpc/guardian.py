"""Runs a downstream's command, and ends it with all its descendants: `guardian.py LIFELINE COMMAND…`.

LIFELINE is the descriptor of a pipe's reading end; only the proxy has the writing end. When the proxy ends in any way,
by SIGKILL too, the kernel closes the pipe. Then, and also when the command has ended, this program kills every process
that the command has started and ends itself.

A process whose parent has ended becomes a child of this one (PR_SET_CHILD_SUBREAPER), even in a session of its own. So
no descendant outlives the command: it would hold the command's connections and its output open.

It is a separate program because a process with threads may run no code between fork and exec. It runs
without site-packages, on the standard library alone.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time

NOT_STARTED = 127
"""The exit code if the command cannot be started. The reason is in the last line, which begins with `CANNOT_START`."""
CANNOT_START = "cannot start {}: "
BY_SIGNAL = 128
"""Added to the number of the signal that ended the command, as shells do."""
END_TIMEOUT = 2.0
"""Seconds for which descendants are killed. One that is left then, for example within a call of the kernel, stays."""
_PR_SET_CHILD_SUBREAPER = 36
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals to the process group. They are meant for the command; this process ends after it."""


def main(lifeline: int, command: list[str]) -> int:
    """Run `command` in this process group until it ends or the lifeline is closed; return its exit code.

    Args:
        lifeline: a descriptor of the reading end of the pipe.
        command: the program and its arguments.
    """
    os.set_inheritable(lifeline, False)
    arrived = _signal_pipe()
    # Where the kernel refuses this, a descendant that left the process group is not found and stays.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        child = os.posix_spawnp(
            command[0], command, os.environ, setsigdef=(*_FORWARDED, signal.SIGPIPE, signal.SIGCHLD), setsigmask=()
        )
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        sys.stderr.write(f"{CANNOT_START.format(command[0])}{reason}\n")
        return NOT_STARTED
    code = _run(child, lifeline, arrived)
    _end_descendants()
    return code


def _signal_pipe() -> int:
    """Handle SIGCHLD and the forwarded signals by doing nothing; return a pipe that is readable after each of them."""
    arrived, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (*_FORWARDED, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    return arrived


def _run(child: int, lifeline: int, arrived: int) -> int:
    """Reap orphans until `child` has ended, and return its exit code; after the end of the proxy, that of SIGKILL."""
    poll = select.poll()
    poll.register(lifeline, select.POLLHUP)
    poll.register(arrived, select.POLLIN)
    while lifeline not in {fd for fd, _ in poll.poll()}:
        os.read(arrived, 4096)
        for pid, status in _reaped():
            if pid == child:
                return os.WEXITSTATUS(status) if os.WIFEXITED(status) else BY_SIGNAL + os.WTERMSIG(status)
    return BY_SIGNAL + signal.SIGKILL


def _reaped() -> list[tuple[int, int]]:
    """Reap the children that have ended; return their process ids and statuses."""
    reaped = []
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            reaped.append(ended)
    return reaped


def _end_descendants() -> None:
    """Kill children until none is left. The children of each one that ends become children of this process."""
    until = time.monotonic() + END_TIMEOUT
    while (children := _children()) and time.monotonic() < until:
        killed = [pid for pid in children if _kill(pid)]
        if not killed:
            return  # processes of another user, which this one may not signal
        time.sleep(0.005)
        _reaped()


def _children() -> list[int]:
    """Return the process ids of all children, including those that have ended and are not reaped."""
    children = []
    names = []
    with contextlib.suppress(OSError):  # without /proc, no process is found
        names = os.listdir("/proc")
    for name in names:
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{int(name)}/stat", "rb") as stat:
            # `pid (name) state parent …`; the name may contain spaces and parentheses.
            if int(stat.read().rpartition(b")")[2].split()[1]) == os.getpid():
                children.append(int(name))
    return children


def _kill(pid: int) -> bool:
    """Send SIGKILL to a child, and return whether this process may."""
    try:
        os.kill(pid, signal.SIGKILL)
    except PermissionError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
