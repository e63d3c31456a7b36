"""Who this process works for: the pod, the workflow and the service account that it was started with.

Argo names none of them in a request, so they are constant for a process. What the environment and the mounted
service account say is *asserted*: whoever may patch the pod may change it. What the key service learned at its login
is *attested*, and replaces it.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod's service account is mounted."""
_LARGEST_TOKEN = 1 << 16
_OF_A_WORKFLOW = (
    "ARGO_CONTAINER_NAME",
    "ARGO_WORKFLOW_NAME",
    "ARGO_WORKFLOW_UID",
    "ARGO_POD_UID",
    "ARGO_NODE_ID",
    "ARGO_TEMPLATE",
)
"""What Argo sets in a workflow's pods. A name of the pod may be set anywhere, so that Argo's server knows itself."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of a process. An empty field is not known."""

    namespace: str = ""
    service_account: str = ""
    workflow: str = ""
    workflow_uid: str = ""
    pod: str = ""
    pod_uid: str = ""
    node: str = ""
    """Argo's node of the workflow, not the machine."""
    component: str = ""
    """In which of Argo's containers: `init`, `sidecar`, `gc` or `server`."""
    attested: bool = False
    """Whether the key service has proven namespace and service account; all the rest is asserted always."""


def asserted(environment: Mapping[str, str] = os.environ, service_account: Path = SERVICE_ACCOUNT) -> Identity:
    """What the environment and the mounted service account say.

    `SEALGATE_NAMESPACE` and `SEALGATE_SERVICE_ACCOUNT`, which an administrator sets from the pod's own fields,
    stand above what is mounted.
    """
    namespace, account = environment.get("SEALGATE_NAMESPACE", ""), environment.get("SEALGATE_SERVICE_ACCOUNT", "")
    return Identity(
        namespace=namespace or _read(service_account / "namespace"),
        service_account=account or _account_of(_read(service_account / "token")),
        workflow=environment.get("ARGO_WORKFLOW_NAME", ""),
        workflow_uid=environment.get("ARGO_WORKFLOW_UID", ""),
        pod=environment.get("ARGO_POD_NAME", ""),
        pod_uid=environment.get("ARGO_POD_UID", ""),
        node=environment.get("ARGO_NODE_ID", ""),
        component=_component(environment),
    )


def _component(environment: Mapping[str, str]) -> str:
    """Argo's server sets none of these variables, and garbage collection knows no node.

    Kubernetes gives every pod variables for the services of its namespace (`ARGO_SERVER_SERVICE_HOST`), which tell
    nothing.
    """
    container = environment.get("ARGO_CONTAINER_NAME", "")
    if container.startswith("init-artifact-"):
        return "init"
    if container.startswith("artifact-plugin-"):
        return "sidecar" if environment.get("ARGO_NODE_ID") else "gc"
    return "" if any(environment.get(name) for name in _OF_A_WORKFLOW) else "server"


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LARGEST_TOKEN).strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return text if text.isprintable() else ""


def _account_of(token: str) -> str:
    """The name in a service account's token. Its signature is not looked at: this asserts, and proves nothing."""
    claims = _claims(token)
    kubernetes = claims.get("kubernetes.io")
    account = kubernetes.get("serviceaccount") if isinstance(kubernetes, dict) else None
    name = account.get("name") if isinstance(account, dict) else None
    return name if isinstance(name, str) else ""


def _claims(token: str) -> dict[str, Any]:
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims and signature
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}
