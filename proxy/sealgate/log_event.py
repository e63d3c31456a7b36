"""The message of a log line: a short constant text, and its facts as fields.

The log writes the fields as members of its JSON (`sealgate.telemetry.log`). Every other handler, such as that of a
command, shows them behind the text. structlog's own loggers would do the same, and take 30 ms to load at the start.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping

_FRAMES = 6


class LogEvent:
    """A message for `logging`: `log.info(LogEvent("call ended", operation="Load"))`.

    Args:
        text: what happened, always the same for the same event.
        fields: the facts. None and empty texts are left out. They must be fit for the log.
    """

    def __init__(self, text: str, **fields: object) -> None:
        self.text = text
        self.fields: Mapping[str, object] = {
            name: value for name, value in fields.items() if value is not None and value != ""
        }

    def __str__(self) -> str:
        facts = ", ".join(f"{name}={value}" for name, value in self.fields.items())
        return f"{self.text}: {facts}" if facts else self.text


def where_raised(error: BaseException) -> str:
    """Return the innermost functions that `error` came through, the last one first. They contain no text of it."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return " < ".join(f"{os.path.basename(f.filename)}:{f.lineno} {f.name}" for f in reversed(frames))
