"""How lines reach standard output: in a pod, the log of the container."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from typing_extensions import override

from sealgate.audit.sinks.interface import NotWritten, Sink, WriteTimeout, not_written
from sealgate.telemetry.line_writer import LineWriter


class Stdout(Sink):
    """Writes lines to standard output.

    Each line is one write of at most PIPE_BUF bytes, made once the pipe has room for it. So a line does not mix with
    the output of other processes and does not block (`LineWriter` names the one exception).
    """

    name = "stdout"

    def __init__(self, fd: int = 1) -> None:
        self._writer = LineWriter(fd)

    @override
    def write(self, line: bytes, seconds: float) -> None:
        with _named_errors():
            self._writer.write(line, seconds)

    @override
    def try_out(self, seconds: float) -> str:
        """Wait until standard output has room. Nothing is written: other output may be there."""
        with _named_errors():
            self._writer.await_room(seconds)
        return "standard output has room for a record"

    @override
    def close(self) -> None:
        self._writer.close()


@contextmanager
def _named_errors() -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise WriteTimeout("standard output is full and nothing reads it") from None
    except BrokenPipeError:
        raise NotWritten("standard output is closed") from None
    except OSError as error:
        raise not_written(error) from None
