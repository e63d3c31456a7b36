"""Which keys policies hide: those that a pattern with `audit.hmacKey` names, whatever else the rule says."""

from __future__ import annotations

import pytest
from harness.policy import documents

from sealgate.policy.hidden_keys import HiddenKeys


def hiding(keys=(), **rule) -> HiddenKeys:
    match = {"keys": list(keys)} if keys else {}
    rule = {
        "name": "hidden",
        "effect": "allow",
        "audit": {"hmacKey": True},
        **rule,
        "match": {**match, **rule.get("match", {})},
    }
    text = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "ArtifactPolicy",
        "metadata": {"name": "main"},
        "spec": {"params": {"team": "pci"}, "rules": [{"name": "all", "effect": "allow"}, rule]},
    }
    return HiddenKeys(documents(text))


@pytest.mark.parametrize(
    ("pattern", "hidden", "shown"),
    [
        ("pci/**", ["pci", "pci/a", "pci/a/b", "pci/%61"], ["pc", "pcix/a", "team/pci/a"]),
        ("pci/*", ["pci/a", "pci/a/b/c"], ["pci"]),
        ("**/plan.csv", ["plan.csv", "a/b/plan.csv", "a/plan.csv/part-1"], ["a/plan"]),
        ("${params.team}/x", ["pci/x", "pci/x/y"], ["pci/y"]),
        ("${identity.namespace}/secret/**", ["team-a/secret/x", "team-b/secret", "team-b/secret/x/y"], ["team-a/x"]),
        ("é/x", ["e\u0301/x", "%C3%A9/x"], ["e/x"]),
    ],
)
def test_a_key_is_hidden_by_its_pattern_in_every_spelling_and_so_is_what_is_beneath_it(pattern, hidden, shown):
    keys = hiding([pattern])
    assert [key for key in hidden if not keys.hides(key)] == []
    assert [key for key in shown if keys.hides(key)] == []


@pytest.mark.parametrize(
    "rule",
    [
        {"effect": "deny"},
        {"enforcement": "shadow"},
        {"when": "op == 'Load'"},
        {"match": {"operations": ["delete"]}},
        {"match": {"identity": {"namespaces": ["another"], "components": ["gc"]}}},
        {"match": {"plugins": ["another"], "artifactNames": ["another"], "localPaths": ["/another"]}},
    ],
)
def test_nothing_but_the_patterns_of_the_rule_counts(rule):
    assert hiding(["pci/**"], **rule).hides("pci/a")
    assert not hiding(["pci/**"], **rule).hides("team/a")


@pytest.mark.parametrize(
    "key", ["", "pci//a", "/pci/a", "pci/a/", "pci/../pci/a", "pci%2Fa", "pci\\a", "other/\x1b", "x" * 2000, "\ud800"]
)
def test_a_key_that_is_not_canonical_is_hidden_if_any_rule_hides_keys(key):
    assert hiding(["pci/**"]).hides(key)
    assert not hiding(["pci/**"], audit={}).hides(key)


def test_excepted_keys_are_shown_unless_the_exception_depends_on_the_identity():
    keys = hiding(["pci/**"], match={"exceptKeys": ["pci/public/**", "pci/${identity.namespace}"]})
    assert not keys.hides("pci/public/a")
    assert keys.hides("pci/team-a")
    assert keys.hides("pci")
    one = hiding(["pci/*"], match={"exceptKeys": ["pci/public"]})
    assert (one.hides("pci/a/b"), one.hides("pci/public/b")) == (True, False)


def test_a_rule_without_patterns_hides_every_key():
    assert hiding().hides("any/key")
