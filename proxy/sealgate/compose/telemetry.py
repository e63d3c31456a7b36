"""Builds the telemetry of calls from the section `telemetry` of the settings and the `OTEL_*` variables."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from sealgate import identity
from sealgate.log_event import LogEvent
from sealgate.telemetry import names
from sealgate.telemetry.environment import Signal, disabled, endpoint
from sealgate.telemetry.reporting import Telemetry

if TYPE_CHECKING:
    from sealgate.config import PrometheusSettings, TelemetrySettings
    from sealgate.telemetry.metrics import Metrics
    from sealgate.telemetry.tracing import Tracing

log = logging.getLogger("sealgate")

Part = TypeVar("Part")


def telemetry(
    settings: TelemetrySettings | None,
    service: str = names.SERVICE,
    environment: Mapping[str, str] = os.environ,
    *,
    plugin: str = "",
) -> Telemetry | None:
    """Build the traces and metrics of calls. Return None, without loading OpenTelemetry, if neither is configured.

    Args:
        settings: the section `telemetry`; without it there are no metrics.
        service: the default for `service.name`.
        environment: the `OTEL_*` variables.
        plugin: the name of the plugin, which the page for Prometheus shows.
    """
    tracing = metrics = None
    if endpoint(Signal.TRACES, environment):
        tracing = build_exporter("traces", lambda: _tracing(service, environment))
    kind = settings.metrics if settings else "none"
    if kind == "otlp" and not endpoint(Signal.METRICS, environment):
        variable = disabled(Signal.METRICS, environment)
        reason = f"{variable} disables them" if variable else "set OTEL_EXPORTER_OTLP_ENDPOINT"
        log.warning(LogEvent("telemetry is not exported", part="metrics", reason=reason))
    elif settings and kind != "none":
        prometheus = settings.prometheus if kind == "prometheus" else None
        metrics = build_exporter("metrics", lambda: _metrics(prometheus, environment, plugin))
    component = identity.asserted(environment).component
    return Telemetry(tracing, metrics, component) if tracing or metrics else None


def build_exporter(what: str, build: Callable[[], Part]) -> Part | None:
    """Return what `build` returns. If it raises, log that `what` is not exported, and return None.

    A fault of telemetry never stops the plugin.
    """
    try:
        return build()
    except OSError as error:
        log.error(LogEvent("telemetry is not exported", part=what, reason=os.strerror(error.errno or 0).lower()))  # noqa: TRY400 - a trace adds nothing to the reason
    except Exception as error:  # noqa: BLE001 - the library may raise any exception for a variable
        reason = f"{type(error).__name__}; check the OTEL_ variables"
        log.error(LogEvent("telemetry is not exported", part=what, reason=reason))  # noqa: TRY400 - its text can contain a secret
    return None


def _tracing(service: str, environment: Mapping[str, str]) -> Tracing:
    from sealgate.telemetry.tracing import Tracing  # noqa: PLC0415 - loads OpenTelemetry, only if it is configured

    return Tracing(service, identity.asserted(environment), environment)


def _metrics(prometheus: PrometheusSettings | None, environment: Mapping[str, str], plugin: str) -> Metrics:
    from sealgate.telemetry.metrics import Metrics, Page  # noqa: PLC0415 - loads OpenTelemetry, only if it is configured

    return Metrics(Page(prometheus.address, prometheus.port, plugin) if prometheus else None, environment)
