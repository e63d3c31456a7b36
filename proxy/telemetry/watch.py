"""Who is shown every call: the tracing and the metrics, those of them that were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.plugin import Call

if TYPE_CHECKING:
    from proxy.telemetry.metrics import Metrics
    from proxy.telemetry.tracing import Tracing


class Telemetry:
    """Shows calls to both. Neither ever fails one."""

    def __init__(self, tracing: Tracing | None, metrics: Metrics | None) -> None:
        self._tracing = tracing
        self._metrics = metrics

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
        """An answer is about to leave."""
        if self._tracing:
            self._tracing.flush()

    def close(self) -> None:
        """Export what is left, in bounded time."""
        for part in (self._tracing, self._metrics):
            if part:
                part.close()
