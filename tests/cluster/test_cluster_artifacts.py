"""Artifacts between the steps of workflows, with the bucket and the audit trail looked at from outside."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
from cluster.kubernetes import NotYet, until
from cluster.report import Report
from cluster.scene import SEALED, Scene
from cluster.workflows import Workflow, plugin, step, steps
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

GIGABYTE = 1 << 30
WORD = "a sentence that no one may find in the bucket"


def sealed(scene: Scene, key: str) -> None:
    """Require that everything at and beneath a key is sealed."""
    stored = scene.stored(key)
    assert stored, f"nothing is stored at {key}"
    for name, content in stored.items():
        assert content.startswith(SEALED), name
        assert WORD.encode() not in content, name


def verified(scene: Scene, workflow: Workflow, place: Path) -> list[dict]:
    """Verify the audit trail of a workflow with the key in Vault, and return its records."""
    trail = place / f"{workflow.name}.jsonl"
    trail.write_text(workflow.trail_text())
    key = scene.vault.api("GET", "transit/keys/audit")["data"]["keys"]["1"]["public_key"]
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key))
    certifier = place / "certifier.pem"
    certifier.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    command = [sys.executable, "-m", "sealgate", "audit", "verify", "--certifier", str(certifier), str(trail)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return workflow.trail()


def test_a_file_passes_from_one_step_to_the_next_and_is_sealed_in_the_bucket(
    installed: Scene, report: Report, tmp_path: Path
):
    write = step("write", f"echo '{WORD}' > /tmp/out", outputs={"it": "/tmp/out"})
    read = step("read", f"grep -q '{WORD}' /tmp/in", inputs={"it": "/tmp/in"})
    workflow = installed.submit("team-a", *steps(write, read, passes={"it": "it"})).succeeded()
    sealed(installed, workflow.key("write", "it"))
    report.saw("builtin, with policies", "save", "passed")
    report.saw("builtin, with policies", "load", "passed")
    records = verified(installed, workflow, tmp_path)
    operations = {
        (each["api"]["operation"], each.get("status")) for each in records if "operation" in each.get("api", {})
    }
    assert {("Save", "Success"), ("Load", "Success")} <= operations
    accounts = {str(each["actor"].get("user", each["actor"])) for each in records if "actor" in each}
    assert any("argo-workflow" in each for each in accounts), accounts


def test_a_directory_comes_back_with_its_files_and_empty_directories(installed: Scene, report: Report):
    make = (
        "mkdir -p /tmp/out/a/b /tmp/out/empty; for n in $(seq 40); do echo $n > /tmp/out/a/$n; done; "
        "echo x > '/tmp/out/a/b/ü ñ'"
    )
    look = (
        "test -d /tmp/in/empty; test $(ls /tmp/in/a | wc -l) = 41; test $(cat /tmp/in/a/40) = 40; "
        "test -f '/tmp/in/a/b/ü ñ'"
    )
    write = step("write", make, outputs={"it": {"path": "/tmp/out", "archive": {"none": {}}}})
    read = step("read", look, inputs={"it": {"path": "/tmp/in", "mode": 0o755}})
    workflow = installed.submit("team-a", *steps(write, read, passes={"it": "it"})).succeeded()
    key = workflow.key("write", "it")
    sealed(installed, key)
    assert len(installed.keys(key)) >= 41
    report.saw("builtin, with policies", "directory", "passed")


def test_a_directory_that_argo_packs_comes_back_unpacked(installed: Scene):
    write = step("write", "mkdir /tmp/out; echo one > /tmp/out/1", outputs={"it": "/tmp/out"})
    read = step("read", "test $(cat /tmp/in/1) = one", inputs={"it": "/tmp/in"})
    workflow = installed.submit("team-a", *steps(write, read, passes={"it": "it"})).succeeded()
    assert workflow.key("write", "it").endswith(".tgz")


def test_logs_are_saved_sealed(installed: Scene, report: Report):
    workflow = installed.submit("team-a", step("talk", f"echo '{WORD}'")).succeeded()
    key = workflow.key("talk", "main-logs")
    sealed(installed, key)
    report.saw("builtin, with policies", "log", "passed")


def test_a_result_of_a_step_reaches_the_next(installed: Scene):
    tell = step("tell", "echo 42")
    hear = step("hear", "test '{{inputs.parameters.it}}' = 42")
    hear["inputs"] = {"parameters": [{"name": "it"}]}
    templates = steps(tell, hear)
    templates[0]["dag"]["tasks"][1]["arguments"] = {
        "parameters": [{"name": "it", "value": "{{tasks.tell.outputs.result}}"}]
    }
    installed.submit("team-a", *templates).succeeded()


def test_an_optional_output_may_be_absent(installed: Scene):
    installed.submit(
        "team-a", step("write", "true", outputs={"it": {"path": "/tmp/out", "optional": True}})
    ).succeeded()


def test_the_mode_of_an_input_is_set(installed: Scene):
    write = step("write", "echo x > /tmp/out", outputs={"it": {"path": "/tmp/out", "archive": {"none": {}}}})
    read = step("read", "test $(stat -c %a /tmp/in) = 400", inputs={"it": {"path": "/tmp/in", "mode": 0o400}})
    installed.submit("team-a", *steps(write, read, passes={"it": "it"})).succeeded()


def test_a_cron_workflow_saves_as_well(installed: Scene):
    spec = {"entrypoint": "write", "templates": [step("write", "echo x > /tmp/out", outputs={"it": "/tmp/out"})]}
    manifest = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "CronWorkflow",
        "metadata": {"name": "minutely"},
        "spec": {"schedules": ["* * * * *"], "workflowSpec": spec},
    }
    installed.client.apply(manifest, namespace="team-a")

    def begun() -> Workflow:
        found = installed.client.list("workflows", "team-a", "workflows.argoproj.io/cron-workflow=minutely")
        if not found:
            raise NotYet("no workflow")
        return Workflow(installed.client, "team-a", found[0]["metadata"]["name"])

    workflow = until("the schedule starts a workflow", begun)
    installed.client.run("delete", "cronworkflow", "minutely", "--namespace", "team-a", "--cascade=orphan")
    workflow.succeeded()
    sealed(installed, workflow.key("write", "it"))


def test_a_refusal_of_a_policy_is_readable_in_the_message_of_the_node(installed: Scene, report: Report):
    # The policy of `sealgate init` lets Argo's server alone write where uploads are.
    write = step("write", "echo x > /tmp/out", outputs={"it": {"path": "/tmp/out", **plugin("uploads/team-a/x")}})
    workflow = installed.submit("team-a", write).ended()
    assert workflow.phase in {"Failed", "Error"}
    assert "uploads/team-a/x" in workflow.messages()
    assert "no allow rule covers this key for namespace team-a" in workflow.messages(), workflow.messages()
    assert not installed.keys("uploads/team-a/x")
    report.saw("builtin, with policies", "refusal", "passed")


def test_garbage_collection_deletes_what_the_workflow_stored(installed: Scene, report: Report):
    write = step("write", "echo x > /tmp/out", outputs={"it": "/tmp/out"})
    collection = {"strategy": "OnWorkflowDeletion", "serviceAccountName": "argo-artifact-gc"}
    workflow = installed.submit("team-a", write, artifactGC=collection).succeeded()
    key = workflow.key("write", "it")
    assert installed.keys(key)
    workflow.delete()
    assert not installed.keys(key)
    report.saw("builtin, with policies", "delete", "passed")


def test_pod_security_restricted_admits_the_pods_of_workflows(installed: Scene):
    secure = {
        "runAsNonRoot": True,
        "runAsUser": 8737,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    write = step("write", "echo x > /tmp/out", outputs={"it": "/tmp/out"})
    read = step("read", "test $(cat /tmp/in) = x", inputs={"it": "/tmp/in"})
    for template in (write, read):
        template["container"]["securityContext"] = secure
    collection = {"strategy": "OnWorkflowDeletion"}
    workflow = installed.submit("restricted", *steps(write, read, passes={"it": "it"}), artifactGC=collection)
    key = workflow.succeeded().key("write", "it")
    sealed(installed, key)
    workflow.delete()
    assert not installed.keys(key)


def test_a_gigabyte_comes_back(installed: Scene, report: Report):
    make = f"head -c {GIGABYTE} /dev/urandom > /tmp/out; sha256sum < /tmp/out"
    write = step("write", make, outputs={"it": {"path": "/tmp/out", "archive": {"none": {}}}})
    read = step("read", "sha256sum < /tmp/in", inputs={"it": {"path": "/tmp/in"}})
    workflow = installed.submit("team-a", *steps(write, read, passes={"it": "it"})).succeeded(1500)
    sums = [node["outputs"]["result"] for node in workflow.nodes() if "result" in node.get("outputs", {})]
    logs = workflow.logs()
    found = {line.split()[0] for line in logs.splitlines() if line.endswith("  -")}
    assert len(found) == 1, (sums, found)
    key = workflow.key("write", "it")
    assert installed.size(key) > GIGABYTE
    report.facts["stored bytes of an artifact of 1 GiB"] = f"{installed.size(key):,}"


def test_the_messages_of_nodes_contain_no_secret(installed: Scene):
    text = json.dumps(installed.client.list("workflows", "team-a"))
    assert "a-secret-key" not in text
    assert installed.vault.root not in text


@pytest.fixture(autouse=True)
def _vault_is_open(installed: Scene) -> None:
    assert not installed.vault.api("GET", "sys/seal-status")["sealed"]
