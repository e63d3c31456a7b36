"""The queries of the dashboard and the alerts parse, and use metrics that exist."""

import json
import re
import shutil
import subprocess

import promql_parser
import pytest
import yaml
from harness.rendering import CHART

from sealgate.telemetry import names

pytestmark = pytest.mark.timeout(900, func_only=False)

SECONDS, BYTES, COUNTER = "_seconds", "_bytes", "_total"
METRICS = {
    names.CALL_DURATION + SECONDS: (names.RPC_SYSTEM, names.RPC_METHOD, names.STATUS_CODE, names.ERROR_TYPE),
    names.ARTIFACT_SIZE + BYTES: (names.OPERATION, names.DIRECTION),
    names.VAULT_DURATION + SECONDS: (names.OPERATION, names.STATUS_CODE),
    names.DECISIONS + COUNTER: (names.OPERATION, names.DECISION, names.CODE, names.MODE),
    names.WOULD_DENY + COUNTER: (names.POLICY, names.RULE),
    names.AUDIT_RECORDS + COUNTER: (names.PHASE,),
    names.AUDIT_FAILURES + COUNTER: (names.SINK, names.REASON),
    names.PLAINTEXT_READS + COUNTER: (names.POLICY,),
    names.DATA_KEYS + COUNTER: (names.SOURCE,),
}
"""The instruments of Sealgate and their attributes. Prometheus adds the unit, and replaces dots by underscores."""
METRICS = {
    metric.replace(".", "_"): {name.replace(".", "_") for name in attributes} for metric, attributes in METRICS.items()
}


def queries():
    dashboard = json.loads((CHART / "files" / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield (
                panel["title"],
                target["expr"].replace("$__rate_interval", "5m").replace("$__range", "1d"),
                target["legendFormat"],
            )
    for group in yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"], json.dumps(rule["annotations"])


CASES = [pytest.param(query, text, id=title) for title, query, text in queries()]


@pytest.mark.parametrize(("query", "text"), CASES)
def test_a_query_parses_and_uses_existing_metrics(query, text):
    promql_parser.parse(query)
    metrics = re.findall(r"\b((?:rpc_server|sealgate)_\w+)[\[{]", query)
    (name,) = {re.sub(r"_(bucket|count|sum)$", "", metric) for metric in metrics}
    assert name in METRICS
    asked = {name.strip() for names in re.findall(r"\bby \(([^)]*)\)", query) for name in names.split(",")}
    asked |= set(re.findall(r"(\w+)(?==~?\"|!=\")", query))
    assert asked - {"le"} <= METRICS[name]
    shown = set(re.findall(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}", text))
    assert shown <= asked, "the query must keep each label that is shown"


def test_queries_of_the_sizes_read_those_that_pods_push_too():
    """Pods push them as an exponential histogram, which Prometheus keeps as one series without the ending `_sum`."""
    asking = [query for _, query, _ in queries() if "sealgate_artifact_size_bytes" in query]
    assert asking
    for query in asking:
        assert "rate(sealgate_artifact_size_bytes_sum{" in query
        assert "histogram_sum(rate(sealgate_artifact_size_bytes{" in query


ALERTS = CHART / "files" / "alerts.yaml"
FIRST_COUNTS = {
    "SealgateAuditBlocked": 'sealgate_audit_failures_total{sealgate_audit_sink="stdout",sealgate_audit_reason="full"}',
    "SealgatePlaintextReads": 'sealgate_plaintext_reads_total{sealgate_policy_name="migration"}',
    "SealgateTamperedArtifacts": 'rpc_server_call_duration_seconds_count{rpc_response_status_code="DATA_LOSS"}',
}
"""Alerts that must fire at the first count, each with a series that begins at one."""


def test_an_alert_on_any_increase_notices_a_series_that_begins_at_one():
    rules = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
    asking = {rule["alert"]: rule["expr"] for rule in rules if "increase(" in rule["expr"]}
    assert set(asking) == set(FIRST_COUNTS)
    for alert, query in asking.items():
        assert re.search(r"\bor\b.*\bunless\b.*\boffset\b", query, re.DOTALL), alert


@pytest.mark.parametrize("alert", FIRST_COUNTS)
def test_prometheus_fires_at_the_first_count_and_then_stops(tmp_path, alert):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed, so the alerts are not tested")

    def firing(series, minute):
        """Return whether the alert fires, by a test case of promtool that expects that it does not."""
        case = {
            "rule_files": [str(ALERTS)],
            "tests": [
                {
                    "interval": "1m",
                    "input_series": [{"series": FIRST_COUNTS[alert], "values": series}],
                    "alert_rule_test": [{"eval_time": f"{minute}m", "alertname": alert, "exp_alerts": []}],
                }
            ],
        }
        (tmp_path / "case.yaml").write_text(yaml.safe_dump(case))
        done = subprocess.run(
            [promtool, "test", "rules", str(tmp_path / "case.yaml")], capture_output=True, check=False
        )
        assert done.returncode == 0 or b"got:" in done.stdout + done.stderr, done
        return done.returncode != 0

    begins = "_x20 1x300"
    assert not firing(begins, 19)
    assert firing(begins, 22)
    assert not firing(begins, 200)
    assert firing("5x200 6x100", 203)


def test_every_instrument_is_on_the_dashboard():
    text = (CHART / "files" / "dashboard.json").read_text()
    for metric in METRICS:
        assert metric in text, metric


def test_the_alerts_are_a_prometheus_rule(of):
    rule = of("everything").the("PrometheusRule")
    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    assert rule["metadata"]["labels"]["release"] == "prometheus"
    assert set(rule["spec"]) == {"groups"}
    for group in rule["spec"]["groups"]:
        assert set(group) == {"name", "rules"}
        for one in group["rules"]:
            assert (
                {"alert", "expr", "labels", "annotations"}
                <= set(one)
                <= {"alert", "expr", "for", "labels", "annotations"}
            )
            assert one["labels"]["severity"] in {"critical", "warning", "info"}
            assert {"summary", "description"} == set(one["annotations"])


def test_the_dashboard_has_the_label_that_grafana_selects(of):
    found = of("everything").the("ConfigMap", "-dashboard")
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert found["metadata"]["namespace"] == "monitoring"
    assert json.loads(found["data"]["sealgate.json"])["uid"] == "sealgate"


def test_dashboard_and_alerts_are_off_by_default(of):
    assert not of("default").has("PrometheusRule")
    assert not of("default").has("ConfigMap", "-dashboard")
