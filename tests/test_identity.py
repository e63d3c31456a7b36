"""The identity that a process derives from the environment and the mounted service account."""

import base64
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealgate.identity import Identity, asserted

POD = {"ARGO_WORKFLOW_NAME": "train-7", "ARGO_WORKFLOW_UID": "w-1", "ARGO_POD_NAME": "train-7-a", "ARGO_POD_UID": "p-1"}


def token(claims):
    part = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"e30.{part}.c2ln"


def test_the_environment_from_argo_names_the_pod(tmp_path):
    found = asserted({**POD, "ARGO_NODE_ID": "n-1", "ARGO_CONTAINER_NAME": "init-artifact-crypt"}, tmp_path)
    assert found == Identity("", "", "train-7", "w-1", "train-7-a", "p-1", "n-1", "init")


@pytest.mark.parametrize(
    ("environment", "component"),
    [
        ({"ARGO_CONTAINER_NAME": "init-artifact-crypt", "ARGO_NODE_ID": "n"}, "init"),
        ({"ARGO_CONTAINER_NAME": "artifact-plugin-crypt", "ARGO_NODE_ID": "n"}, "sidecar"),
        ({"ARGO_CONTAINER_NAME": "artifact-plugin-crypt", **POD}, "gc"),
        ({}, "server"),
        ({"ARGO_POD_NAME": "argo-server-1"}, "server"),
        ({"ARGO_SERVER_SERVICE_HOST": "10.0.0.1", "ARGO_SERVER_PORT": "tcp://10.0.0.1:2746"}, "server"),
        ({"ARGO_ARTIFACT_SERVER": "true", "ARGO_WORKFLOWS_SERVER_SERVICE_PORT_WEB": "2746"}, "server"),
        ({"ARGO_CONTAINER_NAME": "wait", **POD}, ""),
        ({"ARGO_TEMPLATE": "{}"}, ""),
        ({"ARGO_NODE_ID": "n"}, ""),
    ],
)
def test_the_component_follows_from_the_container(environment, component, tmp_path):
    assert asserted(environment, tmp_path).component == component


def test_the_mounted_service_account_names_itself_and_its_namespace(tmp_path):
    (tmp_path / "namespace").write_text("team-a\n")
    (tmp_path / "token").write_text(token({"sub": "system:serviceaccount:team-a:runner"}))
    found = asserted({}, tmp_path)
    assert (found.namespace, found.service_account) == ("team-a", "runner")


SET = {"SEALGATE_NAMESPACE": "set", "SEALGATE_SERVICE_ACCOUNT": "the-pods"}


def test_variables_of_the_administrator_name_a_pod_without_a_token(tmp_path):
    (tmp_path / "namespace").write_text("mounted")
    found = asserted(SET, tmp_path)
    assert (found.namespace, found.service_account) == ("set", "the-pods")


def test_the_mounted_token_of_another_account_names_the_account_instead_of_the_pods_fields(tmp_path):
    # Argo mounts the executor's token, which comes from a Secret and has these claims alone.
    executor = {
        "iss": "kubernetes/serviceaccount",
        "kubernetes.io/serviceaccount/namespace": "team-a",
        "kubernetes.io/serviceaccount/service-account.name": "executor",
        "sub": "system:serviceaccount:team-a:executor",
    }
    (tmp_path / "token").write_text(token(executor))
    assert asserted(SET, tmp_path).service_account == "executor"


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: f"a.{text}.b".encode(errors="replace")))
def test_an_invalid_token_names_no_account(tmp_path_factory, written):
    mounted = tmp_path_factory.mktemp("mounted")
    (mounted / "token").write_bytes(written)
    assert asserted({}, mounted).service_account == ""


@pytest.mark.parametrize(
    "claims", [[], {}, {"sub": 7}, {"sub": "sa"}, {"sub": "system:serviceaccount:sa"}, {"sub": "https://issuer:a:b"}]
)
def test_claims_of_another_shape_name_no_account(claims, tmp_path):
    (tmp_path / "token").write_text(token(claims))
    assert asserted({}, tmp_path).service_account == ""


def test_the_page_of_components_says_what_each_process_is(tmp_path):
    page = (Path(__file__).parents[1] / "docs/components.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) == 9
    for what, variables, component in rows[2:]:
        environment = dict(text.split("=", 1) for text in re.findall(r"`([^`]+)`", variables))
        assert asserted(environment, tmp_path).component == component.strip("`").replace("none", ""), what
