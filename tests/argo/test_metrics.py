"""Metrics and copies of the audit trail that a running proxy exports, and the names in the chart's dashboard."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml
from harness.chain import Proxy, eventually
from harness.otlp import Collector, value_of
from harness.outcome import outcome

from sealgate.telemetry import names

ROOT = Path(__file__).parents[2]


def exercise(proxy: Proxy) -> Proxy:
    argo = proxy.argo()
    argo.save_stream("ns/a", bytes(100_000))
    argo.open_stream("ns/a")
    assert outcome(lambda: argo.load("a/../b", proxy.work / "x")).code == "INVALID_ARGUMENT"
    assert outcome(lambda: argo.open_stream("ns/absent")).code != "OK"
    return proxy


def points(metric):
    kind = metric.WhichOneof("data")
    return [
        ({item.key: value_of(item.value) for item in point.attributes}, point)
        for point in getattr(metric, kind).data_points
    ]


def test_pushed_metrics_are_deltas_and_name_no_pod(tmp_path):
    with Collector() as collector:
        environment = {**collector.environment(), "ARGO_WORKFLOW_NAME": "train-7x2p", "ARGO_POD_NAME": "pod-1"}
        proxy = exercise(Proxy(tmp_path, settings={"telemetry": {"metrics": "otlp"}}, environment=environment).start())
        assert proxy.stop() == 0
        found = {metric.name: metric for metric in collector.metrics()}
        resources = str([m for m in collector.messages if "Metrics" in type(m).__name__])
    assert set(found) == {
        names.CALL_DURATION,
        names.ARTIFACT_SIZE,
        names.DECISIONS,
        names.AUDIT_RECORDS,
    }
    calls = points(found[names.CALL_DURATION])
    assert sum(point.count for _, point in calls) == 4
    assert {a[names.STATUS_CODE] for a, _ in calls} == {"OK", "INVALID_ARGUMENT"}
    assert {a.get(names.ERROR_TYPE) for a, _ in calls} == {None, "BadRequest", "artifact_error"}
    assert found[names.CALL_DURATION].histogram.aggregation_temporality == 1  # delta
    sizes = {a[names.DIRECTION]: p.sum for a, p in points(found[names.ARTIFACT_SIZE])}
    assert sizes == {"write": 100_000, "read": 100_000}
    assert found[names.ARTIFACT_SIZE].WhichOneof("data") == "exponential_histogram"
    records = {a[names.PHASE]: p.as_int for a, p in points(found[names.AUDIT_RECORDS])}
    assert records == {"attempt": 3, "outcome": 4}
    assert "train-7x2p" not in resources
    assert "pod-1" not in resources
    assert "ns/a" not in resources


@pytest.mark.parametrize("container", ["init-artifact-crypt", "artifact-plugin-crypt"])
def test_metrics_are_exported_before_the_answer_in_a_pod(tmp_path, container):
    with Collector() as collector:
        environment = {**collector.environment(), "ARGO_CONTAINER_NAME": container, "ARGO_POD_NAME": "pod"}
        environment["OTEL_METRIC_EXPORT_INTERVAL"] = "3600000"
        settings = {"telemetry": {"metrics": "otlp"}}
        proxy = Proxy(tmp_path, settings=settings, environment=environment).start()
        proxy.argo().is_directory("ns/a")
        proxy.kill()
        proxy.stop()
        assert names.CALL_DURATION in {metric.name for metric in collector.metrics()}


def test_the_environment_sets_the_interval_of_metrics(tmp_path):
    with Collector() as collector:
        environment = {**collector.environment(), "OTEL_METRIC_EXPORT_INTERVAL": "50"}
        proxy = Proxy(tmp_path, settings={"telemetry": {"metrics": "otlp"}}, environment=environment).start()
        argo = proxy.argo()

        def pushes():
            argo.is_directory("ns/a")
            return len([metric for metric in collector.metrics() if metric.name == names.CALL_DURATION])

        assert eventually(lambda: pushes() > 6, seconds=50), (
            "with the default interval of ten seconds there would be five"
        )
        proxy.stop()


def test_a_histogram_leads_to_a_trace(tmp_path):
    with Collector() as collector:
        settings = {"telemetry": {"metrics": "otlp"}}
        proxy = exercise(Proxy(tmp_path, settings=settings, environment=collector.environment()).start())
        assert proxy.stop() == 0
        assert eventually(collector.spans)
        (durations,) = [metric for metric in collector.metrics() if metric.name == names.CALL_DURATION]
        exemplars = {exemplar.trace_id.hex() for _, point in points(durations) for exemplar in point.exemplars}
        assert exemplars
        assert exemplars <= {span.trace_id for span in collector.spans()}


@pytest.fixture
def page(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {"telemetry": {"metrics": "prometheus", "prometheus": {"port": port}}}
    proxy = exercise(Proxy(tmp_path, settings=settings).start())
    yield lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode()
    assert proxy.stop() == 0


def test_prometheus_scrapes_the_same_metrics(page):
    text = page()
    assert re.search(
        r'rpc_server_call_duration_seconds_count\{.*rpc_method="artifact.ArtifactService/SaveStream".*\} 1', text
    )
    assert "sealgate_audit_records_total{" in text
    assert re.search(r'^sealgate_plugin_info\{name="[\w.-]+",version="', text, re.MULTILINE), "whose page it is"


METRICS = {
    names.CALL_DURATION,
    names.ARTIFACT_SIZE,
    names.VAULT_DURATION,
    names.DECISIONS,
    names.WOULD_DENY,
    names.AUDIT_RECORDS,
    names.AUDIT_FAILURES,
    names.PLAINTEXT_READS,
    names.DATA_KEYS,
}


def emitted() -> set[str]:
    """Return every metric of the code under its name in Prometheus."""
    units = {names.CALL_DURATION: "_seconds", names.VAULT_DURATION: "_seconds", names.ARTIFACT_SIZE: "_bytes"}
    plain = {value.replace(".", "_") + units.get(value, "_total") for value in METRICS}
    parts = {f"{name}{part}" for name in plain for part in ("_bucket", "_sum", "_count") if not name.endswith("_total")}
    return {*plain, *parts, names.PLUGIN_INFO}


def expressions(kind: str) -> list[str]:
    if kind == "dashboard":
        board = json.loads((ROOT / "charts/sealgate/files/dashboard.json").read_text())
        return [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    rules = yaml.safe_load((ROOT / "charts/sealgate/files/alerts.yaml").read_text())
    return [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


def test_every_metric_is_exposed_under_its_expected_name():
    """Run in a process of its own, because Prometheus's library has one registry for a process."""
    script = """
import socket, urllib.request
from sealgate.call import Call, Operation
from sealgate.telemetry.metrics import Metrics, Page
with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
metrics = Metrics(Page("127.0.0.1", port))
call = Call(Operation.LOAD)
call.sealed.files = call.sealed.unsealed_files = 1
call.keys.requests = call.keys.data_keys = call.keys.remembered = 1
call.decision.effective, call.decision.would_deny = "allow", ("tenants/own-prefix",)
metrics.ended(call, "OK", "")
metrics.recorded("outcome")
metrics.not_recorded("stdout", "full")
print(urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30).read().decode())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    seen = set(re.findall(r"^((?:sealgate|rpc_server)_\w+)\{", done.stdout, re.MULTILINE))
    assert seen == {name for name in emitted() if name.endswith(("_total", "_bucket", "_sum", "_count", "_info"))}


@pytest.mark.parametrize("kind", ["dashboard", "alerts"])
def test_the_dashboard_and_the_alerts_use_metrics_that_the_code_emits(kind):
    used = set()
    for expression in expressions(kind):
        found = set(re.findall(r"(?:sealgate|rpc_server)_\w+(?=\{|\[)", expression))
        assert found, expression
        used |= found
    assert used <= emitted(), used - emitted()


def test_prometheus_sees_only_expected_names(page):
    seen = set(re.findall(r"^((?:sealgate|rpc_server)_\w+)\{", page(), re.MULTILINE))
    assert seen
    assert seen <= emitted(), seen - emitted()


@pytest.mark.parametrize("kind", ["dashboard", "alerts"])
def test_the_dashboard_and_the_alerts_use_labels_that_the_code_emits(kind):
    labels = {value.replace(".", "_") for value in vars(names).values() if isinstance(value, str)} | {
        "le",
        "rule",
        "job",
    }
    for expression in expressions(kind):
        used = set(re.findall(r"(\w+)\s*(?:=~|!=|=)\s*\"", expression))
        for group in re.findall(r"by \(([^)]*)\)", expression):
            used |= {label.strip() for label in group.split(",")}
        assert used <= labels, (expression, used - labels)


def test_a_copy_of_the_trail_goes_to_a_collector(tmp_path):
    with Collector() as collector:
        settings = {"audit": {"sinks": [{"type": "stdout"}, {"type": "otlp"}]}}
        proxy = exercise(Proxy(tmp_path, settings=settings, environment=collector.environment()).start())
        assert proxy.stop() == 0
        assert [record.body.string_value for record in collector.records()] == proxy.trail.read_text().splitlines()
        assert {record.event_name for record in collector.records()} == {"sealgate.artifact.access"}


def test_a_copy_alone_is_refused(tmp_path):
    proxy = Proxy(tmp_path, settings={"audit": {"sinks": [{"type": "otlp"}]}}).start()
    found = outcome(lambda: proxy.argo().is_directory("ns/a"))
    assert found.code == "FAILED_PRECONDITION"
    assert "a collector may lose records" in found.text
    assert proxy.stop() == 0


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_LOGS_EXPORTER": "none"}])
def test_calls_work_where_the_environment_disables_copies(tmp_path, off):
    settings = {"audit": {"sinks": [{"type": "stdout"}, {"type": "otlp"}]}}
    proxy = exercise(Proxy(tmp_path, settings=settings, environment={**Collector().environment(), **off}).start())
    assert proxy.stop() == 0
    assert len(proxy.trail.read_text().splitlines()) == 9
    assert f"part=copies of the trail, reason={next(iter(off))} disables them" in proxy.output()


@pytest.mark.parametrize(
    ("environment", "why"),
    [
        ({}, "set OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_METRICS_EXPORTER": "none"}, "OTEL_METRICS_EXPORTER disables them"),
    ],
)
def test_metrics_without_a_destination_are_warned_about_once(tmp_path, environment, why):
    settings = {"telemetry": {"metrics": "otlp"}}
    proxy = exercise(Proxy(tmp_path, settings=settings, environment=environment).start())
    assert proxy.stop() == 0
    assert proxy.output().count(f"WARNING sealgate: telemetry is not exported: part=metrics, reason={why}") == 1


RESOURCE = "k8s.pod.name=pod-7,argo.workflow.name=train,deployment.environment=prod"


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "sealgate"),
        ({"OTEL_SERVICE_NAME": "mine"}, "mine"),
        ({"OTEL_RESOURCE_ATTRIBUTES": f"service.name=theirs,{RESOURCE}"}, "theirs"),
        ({"OTEL_RESOURCE_ATTRIBUTES": f"service.name=theirs,{RESOURCE}", "OTEL_SERVICE_NAME": "mine"}, "mine"),
    ],
)
def test_traces_metrics_and_copies_name_the_service_alike(tmp_path, environment, name):
    settings = {"audit": {"sinks": [{"type": "stdout"}, {"type": "otlp"}]}, "telemetry": {"metrics": "otlp"}}
    with Collector() as collector:
        proxy = Proxy(tmp_path, settings=settings, environment={**collector.environment(), **environment}).start()
        proxy.argo().is_directory("ns/a")
        assert proxy.stop() == 0
        resources = collector.resources()
    assert set(resources) == {"Trace", "Metrics", "Logs"}
    assert {resource["service.name"] for resource in resources.values()} == {name}
    if "OTEL_RESOURCE_ATTRIBUTES" in environment:
        assert {resource["deployment.environment"] for resource in resources.values()} == {"prod"}
        assert resources["Trace"]["k8s.pod.name"] == "pod-7"
        assert not {"k8s.pod.name", "argo.workflow.name"} & set(resources["Metrics"])


def test_a_copy_that_does_not_arrive_delays_no_call(tmp_path):
    settings = {"audit": {"sinks": [{"type": "stdout"}, {"type": "otlp"}]}}
    proxy = exercise(Proxy(tmp_path, settings=settings, environment=Collector().environment()).start())
    assert proxy.stop() == 0
    assert len(proxy.trail.read_text().splitlines()) == 9


def test_a_record_that_a_sink_does_not_accept_is_counted(tmp_path):
    sinks = [{"type": "file", "path": str(tmp_path / "absent" / "audit.jsonl")}]
    settings = {"audit": {"sinks": sinks, "mode": "fail-open"}, "telemetry": {"metrics": "otlp"}}
    with Collector() as collector:
        proxy = Proxy(tmp_path, settings=settings, environment=collector.environment()).start()
        proxy.argo().is_directory("ns/a")
        assert proxy.stop() == 0
        (failures,) = [metric for metric in collector.metrics() if metric.name == names.AUDIT_FAILURES]
    ((labels, point),) = points(failures)
    assert labels == {names.SINK: f"file {sinks[0]['path']}", names.REASON: "no such file or directory"}
    assert point.as_int >= 1


def test_a_record_that_could_not_be_signed_is_counted(tmp_path):
    settings = {
        "keys": {"provider": "vault", "vault": {"address": "http://127.0.0.1:1", "auth": {"method": "token"}}},
        "audit": {"signingKey": "audit"},
        "telemetry": {"metrics": "otlp"},
    }
    with Collector() as collector:
        environment = {**collector.environment(), "VAULT_TOKEN": "hvs.none"}
        proxy = Proxy(tmp_path, settings=settings, environment=environment).start()
        assert outcome(lambda: proxy.argo().is_directory("ns/a")).code == "UNAVAILABLE"
        assert proxy.stop() == 0
        (failures,) = [metric for metric in collector.metrics() if metric.name == names.AUDIT_FAILURES]
    ((labels, _),) = points(failures)
    assert labels == {names.SINK: "none", names.REASON: "the certifying key does not answer"}


def test_a_taken_port_of_the_metrics_page_does_not_stop_a_plugin(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = {"telemetry": {"metrics": "prometheus", "prometheus": {"port": taken.getsockname()[1]}}}
        proxy = exercise(Proxy(tmp_path, settings=settings).start())
        assert proxy.stop() == 0
    assert "ERROR sealgate: telemetry is not exported: part=metrics, reason=address already in use" in proxy.output()
    assert "Traceback" not in proxy.log.read_text()
