"""Runs a downstream's command and outlives neither it nor the proxy: `guardian.py LIFELINE COMMAND…`.

LIFELINE is the number of a pipe's reading end whose writing end only the proxy holds. However the proxy
ends, SIGKILL included, the kernel closes the pipe, and the command's whole process group is killed. A
program of its own, and standard library only, because nothing may run between fork and exec in a process
that has threads.
"""

import os
import select
import signal
import sys

NOT_STARTED = 127
_BY_SIGNAL = 128


def main(lifeline: int, command: list[str]) -> int:
    """Run `command` in this process's group until it ends or the lifeline breaks."""
    # A group-wide SIGTERM is for the command; this process ends when the command has ended.
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
