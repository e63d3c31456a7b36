"""How calls reach traces and metrics: the one object that the server, the client and the audit trail report to."""

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
"""The components whose containers Argo may kill right after an answer."""
_FLUSH_SECONDS = 0.3
"""How long an answer waits for the export of its own telemetry, in such a container."""
_RETRY_AFTER_SECONDS = 30.0
"""After a flush that timed out, answers do not wait for that exporter for this long."""
_CLOSE_SECONDS = 2.0
"""How long the end of the process waits for spans, metrics and copies of the audit trail."""


class Telemetry:
    """Reports calls to the tracing and to the metrics, each if it is configured. It never fails a call.

    Args:
        tracing: makes spans; None without traces.
        metrics: counts calls; None without metrics.
        component: the role of this container (`Identity.component`).
    """

    def __init__(self, tracing: Tracing | None, metrics: Metrics | None, component: str = "") -> None:
        self._tracing = tracing
        self._metrics = metrics
        parts = (tracing, metrics) if component in _KILLED_WITHOUT_WARNING else ()
        self._flushers = [_Flusher(part.flush) for part in parts if part]

    def serving(self, handler: Any, details: Any) -> Any:
        """Return a handler that makes the span of its RPC and runs `handler` inside it."""
        return self._tracing.serving(handler, details) if self._tracing else handler

    def calling(self, channel: Any) -> Any:
        """Return a channel that makes a span for each RPC on `channel`."""
        return self._tracing.calling(channel) if self._tracing else channel

    def began(self, call: Call) -> None:
        """Report that this thread is about to carry out `call`."""
        if self._tracing:
            self._tracing.began(call)

    def ended(self, call: Call, outcome: str, kind: str) -> None:
        """Report the end of `call`: its gRPC status, and the kind of error or an empty text.

        Metrics come first: an exemplar refers to the span that is current, and the tracing may end it.
        """
        if self._metrics:
            self._metrics.ended(call, outcome, kind)
        if self._tracing:
            self._tracing.ended(call, outcome, kind)

    def recorded(self, phase: str) -> None:
        """Report that an audit record of this phase was written."""
        if self._metrics:
            self._metrics.recorded(phase)

    def not_recorded(self, sink: str, reason: str) -> None:
        """Report that the audit sink of this name did not write a record."""
        if self._metrics:
            self._metrics.not_recorded(sink, reason)

    def flush(self) -> None:
        """Export what is pending before an answer leaves, in a container that Argo may kill right after it.

        All exports together take at most `_FLUSH_SECONDS`. An exporter that timed out is skipped for
        `_RETRY_AFTER_SECONDS`.
        """
        until = time.monotonic() + _FLUSH_SECONDS
        started = [(flusher, flusher.start()) for flusher in self._flushers]
        for flusher, thread in started:
            if thread is not None:
                flusher.wait(thread, until)

    def close(self) -> None:
        """Begin to export what is pending; `await_last_exports` waits for it."""
        for part in (self._tracing, self._metrics):
            if part:
                begin_last_export(part.close)


class _Flusher:
    """Runs one export at a time on a thread of its own, and stops waiting for an export that hangs."""

    def __init__(self, export: Callable[[], object]) -> None:
        self._export = export
        self._running = threading.Lock()
        self._skip_until = 0.0

    def start(self) -> threading.Thread | None:
        """Start an export; return None if one still runs, or if the last one timed out a short time ago."""
        if time.monotonic() < self._skip_until or not self._running.acquire(blocking=False):
            return None
        return _in_background(self._run)

    def wait(self, thread: threading.Thread, until: float) -> None:
        thread.join(max(0.0, until - time.monotonic()))
        if thread.is_alive():
            self._skip_until = time.monotonic() + _RETRY_AFTER_SECONDS

    def _run(self) -> None:
        try:
            self._export()
        finally:
            self._running.release()


_last_exports: list[tuple[threading.Thread, float]] = []
"""The exports that this process has begun at its end, each with the time until which the exit waits for it."""


def begin_last_export(work: Callable[[], object]) -> None:
    """Run `work`, which exports what is pending and stops, on another thread."""
    _last_exports.append((_in_background(work), time.monotonic() + _CLOSE_SECONDS))


def await_last_exports() -> None:
    """Wait for the exports that were begun with `begin_last_export`, for two seconds from their begin.

    All run at the same time. Those that go on do not delay the exit.
    """
    for thread, until in _last_exports:
        thread.join(max(0.0, until - time.monotonic()))
    _last_exports.clear()


def _in_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, name="sealgate-export", daemon=True)
    thread.start()
    return thread
