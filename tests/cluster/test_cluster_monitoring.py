"""A Prometheus that receives what the pods push answers the dashboard's queries, and its alerts fire."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster.kubernetes import NotYet, until
from cluster.prometheus import Prometheus, prometheus, pushing_to
from cluster.scene import BUCKET, PREFIX, Scene
from cluster.settings import ADDRESS
from cluster.test_cluster_placements import upgrade
from cluster.workflows import plugin, step, steps

LISTEN = f"{ADDRESS}:9090"
TRIAL, OLD = "team-a/trial/it", "team-a/old/it"
POLICY = {
    "apiVersion": "sealgate/v1alpha1",
    "kind": "ArtifactPolicy",
    "metadata": {"name": "a-migration"},
    "spec": {
        "rules": [{"name": "later", "effect": "deny", "enforcement": "shadow", "match": {"keys": ["team-a/trial/**"]}}],
        "encryption": [{"name": "old", "match": {"keys": ["team-a/old/**"]}, "readPlaintext": "allow"}],
    },
}
"""A rule on trial, and a prefix of artifacts that another plugin stored: each has a metric of its own."""
FIRING = {"SealgatePlaintextReads", "SealgateTamperedArtifacts"}
QUIET = "Audit records not written"
"""The one panel that shows nothing while nothing is wrong with the audit trail."""
RULES = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "prometheusrules.monitoring.coreos.com"},
    "spec": {
        "group": "monitoring.coreos.com",
        "scope": "Namespaced",
        "names": {"kind": "PrometheusRule", "plural": "prometheusrules", "singular": "prometheusrule"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}
"""Stands in for the definition that Prometheus' operator brings."""


@pytest.fixture(scope="module")
def monitored(installed: Scene, place: Path) -> Iterator[tuple[Scene, Prometheus]]:
    """The installation with metrics, dashboard and alerts, and a Prometheus with the alerts of the cluster."""
    installed.client.apply(RULES)
    before, first = installed.values(), installed.clone / "first/values.yaml"
    first_before = first.read_text()
    values = installed.values()
    values["configuration"]["telemetry"] = {"metrics": "otlp"}
    values["environment"] += pushing_to(LISTEN)
    values["monitoring"] = {"dashboard": {"enabled": True}, "alerts": {"enabled": True}}
    generated = yaml.safe_load(first_before)
    generated["configuration"]["policies"].append(POLICY)
    installed.write_values(values)
    first.write_text(yaml.safe_dump(generated))
    try:
        upgrade(installed)
        (rules,) = installed.client.list("prometheusrules")
        with prometheus(place, rules["spec"], LISTEN) as running:
            for _ in range(2):  # a rate needs two values of a series
                _accesses(installed)
            yield installed, running
    finally:
        installed.write_values(before)
        first.write_text(first_before)


def _accesses(scene: Scene) -> None:
    """Save and load, read what is stored unsealed, and try to load what was changed in the bucket."""
    scene.s3.client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{OLD}", Body=b"stored by another plugin\n")
    write = step("write", "echo x > /tmp/out", outputs={"it": {"path": "/tmp/out", **_whole(TRIAL)}})
    look = "test $(cat /tmp/in) = x; grep -q another /tmp/old"
    read = step("read", look, inputs={"it": "/tmp/in", "old": {"path": "/tmp/old", **plugin(OLD)}})
    scene.submit("team-a", *steps(write, read, passes={"it": "it"})).succeeded()
    changed = bytearray(scene.content(TRIAL))
    changed[-1] ^= 1
    scene.s3.client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{TRIAL}", Body=bytes(changed))
    again = step("again", "cat /tmp/in", inputs={"it": {"path": "/tmp/in", **plugin(TRIAL)}})
    failed = scene.submit("team-a", again).ended()
    assert "fails authentication" in failed.messages(), failed.messages()


def _whole(key: str) -> dict[str, Any]:
    return {"archive": {"none": {}}, **plugin(key)}


def test_each_query_of_the_dashboard_is_answered(monitored: tuple[Scene, Prometheus]):
    scene, running = monitored
    (found,) = scene.client.list("configmaps", selector="grafana_dashboard=1")
    panels = json.loads(found["data"]["sealgate.json"])["panels"]
    asked = [(panel["title"], _over_an_hour(target["expr"])) for panel in panels for target in panel["targets"]]
    assert len(asked) >= len(panels) > 1

    def answered(title: str, query: str) -> None:
        series = running.query(query)
        if not series and title != QUIET:
            raise NotYet("no series")
        assert bool(series) == (title != QUIET), series

    for title, query in asked:
        until(f"Prometheus has series for {title}", lambda title=title, query=query: answered(title, query))


def _over_an_hour(query: str) -> str:
    """Return a query of the dashboard with what Grafana fills in."""
    return query.replace("$__rate_interval", "1h").replace("$__range", "1h")


def test_each_alert_is_evaluated_and_those_on_what_happened_fire(monitored: tuple[Scene, Prometheus]):
    _, running = monitored

    def evaluated() -> None:
        rules = running.rules()
        assert not [rule for rule in rules.values() if rule["health"] == "err"], rules
        states = {name: (rule["health"], rule["state"]) for name, rule in rules.items()}
        firing = {name for name, (_, state) in states.items() if state == "firing"}
        if {health for health, _ in states.values()} != {"ok"} or firing < FIRING:
            raise NotYet(f"{states}")
        assert firing == FIRING, states
        assert states["SealgateWouldDeny"][1] == "pending", "it fires after 15 minutes"

    until("the alerts fire", evaluated)


def test_the_pods_name_no_metric_that_prometheus_refuses(monitored: tuple[Scene, Prometheus], place: Path):
    lines = (place / "logs" / "prometheus").read_text().splitlines()
    assert not [line for line in lines if "level=ERROR" in line or "level=WARN" in line]
