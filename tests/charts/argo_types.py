"""What Argo parses, strictly.

The suite does without Argo's own source: workflows are parsed by the types that Hera generates from Argo's API, and
the controller's settings by a schema of our own that knows the fields this chart writes, and Kubernetes' schema of a
container. Where SEALGATE_TEST_ARGO_SOURCE names a checkout of Argo Workflows, Argo's own types parse both as well
(test_chart_argo.py).
"""

from __future__ import annotations

from typing import Any

import jsonschema
import kubernetes_validate
from hera.workflows import models

KINDS = {"Workflow", "WorkflowTemplate", "CronWorkflow", "ClusterWorkflowTemplate"}


def _fields(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


TEXT = {"type": "string", "minLength": 1}
DRIVER = _fields(
    ("name", "image"),
    name={"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 47},
    image=TEXT,
    connectionTimeoutSeconds={"type": "integer", "minimum": 1},
)
CONTROLLER = _fields(
    ("artifactDrivers", "executor"),
    artifactDrivers={"type": "array", "items": DRIVER, "minItems": 1},
    artifactRepository=_fields(
        ("plugin",),
        archiveLogs={"type": "boolean"},
        plugin=_fields(("name", "configuration"), name=TEXT, configuration=TEXT, keyFormat=TEXT),
    ),
    executor={"type": "object"},
    images={
        "type": "object",
        "additionalProperties": _fields(("entrypoint",), entrypoint={"type": "array", "items": TEXT, "minItems": 1}),
    },
    initlessPod=_fields(enabled={"type": "boolean"}),
    workflowDefaults={"type": "object"},
    # What charts/sealgate/ci/everything.yaml passes through.
    parallelism={"type": "integer"},
    workflowRestrictions=_fields(templateReferencing={"enum": ["Strict", "Secure"]}),
)


def require_controller(config: dict[str, Any]) -> None:
    """Refuse what Argo's strict parser would refuse of what the chart writes."""
    jsonschema.Draft202012Validator(CONTROLLER).validate(config)
    # Only these of a container does Argo copy into a plugin's.
    assert set(config["executor"]) <= {"args", "env", "image", "imagePullPolicy", "resources", "securityContext"}
    require_kubernetes(pod({"name": "executor", "image": "argoexec", **config["executor"]}))
    defaults = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {}, **config["workflowDefaults"]}
    require_workflow(defaults)


def require_workflow(document: dict[str, Any]) -> None:
    """Refuse unknown fields and wrong types: what is parsed and written again is what was there."""
    assert document["apiVersion"] == "argoproj.io/v1alpha1"
    assert document["kind"] in KINDS
    parsed = getattr(models, document["kind"]).model_validate(document)
    written = parsed.model_dump(by_alias=True, exclude_unset=True, mode="json")
    _require_same(document, written, document["kind"])


def _require_same(given: Any, parsed: Any, path: str) -> None:
    if isinstance(given, dict) and isinstance(parsed, dict):
        assert set(given) <= set(parsed), f"{path}: Argo knows no {set(given) - set(parsed)}"
        for name, value in given.items():
            _require_same(value, parsed[name], f"{path}.{name}")
    elif isinstance(given, list) and isinstance(parsed, list):
        assert len(given) == len(parsed), path
        for number, (one, other) in enumerate(zip(given, parsed, strict=True)):
            _require_same(one, other, f"{path}[{number}]")


def require_kubernetes(document: dict[str, Any], version: str = "1.37") -> None:
    """Validate against Kubernetes' published schemas, unknown fields refused."""
    kubernetes_validate.validate(document, version, strict=True)


def pod(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    metadata = {"name": "pod", "namespace": "ns"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, "containers": list(containers)}}
