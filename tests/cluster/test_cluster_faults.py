"""What goes wrong in a cluster: Vault is sealed, pods are killed, evicted and deleted."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cluster.kubernetes import NotYet, until
from cluster.scene import BUCKET, SEALED, Scene
from cluster.workflows import Workflow, records_of, step, steps

HUGE = 1 << 30
RETRIED = {"limit": "3", "retryPolicy": "Always", "backoff": {"duration": "2s"}}


def test_a_workflow_goes_on_after_vault_was_sealed_and_unsealed(installed: Scene):
    write = step("write", "sleep 8; echo x > /tmp/out", outputs={"it": "/tmp/out"}, retryStrategy=RETRIED)
    read = step("read", "test $(cat /tmp/in) = x", inputs={"it": "/tmp/in"}, retryStrategy=RETRIED)
    workflow = installed.submit("team-a", *steps(write, read, passes={"it": "it"}))
    until("the first step runs", lambda: _runs(workflow))
    installed.vault.seal()
    try:
        until("an attempt has failed", lambda: _failed(workflow))
    finally:
        installed.vault.unseal()
    workflow.succeeded()
    assert "sealed" in workflow.messages().lower() or "503" in workflow.messages(), workflow.messages()


def test_a_step_whose_pod_is_killed_while_it_saves_is_repeated(installed: Scene):
    workflow = _saves_for_long(installed)
    name, uid = until("the pod saves", lambda: _saving(installed, workflow))
    installed.client.run("delete", "pod", name, "--namespace", "team-a", "--force", "--grace-period=0")
    _ended_with_one_whole_artifact(installed, workflow)
    assert uid not in [pod["metadata"]["uid"] for pod in workflow.pods()], "the step was not repeated"


def test_a_step_whose_pod_is_evicted_while_it_saves_ends_with_a_whole_artifact(installed: Scene):
    workflow = _saves_for_long(installed)
    name, _ = until("the pod saves", lambda: _saving(installed, workflow))
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "team-a"}}
    path = f"/api/v1/namespaces/team-a/pods/{name}/eviction"
    installed.client.run("create", f"--raw={path}", "--filename=-", text=json.dumps(eviction))
    # The Save may be complete before the grace period ends. Then the step is not repeated.
    _ended_with_one_whole_artifact(installed, workflow)


@pytest.mark.parametrize("grace", [30, 1], ids=["grace of 30 s", "grace of 1 s"])
def test_a_pod_that_is_deleted_while_it_saves_stores_a_whole_artifact_or_none(
    installed: Scene, tmp_path: Path, grace: int
):
    """Its containers get SIGTERM, and SIGKILL after the grace period."""
    workflow = _saves_for_long(installed)
    name, _ = until("the pod saves", lambda: _saving(installed, workflow))
    with _followed(installed, name, tmp_path / "log"):
        installed.client.run("delete", "pod", name, "--namespace", "team-a", f"--grace-period={grace}")
    saves = [each for each in records_of((tmp_path / "log").read_text()) if _saves(each, "it")]
    (key,) = {each["resource"]["uid"] for each in saves}
    ends = {each.get("status") for each in saves}
    stored = installed.keys(key)
    assert stored <= {key}
    assert not ("Success" in ends and not stored), saves
    assert not ("Failure" in ends and stored), saves
    if stored:
        assert installed.content(key).startswith(SEALED)
        assert installed.size(key) > HUGE
    _ended_with_one_whole_artifact(installed, workflow)


def _saves(record: dict[str, Any], artifact: str) -> bool:
    return record.get("api", {}).get("operation") == "Save" and record["resource"].get("name") == artifact


@contextmanager
def _followed(scene: Scene, pod: str, file: Path) -> Iterator[None]:
    """Write the log of the plugin beside a step into a file, until the end of its container."""
    follow = ["kubectl", "logs", "--follow", pod, "--namespace=team-a", "--container=artifact-plugin-crypt"]
    with file.open("wb") as log:
        following = subprocess.Popen(follow, env=scene.client.environment, stdout=log, stderr=subprocess.DEVNULL)
    try:
        yield
        following.wait(120)
    finally:
        following.kill()
        following.wait()


def _saves_for_long(scene: Scene) -> Workflow:
    make = f"head -c {HUGE} /dev/zero > /data/out"
    volume = {"volumes": [{"name": "data", "emptyDir": {}}]}
    write = step("write", make, outputs={"it": {"path": "/data/out", "archive": {"none": {}}}}, retryStrategy=RETRIED)
    # Argo copies what is not on a volume once more before it saves.
    write["container"]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    return scene.submit("team-a", write, **volume)


def _saving(scene: Scene, workflow: Workflow) -> tuple[str, str]:
    """Return the name and the uid of the pod whose artifact is on its way to the bucket."""
    if not any(workflow.name in key for key in scene.s3.uploads(BUCKET)):
        raise NotYet("there is no upload")
    (pod,) = workflow.pods()
    return str(pod["metadata"]["name"]), str(pod["metadata"]["uid"])


def _ended_with_one_whole_artifact(scene: Scene, workflow: Workflow) -> None:
    workflow.succeeded(1200)
    pods = [node for node in workflow.nodes() if node["type"] == "Pod"]
    (good,) = [node for node in pods if node["phase"] == "Succeeded"]
    (artifact,) = [each for each in good["outputs"]["artifacts"] if each["name"] == "it"]
    key = artifact["plugin"]["key"]
    assert scene.content(key).startswith(SEALED)
    assert scene.size(key) > HUGE


def _runs(workflow: Workflow) -> None:
    phases = [node["phase"] for node in workflow.nodes() if node["type"] == "Pod"]
    if "Running" not in phases:
        raise NotYet(f"{phases}")


def _failed(workflow: Workflow) -> None:
    nodes: list[dict[str, Any]] = [node for node in workflow.nodes() if node["type"] == "Pod"]
    if not any(node["phase"] in {"Failed", "Error"} for node in nodes):
        raise NotYet(f"{[node['phase'] for node in nodes]}")
