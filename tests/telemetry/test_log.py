"""The log: a JSON object a line, with the call it belongs to and no text of anybody else."""

from __future__ import annotations

import io
import json
import logging
import os
import pty

import pytest
from harness.chain import Proxy, eventually
from harness.otlp import Collector
from harness.trails import read

from proxy.facts import current_call
from proxy.plugin import Call, Operation
from proxy.telemetry.log import configure

log = logging.getLogger("sealgate.test")


@pytest.fixture
def written():
    root = logging.getLogger()
    before = list(root.handlers)
    stream = io.StringIO()
    for handler in before:
        root.removeHandler(handler)
    configure(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = before


def test_a_line_is_one_json_object(written):
    log.warning("two\nlines of %s", "text")
    (line,) = written()
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "two\nlines of text", "level": "warning", "logger": "sealgate.test"}


def test_a_line_names_the_call_that_it_was_written_for(written):
    call = Call(Operation.LOAD)
    call.trace.trace_id, call.trace.span_id = "a" * 32, "b" * 16
    current_call.set(call)
    log.info("within")
    current_call.set(None)
    log.info("without")
    within, without = written()
    assert (within["decision_id"], within["trace_id"], within["span_id"]) == (call.id, "a" * 32, "b" * 16)
    assert "decision_id" not in without


def test_the_text_of_an_exception_is_not_written(written):
    try:
        int("hunter2")
    except ValueError:
        log.exception("it failed")
    (line,) = written()
    assert line["error"].startswith("ValueError in test_log.py:")
    assert "hunter2" not in json.dumps(line)


def test_what_the_exporters_complain_of_is_said_once_and_in_our_words(written):
    for _ in range(100):
        logging.getLogger("opentelemetry.exporter.somewhere").error("hunter2 %s", "refused", exc_info=ValueError("x"))
    (line,) = written()
    assert line["event"].startswith("telemetry was not exported")
    assert "hunter2" not in json.dumps(line)


def test_on_a_terminal_the_lines_are_for_a_reader():
    script = "import logging; from proxy.telemetry.log import configure; configure(); logging.error('it failed')"
    child, terminal = pty.fork()
    if child == 0:
        import sys  # noqa: PLC0415 - in the child alone

        os.execv(sys.executable, [sys.executable, "-c", script])
    text = b""
    while True:
        try:
            text += (read := os.read(terminal, 4096))
        except OSError:
            break
        if not read:
            break
    os.waitpid(child, 0)
    assert b"it failed" in text
    assert b"error" in text
    assert not text.startswith(b"{")


def test_every_line_of_a_proxy_is_json_and_a_calls_lines_name_it(tmp_path):
    with Collector() as collector:
        proxy = Proxy(tmp_path, environment=collector.environment()).start()
        proxy.argo().save_stream("ns/a", b"some bytes")
        assert proxy.stop() == 0
    lines = [json.loads(line) for line in proxy.log.read_text().splitlines()]
    assert eventually(lambda: lines)
    (line,) = [line for line in lines if line["logger"] == "sealgate.call"]
    record = read(proxy.trail)[-2]
    assert line["decision_id"] == record["metadata"]["correlation_uid"]
    assert line["trace_id"] == record["unmapped"]["trace"]["trace_id"]
