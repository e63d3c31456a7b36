"""How this program reads the `OTEL_*` variables. It does so without importing OpenTelemetry."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

LONGEST_TIMEOUT = 2.0
"""Seconds that one export may take. OpenTelemetry's default of ten is too long for a collector that is down."""


class Signal(StrEnum):
    """The signals that can be exported, by their names in the variables."""

    TRACES = "TRACES"
    METRICS = "METRICS"
    LOGS = "LOGS"


def disabled(signal: Signal, environment: Mapping[str, str]) -> str:
    """Return the name of the variable that turns the export of `signal` off; empty if it is not turned off."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return "OTEL_SDK_DISABLED"
    exporter = f"OTEL_{signal}_EXPORTER"
    return "" if environment.get(exporter, "otlp").strip() in {"otlp", ""} else exporter


def endpoint(signal: Signal, environment: Mapping[str, str]) -> str:
    """Return the URL that `signal` is exported to; empty if the export is not configured or turned off."""
    if disabled(signal, environment):
        return ""
    return (
        environment.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "").strip()
        or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    )


def over_http(signal: Signal, environment: Mapping[str, str]) -> bool:
    """Return whether `signal` is exported over HTTP. The default is gRPC, as for Argo's own programs."""
    specific, general = f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
    protocol = environment.get(specific) or environment.get(general) or "grpc"
    return protocol.strip().startswith("http")


def timeout(signal: Signal, environment: Mapping[str, str]) -> float:
    """Return the seconds that one export of `signal` may take, between 0.001 and `LONGEST_TIMEOUT`.

    The variable is in milliseconds, by its specification and in Argo's Go programs, which share the environment. The
    Python library would read it as seconds, so the timeout is always passed to the library instead.
    """
    specific, general = f"OTEL_EXPORTER_OTLP_{signal}_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"
    text = (environment.get(specific) or environment.get(general) or "").strip()
    milliseconds = float(text) if text.isascii() and text.isdigit() else LONGEST_TIMEOUT * 1000
    return min(max(milliseconds / 1000, 0.001), LONGEST_TIMEOUT)
