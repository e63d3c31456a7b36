"""Keys are rotated in Vault, and stored artifacts are rewrapped by a Job."""

from __future__ import annotations

import json
import re

from cluster.images import SEALGATE
from cluster.kubernetes import NotYet, until
from cluster.scene import Scene, bucket_environment
from cluster.workflows import plugin, step


def test_after_rotation_and_rewrap_as_a_job_the_old_version_is_not_needed(installed: Scene):
    write = step("write", "echo x > /tmp/out", outputs={"it": {"path": "/tmp/out", "archive": {"none": {}}}})
    key = installed.submit("team-a", write).succeeded().key("write", "it")
    before = installed.content(key)
    installed.vault.post("transit/keys/artifacts/rotate")
    _rewrapper(installed)
    installed.client.apply(_job(installed), namespace="team-a")
    until("the Job ends", lambda: _complete(installed))
    printed = installed.client.run("logs", "job/rewrap", "--namespace", "team-a")
    assert re.search(r"\b[1-9]\d*\b", printed), printed
    assert installed.content(key) != before, printed
    newest = installed.vault.api("GET", "transit/keys/artifacts")["data"]["latest_version"]
    installed.vault.post("transit/keys/artifacts/config", {"min_decryption_version": newest})
    try:
        read = step("read", "test $(cat /tmp/in) = x", inputs={"it": {"path": "/tmp/in", **plugin(key)}})
        installed.submit("team-a", read).succeeded()
    finally:
        installed.vault.post("transit/keys/artifacts/config", {"min_decryption_version": 1})


def _rewrapper(scene: Scene) -> None:
    role = {
        "bound_service_account_names": "rewrapper",
        "bound_service_account_namespaces": "team-a",
        "token_policies": "sealgate-rewrapper",
        "token_ttl": "1h",
    }
    scene.vault.post("auth/kubernetes/role/rewrapper", role)
    scene.client.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "rewrapper"}}, namespace="team-a"
    )


def _job(scene: Scene) -> dict:
    settings = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "Sealgate",
        "downstream": {"command": ["sealgate", "backend"]},
        "keys": {
            "provider": "vault",
            "vault": {
                "address": scene.vault_address,
                "caBundle": scene.authority.read_text(),
                "key": "artifacts",
                "auth": {"method": "kubernetes", "role": "rewrapper"},
            },
        },
    }
    container = {
        "name": "rewrap",
        "image": SEALGATE,
        "command": ["sealgate", "rewrap"],
        "args": ["team-a"],
        "env": [{"name": "SEALGATE_CONFIG_YAML", "value": json.dumps(settings)}, *bucket_environment(scene.s3)],
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": {"runAsUser": 8737, "readOnlyRootFilesystem": True},
    }
    pod = {
        "serviceAccountName": "rewrapper",
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "rewrap"},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }


def _complete(scene: Scene) -> None:
    status = scene.client.get("job", "rewrap", "team-a")["status"]
    if status.get("failed"):
        raise AssertionError(scene.client.run("logs", "job/rewrap", "--namespace", "team-a"))
    if not status.get("succeeded"):
        raise NotYet(json.dumps(status))
