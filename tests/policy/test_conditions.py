"""Conditions in CEL: their variables, their faults, and the limit on their work."""

from __future__ import annotations

import pytest
from harness.policy import SPEC, document, policy, written

from sealgate.documents.reader import read
from sealgate.policy import cel, load
from sealgate.policy.decision import Request
from sealgate.policy.engine import ProcessPolicy
from sealgate.policy.load import DocumentSource
from sealgate.policy.rules import Process


@pytest.mark.parametrize(
    "condition",
    [
        "params.exists(k, params[k] == key)",
        "params.size() == 0 || identity.all(name, name != '')",
        "has(params.nothing)",
        "key == 'identity.foo' || key == \"params['foo']\"",
        r"key == r'\d' || key == 'identity.foo'",
        'key == """it\'s identity.foo"""',
        "true // identity.foo",
    ],
)
def test_a_condition_with_known_names_is_valid(condition):
    cel.compiled(condition, params=())


@pytest.mark.parametrize(
    "condition", ["identity . nope == ''", "has(params.x) && params.nope == ''", "params\n['x'] == ''"]
)
def test_a_condition_with_an_unknown_name_is_not_valid(condition):
    with pytest.raises(cel.InvalidCondition, match=r"unknown variable (identity|params)\."):
        cel.compiled(condition, params=())


@pytest.mark.parametrize("text", ["caf%C3%A9", "hour=10%3A00", "cafe\u0301", "a\u200bb", "a\u00a0b"])
@pytest.mark.parametrize(
    "condition", ["key == '{}'", 'key.startsWith("{}")', "key.matches(r'^{}$')", "key == '''{}'''"]
)
def test_a_condition_with_a_text_that_no_key_has_in_normal_form_is_not_valid(condition, text):
    with pytest.raises(cel.InvalidCondition, match="sees keys in their normal form: write"):
        cel.compiled(condition.format(text))
    cel.compiled(f"size(key) %20 == 0 // {text}")


def test_a_condition_compares_normal_forms_of_params_and_identity():
    rule = {"effect": "deny", "when": "key == params.a || key == identity.workflow"}
    made = policy(document([{"effect": "allow"}, rule], params={"a": "hour=10%3A00"}), workflow="cafe\u0301")
    for key in ("hour=10%3A00", "hour=10:00", "cafe\u0301", "caf%C3%A9"):
        assert made.decide(Request("Load", key)).effective.code == "DENIED"
    assert made.decide(Request("Load", "hour=10")).effective.allows


@pytest.mark.parametrize(
    ("when", "outcome"),
    [
        ("op == 'Load' && key.startsWith('a/')", ("allow", "OK")),
        ("size(segments) > 2", ("deny", "NO_RULE")),
        ("identity.namespace == 'team-a' && attested", ("allow", "OK")),
        ("params.tier == 'gold'", ("allow", "OK")),
        ("key.matches('^a/[b-z]+$')", ("allow", "OK")),
        ("plugin == 'crypt' && artifact == 'model'", ("allow", "OK")),
        ("segments[7] == 'x'", ("deny", "NO_RULE")),
        ("identity.workflow == 'x'", ("deny", "NO_RULE")),
    ],
)
def test_a_condition_reads_the_request_and_the_identity(when, outcome):
    documents = load.loaded([DocumentSource("p", read(written(f'allow, when: "{when}"')))])
    made = ProcessPolicy(documents, Process({"namespace": "team-a"}, attested=True))
    verdict = made.decide(Request("Load", "a/b", "crypt", "model")).effective
    assert (verdict.outcome, verdict.code) == outcome


@pytest.mark.parametrize(("on_error", "code"), [("deny", "ERROR"), ("allow", "DEFAULT_ALLOW")])
def test_a_condition_that_fails_has_the_effect_of_on_error(on_error, code):
    text = SPEC + f"  onError: {on_error}\n  defaultDecision: allow\n"
    text += "  rules: [{name: r, effect: deny, when: \"segments[7] == 'x'\"}]\n"
    made = ProcessPolicy(load.loaded([DocumentSource("p", read(text))]), Process({}))
    assert made.decide(Request("Load", "a")).effective.code == code


def test_the_work_of_a_condition_is_limited():
    numbers = ",".join(str(n) for n in range(100))
    condition = cel.compiled(
        f"[{numbers}].all(a, [{numbers}].all(b, [{numbers}].all(c, [{numbers}].all(d, a + b + c + d >= 0))))"
    )
    with pytest.raises(cel.EvaluationFailed):
        condition(
            {
                "op": "",
                "key": "",
                "segments": [],
                "identity": {},
                "attested": False,
                "plugin": "",
                "artifact": "",
                "path": "",
                "params": {},
            }
        )
