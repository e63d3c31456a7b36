"""The log: one JSON object on each line, with the ids of its call and no text of a library."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness.chain import SEALGATE, Proxy, eventually
from harness.otlp import Collector
from harness.outcome import outcome
from harness.terminal import Terminal
from harness.trails import full_pipe, read

from sealgate.call import Call, Operation, current_call
from sealgate.log_event import LogEvent
from sealgate.telemetry.log import configure

log = logging.getLogger("sealgate.test")


@contextmanager
def logging_to(fd):
    root = logging.getLogger()
    before = list(root.handlers)
    for handler in before:
        root.removeHandler(handler)
    configure(fd)
    try:
        yield
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = before


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as file, logging_to(file.fileno()):
        yield lambda: [json.loads(line) for line in path.read_bytes().splitlines()]


def test_a_line_is_one_json_object(written):
    log.warning("two\nlines of %s", "text")
    (line,) = written()
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "two\nlines of text", "level": "warning", "logger": "sealgate.test"}


def test_the_facts_of_an_event_are_fields_of_the_line(written):
    log.info(LogEvent("call ended", operation="Load", files=2, would_deny=["a/b"], reason="", event="x", level="x"))
    (line,) = written()
    line.pop("timestamp")
    assert line == {
        "event": "call ended",
        "level": "info",
        "logger": "sealgate.test",
        "operation": "Load",
        "files": 2,
        "would_deny": ["a/b"],
    }


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


def test_complaints_of_exporters_become_one_line_with_a_fixed_text(written):
    for _ in range(100):
        logging.getLogger("opentelemetry.exporter.somewhere").error("hunter2 %s", "refused", exc_info=ValueError("x"))
    (line,) = written()
    assert line["event"].startswith("telemetry was not exported")
    assert "hunter2" not in json.dumps(line)


def test_lines_to_a_full_pipe_are_dropped_and_counted_without_blocking():
    reading, writing = full_pipe()
    with logging_to(writing):
        for _ in range(500):
            log.info("dropped")
        assert os.get_blocking(writing)
        os.read(reading, 1 << 20)
        log.info("written")
        lines = [json.loads(line) for line in os.read(reading, 1 << 20).splitlines()]
    assert [line["event"] for line in lines] == [
        "log lines were lost",
        "written",
    ]
    os.close(reading)
    os.close(writing)


def test_a_line_that_was_cut_short_is_ended_before_the_next():
    reading, writing = os.pipe()
    with logging_to(writing):
        log.info("x" * (1 << 20))
        os.read(reading, 1 << 20)
        log.info("whole")
        lines = os.read(reading, 1 << 20).splitlines()
    assert lines[0] == b""
    assert [json.loads(line)["event"] for line in lines[1:]] == [
        "log lines were lost",
        "whole",
    ]
    os.close(reading)
    os.close(writing)


@pytest.mark.process
def test_a_log_that_is_not_read_delays_neither_calls_nor_the_end(tmp_path):
    reading, writing = full_pipe()
    proxy = Proxy(tmp_path)
    proxy.log_to = writing
    argo = proxy.start().argo()
    for number in range(5):
        argo.save_stream(f"ns/{number}", b"some bytes")
        assert argo.open_stream(f"ns/{number}") == b"some bytes"
    assert proxy.stop() == 0
    os.close(reading)
    os.close(writing)


def shown_on_a_terminal(text: str) -> bytes:
    """Log `text` as an error in a process whose standard error is a terminal; return what the terminal receives."""
    script = (
        "import logging, sys; from sealgate.telemetry.log import configure; configure(); logging.error(sys.argv[1])"
    )
    with Terminal([sys.executable, "-c", script, text], Path.cwd(), os.environ) as terminal:
        assert terminal.end() == 0
        return terminal.text.encode()


@pytest.mark.process
def test_on_a_terminal_the_lines_are_readable_text():
    shown = shown_on_a_terminal("it failed")
    assert b"it failed" in shown
    assert b"error" in shown
    assert not shown.startswith(b"{")


@pytest.mark.process
def test_a_terminal_receives_no_control_characters_of_a_logged_text():
    shown = shown_on_a_terminal("clear\x1b[2J bell\a next\nline \x9b2J \N{RIGHT-TO-LEFT OVERRIDE}gnp")
    assert rb"clear\x1b[2J bell\x07 next\nline \x9b2J \u202egnp" in shown
    assert b"\x1b[2J" not in shown


@pytest.mark.process
def test_every_line_of_a_proxy_is_json_and_names_its_call(tmp_path):
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


@pytest.mark.process
def test_a_denial_logs_its_rule_and_its_reason(tmp_path):
    rule = {"name": "frozen", "effect": "deny", "match": {"keys": ["ns/**"]}}
    spec = {"defaultDecision": "allow", "rules": [rule]}
    policy = {"apiVersion": "sealgate/v1alpha1", "kind": "ArtifactPolicy", "metadata": {"name": "main"}, "spec": spec}
    proxy = Proxy(tmp_path, settings={"policies": [policy]}).start()
    refused = outcome(lambda: proxy.argo().is_directory("ns/a"))
    assert proxy.stop() == 0
    (line,) = [
        line for line in map(json.loads, proxy.log.read_text().splitlines()) if line["logger"] == "sealgate.call"
    ]
    assert refused.text.endswith(f"[d={line['decision_id']}]")
    expected = {
        "event": "call denied",
        "operation": "IsDirectory",
        "key": "ns/a",
        "status": "PERMISSION_DENIED",
        "code": "DENIED",
        "policy": "main",
        "rule": "frozen",
        "reason": "a rule denies it",
    }
    assert {name: line[name] for name in expected} == expected


@pytest.mark.process
def test_the_lines_of_the_bundled_backend_are_objects_in_the_log(tmp_path):
    proxy = Proxy(tmp_path, downstream=[*SEALGATE, "backend"]).start()
    proxy.argo().save_stream("ns/a", b"some bytes")
    assert proxy.stop() == 0
    lines = [json.loads(line) for line in proxy.log.read_text().splitlines()]
    printed = [line["output"] for line in lines if line["event"] == "the downstream printed a line"]
    assert "SaveStream" in {output["operation"] for output in printed if output["event"] == "call ended"}
