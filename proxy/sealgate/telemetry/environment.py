"""The `OTEL_*` variables as this program takes them. Nothing of OpenTelemetry is imported for it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

LONGEST_TIMEOUT = 2.0
"""Seconds that one export may take: less than the ten that a collector that is away would cost."""


class Signal(StrEnum):
    """What is exported."""

    TRACES = "TRACES"
    METRICS = "METRICS"
    LOGS = "LOGS"


def disabled(signal: Signal, environment: Mapping[str, str]) -> str:
    """The variable that wants a signal exported nowhere; empty if none does."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return "OTEL_SDK_DISABLED"
    exporter = f"OTEL_{signal}_EXPORTER"
    return "" if environment.get(exporter, "otlp").strip() in {"otlp", ""} else exporter


def endpoint(signal: Signal, environment: Mapping[str, str]) -> str:
    """Where a signal goes; empty if nobody asked for it, and then nothing of OpenTelemetry is loaded."""
    if disabled(signal, environment):
        return ""
    return (
        environment.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "").strip()
        or environment.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    )


def over_http(signal: Signal, environment: Mapping[str, str]) -> bool:
    """Whether a signal goes over HTTP. Without a word it goes by gRPC, as Argo's own does."""
    specific, general = f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"
    protocol = environment.get(specific) or environment.get(general) or "grpc"
    return protocol.strip().startswith("http")


def timeout(signal: Signal, environment: Mapping[str, str]) -> float:
    """Seconds that one export may take.

    The variable counts milliseconds, by its specification and in Go, whose programs share it with this one. The
    library for Python takes it for seconds, and so is never left to read it.
    """
    specific, general = f"OTEL_EXPORTER_OTLP_{signal}_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"
    text = (environment.get(specific) or environment.get(general) or "").strip()
    milliseconds = float(text) if text.isascii() and text.isdigit() else LONGEST_TIMEOUT * 1000
    return min(max(milliseconds / 1000, 0.001), LONGEST_TIMEOUT)
