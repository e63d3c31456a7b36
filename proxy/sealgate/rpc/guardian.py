"""Runs a downstream's command, and kills it when the proxy ends: `guardian.py LIFELINE COMMAND…`.

LIFELINE is the descriptor of a pipe's reading end; only the proxy has the writing end. When the proxy ends in any way,
by SIGKILL too, the kernel closes the pipe, and this program kills the command's whole process group. It ends itself
when the command has ended.

It is a separate program because a process with threads may run no code between fork and exec. It runs
without site-packages, on the standard library alone.
"""

import os
import select
import signal
import sys

NOT_STARTED = 127
"""The exit code if the command cannot be started."""
_BY_SIGNAL = 128
"""Added to the number of the signal that ended the command, as shells do."""


def main(lifeline: int, command: list[str]) -> int:
    """Run `command` in this process group until it ends or the lifeline is closed; return its exit code.

    Args:
        lifeline: a descriptor of the reading end of the pipe.
        command: the program and its arguments.
    """
    # A signal to the process group is meant for the command. This process ends after it.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    try:
        child = os.posix_spawnp(
            command[0],
            command,
            os.environ,
            setsigdef=(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE),
            setsigmask=(),
        )
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {os.strerror(error.errno or 0)}\n")
        return NOT_STARTED
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(lifeline, select.POLLHUP)
    poll.register(ended, select.POLLIN)
    if any(fd == lifeline for fd, _ in poll.poll()):
        os.killpg(0, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else _BY_SIGNAL + os.WTERMSIG(status)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
