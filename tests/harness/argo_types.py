"""Strict validation by Argo's types (of the version in tests/go/go.mod) and by Kubernetes' schemas."""

from __future__ import annotations

import subprocess
from typing import Any

import yaml
from harness.golang import judge


def require_controller(config: dict[str, Any]) -> None:
    """Fail if Argo's controller would refuse the configuration."""
    # Argo 4.1 has this field, and no published version of its types has it.
    assert config.get("initlessPod", {"enabled": True}) == {"enabled": True}
    _parse("Config", {name: value for name, value in config.items() if name != "initlessPod"})
    # Argo copies only these fields into a plugin's container (docs/argo-contract.md, 70).
    assert set(config["executor"]) <= {"args", "env", "image", "imagePullPolicy", "resources", "securityContext"}
    require_kubernetes(pod({"name": "executor", "image": "argoexec", **config["executor"]}))
    defaults = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {}, **config["workflowDefaults"]}
    require_workflow(defaults)


def require_workflow(document: dict[str, Any]) -> None:
    """Fail on unknown fields and wrong types of a workflow or a template."""
    assert document["apiVersion"] == "argoproj.io/v1alpha1"
    _parse(document["kind"], document)


def _parse(kind: str, document: dict[str, Any]) -> None:
    command = [judge("argo"), kind]
    done = subprocess.run(command, input=yaml.safe_dump(document), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def require_kubernetes(document: dict[str, Any], version: str = "1.37") -> None:
    """Fail if `document` does not fit Kubernetes' published schemas, or has an unknown field."""
    import kubernetes_validate  # noqa: PLC0415 - it takes seconds, and every process of a test run collects this file

    kubernetes_validate.validate(document, version, strict=True)


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    metadata = {"name": "pod", "namespace": "ns"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, "containers": list(containers)}}
