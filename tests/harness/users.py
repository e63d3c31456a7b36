"""Commands that start a process with less than this one has; each says why where it cannot."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

_READS_ANYTHING = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
"""For an interpreter that lies in somebody's private home. It lets nobody write."""


def as_user(uid: int) -> tuple[str, ...]:
    """Another user, with no entry in the user database and no home."""
    plain = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    return _usable(plain, (*plain, *_READS_ANYTHING))


def without_privileges() -> tuple[str, ...]:
    """No capability, now or ever."""
    return _usable(("setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"))


def with_read_only_root(*writable: Path) -> tuple[str, ...]:
    """A root file system that takes no writes, but for the directories `writable`."""
    keep = " && ".join(f'mount --bind "{path}" "{path}"' for path in writable)
    script = f'{keep} && mount -o remount,ro,bind / && exec "$@"'
    return _usable(("unshare", "--mount", "sh", "-c", script, "sh"))


def with_small_disk(at: Path, *, full: bool = False) -> tuple[str, ...]:
    """A file system of 1 MiB at a directory that exists, and nothing left on it if it is to be full."""
    fill = f'; head -c 2M /dev/zero > "{at}/filler" 2>/dev/null' if full else ""
    return _usable(("unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=1m none "{at}"{fill}; exec "$@"', "sh"))


def as_process_one() -> tuple[str, ...]:
    """The first process of a process namespace, as a container's is."""
    return _usable(("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"))


def _usable(*commands: tuple[str, ...]) -> tuple[str, ...]:
    # The first process may do more than those that it starts.
    script = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', 'import proxy']))"
    for command in commands:
        with contextlib.suppress(FileNotFoundError):
            if (
                subprocess.run([*command, sys.executable, "-c", script], capture_output=True, check=False).returncode
                == 0
            ):
                return command
    pytest.skip(f"{commands[0][0]} is missing here or may not do this")
