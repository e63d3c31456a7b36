"""Traces, metrics and the log (docs/telemetry.md)."""
