"""What an audit sink must do: the protocols that each sink implements, and the errors that it raises."""

from __future__ import annotations

import os
from typing import Protocol


class NotWritten(Exception):
    """A sink did not write a line. The text is the reason, in words of this program; it becomes a metric attribute."""


class WriteTimeout(NotWritten):
    """The sink did not write the line in time. With more time it might have."""


class NotDurable(NotWritten):
    """The sink wrote the line, but could not make sure that it survives a crash of the machine."""


class Sink(Protocol):
    """A place that counts as a record of an access."""

    name: str
    """Distinguishes this sink from the others in metrics, log lines and error texts."""

    def write(self, line: bytes, seconds: float) -> None:
        """Write the whole line, which ends in a line break, within `seconds`.

        Raises:
            NotWritten: the line was not written, or not durably.
        """

    def try_out(self, seconds: float) -> str:
        """Try whatever a record needs, within `seconds`, and leave nothing that a reader could take for a record.

        Returns:
            What was tried, as a phrase for a report.

        Raises:
            NotWritten: a record could not be written.
        """

    def close(self) -> None:
        """Release the resources of this sink."""


class Copy(Protocol):
    """A place for lines that the sinks have written. It may lose lines, so it never counts as a record."""

    def add(self, line: bytes) -> None:
        """Queue the line without waiting."""

    def try_out(self) -> None:
        """Deliver an empty message, which contains no line.

        Raises:
            NotWritten: it was not accepted.
        """

    def close(self) -> None:
        """Release the resources of this copy."""


def not_written(error: OSError) -> NotWritten:
    """Return `error` as a `NotWritten` whose text is the system's name for the error number."""
    return NotWritten(os.strerror(error.errno or 0).lower())
