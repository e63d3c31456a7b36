"""Argo's server: what a user downloads and lists, seen through its API."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass

import pytest
from cluster.report import Report
from cluster.scene import Scene
from cluster.workflows import Workflow, step


@dataclass
class User:
    """A user of Argo's API with the rights of one namespace."""

    address: str
    token: str

    def get(self, path: str) -> tuple[int, bytes]:
        request = urllib.request.Request(f"{self.address}{path}", headers={"Authorization": f"Bearer {self.token}"})
        try:
            with urllib.request.urlopen(request, timeout=60, context=ssl._create_unverified_context()) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


@pytest.fixture(scope="module")
def user(installed: Scene) -> User:
    return user_of(installed, "team-a")


def user_of(scene: Scene, namespace: str) -> User:
    """Create an account that may see the workflows of a namespace."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "viewer"},
        "rules": [{"apiGroups": ["argoproj.io"], "resources": ["workflows"], "verbs": ["get", "list", "watch"]}],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "viewer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "viewer"},
        "subjects": [{"kind": "ServiceAccount", "name": "viewer", "namespace": namespace}],
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "viewer"}}
    scene.client.apply(account, role, binding, namespace=namespace)
    address = scene.client.get("service", "argo-server", "argo")["spec"]["clusterIP"]
    return User(f"https://{address}:2746", scene.client.token("viewer", namespace))


def path_of(workflow: Workflow, template: str, artifact: str) -> str:
    (node,) = [node for node in workflow.nodes() if node.get("templateName") == template and node["type"] == "Pod"]
    return f"/artifact-files/{workflow.namespace}/workflows/{workflow.name}/{node['id']}/outputs/{artifact}"


def test_a_user_downloads_an_artifact_in_plaintext(installed: Scene, user: User, report: Report):
    write = step("write", "seq 100000 > /tmp/out", outputs={"it": {"path": "/tmp/out", "archive": {"none": {}}}})
    workflow = installed.submit("team-a", write).succeeded()
    status, body = user.get(path_of(workflow, "write", "it"))
    assert status == 200
    assert body == "".join(f"{n}\n" for n in range(1, 100001)).encode()
    report.saw("builtin, with policies", "download", "passed")


def test_a_user_reads_the_saved_log(installed: Scene, user: User):
    workflow = installed.submit("team-a", step("talk", "echo hello from the log")).succeeded()
    status, body = user.get(path_of(workflow, "talk", "main-logs"))
    assert (status, body.strip()) == (200, b"hello from the log")


def test_a_user_lists_a_directory_and_opens_one_of_its_files(installed: Scene, user: User, report: Report):
    make = "mkdir -p /tmp/out/deep; echo one > /tmp/out/1; echo two > /tmp/out/deep/2"
    write = step("write", make, outputs={"it": {"path": "/tmp/out", "archive": {"none": {}}}})
    workflow = installed.submit("team-a", write).succeeded()
    path = path_of(workflow, "write", "it")
    status, body = user.get(f"{path}/")
    assert status == 200, body
    assert b"deep" in body, body
    status, body = user.get(f"{path}/deep/2")
    assert (status, body) == (200, b"two\n")
    report.saw("builtin, with policies", "list", "passed")


def test_a_user_of_another_namespace_gets_nothing(installed: Scene):
    workflow = installed.submit("team-a", step("write", "echo x > /tmp/out", outputs={"it": "/tmp/out"})).succeeded()
    status, body = user_of(installed, "team-b").get(path_of(workflow, "write", "it"))
    assert status >= 400  # Argo v4.0 answers 500
    assert b"x" not in body.split(), body


def test_the_server_records_each_download(installed: Scene, user: User):
    workflow = installed.submit("team-a", step("write", "echo x > /tmp/out", outputs={"it": "/tmp/out"})).succeeded()
    user.get(path_of(workflow, "write", "it"))
    key = workflow.key("write", "it")
    log = installed.client.run("logs", "--namespace", "argo", "deployment/argo-server", "--container", "sealgate-crypt")
    records = [json.loads(line) for line in log.splitlines() if line.startswith('{"sealgate_audit"')]
    mine = [each for each in records if each.get("resource", {}).get("uid") == key]
    assert {each.get("api", {}).get("operation") for each in mine} >= {"OpenStream"}, mine
