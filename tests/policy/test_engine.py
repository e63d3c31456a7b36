"""The engine: the cases of the library, further cases, and properties of every policy."""

from __future__ import annotations

import copy
import unicodedata
from dataclasses import replace

import pytest
from harness.library import rows
from harness.policy import document, documents, policy
from hypothesis import given, settings
from hypothesis import strategies as st

from sealgate.policy import canonical_keys
from sealgate.policy.decision import OPERATIONS, Measures, Request, Verdict
from sealgate.policy.encryption import Encryption
from sealgate.policy.engine import BASELINE, ProcessPolicy
from sealgate.policy.rules import Process


def outcome(made: ProcessPolicy, operation="Load", key="a/b", **measures) -> tuple[str, str]:
    verdict = made.decide(Request(operation, key), Measures(**measures)).effective
    return verdict.outcome, verdict.code


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.name)
def test_a_case_of_the_library(row):
    decision = ProcessPolicy(row.documents, row.process).decide(row.request, row.measures)
    found, expect = decision.effective, row.case.expect
    assert (found.outcome, found.code, found.rule) == (expect.decision, expect.code, expect.rule)
    assert decision.proposed.outcome == expect.proposed


def test_the_library_has_forty_cases():
    assert {row.number for row in rows() if row.number.isdigit()} == {f"{number:02d}" for number in range(1, 41)}


# --- further cases ----------------------------------------------------------------------------------------


def test_without_a_document_everything_canonical_is_allowed_and_sealed():
    made = ProcessPolicy(BASELINE, Process({}))
    assert {outcome(made, operation) for operation in OPERATIONS} == {("allow", "OK")}
    assert outcome(made, key="a/../b") == ("deny", "BAD_KEY")
    assert outcome(made, sealed=False) == ("deny", "PLAINTEXT")
    assert outcome(made, "ListObjects", listing=10_001) == ("deny", "LIMIT_LISTING")
    assert made.encryption(Request("Save", "a")) == Encryption()


def test_rules_of_two_documents_are_pooled():
    platform = document([{"effect": "deny", "match": {"keys": ["**/*.pem"]}}], name="platform")
    tenant = document([{"effect": "allow", "match": {"keys": ["a/**"]}}], name="tenant")
    both = policy(platform, tenant)
    assert outcome(both) == ("allow", "OK")
    assert outcome(both, key="a/x.pem") == ("deny", "DENIED")
    assert outcome(both, key="b") == ("deny", "NO_RULE")
    assert outcome(policy(platform)) == ("deny", "NO_RULE"), "the other document granted it"


def test_the_default_is_deny_if_one_enforced_document_says_so():
    lax = document(defaultDecision="allow", name="lax")
    assert outcome(policy(lax)) == ("allow", "DEFAULT_ALLOW")
    assert outcome(policy(lax, document(name="strict"))) == ("deny", "NO_RULE")
    assert outcome(policy(lax, document(name="strict", enforcement="warn"))) == ("allow", "DEFAULT_ALLOW")


@pytest.mark.parametrize("mode", ["warn", "shadow"])
def test_a_document_on_trial_denies_nothing_and_reports_what_it_would(mode):
    made = policy(document([{"effect": "deny", "match": {"keys": ["a/**"]}}], enforcement=mode))
    decision = made.decide(Request("Load", "a/b"))
    assert (decision.effective.outcome, decision.proposed.outcome) == ("allow", "deny")
    assert [(verdict.rule, verdict.mode) for verdict in decision.would_deny] == [("r0", mode)]
    assert outcome(made, key="a/../b") == ("deny", "BAD_KEY"), "canonical keys are no trial"
    assert outcome(made, sealed=False) == ("deny", "PLAINTEXT"), "neither is plaintext"


def test_a_document_on_trial_never_allows_plaintext():
    made = policy(document(enforcement="warn", encryption=[{"readPlaintext": "allow"}]))
    assert outcome(made, sealed=False) == ("deny", "PLAINTEXT")


@pytest.mark.parametrize(("on_error", "expected"), [("deny", ("deny", "ERROR")), ("allow", ("allow", "OK"))])
@pytest.mark.parametrize("effect", ["deny", "require"])
def test_a_rule_that_cannot_be_evaluated_has_the_effect_of_on_error(on_error, expected, effect):
    doubtful = {"effect": effect, "match": {"identity": {"components": ["server"]}}}
    if effect == "require":
        doubtful["limits"] = {"maxDepth": 9}
    made = policy(document([doubtful, {"effect": "allow"}], onError=on_error))
    assert outcome(made) == expected


def test_an_allow_rule_that_cannot_be_evaluated_does_not_grant():
    made = policy(document([{"effect": "allow", "match": {"keys": ["${identity.namespace}/**"]}}], onError="allow"))
    assert outcome(made) == ("deny", "NO_RULE")


def test_a_certain_mismatch_outweighs_an_unknown_field():
    rule = {"effect": "deny", "match": {"keys": ["z/**"], "identity": {"components": ["server"]}}}
    assert outcome(policy(document([rule, {"effect": "allow"}]))) == ("allow", "OK")


def test_any_grant_is_enough_and_the_first_that_is_over_its_limit_is_named():
    rules = [{"effect": "allow", "limits": {"maxBytes": 10}}, {"effect": "allow", "limits": {"maxBytes": 20}}]
    made = policy(document(rules))
    assert outcome(made, "Save", bytes=15) == ("allow", "OK")
    verdict = made.decide(Request("Save", "a"), Measures(bytes=25)).effective
    assert (verdict.code, verdict.rule, verdict.fact) == ("LIMIT_BYTES", "r0", "25 bytes exceeds maxBytes 10")


def test_a_grant_that_survived_longest_is_named_while_bytes_flow():
    rules = [{"effect": "allow", "limits": {"maxBytes": 10}}, {"effect": "allow", "limits": {"maxBytes": 20}}]
    matched = policy(document(rules)).match(Request("Save", "a"))
    matched = matched.surviving(Measures(bytes=15))
    assert matched.judge(Measures(bytes=25)).effective.rule == "r1"


@pytest.mark.parametrize(
    ("limits", "measures", "code"),
    [
        ({"minBytes": 5}, {"bytes": 4, "complete": True}, "LIMIT_BYTES"),
        ({"maxTotalBytes": "1KiB"}, {"total": 1025}, "LIMIT_TOTAL"),
        ({"maxFiles": 2}, {"files": 3}, "LIMIT_FILES"),
        ({"maxDepth": 1}, {}, "LIMIT_DEPTH"),
        ({"maxKeyBytes": 2}, {}, "LIMIT_KEY"),
        ({"extensions": [".tgz"]}, {}, "EXTENSION"),
    ],
)
def test_each_limit_denies_what_exceeds_it_and_nothing_else(limits, measures, code):
    made = policy(document([{"effect": "require", "limits": limits}, {"effect": "allow"}]))
    assert outcome(made, "Save", **measures) == ("deny", code)
    within = {
        name: 5 if name == "bytes" else value - 1 if name != "complete" else value for name, value in measures.items()
    }
    key = "a" if code in {"LIMIT_DEPTH", "LIMIT_KEY"} else "a/b.tgz"
    assert outcome(made, "Save", key, **within) == ("allow", "OK")


def test_a_denial_takes_precedence_over_a_skip():
    skip = {"effect": "deny", "onDelete": "skip"}
    allow = {"effect": "allow"}
    assert outcome(policy(document([skip, allow])), "Delete") == ("skip", "DENIED")
    for order in ([skip, {"effect": "deny"}, allow], [{"effect": "deny"}, skip, allow]):
        assert outcome(policy(document(order)), "Delete") == ("deny", "DENIED")
    assert outcome(policy(document([skip, allow])), "Load") == ("deny", "DENIED")


def test_the_first_encryption_rule_that_matches_applies():
    rules = [{"match": {"keys": ["a/**"]}, "key": "transit/keys/one"}, {"match": {"keys": ["**"]}, "key": "two"}]
    made = policy(document([{"effect": "allow"}], encryption=rules))
    found = [made.encryption(Request("Save", key)) for key in ("a/x", "b/x")]
    assert [each.key for each in found if isinstance(each, Encryption)] == ["one", "two"]


def test_a_key_without_an_encryption_rule_is_neither_written_nor_read():
    made = policy(document([{"effect": "allow"}], encryption=[{"match": {"keys": ["a/**"]}}]))
    assert [outcome(made, operation, "b") for operation in ("Load", "Save", "Delete")] == [
        ("deny", "NO_KEY"),
        ("deny", "NO_KEY"),
        ("allow", "OK"),
    ]


def test_an_encryption_rule_with_an_unknown_variable_denies():
    made = policy(document([{"effect": "allow"}], encryption=[{"key": "tenant-${identity.namespace}"}]))
    assert outcome(made, "Save") == ("deny", "ERROR")
    assert isinstance(made.encryption(Request("Save", "a")), Verdict)


def test_an_encryption_rule_that_may_match_is_not_skipped():
    unknown = {"match": {"identity": {"components": ["gc"]}}, "key": "one"}
    made = policy(document([{"effect": "allow"}], encryption=[unknown, {"key": "two"}]))
    assert outcome(made, "Save") == ("deny", "ERROR")


@pytest.mark.parametrize("strict", [0, 1])
def test_of_two_documents_the_stricter_listing_and_symlinks_apply(strict):
    lax = document([{"effect": "allow"}], name="lax", listing="filter", symlinks="skip")
    other = document(name="other", listing="deny", symlinks="reject")
    made = policy(lax, other) if strict else policy(lax)
    assert (made.listing, made.skips_links) == (("deny", False) if strict else ("filter", True))


def test_an_enforced_rule_in_a_document_on_trial_leaves_the_baseline_in_force():
    deny = {"effect": "deny", "enforcement": "enforce", "match": {"keys": ["nothing"]}}
    for rules_of_trial in ([], [deny]):
        made = policy(document(rules_of_trial, enforcement="shadow"))
        assert outcome(made, "ListObjects", listing=10_001) == ("deny", "LIMIT_LISTING")


# --- properties of every policy ---------------------------------------------------------------------------

PATTERNS = st.sampled_from(["**", "a/**", "a/b", "*/b", "b/*", "${identity.namespace}/**", "**/c", "?/b"])
OPERATION_NAMES = st.sampled_from(["read", "write", "delete", "list", "Load", "*"])
MATCHES = st.fixed_dictionaries(
    {},
    optional={
        "keys": st.lists(PATTERNS, min_size=1, max_size=2),
        "exceptKeys": st.lists(PATTERNS, min_size=1, max_size=1),
        "operations": st.lists(
            st.sampled_from(["read", "write", "delete", "list", "Load", "*"]), min_size=1, max_size=2
        ),
        "identity": st.sampled_from([{"namespaces": ["a"]}, {"components": ["gc"]}, {}]),
    },
)
LIMITS = st.sampled_from([{"maxBytes": 5}, {"maxFiles": 1}, {"maxDepth": 1}, {"extensions": [".x"]}])
MODES = st.sampled_from(["enforce", "warn", "shadow"])


@st.composite
def rules(draw, modes=MODES, effects=("allow", "deny", "require")):
    effect = draw(st.sampled_from(effects))
    rule = {"effect": effect, "match": draw(MATCHES), "enforcement": draw(modes)}
    if effect == "require":
        rule["limits"] = draw(LIMITS)
        rule["require"] = draw(
            st.sampled_from([{}, {"overwrite": "deny"}, {"minAge": "5s"}, {"attestedIdentity": True}])
        )
    if effect == "allow" and draw(st.booleans()):
        rule["limits"] = draw(LIMITS)
    if effect == "allow" and draw(st.booleans()):
        rule["expires"] = f"1970-01-01T00:00:0{draw(st.integers(0, 9))}Z"
    if effect != "allow":
        rule["onDelete"] = draw(st.sampled_from(["deny", "skip"]))
    return rule


SPECS = st.fixed_dictionaries(
    {
        "defaultDecision": st.sampled_from(["allow", "deny"]),
        "onError": st.sampled_from(["allow", "deny"]),
        "enforcement": MODES,
    }
)
TIMES = st.none() | st.integers(0, 9)
REQUESTS = st.builds(
    Request,
    st.sampled_from(sorted(OPERATIONS)),
    st.sampled_from(["a", "a/b", "b/c", "a/b/c.x", "z"]),
    time=TIMES,
)
MEASURES = st.builds(
    Measures,
    bytes=st.none() | st.integers(0, 9),
    files=st.none() | st.integers(0, 3),
    sealed=st.none() | st.booleans(),
    exists=st.none() | st.booleans(),
    age=st.none() | st.integers(0, 9),
    listing=st.none() | st.sampled_from([1, 10_001]),
)
IDENTITIES = st.sampled_from([{}, {"namespace": "a"}, {"namespace": "b", "component": "gc"}])


def effective(written: dict, identity: dict, request: Request, measures: Measures) -> Verdict:
    return policy(written, **identity).decide(request, measures).effective


@settings(max_examples=200)
@given(st.lists(rules(), max_size=5), rules(effects=("deny",)), SPECS, IDENTITIES, REQUESTS, MEASURES)
def test_one_more_deny_never_allows_more(given_rules, deny, spec, identity, request, measures):
    before = effective(document(given_rules, **spec), identity, request, measures)
    after = effective(document([*given_rules, deny], **spec), identity, request, measures)
    assert before.allows or not after.allows


@settings(max_examples=200)
@given(st.lists(rules(), max_size=5), SPECS, IDENTITIES, REQUESTS, MEASURES, TIMES)
def test_a_later_or_unknown_time_never_allows_more(given_rules, spec, identity, request, measures, time):
    written = document(given_rules, **spec)
    earlier = effective(written, identity, request, measures)
    later = effective(written, identity, replace(request, time=time), measures)
    is_later = time is None or (request.time is not None and time >= request.time)
    assert not is_later or earlier.allows or not later.allows


@settings(max_examples=200)
@given(st.lists(rules(), max_size=6), st.randoms(), SPECS, IDENTITIES, REQUESTS, MEASURES)
def test_the_order_of_rules_never_changes_access(given_rules, random, spec, identity, request, measures):
    shuffled = copy.copy(given_rules)
    random.shuffle(shuffled)
    before = effective(document(given_rules, **spec), identity, request, measures)
    assert effective(document(shuffled, **spec), identity, request, measures).outcome == before.outcome


@settings(max_examples=200)
@given(
    st.lists(rules(), max_size=4),
    st.lists(rules(modes=st.just("shadow")), max_size=3),
    SPECS,
    IDENTITIES,
    REQUESTS,
    MEASURES,
)
def test_a_shadow_never_changes_the_effective_decision(given_rules, shadows, spec, identity, request, measures):
    before = policy(document(given_rules, **spec), **identity).decide(request, measures).effective
    after = policy(document([*given_rules, *shadows], **spec), **identity).decide(request, measures).effective
    assert after == before
    other = document(shadows, name="zzz", enforcement="shadow", defaultDecision="deny")
    assert policy(document(given_rules, **spec), other, **identity).decide(request, measures).effective == before


AWKWARD = st.text(
    st.sampled_from("ab/.%2fF5cC\\;\uff05\uff12\u2024\uff0e\uff0f\u2215\u202e\u200b \x00é"), min_size=1, max_size=12
)


@settings(max_examples=500)
@given(AWKWARD)
def test_no_key_with_a_second_spelling_is_ever_accepted(key):
    made = policy(document([{"effect": "allow"}]))
    verdict = made.decide(Request("Load", key)).effective
    if canonical_keys.fault_of(key):
        assert (verdict.outcome, verdict.code) == ("deny", "BAD_KEY")
    else:
        assert verdict.allows
        normal = canonical_keys.normal_form(key)
        assert not set(key) & set("\\\x00\u202e\uff0f\u2215")
        assert not set(normal) & set("\\\x00\u202e\u200b\uff0f\u2215")
        for spelling in (key, normal):
            assert not {"", ".", ".."} & set(spelling.split("/"))
            assert "%2f" not in unicodedata.normalize("NFKC", spelling).lower()
            assert "%5c" not in unicodedata.normalize("NFKC", spelling).lower()


def test_a_decision_finds_each_matching_rule_once():
    rules_of_100 = [{"effect": "allow", "match": {"keys": [f"team-{n}/**", f"shared-{n}/*.x"]}} for n in range(100)]
    made = policy(document(rules_of_100))
    matched = made.match(Request("Load", "team-7/x"))
    assert [ready.rule.name for ready in matched.allows] == ["r7"]


@settings(max_examples=200)
@given(st.lists(rules(), max_size=6), IDENTITIES, REQUESTS)
def test_no_matching_rule_is_left_out(given_rules, identity, request):
    made = policy(document(given_rules, onError="deny"), **identity)
    matched = made.match(request)
    found = [*(ready for ready, _ in (*matched.denies, *matched.requires)), *matched.allows]
    for ready in made.rules:
        answer = ready.matching.match(request) if request.operation in ready.matching.operations else False
        counts = answer is True or (isinstance(answer, str) and ready.rule.effect != "allow")
        assert counts == (ready in found)


def test_the_digest_depends_on_the_content_of_documents_and_not_on_their_form():
    one, two = document([{"effect": "allow"}]), document([{"effect": "allow", "description": ""}])
    assert documents(one).digest == documents(two).digest
    assert documents(one).digest != documents(document([{"effect": "deny"}])).digest
