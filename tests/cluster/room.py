"""Namespaces and control groups of one cluster: what runs in them ends with them.

The suite runs in namespaces of its own for processes, mounts and the network. When their first process ends, for
whatever reason, the kernel ends every process in them, and with the last one go the mounts, the network devices and
the rules of the packet filter. What remains is removed here: control groups, settings of the kernel that the kubelet
changes, and one directory.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
_KERNEL = [
    Path("/proc/sys", name)
    for name in (
        "vm/overcommit_memory",
        "vm/panic_on_oom",
        "kernel/panic",
        "kernel/panic_on_oops",
        "kernel/keys/root_maxkeys",
        "kernel/keys/root_maxbytes",
    )
]
"""The settings that the kubelet changes at its start."""
_PREFIX = "sealgate-cluster-"
_FIRST = """
mount --make-rshared /
for place in /run /var/lib /var/log; do mount -t tmpfs cluster $place; done
"$@"
exit $?
"""
"""The first process of the namespaces. The shell also reaps the processes that their parents left behind.

The daemons write to some places that no setting moves. There they find empty directories of their own.
"""


@contextmanager
def room() -> Iterator[Path]:
    """Yield the directory of a new cluster; afterwards nothing of it is left on the machine."""
    remove_leftovers()
    place = Path(tempfile.mkdtemp(prefix=_PREFIX))
    (place / "kernel.json").write_text(json.dumps({str(path): path.read_text() for path in _KERNEL if path.exists()}))
    (place / "owner").write_text(str(os.getpid()))
    for controller in _controllers():
        (controller / place.name).mkdir(exist_ok=True)
        _inherit_processors(controller / place.name)
    try:
        yield place
    finally:
        _remove(place)


def run_inside(place: Path, command: Sequence[str | Path], environment: dict[str, str]) -> int:
    """Run a command in the namespaces of `place`, and return its exit code."""
    # The kernel ends the namespaces also when this process is killed.
    begin = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--ipc", "--fork"]
    shell = ["--kill-child", "--mount-proc", "sh", "-uc", _FIRST, "room"]
    process = subprocess.Popen([*begin, *shell, *command], env=environment)
    before = signal.signal(signal.SIGTERM, lambda *_: process.kill())
    try:
        try:
            return process.wait()
        except KeyboardInterrupt:  # from the terminal the suite got it, too, and takes its daemons down
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            return 130
    finally:
        signal.signal(signal.SIGTERM, before)
        process.kill()
        process.wait()


def remove_leftovers() -> None:
    """Remove what a cluster left whose command was killed."""
    for owner in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/owner"):
        if not Path("/proc", owner.read_text()).exists():
            _remove(owner.parent)


def _controllers() -> list[Path]:
    if (GROUPS / "cgroup.controllers").exists():  # one hierarchy for all controllers
        return [GROUPS]
    return [path for path in GROUPS.iterdir() if path.is_dir() and not path.is_symlink()]


def _inherit_processors(group: Path) -> None:
    """Give a group of the controller `cpuset` its parent's processors, without which no process may enter it."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (group / name).exists() and (group.parent / name).exists():
            with suppress(OSError):
                (group / name).write_text((group.parent / name).read_text())


def _remove(place: Path) -> None:
    for name, value in json.loads((place / "kernel.json").read_text()).items():
        if Path(name).read_text() != value:
            Path(name).write_text(value)
    for controller in _controllers():
        groups = sorted((controller / place.name).glob("**/"), key=lambda path: len(path.parts), reverse=True)
        for group in groups:
            _remove_group(group)
    shutil.rmtree(place, ignore_errors=True)


def _remove_group(group: Path) -> None:
    """Remove an empty group. The kernel takes a moment until the last process has left it."""
    until = time.monotonic() + 10
    while group.exists() and time.monotonic() < until:
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.05)


def left_behind(place: Path) -> list[str]:
    """Return what is left of a cluster on this machine: paths, mounts and processes."""
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if place.name in line]
    groups = [str(path / place.name) for path in _controllers() if (path / place.name).exists()]
    processes = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if place.name.encode() in path.read_bytes() and path.parent.name != str(os.getpid()):
                processes.append(path.parent.name)
    return [*mounts, *groups, *processes, *([str(place)] if place.exists() else [])]
