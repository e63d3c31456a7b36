"""How a sink that failed catches up: its missed lines are kept and written again, in order."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass

from sealgate.audit.sinks.interface import NotDurable, NotWritten, Sink, WriteTimeout
from sealgate.log_event import LogEvent

log = logging.getLogger("sealgate.audit")

_MOST_PENDING = 256
"""Lines, of at most 4 KiB each, that are kept for one sink."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What one sink did with a line."""

    fault: str
    """Why the line does not count as written; empty if it counts."""
    written: bool
    """Whether the sink holds the line. It may hold a line that does not count, because it is not on the disk yet."""
    timed_out: bool = False
    """Whether more time might have helped."""


class BufferedSink:
    """A sink with a queue of the lines that it has not written yet, so that its copy of the trail has no gap."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.name = sink.name
        self.timed_out = False
        """Whether the last delivery timed out. Waiting for this sink again would take time from the others."""
        self._pending: deque[bytes] = deque(maxlen=_MOST_PENDING)
        self._has_lost = False

    def queue(self, line: bytes) -> None:
        """Add a line behind those that are pending. With 256 pending, the oldest is lost and the log says so once."""
        if len(self._pending) == _MOST_PENDING and not self._has_lost:
            self._has_lost = True
            log.error(LogEvent("the copy of a sink has a gap", sink=self.name, records=_MOST_PENDING))
        self._pending.append(line)

    def deliver(self, until: float) -> Delivery:
        """Write all pending lines in order, until the time `until` of `time.monotonic`.

        Returns:
            What happened to the line that was queued last.
        """
        delivery = self._deliver(until)
        self.timed_out = delivery.timed_out
        self._has_lost = self._has_lost and bool(self._pending)
        return delivery

    def _deliver(self, until: float) -> Delivery:
        try:
            while self._pending:
                self._sink.write(self._pending[0], until - time.monotonic())
                self._pending.popleft()
        except NotDurable as fault:
            is_last = len(self._pending) == 1
            self._pending.popleft()
            return Delivery(str(fault), written=is_last)
        except NotWritten as fault:
            return Delivery(str(fault), written=False, timed_out=isinstance(fault, WriteTimeout))
        return Delivery("", written=True)

    def drop_last(self) -> None:
        """Forget the line that was queued last: no sink wrote it, so it is not part of the trail."""
        if self._pending:
            self._pending.pop()

    def close(self) -> None:
        """Close the sink."""
        self._sink.close()
