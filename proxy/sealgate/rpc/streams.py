"""How many streams may be open at once, and how long one may make no progress (docs/argo.md, "Slow readers").

A stream lasts as long as its caller wants to read or to send. Each one keeps a thread and a few buffers. So streams
have threads of their own, their number follows from the memory that this process may use, and one whose caller neither
takes nor sends anything for a while is ended.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import threading
import time
from collections.abc import Callable, Iterator

from sealgate.call import Call
from sealgate.errors import Busy, Stalled

log = logging.getLogger("sealgate.call")

MOST_STREAMS = 44
WINDOW = 1 << 20
"""Bytes that gRPC receives ahead on a connection, on both sockets."""
MEMORY_OF_A_STREAM = 9 << 20
"""Bytes: a segment in ciphertext and in plaintext, and what gRPC holds for both sockets (measured, docs/decisions)."""
MEMORY_OF_THE_PROCESS = 96 << 20
"""Bytes that the process needs without streams."""
LONGEST_STALL = 120.0
"""Seconds without a frame taken or sent after which a stream ends."""
_CHECK_EVERY = 5.0
_MEMORY_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_NO_LIMIT = 1 << 60
"""Bytes. The kernel shows a number about this large where there is no limit."""


def stream_limit(memory: int | None) -> int:
    """Return how many streams fit into `memory` bytes; `MOST_STREAMS` without a limit, and at least 2."""
    if memory is None:
        return MOST_STREAMS
    return max(2, min(MOST_STREAMS, (memory - MEMORY_OF_THE_PROCESS) // MEMORY_OF_A_STREAM))


def memory_limit() -> int | None:
    """Return how many bytes of memory this process may use, by its control group and its limits; None for no limit."""
    limits = [limit for limit, _ in map(resource.getrlimit, (resource.RLIMIT_AS, resource.RLIMIT_DATA)) if limit > 0]
    for name in _MEMORY_FILES:
        with contextlib.suppress(OSError, ValueError), open(name, encoding="ascii") as file:
            limits.append(int(file.read()))
    found = [limit for limit in limits if limit < _NO_LIMIT]
    return min(found) if found else None


class Streams:
    """The open streams of one server.

    Args:
        most: how many may be open at once.
        longest_stall: see `LONGEST_STALL`.
        clock: as `time.monotonic`.
    """

    def __init__(
        self, most: int, longest_stall: float = LONGEST_STALL, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._longest_stall = longest_stall
        self._clock = clock
        self._lock = threading.Lock()
        self._open: set[OpenStream] = set()
        self._watching = False

    @contextlib.contextmanager
    def open(self, call: Call, cancel: Callable[[], object]) -> Iterator[OpenStream]:
        """Take a place among the open streams.

        Args:
            call: the call that the stream belongs to.
            cancel: ends its RPC from another thread.

        Raises:
            Busy: there is no place. Argo tries again.
        """
        stream = OpenStream(call, cancel, self._clock)
        with self._lock:
            if len(self._open) >= self._most:
                raise Busy(
                    f"{self._most} streams are open, and the memory of this process allows no more",
                    remedy="Try again, or give the container more memory",
                )
            self._open.add(stream)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="sealgate-streams", daemon=True).start()
        try:
            yield stream
        finally:
            with self._lock:
                self._open.discard(stream)

    def end_stalled(self) -> None:
        """End every stream that has made no progress for too long."""
        with self._lock:
            stalled = [one for one in self._open if self._clock() - one.last_progress > self._longest_stall]
        for stream in stalled:
            stream.end(
                Stalled(
                    f"the caller neither took nor sent anything for {self._longest_stall:g} s",
                    remedy="Read or send without long pauses",
                )
            )

    def _watch(self) -> None:
        while True:
            time.sleep(_CHECK_EVERY)
            self.end_stalled()
            with self._lock:
                if not self._open:
                    self._watching = False
                    return


class OpenStream:
    """One open stream."""

    def __init__(self, call: Call, cancel: Callable[[], object], clock: Callable[[], float]) -> None:
        self._call = call
        self._cancel = cancel
        self._clock = clock
        self.last_progress = clock()

    def progress(self) -> None:
        """Note that the caller has taken or sent a frame."""
        self.last_progress = self._clock()

    def end(self, reason: Stalled) -> None:
        """End the stream's RPC. The call reports `reason`."""
        log.warning("%s ended: %s [d=%s]", self._call.operation, reason.fact, self._call.id)
        self._call.end(reason)
        self._cancel()
