"""At the end of a process all exports run at the same time, so that a collector that hangs delays the exit once."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from sealgate.telemetry import reporting
from sealgate.telemetry.reporting import Telemetry, await_last_exports, begin_last_export


class Exporter:
    """Ends its export only once all exporters of a test have begun theirs."""

    def __init__(self, meeting: threading.Barrier) -> None:
        self._meeting = meeting
        self.has_ended = False

    def flush(self) -> None:
        pass

    def close(self) -> None:
        with suppress(threading.BrokenBarrierError):
            self._meeting.wait(60)
            self.has_ended = True


@pytest.fixture
def unlimited(monkeypatch):
    monkeypatch.setattr(reporting, "_CLOSE_SECONDS", 60.0)


@pytest.mark.usefixtures("unlimited")
def test_spans_metrics_and_copies_are_exported_at_the_same_time():
    meeting = threading.Barrier(3)
    tracing, metrics, copy = exporters = [Exporter(meeting) for _ in range(3)]
    begin_last_export(copy.close)
    Telemetry(tracing, metrics).close()
    await_last_exports()
    assert [exporter.has_ended for exporter in exporters] == [True] * 3


def test_an_export_that_hangs_is_left_behind(monkeypatch):
    monkeypatch.setattr(reporting, "_CLOSE_SECONDS", 0.05)
    hanging = Exporter(threading.Barrier(2))
    begin_last_export(hanging.close)
    await_last_exports()
    assert not hanging.has_ended
    hanging._meeting.abort()
