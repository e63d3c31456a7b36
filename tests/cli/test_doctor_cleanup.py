"""`sealgate doctor` removes the artifact that it saved, whatever the policies say about deleting it."""

from __future__ import annotations

import pytest
from harness.chain import SEALGATE, VENDOR


def policy(*rules):
    return {
        "policies": [
            {
                "apiVersion": "sealgate/v1alpha1",
                "kind": "ArtifactPolicy",
                "metadata": {"name": "a"},
                "spec": {"rules": list(rules)},
            }
        ]
    }


COPIES = {"name": "copies", "effect": "allow", "match": {"operations": ["read", "write"]}}
COLLECTS = {
    "name": "collects",
    "effect": "allow",
    "match": {"operations": ["delete"], "identity": {"components": ["gc"]}},
}
SKIPS = [
    {"name": "all", "effect": "allow"},
    {"name": "keep", "effect": "deny", "match": {"operations": ["delete"]}, "onDelete": "skip"},
]


@pytest.mark.parametrize("downstream", [VENDOR, [*SEALGATE, "backend"]], ids=["vendor", "backend"])
@pytest.mark.parametrize("rules", [[COPIES, COLLECTS], SKIPS], ids=["only GC deletes", "Deletes are skipped"])
def test_an_artifact_that_policies_keep_is_deleted(doctor, downstream, rules):
    report = doctor(settings={"downstream": {"command": downstream}, **policy(*rules)})
    assert report.code == 0, report.output
    assert "past the policies, by which this component deletes nothing" in report.line("storage: delete")
    assert [path for path in doctor.storage.rglob("*") if path.is_file()] == []


def test_an_artifact_that_neither_policies_nor_the_downstream_delete_is_named(doctor, sent):
    report = doctor("--configuration", sent("fault: refuse on Delete\n"), settings=policy(COPIES, COLLECTS))
    checks = ("storage: delete", "storage: by file")
    assert report.of("FAILED") == set(checks)
    left = sorted(path.relative_to(doctor.storage) for path in doctor.storage.rglob("*") if path.is_file())
    for path, check in zip(left, checks, strict=True):
        assert f"Delete the object {path} by hand" in report.line(check)


@pytest.mark.parametrize(
    ("operations", "check", "verbs"),
    [(["read"], "storage: save", "save"), (["write"], "storage: load", "save and load")],
)
def test_a_key_that_policies_do_not_allow_to_this_component_can_be_chosen(doctor, operations, check, verbs):
    allows = {"name": "own", "effect": "allow", "match": {"keys": ["team-a/**"]}}
    scratch = {"name": "scratch", "effect": "allow", "match": {"operations": operations}}
    report = doctor(settings=policy(allows, scratch))
    assert report.of("FAILED") == {check}
    assert f"Give --scratch a prefix beneath which policies let this component {verbs}" in report.line(check)
    assert [path for path in doctor.storage.rglob("*") if path.is_file()] == []
    assert doctor("--scratch", "team-a/doctor", settings=policy(allows, scratch)).code == 0
