"""Stop a store, let it run in short slices until a number of objects has changed, and then kill a process.

    kill_midway.py STORE VICTIM DIRECTORY CHANGES DELAY

It writes a line once the process STORE is stopped, and ends early when its standard input does. It runs as a process of
its own, which waits for no other thread: a store on a local disk stores hundreds of objects within one switch of
threads.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress

_SLICE = 0.0001
"""Seconds that the store may run at least before its progress is read again. A fast one stores an object in as long."""
_FASTEST_CHANGE = 0.00002
"""Seconds that a fast store takes to remove an object. Until the kill, it may run for as long as all before it take."""


def stored_files(directory: str) -> dict[str, int]:
    """Return each stored object beneath `directory` with its inode, which is another one after it was replaced."""
    found: dict[str, int] = {}
    directories = [directory]
    while directories:
        with suppress(FileNotFoundError), os.scandir(directories.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    directories.append(entry.path)
                elif "#" not in entry.name:  # the backend's unfinished files end in `#` and a number
                    found[entry.path] = entry.inode()
    return found


def count_changes(before: dict[str, int], now: dict[str, int]) -> int:
    """Return how many objects were added, replaced or removed."""
    return len(dict(before.items() ^ now.items()))


def _run(store: int, seconds: float) -> bool:
    """Let the stopped process `store` run for `seconds`; return whether standard input has ended."""
    os.kill(store, signal.SIGCONT)
    ended, _, _ = select.select([sys.stdin], [], [], seconds)
    os.kill(store, signal.SIGSTOP)
    return bool(ended)


def _main(store: int, victim: int, directory: str, changes: int, delay: float) -> None:
    before = stored_files(directory)
    os.kill(store, signal.SIGSTOP)
    sys.stdout.write("\n")
    sys.stdout.flush()
    while (left := changes - count_changes(before, stored_files(directory))) > 0:
        if _run(store, max(_SLICE, left * _FASTEST_CHANGE)):
            break
    else:
        _run(store, delay)
    os.kill(victim, signal.SIGKILL)


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
