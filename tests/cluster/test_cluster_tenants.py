"""Two tenants, each of whom tries the artifacts of the other by every way that an author has."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster.scene import Scene
from cluster.thieves import hidden_treasure, no_admission, refused, thief, workflow
from cluster.workflows import plugin, step

WRONG_KEY = "the key of an artifact does not begin with the namespace of the workflow"


@pytest.fixture(scope="module")
def treasure(installed: Scene) -> str:
    return hidden_treasure(installed)


@pytest.fixture
def without_admission(installed: Scene) -> Iterator[None]:
    with no_admission(installed):
        yield


def test_the_admission_policy_refuses_a_key_of_another_namespace(installed: Scene, treasure: str):
    assert WRONG_KEY in refused(installed, workflow(templates=[thief(treasure)]))


def test_the_admission_policy_refuses_it_in_a_workflow_template(installed: Scene, treasure: str):
    manifest = workflow(templates=[thief(treasure)]) | {"kind": "WorkflowTemplate"}
    assert WRONG_KEY in refused(installed, manifest)


def test_the_admission_policy_refuses_it_in_a_cron_workflow(installed: Scene, treasure: str):
    spec = {"schedules": ["0 0 * * *"], "workflowSpec": workflow(templates=[thief(treasure)])["spec"]}
    assert WRONG_KEY in refused(installed, workflow() | {"kind": "CronWorkflow", "spec": spec})


def test_the_admission_policy_refuses_another_repository(installed: Scene):
    reference = {"configMap": "mine", "key": "it"}
    message = refused(installed, workflow(templates=[step("read", "true")], artifactRepositoryRef=reference))
    assert "artifactRepositoryRef" in message


def test_the_admission_policy_refuses_a_patch_of_the_pod(installed: Scene):
    assert "podSpecPatch" in refused(installed, workflow(templates=[step("read", "true")], podSpecPatch="{}"))


def test_the_admission_policy_refuses_memoization(installed: Scene):
    memoize = {"key": "k", "cache": {"configMap": {"name": "c"}}}
    assert "memoize" in refused(installed, workflow(templates=[step("read", "true", memoize=memoize)]))


def test_the_admission_policy_refuses_a_status_with_outputs_of_another(installed: Scene, treasure: str):
    node = {
        "id": "n",
        "name": "n",
        "displayName": "n",
        "type": "Pod",
        "templateScope": "",
        "phase": "Succeeded",
        "outputs": {"artifacts": [{"name": "it", **plugin(treasure)}]},
    }
    manifest = workflow(templates=[step("read", "true")]) | {"status": {"nodes": {"n": node}}}
    assert "status" in refused(installed, manifest)


@pytest.mark.usefixtures("without_admission")
def test_without_admission_the_policy_of_sealgate_refuses_the_key(installed: Scene, treasure: str):
    found = installed.submit("team-b", thief(treasure)).ended()
    assert found.phase in {"Failed", "Error"}
    assert "treasure" not in found.logs()
    assert treasure in found.messages()
    assert "no allow rule covers this key for namespace team-b" in found.messages(), found.messages()


@pytest.mark.usefixtures("without_admission")
def test_without_admission_a_patched_namespace_does_not_open_the_artifact_of_another(installed: Scene, treasure: str):
    patch = (
        '{"initContainers":[{"name":"init-artifact-crypt","env":[{"name":"SEALGATE_NAMESPACE","value":"team-a",'
        '"valueFrom":null}]}]}'
    )
    found = installed.submit("team-b", thief(treasure), podSpecPatch=patch).ended()
    assert found.phase in {"Failed", "Error"}
    assert "treasure" not in found.logs()


@pytest.mark.usefixtures("without_admission")
def test_without_admission_another_service_account_does_not_open_it(installed: Scene, treasure: str):
    found = installed.submit("team-b", thief(treasure), serviceAccountName="default").ended(600)
    assert found.phase in {"Failed", "Error"}
    assert "treasure" not in found.logs()
