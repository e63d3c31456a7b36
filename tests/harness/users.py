"""Commands that start a process with fewer rights. Each skips the test with a reason where it does not work."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

_READS_ANYTHING = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
"""A right to read, for an interpreter in a private home directory. It allows no writing."""


def as_user(uid: int) -> tuple[str, ...]:
    """Return a command for another user, without an entry in the user database and without a home."""
    plain = ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
    if os.geteuid() != 0:
        pytest.skip("only root may become another user")
    return _usable(plain, (*plain, *_READS_ANYTHING))


def without_privileges() -> tuple[str, ...]:
    """Return a command without capabilities that cannot gain any."""
    return _usable(("setpriv", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"))


def without_signals_to_others() -> tuple[str, ...]:
    """Return a command for root that may not send a signal to the process of another user, as no other user may."""
    if os.geteuid() != 0:
        pytest.skip("only root may start a process of another user")
    return _usable(("setpriv", "--bounding-set=-kill", "--inh-caps=-kill"))


def with_read_only_root(*writable: Path) -> tuple[str, ...]:
    """Return a command with a read-only root file system, except for the directories `writable`."""
    keep = " && ".join(f'mount --bind "{path}" "{path}"' for path in writable)
    script = f'{keep} && mount -o remount,ro,bind / && exec "$@"'
    return _usable(("unshare", "--mount", "sh", "-c", script, "sh"))


def with_small_disk(at: Path, *, full: bool = False) -> tuple[str, ...]:
    """Return a command with a file system of 1 MiB mounted at `at`, which is filled up if `full`."""
    fill = f'; head -c 2M /dev/zero > "{at}/filler" 2>/dev/null' if full else ""
    return _usable(("unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size=1m none "{at}"{fill}; exec "$@"', "sh"))


def as_process_one() -> tuple[str, ...]:
    """Return a command that is process 1 of a process namespace, like that of a container."""
    return _usable(("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"))


def _usable(*commands: tuple[str, ...]) -> tuple[str, ...]:
    # The rights of a process may differ from those of its children, so a child imports the package.
    script = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', 'import sealgate']))"
    for command in commands:
        with contextlib.suppress(FileNotFoundError):
            if (
                subprocess.run([*command, sys.executable, "-c", script], capture_output=True, check=False).returncode
                == 0
            ):
                return command
    pytest.skip(f"{commands[0][0]} is missing here or may not do this")
