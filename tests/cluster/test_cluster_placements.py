"""Every placement of the downstream, with policies and without: the same operations, looked at from outside.

The tests of the other files cover the placement `builtin` with policies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from cluster import images
from cluster.report import Report
from cluster.scene import BUCKET, PREFIX, SEALED, Scene
from cluster.test_cluster_resources import note_time_of_a_pod
from cluster.test_cluster_server import path_of, user_of
from cluster.workflows import Workflow, plugin, step, steps

NOT_IN_THIS_ARGO = "needs Argo v4.1"
ABSENT = ("nothing is stored under the artifact's key", "The specified key does not exist")
"""The words of the bundled backend, and of the second vendor."""
VENDOR = [{"name": "VENDOR_URL", "value": f"s3://{BUCKET}/{PREFIX}"}]


@dataclass(frozen=True)
class Placement:
    """How the downstream gets into a pod: the image, and the values of the chart."""

    name: str
    image: str
    downstream: dict[str, Any]
    by_vendor: bool = False


CHILD = {"placement": "child", "command": ["sealgate", "backend"]}
PLACEMENTS = (
    Placement("builtin", images.SEALGATE, {"placement": "builtin"}),
    Placement("child", images.SEALGATE, CHILD),
    Placement(
        "child, `with-vendor`",
        images.WITH_VENDOR,
        {"placement": "child", "command": ["/vendor/plugin"]},
        by_vendor=True,
    ),
    Placement("child, `in-vendor`", images.IN_VENDOR, {"placement": "child", "command": ["/plugin"]}, by_vendor=True),
    Placement("nativeSidecar", images.SEALGATE, {"placement": "nativeSidecar", "image": images.VENDOR}, by_vendor=True),
)
CASES = [(placement, policies) for placement in PLACEMENTS for policies in (True, False)]


@pytest.fixture(
    scope="module", params=CASES, ids=lambda case: f"{case[0].name}, {'policies' if case[1] else 'no policies'}"
)
def placed(installed: Scene, request: pytest.FixtureRequest) -> Iterator[tuple[Scene, str]]:
    """The installation, upgraded as the page says to the values of one placement."""
    placement, policies = request.param
    before = installed.values()
    first = installed.clone / "first/values.yaml"
    first_before = first.read_text()
    values = installed.values()
    repository, _, tag = placement.image.rpartition(":")
    values["image"] = {"repository": repository, "tag": tag}
    if placement.name != "builtin":
        values["downstream"] = dict(placement.downstream)
    if placement.by_vendor:
        vendor = [*VENDOR, *(each for each in values["environment"] if each["name"] != "SEALGATE_BACKEND_URL")]
        values["environment"] = vendor
        if placement.downstream["placement"] == "nativeSidecar":
            values["downstream"]["environment"] = vendor
    if not policies:
        generated = yaml.safe_load(first_before)
        generated["configuration"].pop("policies")
        first.write_text(yaml.safe_dump(generated))
    if (values, policies) != (before, True):
        installed.write_values(values)
        upgrade(installed)
    yield installed, f"{placement.name}, {'with policies' if policies else 'without policies'}"
    installed.write_values(before)
    first.write_text(first_before)


def upgrade(scene: Scene) -> None:
    """Run the page's block for an upgrade, and wait until Argo's server runs with what it changed."""
    scene.page.run_block("kubectl -n argo rollout pause deployment argo-server")
    scene.client.rolled_out("argo-server", "argo")


def test_each_operation_does_what_it_should(placed: tuple[Scene, str], report: Report):
    scene, name = placed
    workflow = _saved_and_loaded(scene)
    stored = {
        "save": scene.stored(workflow.key("write", "it")),
        "directory": scene.stored(workflow.key("write", "tree")),
        "log": scene.stored(workflow.key("write", "main-logs")),
    }
    for operation, objects in stored.items():
        assert objects, operation
        assert all(content.startswith(SEALED) for content in objects.values()), operation
        report.saw(name, operation, "passed")
    report.saw(name, "load", "passed")
    user = user_of(scene, "team-a")
    path = path_of(workflow, "write", "tree")
    assert user.get(f"{path}/deep/2") == (200, b"two\n")
    report.saw(name, "download", "passed")
    status, body = user.get(f"{path}/")
    assert status == 200, body
    assert b"deep" in body, body
    report.saw(name, "list", "passed")
    workflow.delete()
    assert not any(scene.keys(key) for objects in stored.values() for key in objects)
    report.saw(name, "delete", "passed")
    if name == "child, with policies":
        note_time_of_a_pod(scene, report, "pod with a child downstream and one artifact", 10)


def test_an_error_of_the_plugin_is_readable_in_the_message_of_the_node(placed: tuple[Scene, str], report: Report):
    scene, name = placed
    read = step("read", "cat /tmp/in", inputs={"it": {"path": "/tmp/in", **plugin("team-a/nothing-is-here")}})
    workflow = scene.submit("team-a", read).ended()
    assert workflow.phase in {"Failed", "Error"}
    assert "artifact it failed to load: plugin crypt load failed" in workflow.messages(), workflow.messages()
    assert any(text in workflow.messages() for text in ABSENT), workflow.messages()
    report.saw(name, "refusal", "passed")


def _saved_and_loaded(scene: Scene) -> Workflow:
    make = (
        "mkdir -p /tmp/tree/deep; echo one > /tmp/tree/1; echo two > /tmp/tree/deep/2; "
        "head -c 3000000 /dev/urandom > /tmp/out; sha256sum < /tmp/out > /tmp/sum"
    )
    none = {"archive": {"none": {}}}
    outputs = {"it": {"path": "/tmp/out", **none}, "sum": "/tmp/sum", "tree": {"path": "/tmp/tree", **none}}
    write = step("write", make, outputs=outputs)
    look = "sha256sum < /tmp/in > /tmp/again; cmp /tmp/again /tmp/sum; test $(cat /tmp/tree/deep/2) = two"
    inputs = {"it": "/tmp/in", "sum": "/tmp/sum", "tree": {"path": "/tmp/tree", "mode": 0o755}}
    templates = steps(write, step("read", look, inputs=inputs), passes={each: each for each in inputs})
    return scene.submit("team-a", *templates, artifactGC={"strategy": "OnWorkflowDeletion"}).succeeded()


def test_placements_that_this_argo_does_not_have_are_named(report: Report):
    for name in ("imageVolume", "initless"):
        for operation in ("save", "load", "directory", "log", "download", "list", "delete", "refusal"):
            report.saw(name, operation, NOT_IN_THIS_ARGO)
    assert images.ARGO < "v4.1"
