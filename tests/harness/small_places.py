"""Processes in control groups with little memory, as in a container with a limit."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from harness.chain import eventually

_ROOT = Path("/sys/fs/cgroup")


class MemoryGroup:
    """A control group beneath that of the tests, with a limit of its own. It works with versions 1 and 2.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
        own = {controllers: path for _, controllers, path in lines}
        self._first = "memory" in own
        self._mounted = _ROOT / "memory" if self._first else _ROOT
        self._place = self._mounted / own["memory" if self._first else ""].lstrip("/") / f"test-{secrets.token_hex(4)}"
        self._place.mkdir()
        name = "memory.limit_in_bytes" if self._first else "memory.max"
        (self._place / name).write_text(str(limit))
        # Swapping would hide what does not fit.
        with suppress(OSError):
            (self._place / ("memory.memsw.limit_in_bytes" if self._first else "memory.swap.max")).write_text(
                str(limit) if self._first else "0"
            )

    def within(self) -> tuple[str, ...]:
        """Return a command that runs another one in this group, which it sees as its only one, as in a container."""
        script = (
            f'echo $$ > "{self._place}/cgroup.procs" && mount --bind "{self._place}" "{self._mounted}" && exec "$@"'
        )
        return ("unshare", "--mount", "sh", "-c", script, "sh")

    def kills(self) -> int:
        """Return how often the kernel has killed a process here because memory ran out."""
        name = "memory.oom_control" if self._first else "memory.events"
        facts = dict(line.split() for line in (self._place / name).read_text().splitlines())
        return int(facts["oom_kill"])

    def peak(self) -> int:
        """Return the most memory that was used here, page cache included, in bytes."""
        return int((self._place / ("memory.max_usage_in_bytes" if self._first else "memory.peak")).read_text())

    def unreclaimable(self) -> int:
        """Return the memory of the processes here without page cache, in bytes."""
        facts = dict(line.split() for line in (self._place / "memory.stat").read_text().splitlines())
        return int(facts["rss" if self._first else "anon"])

    def close(self) -> None:
        """Wait until the processes in the group have ended, and remove it."""
        assert eventually(lambda: not self._processes())
        assert eventually(self._removed)

    def end(self) -> None:
        """End the processes in the group, and remove it."""
        for process in self._processes():
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        self.close()

    def _processes(self) -> list[str]:
        return (self._place / "cgroup.procs").read_text().split()

    def _removed(self) -> bool:
        with suppress(OSError):
            self._place.rmdir()
        return not self._place.exists()


@contextmanager
def memory_group(limit: int) -> Iterator[MemoryGroup]:
    """Yield a group with a limit in bytes; skip the test where this user may not make one."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("a control group needs root")
    try:
        group = MemoryGroup(limit)
    except (OSError, KeyError) as error:
        pytest.skip(f"no control group can be made here: {error}")
    if subprocess.run([*group.within(), "true"], capture_output=True, check=False).returncode != 0:
        group.close()
        pytest.skip("no process can be moved to a control group here")
    try:
        yield group
    except BaseException as error:
        error.add_note(f"the kernel ended {group.kills()} processes here; at most {group.peak() >> 20} MiB were in use")
        group.end()
        raise
    group.close()
