"""A second copy of the audit trail, pushed to a collector as OTLP logs.

It may lose lines, and says that it took them all the same: it never counts as the place that a record was written to.
This module loads OpenTelemetry, and so is itself loaded only where a copy was asked for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

from sealgate import program_version
from sealgate.telemetry import names
from sealgate.telemetry.environment import Signal, over_http, timeout
from sealgate.telemetry.resource import resource
from sealgate.telemetry.watch import done_within

EVENT = "sealgate.artifact.access"
_EXPORT_EVERY_MS = 1000
_END_WITHIN = 2.0


class Collector:
    """Takes lines that were written elsewhere, and never makes anybody wait."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._provider = LoggerProvider(resource(names.SERVICE, {}), shutdown_on_exit=False)
        processor = BatchLogRecordProcessor(_exporter(environment), schedule_delay_millis=_EXPORT_EVERY_MS)
        self._provider.add_log_record_processor(processor)
        self._logger = self._provider.get_logger("sealgate.audit", program_version())

    def add(self, line: bytes) -> None:
        """Queue a line."""
        self._logger.emit(
            LogRecord(
                timestamp=time.time_ns(),
                context=Context(),
                severity_number=SeverityNumber.INFO,
                body=line.decode().rstrip("\n"),
                event_name=EVENT,
            )
        )

    def close(self) -> None:
        """Export what is left, in bounded time."""
        done_within(_END_WITHIN, self._provider.shutdown)


def _exporter(environment: Mapping[str, str]) -> Any:
    seconds = timeout(Signal.LOGS, environment)
    if over_http(Signal.LOGS, environment):
        from opentelemetry.exporter.otlp.proto.http import _log_exporter as http  # noqa: PLC0415 - one of the two

        return http.OTLPLogExporter(timeout=seconds)
    from opentelemetry.exporter.otlp.proto.grpc import _log_exporter  # noqa: PLC0415 - one of the two

    return _log_exporter.OTLPLogExporter(timeout=seconds)
