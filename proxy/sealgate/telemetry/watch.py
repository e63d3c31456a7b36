"""Who is shown every call: the tracing and the metrics, those of them that were asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sealgate.call import Call

if TYPE_CHECKING:
    from sealgate.telemetry.metrics import Metrics
    from sealgate.telemetry.tracing import Tracing

_KILLED_WITHOUT_WARNING = frozenset({"init", "gc"})
_FLUSH_WITHIN = 0.3
"""Seconds that an answer waits for what is told of it, in a container that may be killed the moment after."""
_GIVE_UP_FOR = 30.0
"""Seconds in which nobody waits again after somebody waited in vain."""
_END_WITHIN = 2.0


class Telemetry:
    """Shows calls to both. Neither ever fails one.

    Args:
        component: what the container is for; some are killed the moment after an answer.
    """

    def __init__(self, tracing: Tracing | None, metrics: Metrics | None, component: str = "") -> None:
        self._tracing = tracing
        self._metrics = metrics
        parts = (tracing, metrics) if component in _KILLED_WITHOUT_WARNING else ()
        self._flushes = [_Flush(part.flush) for part in parts if part]

    def serving(self, handler: Any, details: Any) -> Any:
        """A handler inside the span of its RPC."""
        return self._tracing.serving(handler, details) if self._tracing else handler

    def calling(self, channel: Any) -> Any:
        """A channel whose calls are spans."""
        return self._tracing.calling(channel) if self._tracing else channel

    def began(self, call: Call) -> None:
        """A call is about to be carried out, on this thread."""
        if self._tracing:
            self._tracing.began(call)

    def ended(self, call: Call, outcome: str, kind: str) -> None:
        """A call has ended. Counted while its span is the current one, for the exemplars."""
        if self._metrics:
            self._metrics.ended(call, outcome, kind)
        if self._tracing:
            self._tracing.ended(call, outcome, kind)

    def recorded(self, phase: str) -> None:
        """An audit record was written."""
        if self._metrics:
            self._metrics.recorded(phase)

    def not_recorded(self, sink: str, reason: str) -> None:
        """A sink did not take an audit record."""
        if self._metrics:
            self._metrics.not_recorded(sink, reason)

    def flush(self) -> None:
        """An answer is about to leave: have what is told of it exported, if this container may be killed right after.

        Waits for all of it at most `_FLUSH_WITHIN` seconds, and not at all for a while for what it waited in vain for.
        """
        until = time.monotonic() + _FLUSH_WITHIN
        begun = [(flush, flush.begun()) for flush in self._flushes]
        for flush, thread in begun:
            if thread is not None:
                flush.wait(thread, until)

    def close(self) -> None:
        """Export what is left, for at most two seconds each."""
        for part in (self._tracing, self._metrics):
            if part:
                done_within(_END_WITHIN, part.close)


class _Flush:
    """Exports on a thread of its own, one after the other, and lets nobody wait for what does not answer."""

    def __init__(self, export: Callable[[], object]) -> None:
        self._export = export
        self._at_work = threading.Lock()
        self._give_up_until = 0.0

    def begun(self) -> threading.Thread | None:
        if time.monotonic() < self._give_up_until or not self._at_work.acquire(blocking=False):
            return None
        return _behind(self._run)

    def wait(self, thread: threading.Thread, until: float) -> None:
        thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            self._give_up_until = time.monotonic() + _GIVE_UP_FOR

    def _run(self) -> None:
        try:
            self._export()
        finally:
            self._at_work.release()


def done_within(seconds: float, work: Callable[[], object]) -> None:
    """Have `work` done, and wait for it no longer. It goes on behind, on a thread that holds nothing up."""
    _behind(work).join(seconds)


def _behind(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, name="sealgate-export", daemon=True)
    thread.start()
    return thread
