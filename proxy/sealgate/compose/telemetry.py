"""What is told of calls, as the settings and the `OTEL_*` variables ask for it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from sealgate import identity
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
) -> Telemetry | None:
    """Who is shown every call; None, and nothing of OpenTelemetry loaded, where nobody asked for it.

    Without settings there are no metrics.
    """
    tracing = metrics = None
    if endpoint(Signal.TRACES, environment):
        tracing = or_none("traces", lambda: _tracing(service, environment))
    kind = settings.metrics if settings else "none"
    if kind == "otlp" and not endpoint(Signal.METRICS, environment):
        variable = disabled(Signal.METRICS, environment)
        why = f"{variable} wants none" if variable else "set OTEL_EXPORTER_OTLP_ENDPOINT to say where"
        log.warning("metrics are not exported: %s", why)
    elif settings and kind != "none":
        place = settings.prometheus if kind == "prometheus" else None
        metrics = or_none("metrics", lambda: _metrics(place, environment))
    component = identity.asserted(environment).component
    return Telemetry(tracing, metrics, component) if tracing or metrics else None


def or_none(what: str, make: Callable[[], Part]) -> Part | None:
    """What `make` makes. If it cannot, the log says so, and calls go on without it: telemetry stops no plugin."""
    try:
        return make()
    except OSError as error:
        log.error("%s are not exported: %s", what, os.strerror(error.errno or 0).lower())  # noqa: TRY400 - the reason is all there is
    except Exception as error:  # noqa: BLE001 - a library's answer to a variable that it does not like can be any
        log.error("%s are not exported: %s; check the OTEL_ variables", what, type(error).__name__)  # noqa: TRY400 - its text can carry anything
    return None


def _tracing(service: str, environment: Mapping[str, str]) -> Tracing:
    from sealgate.telemetry.tracing import Tracing  # noqa: PLC0415 - only where it is asked for

    return Tracing(service, identity.asserted(environment), environment)


def _metrics(place: PrometheusSettings | None, environment: Mapping[str, str]) -> Metrics:
    from sealgate.telemetry.metrics import Metrics, Page  # noqa: PLC0415 - only where it is asked for

    return Metrics(Page(place.address, place.port) if place else None, environment)
