"""How much memory this process may use, and whether the kernel has ended processes of its container for it."""

from __future__ import annotations

import contextlib
import resource

from sealgate.errors import Unavailable

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_EVENTS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
"""The files of a container's control group, in version 2 and version 1."""
_NO_LIMIT = 1 << 60
"""Bytes. The kernel shows a number about this large where there is no limit."""


def memory_limit() -> int | None:
    """Return how many bytes of memory this process may use, by its control group and its limits; None for no limit."""
    limits = [limit for limit, _ in map(resource.getrlimit, (resource.RLIMIT_AS, resource.RLIMIT_DATA)) if limit > 0]
    found = [limit for limit in (*limits, *_container_limits()) if limit < _NO_LIMIT]
    return min(found) if found else None


def kills() -> int:
    """Return how many processes of this container the kernel has ended for memory; 0 if that cannot be read."""
    for name in _EVENTS:
        with contextlib.suppress(OSError, ValueError, KeyError), open(name, encoding="ascii") as file:
            return int(dict(line.split() for line in file)["oom_kill"])
    return 0


def out_of_memory() -> Unavailable:
    """Return the error of a call whose downstream the kernel ended for memory."""
    limit = min(_container_limits(), default=_NO_LIMIT)
    reason = "memory ran out" if limit >= _NO_LIMIT else f"the container reached its memory limit of {limit >> 20} MiB"
    return Unavailable(
        f"the kernel ended the downstream because {reason}",
        remedy="Raise the memory limit of the container; the operation may be repeated",
    )


def _container_limits() -> list[int]:
    limits = []
    for name in _LIMITS:
        with contextlib.suppress(OSError, ValueError), open(name, encoding="ascii") as file:
            limits.append(int(file.read()))
    return limits
