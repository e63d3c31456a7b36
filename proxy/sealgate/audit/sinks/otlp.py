"""How a collector receives a second copy of the trail: as OTLP log records.

A collector may accept a line and lose it later, so this copy never counts as the record of an access. This module loads
OpenTelemetry and is therefore imported only if a copy is configured.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult
from typing_extensions import override

from sealgate import program_version
from sealgate.audit.sinks.interface import Copy, NotWritten
from sealgate.telemetry import names
from sealgate.telemetry.environment import Signal, over_http, timeout
from sealgate.telemetry.reporting import begin_last_export
from sealgate.telemetry.resource import resource

EVENT = "sealgate.artifact.access"
_EXPORT_EVERY_MS = 1000


class OtlpCopy(Copy):
    """Queues lines and exports them once a second on a thread of its own, so that no call waits.

    Args:
        environment: holds the `OTEL_*` variables that name the collector.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._provider = LoggerProvider(resource(names.SERVICE, {}), shutdown_on_exit=False)
        self._exporter = _exporter(environment)
        processor = BatchLogRecordProcessor(self._exporter, schedule_delay_millis=_EXPORT_EVERY_MS)
        self._provider.add_log_record_processor(processor)
        self._logger = self._provider.get_logger("sealgate.audit", program_version())

    @override
    def add(self, line: bytes) -> None:
        self._logger.emit(
            LogRecord(
                timestamp=time.time_ns(),
                context=Context(),
                severity_number=SeverityNumber.INFO,
                body=line.decode().rstrip("\n"),
                event_name=EVENT,
            )
        )

    @override
    def try_out(self) -> None:
        if self._exporter.export([]) is not LogRecordExportResult.SUCCESS:
            raise NotWritten("the collector did not accept an empty export")

    @override
    def close(self) -> None:
        """Begin to export the queued lines; `telemetry.reporting.await_last_exports` waits for it."""
        begin_last_export(self._provider.shutdown)


def _exporter(environment: Mapping[str, str]) -> Any:
    seconds = timeout(Signal.LOGS, environment)
    if over_http(Signal.LOGS, environment):
        from opentelemetry.exporter.otlp.proto.http import _log_exporter as http  # noqa: PLC0415 - one of the two

        return http.OTLPLogExporter(timeout=seconds)
    from opentelemetry.exporter.otlp.proto.grpc import _log_exporter  # noqa: PLC0415 - one of the two

    return _log_exporter.OTLPLogExporter(timeout=seconds)
