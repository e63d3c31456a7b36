"""The log: JSON lines on standard error, or lines for a reader where that is a terminal.

Every module logs by the standard library; structlog makes the lines. It is loaded by the first of them, and so behind
the socket.
"""

from __future__ import annotations

import logging
import os
import time
import traceback
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from sealgate.call import current_call
from sealgate.telemetry.outlet import Outlet

if TYPE_CHECKING:
    from structlog.typing import Processor

_QUIET_FOR = 60.0
"""Seconds between two lines about what OpenTelemetry's exporters complain of."""
_FRAMES = 6
_WAIT = 0.2
"""Seconds that a line waits for room, while somebody reads."""


def configure(fd: int = 2) -> None:
    """Have everything that is logged go to a descriptor, by default standard error."""
    handler = _Dropping(fd)
    handler.setFormatter(_Lines(for_a_reader=os.isatty(fd)))
    handler.addFilter(_Exporters())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)


class _Dropping(logging.Handler):
    """Writes lines while somebody reads them. Else they are lost, and counted: no call waits for the log."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._outlet = Outlet(fd)
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line. Called by one thread at a time."""
        try:
            if self._lost:
                # Who waited once in vain does not wait again, until there is room.
                self._outlet.put(self._line(_of_the_lost(self._lost)), 0)
                self._lost = 0
            self._outlet.put(self._line(record), _WAIT)
        except Exception:  # noqa: BLE001 - a log fails no call, and there is nowhere to tell of it but the next line
            self._lost += 1

    def _line(self, record: logging.LogRecord) -> bytes:
        return self.format(record).encode(errors="backslashreplace") + b"\n"

    def close(self) -> None:
        """Let go of the descriptor."""
        self._outlet.close()
        super().close()


def _of_the_lost(count: int) -> logging.LogRecord:
    text = "lines of this log that are lost, because nobody read it: %d"
    return logging.LogRecord("sealgate", logging.WARNING, "", 0, text, (count,), None)


class _Lines(logging.Formatter):
    """Makes one line of a record, with structlog once there is one to make."""

    def __init__(self, *, for_a_reader: bool) -> None:
        super().__init__()
        self._for_a_reader = for_a_reader
        self._formatter: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        if self._formatter is None:
            self._formatter = _formatter(for_a_reader=self._for_a_reader)
        return self._formatter.format(record)


class _Exporters(logging.Filter):
    """Says once in a while that telemetry does not arrive, in place of a library's text for each export."""

    def __init__(self) -> None:
        super().__init__()
        self._silent_until = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("opentelemetry"):
            return True
        if record.levelno < logging.WARNING or time.monotonic() < self._silent_until:
            return False
        self._silent_until = time.monotonic() + _QUIET_FOR
        where = f"{os.path.basename(record.pathname)}:{record.lineno}"
        record.msg, record.args = "telemetry was not exported, or not as it should be (%s)", (where,)
        record.exc_info = record.exc_text = record.stack_info = None
        return True


def _formatter(*, for_a_reader: bool) -> logging.Formatter:
    import structlog  # noqa: PLC0415 - 30 ms, off the path to the socket

    before: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _of_the_call,
        _without_texts_of_exceptions,
    ]
    last: Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if for_a_reader
        else structlog.processors.JSONRenderer(sort_keys=False)
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
    )


def _of_the_call(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The ids of the call that this thread works for."""
    call = current_call.get()
    if call is not None:
        event["decision_id"] = call.id
        if call.trace.trace_id:
            event["trace_id"], event["span_id"] = call.trace.trace_id, call.trace.span_id
    return event


def _without_texts_of_exceptions(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """The type of an exception and where it was raised: its text can carry anything."""
    found = event.pop("exc_info", None)
    error = found[1] if isinstance(found, tuple) else found
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
        where = " < ".join(f"{os.path.basename(f.filename)}:{f.lineno} {f.name}" for f in reversed(frames))
        event["error"] = f"{type(error).__name__} in {where}"
    return event
