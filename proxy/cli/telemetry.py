"""What is told of calls, as the settings and the `OTEL_*` variables ask for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from proxy import identity
from proxy.telemetry import names
from proxy.telemetry.environment import Signal, endpoint
from proxy.telemetry.watch import Telemetry

if TYPE_CHECKING:
    from proxy.config import TelemetrySettings


def telemetry(
    settings: TelemetrySettings | None,
    service: str = names.SERVICE,
    environment: Mapping[str, str] = os.environ,
) -> Telemetry | None:
    """Who is shown every call; None, and nothing of OpenTelemetry loaded, where nobody asked for it.

    Without settings there are no metrics.
    """
    tracing = metrics = None
    if endpoint(Signal.TRACES, environment):
        from proxy.telemetry.tracing import Tracing  # noqa: PLC0415 - only where it is asked for

        tracing = Tracing(service, identity.asserted(environment), environment)
    kind = settings.metrics if settings else "none"
    if settings and (kind == "prometheus" or (kind == "otlp" and endpoint(Signal.METRICS, environment))):
        from proxy.telemetry.metrics import Metrics, Page  # noqa: PLC0415 - only where it is asked for

        page = Page(settings.prometheus.address, settings.prometheus.port)
        metrics = Metrics(page if kind == "prometheus" else None, environment)
    return Telemetry(tracing, metrics) if tracing or metrics else None
