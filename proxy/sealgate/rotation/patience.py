"""How fast a rotation goes, how long it waits, and how it is stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sealgate.call import Call, Operation
from sealgate.errors import Cancelled, TimedOut

_LOOKS_EVERY = 0.1
_GRACE = 10.0
"""Seconds that an object which is being written has when the walk shall stop."""

Clock = Callable[[], float]


class Pace:
    """At most so many starts in a second, whoever asks; 0 is no limit."""

    def __init__(self, rate: float, wait: Callable[[float], object], clock: Clock = time.monotonic) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._wait = wait
        self._clock = clock
        self._next = 0.0
        self._lock = threading.Lock()

    def start(self) -> None:
        """Wait for one's turn."""
        with self._lock:
            now = self._clock()
            turn = max(self._next, now)
            self._next = turn + self._interval
        if turn > now:
            self._wait(turn - now)


@dataclass(slots=True)
class _Work:
    call: Call
    writes: bool
    moved_at: float
    stalled: bool = field(default=False)


class Patience:
    """Cancels what makes no progress for so many seconds, and everything once the walk shall stop."""

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self.stop = threading.Event()
        """Set once nothing more shall be begun."""
        self._seconds = seconds
        self._clock = clock
        self._hurry = threading.Event()
        self._works: list[_Work] = []
        self._lock = threading.Lock()

    def ask_to_stop(self) -> None:
        """Stop: the first time with a moment for what is being written, then at once."""
        if self.stop.is_set():
            self._hurry.set()
        self.stop.set()

    @contextmanager
    def call(self, operation: Operation, *, writes: bool = False) -> Iterator[tuple[Call, Callable[[], None]]]:
        """A call that is watched, and what tells that it makes progress.

        Raises:
            TimedOut: it made none.
            Cancelled: the walk shall stop.
        """
        work = _Work(Call(operation), writes, self._clock())

        def progress() -> None:
            work.moved_at = self._clock()

        with self._lock:
            self._works.append(work)
        try:
            yield work.call, progress
        except Cancelled:
            if not work.stalled:
                raise
            raise TimedOut(
                f"the downstream made no progress for {self._seconds:g} s",
                says="downstream",
                remedy="Look at the downstream's log, or raise --timeout if it is only slow",
            ) from None
        finally:
            with self._lock:
                self._works.remove(work)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch, on a thread of its own, as long as the block lasts."""
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(done,), name="sealgate-patience", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def _watch(self, done: threading.Event) -> None:
        asked_at = None
        while not done.wait(_LOOKS_EVERY):
            now = self._clock()
            if self.stop.is_set() and asked_at is None:
                asked_at = now
            late = asked_at is not None and (now - asked_at >= _GRACE or self._hurry.is_set())
            with self._lock:
                works = tuple(self._works)
            for work in works:
                if now - work.moved_at >= self._seconds:
                    work.stalled = True
                if work.stalled or late or (asked_at is not None and not work.writes):
                    work.call.cancel()
