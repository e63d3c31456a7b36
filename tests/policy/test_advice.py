"""What a refusal advises: the key prefixes to use, the message of the rule, the owner to ask and the runbook."""

from __future__ import annotations

import pytest
from harness.policy import document, policy

from sealgate.policy.decision import Request


def test_the_hint_names_only_what_the_same_process_may_use():
    rules = [
        {"effect": "allow", "match": {"keys": ["${identity.namespace}/**"]}},
        {"effect": "allow", "match": {"keys": ["secret-of-b/**"], "identity": {"namespaces": ["team-b"]}}},
    ]
    verdict = policy(document(rules), namespace="team-a").decide(Request("Load", "x")).effective
    assert verdict.fact == "no allow rule covers this key for namespace team-a"
    assert verdict.advice == "Your keys start with team-a/"


def test_the_hint_names_the_exception_that_the_key_is():
    rule = {"effect": "allow", "match": {"keys": ["a/**"], "exceptKeys": ["a/x/**", "**/hr/**"]}}
    made = policy(document([rule]))
    assert made.decide(Request("Load", "a/b/hr/c")).effective.advice == "Your keys start with a/ (but not **/hr/**)"
    assert made.decide(Request("Load", "b")).effective.advice == "Your keys start with a/"


def test_the_hint_names_nothing_that_a_condition_or_an_unknown_identity_grants():
    secret = {"effect": "allow", "match": {"keys": ["project-falcon/**"]}, "when": "identity.namespace == 'team-b'"}
    unknown = {"effect": "allow", "match": {"keys": ["gc-only/**"], "identity": {"components": ["gc"]}}}
    verdict = policy(document([secret, unknown]), namespace="team-a").decide(Request("Load", "x")).effective
    assert verdict.advice == "Ask the owner of policy main"


def test_a_refusal_has_the_message_of_the_rule_or_names_the_owner_or_the_policy():
    rule = {"effect": "deny", "message": "ask the owner of ${identity.namespace}"}
    assert policy(document([rule]), namespace="n").decide(Request("Load", "x")).effective.advice.endswith("of n")
    assert policy(document([rule])).decide(Request("Load", "x")).effective.advice == "Ask the owner of policy main"
    assert policy(owned("deny", owner="platform@example.com")).decide(Request("Load", "x")).effective.advice == (
        "Ask platform@example.com"
    )


def owned(effect: str, name="main", **annotations: str) -> dict:
    made = document([{"effect": effect, "match": {"keys": ["a/**", "x"]}}], name=name)
    made["metadata"]["annotations"] = annotations
    return made


@pytest.mark.parametrize(
    ("annotations", "contact"),
    [
        ({"owner": "a@b"}, "Ask a@b"),
        ({"runbook": "https://r"}, "See https://r"),
        ({"owner": "a@b", "runbook": "https://r"}, "Ask a@b, or see https://r"),
    ],
)
def test_a_refusal_names_owner_and_runbook_of_the_document(annotations, contact):
    def advice(made: dict, key="x", operation="Load") -> str:
        return policy(made, namespace="a").decide(Request(operation, key)).effective.advice

    denies, allows = owned("deny", **annotations), owned("allow", **annotations)
    assert advice(denies) == contact
    denies["spec"]["rules"][0]["message"] = "do not."
    assert advice(denies) == f"do not. {contact}"
    assert advice(allows, "other") == f"Your keys start with a/ or x. {contact}"
    allows["spec"]["encryption"] = [{"name": "e", "match": {"keys": ["a/**"]}, "key": "${identity.pod}"}]
    assert advice(allows, operation="Save") == contact, "no key"
    assert advice(allows, "a/x", "Save") == contact, "the key is not known"


def test_a_refusal_by_several_documents_names_their_owner_only_if_they_have_one():
    def advice(first: str, second: str) -> str:
        made = (owned("allow", "one", owner=first), owned("allow", "two", owner=second))
        return policy(*made).decide(Request("Load", "b")).effective.advice.partition(". ")[2]

    assert advice("a@b", "a@b") == "Ask a@b"
    assert advice("a@b", "c@d") == ""
