"""`policy diff` and `policy prove`: what they find, and that the engine and an SMT solver find the same."""

from __future__ import annotations

import os
from random import Random

import pytest
import z3
from harness.policy import document, documents
from harness.random_policies import changed, random_input, random_policy
from hypothesis import given, settings
from hypothesis import strategies as st

from sealgate.policy import claims, globs
from sealgate.policy.automata import Track, classes, key_grammar
from sealgate.policy.canonical_keys import fault_of
from sealgate.policy.compare import differences, violations
from sealgate.policy.engine import ProcessPolicy
from sealgate.policy.load import Invalid

PAIRS = int(os.environ.get("SEALGATE_TEST_PAIRS", "1000000"))
EACH = 5_000
NOW = 1_796_000_000
BEFORE, LATER = "2026-01-02T00:00:00Z", "2027-12-01T00:00:00Z"
"""Times on both sides of `NOW`, which is in November 2026."""


def allow(*keys, **more):
    return {"effect": "allow", "match": {"keys": list(keys)}, **more}


def deny(*keys, **more):
    return {"effect": "deny", "match": {"keys": list(keys)}, **more}


def kinds(old, new):
    """Return the kinds of differences between two documents, and what is unclear. Each example is decided again."""
    sides = documents(old), documents(new)
    result = differences(*sides, NOW)
    for found in result.differences:
        allows = [
            ProcessPolicy(side, found.process).decide(found.request, found.measures).effective.allows for side in sides
        ]
        assert allows == {"allowed": [False, True], "denied": [True, False]}.get(found.kind, [True, True])
    return {found.kind for found in result.differences}, {kind for kind, _ in result.unclear}


OWN = allow("${identity.namespace}/**")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([allow("a/**")], [allow("a/**")], set()),
        ([allow("a/**")], [allow("a", "a/*", "a/*/**")], set()),
        ([allow("a/**")], [allow("a/*", "a/*/**")], {"denied"}),
        ([allow("a/**")], [allow("a/**"), deny("**/x")], {"denied"}),
        ([allow("a/**")], [allow("b/**")], {"allowed", "denied"}),
        ([allow("a/b", "a/?")], [allow("a/?")], set()),
        ([allow("a/b/c"), deny("*/b/*")], [], set()),
        ([OWN], [OWN, allow("team-a/**")], {"allowed"}),
        ([OWN], [OWN, {**OWN, "match": {**OWN["match"], "identity": {"namespaces": ["team-*"]}}}], set()),
        ([allow("a", limits={"maxBytes": 5})], [allow("a", limits={"maxBytes": 6})], {"allowed"}),
        (
            [allow("a", limits={"maxBytes": 5}), allow("a", limits={"maxFiles": 1})],
            [allow("a", limits={"maxBytes": 5})],
            {"denied"},
        ),
        ([allow("a/**", limits={"maxDepth": 2})], [allow("a", "a/*")], set()),
        ([allow("abcd", limits={"maxKeyBytes": 4})], [allow("abcd")], {"allowed"}),
        ([allow("a/**", limits={"maxKeyBytes": 40})], [allow("a/**", limits={"maxKeyBytes": 50})], {"allowed"}),
        ([allow("%2A/x")], [allow("*/x")], {"allowed"}),
        ([allow("a.")], [allow("a?")], {"allowed"}),
        ([allow(".?")], [allow(".?", "..")], None),
    ],
)
def test_differences_are_found_exactly(old, new, expected):
    if expected is None:
        with pytest.raises(Invalid):
            documents(document(new))
    else:
        assert kinds(document(old), document(new)) == (expected, set())


def test_other_encryption_settings_are_a_difference():
    one, other = (document([allow("a/**")], encryption=[{"key": key}]) for key in ("k", "j"))
    assert kinds(one, one) == (set(), set())
    assert kinds(one, other) == ({"encryption"}, set())
    templates = [document([OWN], encryption=[{"key": key}]) for key in ("t-${identity.namespace}", "t-a")]
    assert kinds(*templates) == ({"encryption"}, set())


def test_a_condition_is_decided_only_if_it_cannot_matter():
    conditional = allow("a/**", when="size(key) > 3")
    assert kinds(document([conditional]), document([conditional])) == (set(), set())
    assert kinds(document([conditional]), document([conditional, allow("b")])) == ({"allowed"}, set())
    assert kinds(document([allow("a/**"), conditional]), document([allow("a/**")])) == (set(), set())
    assert kinds(document([]), document([allow("a", when="key == 'b'")])) == (set(), {"allowed"})
    assert kinds(document([]), document([allow("a", when="key == 'a'")])) == ({"allowed"}, set())


def test_a_variable_beside_a_wildcard_is_decided_only_if_it_cannot_matter():
    beside = allow("${identity.namespace}-*/**")
    assert kinds(document([beside]), document([beside])) == (set(), set())
    assert kinds(document([allow("**")]), document([allow("**"), beside])) == (set(), set())
    found, unclear = kinds(document([]), document([beside]))
    assert found == {"allowed"}
    assert unclear <= {"allowed"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([], [allow("a/**", expires=LATER)], {"allowed"}),
        ([], [allow("a/**", expires=BEFORE)], set()),
        ([allow("a/**")], [allow("a/**", expires=LATER)], {"denied"}),
        ([allow("a/**", expires=LATER)], [allow("a/**", expires=LATER)], set()),
        ([allow("a/**", expires=LATER)], [allow("a/**", expires="2028-01-01T00:00:00Z")], {"allowed"}),
        ([allow("a/**")], [allow("a/**"), allow("a/b", expires=LATER)], set()),
    ],
)
def test_a_rule_that_expires_is_compared_before_and_after_that(old, new, expected):
    assert kinds(document(old), document(new)) == (expected, set())


def test_patterns_that_combine_in_too_many_ways_are_unclear():
    many = [deny(f"**/{letter}/**") for letter in "abcdefghijklmnopqrstuvwxyz"]
    result = differences(documents(document([allow("**")])), documents(document([allow("**"), *many])), NOW)
    assert result.differences or result.unclear


@pytest.mark.parametrize(
    ("claim", "holds"),
    [
        ("op=read keys=pci/** unless namespace=payments", True),
        ("op=read keys=pci/**", False),
        ("op=write", True),
        ("keys=** unless keys=pci/** unless keys=${identity.namespace}/**", True),
        ("keys=** unless keys=pci/**", False),
        ("op=read keys=pci/** exceptKeys=pci/x,pci/**/y unless namespace=pay*", True),
    ],
)
def test_a_claim_holds_or_has_a_counterexample(claim, holds):
    rules = [
        {
            "effect": "allow",
            "match": {"operations": ["read"], "keys": ["pci/**"], "identity": {"namespaces": ["payments"]}},
        },
        {"effect": "allow", "match": {"operations": ["read"], "keys": ["${identity.namespace}/**"]}},
        {"effect": "deny", "match": {"keys": ["pci/**"], "identity": {"namespaces": ["pci"]}}},
    ]
    result = violations(documents(document(rules)), claims.parsed(claim), NOW)
    assert not result.unclear
    assert (not result.differences) == holds


@pytest.mark.parametrize("claim", ["", "op", "ops=read", "op=read unless", "op=fly", "keys=a//b", "op=read op=write"])
def test_a_claim_that_is_not_valid_is_a_fault(claim):
    with pytest.raises(Invalid, match=r"^--never: "):
        claims.parsed(claim)


def missed(random: Random, inputs: int) -> list:
    """Return the inputs that two random policies decide differently in a way that the comparison did not find."""
    old = random_policy(random)
    new = changed(random, old) if random.random() < 0.8 else random_policy(random)
    sides = documents(old), documents(new)
    found, unclear = kinds(old, new)
    assert not unclear
    prepared: dict = {}
    wrong = []
    for _ in range(inputs):
        given = random_input(random)
        identity = (*given.process.identity.values(), given.process.attested)
        if identity not in prepared:
            prepared[identity] = [ProcessPolicy(side, given.process) for side in sides]
        before, after = (policy.decide(given.request, given.measures).effective.allows for policy in prepared[identity])
        if before != after and ("allowed" if after else "denied") not in found:
            wrong.append((old, new, given))
    return wrong


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 1 << 32))
def test_no_random_request_shows_a_difference_that_was_not_found(seed):
    assert missed(Random(seed), 100) == []


@pytest.mark.large
@pytest.mark.timeout(7200)
def test_a_million_random_requests_show_no_difference_that_was_not_found():
    random = Random(20261128)
    for _ in range(PAIRS // EACH):
        assert missed(random, EACH) == []


# --- an SMT solver as the oracle --------------------------------------------------------------------------


LETTER = z3.Intersect(z3.AllChar(z3.ReSort(z3.StringSort())), z3.Complement(z3.Re("/")))
SEGMENT = z3.Concat(z3.Re("/"), z3.Plus(LETTER))


def expression(pattern: str):
    """Return `pattern` as a regular expression of the solver, over keys with a slash before each segment."""
    parts = []
    for text in pattern.split("/"):
        if text == "**":
            parts.append(z3.Star(SEGMENT))
            continue
        parts.append(z3.Re("/"))
        parts += [z3.Star(LETTER) if c == "*" else LETTER if c == "?" else z3.Re(c) for c in text]
    return z3.Concat(*parts) if len(parts) > 1 else parts[0]


def union(patterns):
    expressions = [expression(pattern) for pattern in patterns]
    return z3.Union(*expressions) if len(expressions) > 1 else expressions[0]


def access(allowed, denied, key):
    return z3.And(z3.InRe(key, union(allowed)), z3.Not(z3.InRe(key, union(denied))))


PLAIN = st.lists(st.sampled_from(["a", "b", "a*", "?b", "*", "**"]), min_size=1, max_size=3).map("/".join)
SEVERAL = st.lists(PLAIN, min_size=1, max_size=2)


def agrees(allowed, denied, allowed_then, denied_then):
    """Compare two policies by the solver, too. Return whether the solver had an answer in time."""
    found, unclear = kinds(
        document([allow(*allowed), deny(*denied)]), document([allow(*allowed_then), deny(*denied_then)])
    )
    assert not unclear
    key = z3.String("key")
    before, after = access(allowed, denied, key), access(allowed_then, denied_then, key)
    answered = True
    for kind, condition in (("allowed", z3.And(after, z3.Not(before))), ("denied", z3.And(before, z3.Not(after)))):
        solver = z3.Solver()
        solver.set("timeout", 2_000)  # milliseconds
        solver.add(z3.InRe(key, z3.Plus(SEGMENT)), condition)
        answer = solver.check()
        assert answer == z3.unknown or (answer == z3.sat) == (kind in found), (kind, solver)
        answered = answered and answer != z3.unknown
    return answered


@pytest.mark.parametrize(
    "policies",
    [
        (["a/**"], ["**/b"], ["a/**"], ["a/**/b"]),
        (["a/**"], ["b"], ["a", "a/*"], ["b"]),
        (["*/a"], ["a/*"], ["?b/a", "*/a"], ["a/*"]),
    ],
)
def test_an_smt_solver_agrees_on_which_policies_differ(policies):
    assert agrees(*policies)


@pytest.mark.large
@pytest.mark.timeout(3600)
@settings(max_examples=300, deadline=None)
@given(SEVERAL, SEVERAL, SEVERAL, SEVERAL)
def test_an_smt_solver_agrees_on_random_policies(allowed, denied, allowed_then, denied_then):
    agrees(allowed, denied, allowed_then, denied_then)


# --- the automata -----------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(PLAIN, min_size=1, max_size=4))
def test_each_class_has_one_canonical_key_and_no_other_key_has_another_class(patterns):
    automaton = globs.Automaton(*map(globs.tokens, patterns))
    found = [
        tuple(globs.compiled(p)(key) for p in patterns) for key in classes([Track(automaton)], key_grammar(automaton))
    ]
    assert len(found) == len(set(found))
    for key in classes([Track(automaton)], key_grammar(automaton)):
        assert not fault_of(key)
    random = Random(1)
    for _ in range(50):
        key = "/".join("".join(random.choices("abc", k=random.randint(1, 3))) for _ in range(random.randint(1, 4)))
        assert tuple(globs.compiled(p)(key) for p in patterns) in found
