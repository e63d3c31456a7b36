"""Spans that a running proxy exports, for each operation and outcome."""

from __future__ import annotations

import pytest
from harness.chain import Proxy, eventually
from harness.otlp import Collector
from harness.outcome import outcome
from harness.stand import LARGE, OPERATIONS, Stand, filled
from harness.trails import read

from sealgate.rpc import artifact_pb2 as pb

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture(scope="module", params=["file", "stream"])
def traced(request, tmp_path_factory, collector):
    environment = {
        **collector.environment(),
        "VENDOR_STREAMS": "1",
        "OTEL_BSP_SCHEDULE_DELAY": "10",
        "ARGO_WORKFLOW_NAME": "train-7x2p",
    }
    settings = {"spool": {"transfer": request.param}}
    proxy = Proxy(tmp_path_factory.mktemp("traced"), settings=settings, environment=environment).start()
    yield proxy
    assert proxy.stop() == 0
    assert "Failed to detach" not in proxy.output()
    assert "Traceback" not in proxy.output()


@pytest.fixture
def start_traced(make, collector):
    environment = {**collector.environment(), "VENDOR_STREAMS": "1", "OTEL_BSP_SCHEDULE_DELAY": "10"}
    return lambda: make(settings={"spool": {"transfer": "stream"}}, environment=environment).start()


@pytest.fixture
def stand(traced, key) -> Stand:
    return filled(traced, key)


def id_of_last(proxy, operation, key):
    """Return the decision id of the last call of `operation`, from the audit trail."""
    found = [r for r in read(proxy.trail) if r.get("api", {}).get("operation") == operation]
    return found[-1]["metadata"]["correlation_uid"]


def spans_of(collector, call_id, expected=None):
    """Return the server span of a call, and all other spans of its trace."""

    def roots():
        return [span for span in collector.spans() if span.attributes.get("sealgate.call.id") == call_id]

    assert eventually(roots), collector.spans()
    (root,) = roots()

    def below():
        return [span for span in collector.spans() if span.trace_id == root.trace_id and span.span_id != root.span_id]

    assert eventually(lambda: expected is None or {span.name for span in below()} >= expected), below()
    return root, below()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_success_is_one_server_span_with_its_parts_below_it(stand, collector, operation):
    assert stand.attempt(operation).code == "OK"
    asked = {"policy", f"/artifact.ArtifactService/{stand.downstream_operation(operation)}"}
    expected = asked | ({"seal"} if operation.startswith("Save") else set())
    expected |= {"open"} if operation in {"Load", "OpenStream"} else set()
    if operation.startswith("Save"):  # whether the downstream keeps objects that the Save replaces
        expected.add("/artifact.ArtifactService/IsDirectory")
    if operation == "Delete":  # what is beneath the key, and whether the object is gone
        expected |= {f"/artifact.ArtifactService/{asked}" for asked in ("ListObjects", "IsDirectory", "OpenStream")}
    root, below = spans_of(collector, id_of_last(stand.proxy, operation, stand.key(operation)), expected)
    assert (root.kind, root.status, root.attributes["rpc.response.status_code"]) == ("SERVER", "UNSET", "OK")
    assert root.name == f"/artifact.ArtifactService/{operation}"
    assert root.resource["argo.workflow.name"] == "train-7x2p"
    assert root.resource["service.name"] == "sealgate"
    assert {span.parent_id for span in below} == {root.span_id}
    names = {span.name for span in below}
    assert names - {"/artifact.ArtifactService/GetCapabilities"} == expected
    assert [span.kind for span in below if span.name.startswith("/")] == ["CLIENT"] * len(
        [name for name in names if name.startswith("/")]
    )
    for span in (root, *below):
        assert "rpc.grpc.status_code" not in span.attributes
        assert span.kind == "INTERNAL" or span.attributes["rpc.response.status_code"] == "OK"
    if names & {"seal", "open"}:
        assert root.attributes["sealgate.bytes.plaintext"] == LARGE
        assert root.attributes["sealgate.key.name"] == "default"
    record = [r for r in read(stand.proxy.trail) if r["metadata"].get("correlation_uid")][-1]
    assert record["unmapped"]["trace"] == {"trace_id": root.trace_id, "span_id": root.span_id}
    if operation not in {"ListObjects", "IsDirectory"}:
        assert root.attributes["sealgate.audit.chain_uid"] == record["attestation_list"][0]["chain_uid"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_refusal_in_the_answer_is_an_error(stand, collector, operation):
    fault = "refuse-early" if stand.downstream_operation(operation) == "SaveStream" else "refuse"
    assert stand.attempt(operation, f"fault: {fault} on {stand.downstream_operation(operation)}").code != "OK"
    asked = f"/artifact.ArtifactService/{stand.downstream_operation(operation)}"
    root, below = spans_of(collector, id_of_last(stand.proxy, operation, stand.key(operation)), {asked})
    onward = [span for span in below if span.kind == "CLIENT" and span.name == asked]
    # A Load by stream that is refused asks for the manifest of a directory next, which is refused alike.
    assert len(onward) == (2 if (operation, asked.rpartition("/")[2]) == ("Load", "OpenStream") else 1)
    for span in (root, *onward):
        assert (span.status, span.attributes["error.type"]) == ("ERROR", "artifact_error")
        assert (span.message, span.events) == ("", [])
        assert span.attributes["rpc.response.status_code"] == "OK"
        assert "rpc.grpc.status_code" not in span.attributes


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_denial_is_the_callers_error_and_its_text_is_not_exported(traced, collector, operation):
    stand = Stand(traced, f"denied/../{operation}")
    assert stand.attempt(operation).code == "INVALID_ARGUMENT"
    root, below = spans_of(collector, id_of_last(traced, operation, stand.key(operation)))
    assert (root.status, root.message, root.events) == ("UNSET", "", [])
    assert root.attributes["rpc.response.status_code"] == "INVALID_ARGUMENT"
    assert root.attributes["sealgate.policy.code"] == "BAD_KEY"
    assert {span.name for span in below} == {"policy"}


def test_a_server_error_is_an_error_span_that_names_no_artifact(stand, collector):
    stored = stand.proxy.storage / stand.stored
    stored.write_bytes(stored.read_bytes()[:-5])
    for operation in ("Load", "OpenStream"):
        assert stand.attempt(operation).code == "DATA_LOSS"
        root, below = spans_of(collector, id_of_last(stand.proxy, operation, stand.stored))
        assert (root.status, root.message, root.events) == ("ERROR", "", [])
        assert root.attributes["error.type"] == "Tampered"
        (opened,) = [span for span in below if span.name == "open"]
        assert (opened.status, opened.attributes["error.type"]) == ("ERROR", "Tampered")
        assert stand.stored not in str((root, below))


def test_a_reader_that_goes_away_is_cancelled(stand, collector):
    argo = stand.proxy.argo()
    argo.save_stream(stand.stored, bytes(64 << 20))  # more than is buffered on the way to a reader
    frames = argo.frames(stand.stored)
    next(frames)
    frames.cancel()
    assert eventually(lambda: [r for r in read(stand.proxy.trail) if r.get("status_code") == "CANCELLED"])
    root, below = spans_of(collector, id_of_last(stand.proxy, "OpenStream", stand.stored), {"open"})
    assert root.attributes["rpc.response.status_code"] == "CANCELLED"
    assert root.status == "UNSET"
    assert not [span for span in below if "rpc.grpc.status_code" in span.attributes]
    if stand.downstream_operation("OpenStream") == "OpenStream":
        (onward,) = [span for span in below if span.name == "/artifact.ArtifactService/OpenStream"]
        assert onward.attributes["rpc.response.status_code"] == "CANCELLED"


@pytest.mark.parametrize("operation", ["IsDirectory", "OpenStream", "Save"])
def test_a_downstream_that_dies_is_an_error_on_the_client_span(start_traced, collector, key, operation):
    stand = filled(start_traced(), key)
    assert stand.attempt(operation, f"fault: die on {stand.downstream_operation(operation)}").code == "UNAVAILABLE"
    asked = f"/artifact.ArtifactService/{stand.downstream_operation(operation)}"
    _, below = spans_of(collector, id_of_last(stand.proxy, operation, stand.key(operation)), {asked})
    (onward,) = [span for span in below if span.kind == "CLIENT" and span.name == asked]
    assert (onward.status, onward.message, onward.events) == ("ERROR", "", [])
    assert onward.attributes["rpc.response.status_code"] == "UNAVAILABLE"
    assert onward.attributes["error.type"].lower() == "unavailable"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_answer_after_the_deadline_is_not_a_success(stand, collector, operation):
    before = len(read(stand.proxy.trail))
    fault = f"fault: hang on {stand.downstream_operation(operation)}"
    assert stand.attempt(operation, fault, timeout=1).code == "DEADLINE_EXCEEDED"

    def recorded():
        return [r for r in read(stand.proxy.trail)[before:] if r["unmapped"]["phase"] == "outcome"]

    assert eventually(recorded)
    (record,) = recorded()
    assert (record["status_code"], record["status_detail"]) == ("DEADLINE_EXCEEDED", "DeadlineExceeded")
    asked = f"/artifact.ArtifactService/{stand.downstream_operation(operation)}"
    root, below = spans_of(collector, record["metadata"]["correlation_uid"], {asked})
    assert root.attributes["rpc.response.status_code"] == "DEADLINE_EXCEEDED"
    (onward,) = [span for span in below if span.kind == "CLIENT" and span.name == asked]
    # The stream ends by the deadline or by the end of the call above it, whichever comes first.
    assert onward.attributes["rpc.response.status_code"] in {"DEADLINE_EXCEEDED", "CANCELLED"}
    assert onward.status == "ERROR"


def test_the_callers_trace_continues(stand, collector):
    metadata = (("traceparent", TRACEPARENT), ("x-own", "1"), ("x-own", "2"))
    argo = stand.proxy.argo()
    request = pb.IsDirectoryRequest(artifact=argo.artifact(stand.stored))
    argo.unary("IsDirectory", request, pb.IsDirectoryResponse, metadata=metadata)
    root, _ = spans_of(collector, id_of_last(stand.proxy, "IsDirectory", stand.stored))
    assert (root.trace_id, root.parent_id) == (TRACE, PARENT)


def start(home, environment, **options):
    return Proxy(home, environment={"VENDOR_STREAMS": "1", **environment}, **options).start()


def test_without_a_trace_context_the_environment_is_the_parent(tmp_path, collector):
    proxy = start(tmp_path, {**collector.environment(), "TRACEPARENT": TRACEPARENT})
    proxy.argo().is_directory("ns/of-the-environment")
    root, _ = spans_of(collector, id_of_last(proxy, "IsDirectory", ""))
    assert (root.trace_id, root.parent_id) == (TRACE, PARENT)
    proxy.stop()


def test_spans_are_exported_over_http(tmp_path):
    with Collector(http=True) as collector:
        proxy = start(tmp_path, collector.environment())
        proxy.argo().is_directory("ns/a")
        root, _ = spans_of(collector, id_of_last(proxy, "IsDirectory", ""))
        assert root.kind == "SERVER"
        proxy.stop()


@pytest.mark.parametrize("container", ["init-artifact-crypt", "artifact-plugin-crypt"])
def test_spans_are_exported_before_the_answer_in_a_pod(tmp_path, collector, container):
    environment = {**collector.environment(), "ARGO_CONTAINER_NAME": container, "ARGO_POD_NAME": "pod"}
    proxy = start(tmp_path, environment)
    proxy.argo().is_directory("ns/a")
    call_id = id_of_last(proxy, "IsDirectory", "")
    assert [span for span in collector.spans() if span.attributes.get("sealgate.call.id") == call_id]
    proxy.kill()
    proxy.stop()


def test_remaining_spans_are_exported_at_the_end(tmp_path, collector):
    environment = {**collector.environment(), "ARGO_CONTAINER_NAME": "artifact-plugin-crypt", "ARGO_NODE_ID": "1"}
    proxy = start(tmp_path, environment)
    proxy.argo().is_directory("ns/a")
    assert proxy.stop() == 0
    spans_of(collector, id_of_last(proxy, "IsDirectory", ""))


@pytest.mark.parametrize("fault", ["absent", "hangs"])
@pytest.mark.parametrize("container", ["init-artifact-crypt", "artifact-plugin-crypt"])
def test_an_absent_collector_fails_no_call_and_gets_later_telemetry(tmp_path, fault, container):
    collector = Collector()
    if fault == "hangs":
        collector.start().hanging.set()
    environment = {
        **collector.environment(),
        "ARGO_CONTAINER_NAME": container,
        "ARGO_NODE_ID": "1",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "10000",  # milliseconds; the library would read seconds
        "OTEL_METRIC_EXPORT_INTERVAL": "100",
    }
    settings = {"audit": {"sinks": [{"type": "stdout"}, {"type": "otlp"}]}, "telemetry": {"metrics": "otlp"}}
    proxy = start(tmp_path, environment, settings=settings)
    source = proxy.work / "source"
    source.write_bytes(b"some bytes")
    for number in range(5):
        assert outcome(lambda number=number: proxy.argo(timeout=30).save(f"ns/{number}", source)).code == "OK"
    collector.come_back()
    collector.messages.clear()

    def all_three_come():
        proxy.argo().is_directory("ns/a")
        call_id = id_of_last(proxy, "IsDirectory", "")
        spans = [span for span in collector.spans() if span.attributes.get("sealgate.operation") == "IsDirectory"]
        copies = [record for record in collector.records() if call_id in record.body.string_value]
        counted = [metric for metric in collector.metrics() if "IsDirectory" in str(metric)]
        return spans and copies and counted

    assert eventually(all_three_come, seconds=90), collector.messages
    assert "Traceback" not in proxy.output()
    assert proxy.stop() == 0
    collector.stop()


@pytest.mark.parametrize("variable", [None, "OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"])
def test_opentelemetry_is_loaded_only_with_a_destination_for_spans(tmp_path, collector, variable):
    environment = {"OTEL_SDK_DISABLED": {**collector.environment(), "OTEL_SDK_DISABLED": "true"}}
    environment |= {"OTEL_TRACES_EXPORTER": {**collector.environment(), "OTEL_TRACES_EXPORTER": "none"}, None: {}}
    proxy = start(tmp_path, {**environment[variable], "PYTHONPROFILEIMPORTTIME": "1"})
    proxy.argo().save_stream("ns/a", b"some bytes")
    proxy.stop()
    assert "cryptography" in proxy.output()
    assert "opentelemetry" not in proxy.output()


@pytest.mark.parametrize(
    "bad",
    [
        {"OTEL_BSP_MAX_QUEUE_SIZE": "100"},
        {"OTEL_BSP_SCHEDULE_DELAY": "0"},
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"},
        {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "x"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
    ],
    ids=lambda bad: ",".join(bad.values()),
)
def test_a_variable_that_the_library_refuses_does_not_stop_the_plugin(tmp_path, bad):
    settings = {
        "audit": {"sinks": [{"type": "stdout"}, {"type": "otlp"}]},
        "telemetry": {"metrics": "otlp"},
    }
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", **bad}
    proxy = Proxy(tmp_path, settings=settings, environment=environment).start()
    proxy.argo().save_stream("ns/a", b"some bytes")
    assert proxy.argo().open_stream("ns/a") == b"some bytes"
    assert proxy.stop() == 0
    log = proxy.log.read_text()
    assert "not exported" in log
    assert "Traceback" not in log
    assert "http://[" not in log
