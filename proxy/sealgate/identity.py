"""The identity that this process works for: its pod, its workflow and its service account.

Argo does not send them with a request, so they are constant for a process. An identity from the environment and the
mounted service account is *asserted*: everyone with the right to patch the pod can change it. Namespace and service
account that the key service verified at the login are *attested*, and replace the asserted ones.
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
"""The directory in which Kubernetes mounts the service account of a pod."""
NAMESPACE_VARIABLE = "${identity.namespace}"
"""Stands for the pod's namespace in the names of Vault's roles and in the context of a derived key."""
_LARGEST_TOKEN = 1 << 16
_WORKFLOW_VARIABLES = (
    "ARGO_CONTAINER_NAME",
    "ARGO_WORKFLOW_NAME",
    "ARGO_WORKFLOW_UID",
    "ARGO_POD_UID",
    "ARGO_NODE_ID",
    "ARGO_TEMPLATE",
)
"""Argo sets these in the pods of a workflow. `ARGO_POD_NAME` is not one of them: Argo's server may have it as well."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The identity of a process. An empty field is unknown."""

    namespace: str = ""
    service_account: str = ""
    workflow: str = ""
    workflow_uid: str = ""
    pod: str = ""
    pod_uid: str = ""
    node: str = ""
    """The node in the graph of the workflow, not the machine."""
    component: str = ""
    """The role of the container: `init`, `sidecar`, `gc` (garbage collection) or `server`; empty for any other."""
    attested: bool = False
    """Whether the key service has verified namespace and service account. All other fields are always asserted."""


def asserted(environment: Mapping[str, str] = os.environ, service_account: Path = SERVICE_ACCOUNT) -> Identity:
    """Return the identity that the environment and the mounted service account assert.

    An administrator sets `SEALGATE_NAMESPACE` and `SEALGATE_SERVICE_ACCOUNT` from the fields of the pod. The first one
    replaces the mounted namespace. The second one counts only if no token is mounted that names an account: Argo mounts
    the token of another account into the containers of its executor, and those act with that account.

    Args:
        environment: the environment variables.
        service_account: the directory with the files `namespace` and `token`.
    """
    return Identity(
        namespace=environment.get("SEALGATE_NAMESPACE", "") or _read(service_account / "namespace"),
        service_account=_account_of(_read(service_account / "token"))
        or environment.get("SEALGATE_SERVICE_ACCOUNT", ""),
        workflow=environment.get("ARGO_WORKFLOW_NAME", ""),
        workflow_uid=environment.get("ARGO_WORKFLOW_UID", ""),
        pod=environment.get("ARGO_POD_NAME", ""),
        pod_uid=environment.get("ARGO_POD_UID", ""),
        node=environment.get("ARGO_NODE_ID", ""),
        component=_component(environment),
    )


def _component(environment: Mapping[str, str]) -> str:
    """Return the role of this container.

    Argo's server has none of `_WORKFLOW_VARIABLES`, and garbage collection has no node. Variables such as
    `ARGO_SERVER_SERVICE_HOST` are ignored: Kubernetes sets them in every pod for each service of the namespace.
    """
    container = environment.get("ARGO_CONTAINER_NAME", "")
    if container.startswith("init-artifact-"):
        return "init"
    if container.startswith("artifact-plugin-"):
        return "sidecar" if environment.get("ARGO_NODE_ID") else "gc"
    return "" if any(environment.get(name) for name in _WORKFLOW_VARIABLES) else "server"


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LARGEST_TOKEN).strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return text if text.isprintable() else ""


def _account_of(token: str) -> str:
    """Return the account's name in a service account token. The signature is not checked, so it proves nothing.

    The subject names it in every token. The token in a Secret, such as that of Argo's executor, lacks the other claims.
    """
    subject = _claims(token).get("sub")
    system, *names = subject.rsplit(":", 2) if isinstance(subject, str) and subject.isprintable() else ("",)
    return names[-1] if system == "system:serviceaccount" else ""


def _claims(token: str) -> dict[str, Any]:
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims and signature
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def require_no_other_variable(setting: str, *texts: str) -> None:
    """Raise `ValueError`, which names `setting`, if a text has a variable that is not `NAMESPACE_VARIABLE`."""
    if any("${" in text.replace(NAMESPACE_VARIABLE, "") for text in texts):
        raise ValueError(f"{setting} may contain {NAMESPACE_VARIABLE} and no other placeholder")
