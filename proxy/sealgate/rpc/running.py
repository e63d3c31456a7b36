"""The calls that a server is carrying out: when one has ended, and what it means that its caller has left."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc

    from sealgate.call import Call
    from sealgate.errors import PluginError

READING = 0.2
"""Seconds that the caller of an ended call has to read its answer before the connection closes. gRPC's client drops
what it has not read if it finds the connection closed when it writes."""

_ROUNDING, _TRANSIT = 0.01, 0.01
"""How much later a received deadline can be than the caller's own: a fraction of it, and seconds."""


class RunningCalls:
    """Holds calls from their begin until gRPC has sent their status."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running: dict[str, Call] = {}
        """By decision id."""
        self._last_end = -READING

    def begin(self, context: grpc.ServicerContext, call: Call) -> None:
        """Hold `call`, which `context` belongs to, until it ends."""
        with self._changed:
            self._running[call.id] = call
        if not context.add_callback(lambda: self._end(call)):
            self._end(call)

    def end_all(self, reason: PluginError) -> None:
        """Stop all work for the calls that run. They report `reason`."""
        with self._changed:
            running = list(self._running.values())
        for call in running:
            call.end(reason)

    def _end(self, call: Call) -> None:
        with self._changed:
            self._running.pop(call.id, None)
            self._last_end = time.monotonic()
            self._changed.notify_all()

    def wait_until_read(self, timeout: float) -> None:
        """Wait until no call runs and each caller has had time to read its answer, or until `timeout` seconds are over.

        It returns at once if no call has run in the last moment.
        """
        until = time.monotonic() + timeout
        with self._changed:
            while (now := time.monotonic()) < until:
                left = READING - (now - self._last_end)
                if not self._running and left <= 0:
                    return
                self._changed.wait(until - now if self._running else min(left, until - now))


def caller_left(call: Call) -> None:
    """Cancel `call`. If the caller left because its deadline passed, move the call's deadline to now.

    gRPC reports both in the same way. It reports a deadline when it has passed for the caller. That is a little earlier
    than here, because a caller rounds up the time that it sends.
    """
    if call.deadline is not None:
        now = time.monotonic()
        if call.deadline - now <= _ROUNDING * (call.deadline - call.began) + _TRANSIT:
            call.deadline = min(call.deadline, now)
    call.cancel()
