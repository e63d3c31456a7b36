"""Parents of spans and the variables of the export, tested on the instrumentation itself without a process."""

from __future__ import annotations

from typing import NamedTuple

import grpc
import pytest
from harness.trails import IDENTITY
from opentelemetry import trace

from sealgate.call import Call, Operation
from sealgate.telemetry.environment import Signal, endpoint, over_http, timeout
from sealgate.telemetry.tracing import Tracing

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
FROM_ENVIRONMENT = {"TRACEPARENT": f"00-{TRACE}-{PARENT}-01"}
METHOD = "/artifact.ArtifactService/IsDirectory"


class Details(NamedTuple):
    method: str = METHOD
    invocation_metadata: tuple = ()


class Item(NamedTuple):
    key: str
    value: str


class Context:
    def __init__(self, *metadata):
        self._metadata = metadata

    def invocation_metadata(self):
        return self._metadata

    def peer(self):
        return "unix:"


def span_of(tracing, *metadata):
    call = Call(Operation.IS_DIRECTORY)

    def behave(_request, _context):
        tracing.began(call)
        return b""

    handler = grpc.unary_unary_rpc_method_handler(behave)
    tracing.serving(handler, Details()).unary_unary(b"", Context(Item("user-agent", "grpc-go"), *metadata))
    return call.trace.span


def parent_of(span):
    return trace.format_span_id(span.parent.span_id) if span.parent else None


def test_the_environments_context_is_the_parent_for_an_hour_and_then_a_link():
    now = [0.0]
    tracing = Tracing("sealgate", IDENTITY, FROM_ENVIRONMENT, clock=lambda: now[0])
    young = span_of(tracing)
    assert (parent_of(young), young.links) == (PARENT, ())
    now[0] = 3601.0
    old = span_of(tracing)
    assert parent_of(old) is None
    assert [trace.format_trace_id(link.context.trace_id) for link in old.links] == [TRACE]
    tracing.close()


def test_the_context_of_a_caller_takes_precedence_over_the_environment():
    tracing = Tracing("sealgate", IDENTITY, FROM_ENVIRONMENT)
    other = f"00-{'a' * 32}-{'b' * 16}-01"
    assert parent_of(span_of(tracing, Item("traceparent", other))) == "b" * 16
    tracing.close()


@pytest.mark.parametrize("text", ["", "nonsense", "00-0-0-00", f"00-{'0' * 32}-{'0' * 16}-01"])
def test_an_invalid_context_is_not_a_parent(text):
    tracing = Tracing("sealgate", IDENTITY, {"TRACEPARENT": text})
    assert parent_of(span_of(tracing)) is None
    tracing.close()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, 2.0),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "10000"}, 2.0),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "500"}, 0.5),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "500", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "100"}, 0.1),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}, 2.0),
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "0"}, 0.001),
    ],
)
def test_a_timeout_counts_milliseconds_and_is_bounded(environment, seconds):
    assert timeout(Signal.TRACES, environment) == seconds


@pytest.mark.parametrize(
    ("environment", "signal", "exported"),
    [
        ({}, Signal.TRACES, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317"}, Signal.TRACES, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4317"}, Signal.TRACES, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4317"}, Signal.METRICS, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_SDK_DISABLED": "TRUE"}, Signal.TRACES, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_TRACES_EXPORTER": "none"}, Signal.TRACES, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_TRACES_EXPORTER": "none"}, Signal.LOGS, True),
    ],
)
def test_the_environment_decides_whether_a_signal_is_exported(environment, signal, exported):
    assert bool(endpoint(signal, environment)) == exported


def test_the_protocol_is_grpc_unless_the_environment_says_http():
    assert not over_http(Signal.TRACES, {})
    assert over_http(Signal.TRACES, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"})
    mixed = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc"}
    assert not over_http(Signal.LOGS, mixed)
