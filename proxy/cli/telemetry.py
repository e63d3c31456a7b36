"""What is told of calls, as the settings and the `OTEL_*` variables ask for it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from proxy import identity
from proxy.config import TelemetrySettings
from proxy.telemetry.environment import Signal, endpoint
from proxy.telemetry.watch import Telemetry


def telemetry(settings: TelemetrySettings, environment: Mapping[str, str] = os.environ) -> Telemetry | None:
    """Who is shown every call; None, and nothing of OpenTelemetry loaded, where nobody asked for it."""
    tracing = metrics = None
    if endpoint(Signal.TRACES, environment):
        from proxy.telemetry.tracing import Tracing  # noqa: PLC0415 - only where it is asked for

        tracing = Tracing(identity.asserted(environment), environment)
    if settings.metrics == "prometheus" or (settings.metrics == "otlp" and endpoint(Signal.METRICS, environment)):
        from proxy.telemetry.metrics import Metrics, Page  # noqa: PLC0415 - only where it is asked for

        page = Page(settings.prometheus.address, settings.prometheus.port)
        metrics = Metrics(page if settings.metrics == "prometheus" else None, environment)
    return Telemetry(tracing, metrics) if tracing or metrics else None
