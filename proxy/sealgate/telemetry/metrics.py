"""Which metrics there are, and how they are exported: pushed to a collector, or served as a page for Prometheus.

This module loads OpenTelemetry and is therefore imported only if metrics are configured. No metric has an artifact key,
a workflow or a pod as an attribute: each value would make a new series.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)

from sealgate import program_version
from sealgate.argo import SERVICE
from sealgate.call import Call, Operation
from sealgate.telemetry import names
from sealgate.telemetry.environment import Signal, over_http, timeout
from sealgate.telemetry.resource import resource_of_metrics

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 120, 300, 600)
_BYTES = tuple(4**power for power in range(5, 20))
_EVERY_MS = 10_000
_DELTA = dict.fromkeys((sdk.Counter, sdk.Histogram), AggregationTemporality.DELTA)
"""Delta temporality suits processes that live for seconds: each export counts what happened since the one before."""
_WRITES = frozenset({Operation.SAVE, Operation.SAVE_STREAM})


@dataclass(frozen=True, slots=True)
class Page:
    """The address and port at which Prometheus reads the metrics."""

    address: str
    port: int
    plugin: str = ""
    """The name of the plugin, which the page shows."""


class Metrics:
    """Counts what calls did.

    Args:
        page: where the metrics are served; None to push them to a collector.
        environment: holds the `OTEL_*` variables that name the collector.
    """

    def __init__(self, page: Page | None, environment: Mapping[str, str] = os.environ) -> None:
        sizes = (
            ExplicitBucketHistogramAggregation(_BYTES)
            if page  # the Prometheus exporter has no exponential histograms
            else ExponentialBucketHistogramAggregation()
        )
        self._provider = sdk.MeterProvider(
            [_page_reader(page) if page else _push_reader(environment)],
            resource_of_metrics(),
            shutdown_on_exit=False,
            views=[
                View(instrument_name=names.CALL_DURATION, aggregation=ExplicitBucketHistogramAggregation(_SECONDS)),
                View(instrument_name=names.VAULT_DURATION, aggregation=ExplicitBucketHistogramAggregation(_SECONDS)),
                View(instrument_name=names.ARTIFACT_SIZE, aggregation=sizes),
            ],
        )
        meter = self._provider.get_meter("sealgate", program_version())
        self._calls = meter.create_histogram(names.CALL_DURATION, "s", "Duration of calls.")
        self._sizes = meter.create_histogram(names.ARTIFACT_SIZE, "By", "Plaintext bytes that a call read or wrote.")
        self._vault = meter.create_histogram(
            names.VAULT_DURATION, "s", "Time that a call waited for the key service, over all its requests."
        )
        self._decisions = meter.create_counter(names.DECISIONS, "{decision}", "Decisions of the policies.")
        self._would_deny = meter.create_counter(
            names.WOULD_DENY, "{decision}", "Decisions that rules on trial would deny."
        )
        self._records = meter.create_counter(names.AUDIT_RECORDS, "{record}", "Audit records that were written.")
        self._failures = meter.create_counter(names.AUDIT_FAILURES, "{record}", "Audit records that were not written.")
        self._plaintext = meter.create_counter(
            names.PLAINTEXT_READS, "{file}", "Files that were read or stored as plaintext."
        )
        self._data_keys = meter.create_counter(
            names.DATA_KEYS, "{key}", "Data keys from the key service or from the cache."
        )

    def ended(self, call: Call, outcome: str, kind: str) -> None:
        """Count `call`, which ended with this gRPC status and kind of error (empty after a success)."""
        seconds = time.monotonic() - call.began
        facts = {
            names.RPC_SYSTEM: "grpc",
            names.RPC_METHOD: f"{SERVICE}/{call.operation}",
            names.STATUS_CODE: outcome,
        }
        self._calls.record(seconds, facts | {names.ERROR_TYPE: kind} if kind else facts)
        operation = {names.OPERATION: call.operation.value}
        if call.sealed.files and outcome == "OK" and not kind:
            direction = {names.DIRECTION: "write" if call.operation in _WRITES else "read"}
            self._sizes.record(call.sealed.plaintext_bytes, operation | direction)
        if call.keys.requests:
            self._vault.record(call.keys.seconds, operation | {names.STATUS_CODE: outcome})
        for source, count in (("key service", call.keys.data_keys), ("cache", call.keys.remembered)):
            if count:
                self._data_keys.add(count, {names.SOURCE: source})
        self._decided(call, operation)

    def _decided(self, call: Call, operation: dict[str, str]) -> None:
        decision = call.decision
        if not decision.effective:
            return
        facts = {names.DECISION: decision.effective, names.CODE: decision.code, names.MODE: decision.mode}
        self._decisions.add(1, operation | facts)
        for rule in decision.would_deny:
            policy, _, name = rule.partition("/")
            self._would_deny.add(1, {names.POLICY: policy, names.RULE: name})
        if call.sealed.unsealed_files:
            self._plaintext.add(call.sealed.unsealed_files, {names.POLICY: decision.policy})

    def recorded(self, phase: str) -> None:
        """Count an audit record of this phase that was written."""
        self._records.add(1, {names.PHASE: phase})

    def not_recorded(self, sink: str, reason: str) -> None:
        """Count an audit record that this sink did not write."""
        self._failures.add(1, {names.SINK: sink, names.REASON: reason})

    def flush(self) -> None:
        """Push all pending counts. Without effect for a page."""
        self._provider.force_flush()

    def close(self) -> None:
        """Push all pending counts and stop."""
        self._provider.shutdown()


def _push_reader(environment: Mapping[str, str]) -> MetricReader:
    every = None if environment.get("OTEL_METRIC_EXPORT_INTERVAL") else _EVERY_MS
    return PeriodicExportingMetricReader(_exporter(environment), export_interval_millis=every)


def _exporter(environment: Mapping[str, str]) -> MetricExporter:
    options: dict[str, Any] = {"timeout": timeout(Signal.METRICS, environment), "preferred_temporality": _DELTA}
    if over_http(Signal.METRICS, environment):
        from opentelemetry.exporter.otlp.proto.http import metric_exporter as http  # noqa: PLC0415 - one of the two

        return http.OTLPMetricExporter(**options)
    from opentelemetry.exporter.otlp.proto.grpc import metric_exporter  # noqa: PLC0415 - one of the two

    return metric_exporter.OTLPMetricExporter(**options)


def _page_reader(page: Page) -> MetricReader:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader  # noqa: PLC0415 - only if it is configured
    from prometheus_client import Info, start_http_server  # noqa: PLC0415 - only if it is configured

    start_http_server(page.port, page.address)
    Info(names.PLUGIN_INFO.removesuffix("_info"), "The plugin that serves this page.").info(
        {"name": page.plugin, "version": program_version()}
    )
    return PrometheusMetricReader()


def try_page(page: Page) -> None:
    """Serve an empty page, and stop at once.

    Raises:
        OSError: the port is in use, or the address is not one of this machine.
    """
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415 - only if it is configured

    server, thread = start_http_server(page.port, page.address, CollectorRegistry())
    server.shutdown()
    server.server_close()
    thread.join()
