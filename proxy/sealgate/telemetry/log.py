"""How the log is written: as JSON lines on standard error, or as readable text on a terminal.

All modules log through the standard library, and structlog formats the lines. structlog is loaded with the first line,
so that it does not delay the start.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from sealgate.call import current_call
from sealgate.log_event import LogEvent, where_raised
from sealgate.telemetry.line_writer import LineWriter

if TYPE_CHECKING:
    from structlog.typing import Processor

_EXPORTER_WARNING_SECONDS = 60.0
"""The least time between two lines about failed exports."""
_WRITE_SECONDS = 0.2
"""How long a line waits for room in the stream."""


def configure(fd: int = 2) -> None:
    """Send all log lines to the descriptor `fd`, by default standard error."""
    handler = _DroppingHandler(fd)
    handler.setFormatter(_LazyFormatter(for_terminal=os.isatty(fd)))
    handler.addFilter(_ExporterFilter())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)


class _DroppingHandler(logging.Handler):
    """Writes lines, and drops and counts those that the stream has no room for: no call waits for the log."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._writer = LineWriter(fd)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line. `logging` calls this on one thread at a time."""
        try:
            if self._lost:
                # After a line was dropped, no line waits until there is room again.
                self._writer.write(self._line(_dropped(self._lost)), 0)
                self._lost = 0
            self._writer.write(self._line(record), _WRITE_SECONDS)
        except Exception:  # noqa: BLE001 - a log line fails no call; the next line reports the loss
            self._lost += 1

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode(errors="backslashreplace") + b"\n"

    def close(self) -> None:
        """Release the descriptor."""
        self._writer.close()
        super().close()


def _dropped(count: int) -> logging.LogRecord:
    event = LogEvent("log lines were lost", reason="standard error was full and nothing read it", lines=count)
    return logging.LogRecord("sealgate", logging.WARNING, "", 0, event, (), None)


class _LazyFormatter(logging.Formatter):
    """Formats records with structlog, which it loads with the first record."""

    def __init__(self, *, for_terminal: bool) -> None:
        super().__init__()
        self._for_terminal = for_terminal
        self._formatter: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        if self._formatter is None:
            self._formatter = _formatter(for_terminal=self._for_terminal)
        return self._formatter.format(record)


class _ExporterFilter(logging.Filter):
    """Replaces the log lines of OpenTelemetry by one fixed text, at most once a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._silent_until = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("opentelemetry"):
            return True
        if record.levelno < logging.WARNING or time.monotonic() < self._silent_until:
            return False
        self._silent_until = time.monotonic() + _EXPORTER_WARNING_SECONDS
        where = f"{os.path.basename(record.pathname)}:{record.lineno}"
        record.msg, record.args = LogEvent("telemetry was not exported, or not completely", where=where), ()
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def _formatter(*, for_terminal: bool) -> logging.Formatter:
    import structlog  # noqa: PLC0415 - takes 30 ms, which would delay the start

    before: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _take_fields,
        _add_call_ids,
        _remove_exception_text,
    ]
    last: list[Processor] = [structlog.processors.JSONRenderer(sort_keys=False)]
    if for_terminal:
        colors = not os.environ.get("NO_COLOR")  # https://no-color.org
        console = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)
        last = [_escape_controls, console]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
    )


def _take_fields(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace a `LogEvent` by its text, and its fields as members of the line."""
    message = event["_record"].msg
    if isinstance(message, LogEvent):
        event["event"] = message.text
        for name, value in message.fields.items():
            event.setdefault(name, value)
    return event


def _add_call_ids(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the ids of the call that this thread works for."""
    call = current_call.get()
    if call is not None:
        event["decision_id"] = call.id
        if call.trace.trace_id:
            event["trace_id"], event["span_id"] = call.trace.trace_id, call.trace.span_id
    return event


def _remove_exception_text(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Log only the type of an exception and where it was raised: its text may contain secrets."""
    exc_info = event.pop("exc_info", None)
    error = exc_info[1] if isinstance(exc_info, tuple) else exc_info
    if isinstance(error, BaseException):
        event["error"] = f"{type(error).__name__} in {where_raised(error)}"
    return event


def _escape_controls(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escape what a terminal obeys: a downstream, a key or a path may contain it. JSON escapes it anyway."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable():
            event[name] = "".join(c if c.isprintable() or c == "\t" else ascii(c)[1:-1] for c in value)
        elif isinstance(value, (dict, list)):
            event[name] = ascii(value)
    return event
