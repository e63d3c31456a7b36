"""Upgrade and removal by the commands of the page, while workflows are there and afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import yaml
from cluster import images
from cluster.scene import SEALED, Scene
from cluster.settings import ADDRESS
from cluster.test_cluster_placements import upgrade
from cluster.workflows import step, steps
from harness.otlp import Collector

ARGO = "argo"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector(host=ADDRESS) as running:
        yield running


def test_new_values_reach_the_next_workflow(installed: Scene, collector: Collector):
    values = installed.values()
    values["commonLabels"] = {"revision": "second"}
    values["plugin"] = {"connectionTimeoutSeconds": 12}
    values["environment"].append({"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": collector.endpoint})
    installed.write_values(values)
    upgrade(installed)
    _saves_and_loads(installed)


def test_a_collector_gets_one_trace_of_a_save_from_argos_call_to_vault(collector: Collector):
    traces: dict[str, set[str]] = {}
    for span in collector.spans():
        traces.setdefault(span.trace_id, set()).add(span.name)
    saves = [names for names in traces.values() if "/artifact.ArtifactService/Save" in names]
    assert saves, traces
    assert any(name.startswith("vault ") for names in saves for name in names), saves


def test_a_workflow_whose_pods_run_finishes_while_the_image_changes(installed: Scene):
    write = step("write", "sleep 40; echo x > /tmp/out", outputs={"it": "/tmp/out"})
    workflow = installed.submit("team-a", write)
    installed.client.run(
        "wait", "pod", "--namespace", "team-a", f"--selector=workflows.argoproj.io/workflow={workflow.name}",
        "--for=condition=Ready", "--timeout=120s",
    )  # fmt: skip
    _with_image(installed, images.SEALGATE_AGAIN)
    assert installed.content(workflow.succeeded().key("write", "it")).startswith(SEALED)
    _saves_and_loads(installed)


def test_the_old_image_comes_back_in_the_same_way(installed: Scene):
    _with_image(installed, images.SEALGATE)
    _saves_and_loads(installed)


def test_after_the_removal_by_the_page_the_controller_stays_up_and_nothing_else_is_left(installed: Scene):
    below = "**Removal.**"
    (installed.clone / "controller-before.yaml").is_file()
    installed.page.run_block("kubectl -n argo edit configmap", below=below)
    installed.client.rolled_out("workflow-controller", ARGO)
    installed.page.run_block("kubectl -n argo patch deployment argo-server", below=below)
    installed.client.rolled_out("argo-server", ARGO)
    installed.page.run_block("helm uninstall", below=below)
    done = installed.submit("team-a", step("talk", "echo hello"), serviceAccountName="default").ended()
    assert done.nodes(), "the controller does not work any more"
    server = json.dumps(installed.client.get("deployment", "argo-server", ARGO)["spec"])
    assert "sealgate" not in server
    left = [
        f"{kind}/{found['metadata']['name']}"
        for kind in ("configmaps", "serviceaccounts", "roles", "rolebindings", "validatingadmissionpolicies")
        for found in installed.client.list(kind)
        if "sealgate" in json.dumps([found["metadata"]["name"], found["metadata"].get("labels", {})])
    ]
    assert left in ([], ["configmaps/workflow-controller-configmap"]), left


def _with_image(scene: Scene, image: str) -> None:
    values = scene.values()
    repository, _, tag = image.rpartition(":")
    values["image"] = {"repository": repository, "tag": tag}
    scene.write_values(values)
    upgrade(scene)
    found = yaml.safe_load(scene.client.get("configmap", "workflow-controller-configmap", ARGO)["data"]["config"])
    assert image in json.dumps(found)


def _saves_and_loads(scene: Scene) -> None:
    write = step("write", "echo x > /tmp/out", outputs={"it": "/tmp/out"})
    read = step("read", "test $(cat /tmp/in) = x", inputs={"it": "/tmp/in"})
    workflow = scene.submit("team-a", *steps(write, read, passes={"it": "it"})).succeeded()
    assert scene.content(workflow.key("write", "it")).startswith(SEALED)
