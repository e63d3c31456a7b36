"""How fast a rotation works, how long it waits for progress, and how it is stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sealgate.call import Call, Operation
from sealgate.errors import Cancelled, TimedOut

_WATCH_INTERVAL = 0.1
"""Seconds."""
_GRACE = 10.0
"""Seconds that an object which is being written gets once the rotation was asked to stop."""

Clock = Callable[[], float]
"""Returns seconds since any fixed moment."""


class Pace:
    """Limits how many objects are started in a second, over all threads.

    Args:
        rate: starts a second; 0 for no limit.
        wait: waits the given number of seconds.
        clock: returns seconds.
    """

    def __init__(self, rate: float, wait: Callable[[float], object], clock: Clock = time.monotonic) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._wait = wait
        self._clock = clock
        self._next = 0.0
        self._lock = threading.Lock()

    def start(self) -> None:
        """Wait until the next object may be started."""
        with self._lock:
            now = self._clock()
            turn = max(self._next, now)
            self._next = turn + self._interval
        if turn > now:
            self._wait(turn - now)


@dataclass(slots=True)
class _WatchedCall:
    call: Call
    writes: bool
    progress_at: float
    stalled: bool = field(default=False)


class Patience:
    """Cancels a call that makes no progress for `seconds`, and every call once the rotation was asked to stop."""

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self.stop = threading.Event()
        """Set once no further object may be started."""
        self._seconds = seconds
        self._clock = clock
        self._hurry = threading.Event()
        self._watched: list[_WatchedCall] = []
        self._lock = threading.Lock()

    def ask_to_stop(self) -> None:
        """Stop. The first time, objects that are being written get ten seconds; the second time, none."""
        if self.stop.is_set():
            self._hurry.set()
        self.stop.set()

    @contextmanager
    def call(self, operation: Operation, *, writes: bool = False) -> Iterator[tuple[Call, Callable[[], None]]]:
        """Yield a call that is watched, and a function that reports its progress.

        Args:
            operation: the operation of the call.
            writes: whether the call writes an object, and gets a grace period when the rotation is stopped.

        Raises:
            TimedOut: the call made no progress.
            Cancelled: the rotation was asked to stop.
        """
        watched = _WatchedCall(Call(operation), writes, self._clock())

        def progress() -> None:
            watched.progress_at = self._clock()

        with self._lock:
            self._watched.append(watched)
        try:
            yield watched.call, progress
        except Cancelled:
            if not watched.stalled:
                raise
            raise TimedOut(
                f"the downstream made no progress for {self._seconds:g} s",
                says="downstream",
                remedy="Look at the downstream's log, or raise --timeout if it is only slow",
            ) from None
        finally:
            with self._lock:
                self._watched.remove(watched)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the calls on a separate thread until the body ends."""
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(done,), name="sealgate-patience", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _watch(self, done: threading.Event) -> None:
        stopped_at = None
        while not done.wait(_WATCH_INTERVAL):
            now = self._clock()
            if self.stop.is_set() and stopped_at is None:
                stopped_at = now
            grace_is_over = stopped_at is not None and (now - stopped_at >= _GRACE or self._hurry.is_set())
            with self._lock:
                calls = tuple(self._watched)
            for watched in calls:
                if now - watched.progress_at >= self._seconds:
                    watched.stalled = True
                if watched.stalled or grace_is_over or (stopped_at is not None and not watched.writes):
                    watched.call.cancel()
