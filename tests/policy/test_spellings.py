"""No spelling of a key escapes a rule: it is refused, or the rule matches it as it matches the plain spelling."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote

import pytest
from harness.policy import document, policy
from hypothesis import given
from hypothesis import strategies as st

from sealgate.policy import globs, templates
from sealgate.policy.canonical_keys import fault_of, normal_form
from sealgate.policy.decision import Request

KEY = "geheim/café:ø/plan.txt"
DENIED = policy(document([{"effect": "allow"}, {"effect": "deny", "match": {"keys": ["geheim/café:ø/**"]}}]))

HOSTILE = [
    "geheim%2Fcafé:ø/plan.txt",
    "geheim%2fcafé:ø/plan.txt",
    "geheim%252Fcafé:ø/plan.txt",
    "geheim%25252Fcafé:ø/plan.txt",
    "geheim%%32%46café:ø/plan.txt",
    "geheim%u002Fcafé:ø/plan.txt",
    "geheim%C0%AFcafé:ø/plan.txt",
    "geheim%EF%BC%8Fcafé:ø/plan.txt",
    "geheim\uff0fcafé:ø/plan.txt",
    "geheim\u2215café:ø/plan.txt",
    "geheim\u2044café:ø/plan.txt",
    "geheim\uff052Fcafé:ø/plan.txt",
    "geheim%2\u200dFcafé:ø/plan.txt",
    "geheim\\café:ø\\plan.txt",
    "geheim%5Ccafé:ø%5Cplan.txt",
    "geheim//café:ø/plan.txt",
    "/geheim/café:ø/plan.txt",
    "geheim/./café:ø/plan.txt",
    "x/../geheim/café:ø/plan.txt",
    "x/%2E%2E/geheim/café:ø/plan.txt",
    "x/%252E./geheim/café:ø/plan.txt",
    "x/\uff0e\uff0e/geheim/café:ø/plan.txt",
    "x/.\u200d./geheim/café:ø/plan.txt",
    "x/..%3Bp/geheim/café:ø/plan.txt",
    "geheim/\u200d/café:ø/plan.txt",
    "geheim /café:ø/plan.txt",
    "geheim%20/café:ø/plan.txt",
    "geheim\u00a0/café:ø/plan.txt",
    "geheim%00/café:ø/plan.txt",
    "geheim/café:ø/plan.txt%00.png",
    "geheim/café:ø/plan.txt%0A",
    "geheim\n/café:ø/plan.txt",
    "\u202egeheim/café:ø/plan.txt",
    "geheim%E2%80%AE/café:ø/plan.txt",
    "geheim/café%3Aø/plan.txt",
    "geheim/café%3aø/plan.txt",
    "geheim/café%253Aø/plan.txt",
    "geheim/café%25253Aø/plan.txt",
    "geheim/café%u003Aø/plan.txt",
    "%67eheim/café:ø/plan.txt",
    "g%65heim/café:ø/plan.txt",
    "g%2565heim/café:ø/plan.txt",
    "geheim/caf%C3%A9:ø/plan.txt",
    "geheim/caf%c3%a9:%C3%B8/plan.txt",
    "geheim/cafe\u0301:ø/plan.txt",
    "geheim/cafe%CC%81:ø/plan.txt",
    "geheim/caf%65\u0301:ø/plan.txt",
    "geheim/cafe\u200d\u0301:ø/plan.txt",
    "ge\u200dheim/café:ø/plan.txt",
    "ge\u200bheim/café:ø/plan.txt",
    "ge\u00adheim/café:ø/plan.txt",
    "\ufeffgeheim/café:ø/plan.txt",
    "geheim\ufe0f/café:ø/plan.txt",
    "ge%E2%80%8Bheim/café:ø/plan.txt",
    "geheim/café:ø\U000e0061/plan.txt",
    "geheim/caf\u3164é:ø/plan.txt",
    "geheim%2F\u200b\u0307café:ø/plan.txt",
    "geheim%2f\u00ad\u0307café:ø/plan.txt",
    "geheim%2F\ufe0f\u0307café:ø/plan.txt",
    "geheim%2F%E2%80%8B\u0307café:ø/plan.txt",
    "geheim%2F\u200d%CC%87café:ø/plan.txt",
    "geheim%252F\u0307café:ø/plan.txt",
    "geheim%252F%25CC%2587café:ø/plan.txt",
    "geheim%5C\u200b\u0327café:ø/plan.txt",
    "geheim%0A\u200b\u0301/café:ø/plan.txt",
    "x/..%2F\u200b\u0307/geheim/café:ø/plan.txt",
    "x/..%252F\u0307/geheim/café:ø/plan.txt",
    "x/%2E%2E\u200b\u0300/geheim/café:ø/plan.txt",
    "x/%2E\u200b\u0300/geheim/café:ø/plan.txt",
]


def test_there_are_enough_hostile_spellings():
    assert len(set(HOSTILE)) >= 42


@pytest.mark.parametrize("key", HOSTILE, ids=ascii)
def test_a_hostile_spelling_is_refused_or_matched(key):
    assert key != KEY
    for operation in ("Load", "Save", "Delete", "ListObjects"):
        verdict = DENIED.decide(Request(operation, key)).effective
        assert (verdict.outcome, verdict.code) in {("deny", "BAD_KEY"), ("deny", "DENIED")}
    assert fault_of(key) or normal_form(key) == KEY


@pytest.mark.parametrize(
    "mark", ["\u0307", "\u200b\u0307", "\u00ad\u0307", "\ufe0f\u0307", "%E2%80%8B\u0307"], ids=ascii
)
@pytest.mark.parametrize("escape", ["%2F", "%2f", "%252F", "%25252F"])
def test_no_key_pattern_or_variable_has_an_escape_whose_last_digit_has_a_mark(escape, mark):
    text = f"team-a..{escape}{mark}x"
    assert fault_of(text)
    assert globs.fault_of(f"{text}/**")
    assert templates.word_fault(text)


PLAIN = st.text(st.sampled_from("aé:*? ガ각=%x2F\u0307\u0300\u0327"), min_size=1, max_size=6).filter(
    lambda text: not fault_of(text)
)
KEYS = st.lists(PLAIN, min_size=1, max_size=3).map("/".join)


@st.composite
def spellings(draw, key: str) -> str:
    """Draw a spelling of `key` that programs may take for `key`."""
    text = draw(st.sampled_from([key, unicodedata.normalize("NFD", key), unicodedata.normalize("NFC", key)]))
    for _ in range(draw(st.integers(0, 2))):
        safe = draw(st.sampled_from(["/", "/:=", "/*?", "/aé"]))
        text = quote(text, safe=safe)
    at = draw(st.integers(0, len(text)))
    return text[:at] + draw(st.sampled_from(["", "\u200d", "\ufe0f", "\u200b"])) + text[at:]


@given(KEYS.flatmap(lambda key: st.tuples(st.just(key), spellings(key))))
def test_every_spelling_of_a_key_is_refused_or_decided_like_the_key(pair):
    key, spelling = pair
    if fault_of(key) or fault_of(spelling):
        return
    literal = quote(key, safe="/")
    rule = {"effect": "deny", "match": {"keys": [literal]}}
    made = policy(document([{"effect": "allow"}, rule]))
    codes = {made.decide(Request("Load", each)).effective.code for each in (key, spelling)}
    assert codes == {"DENIED"}


@given(KEYS.flatmap(lambda key: st.tuples(spellings(key), spellings(key))))
def test_a_pattern_matches_a_key_in_whatever_spelling_both_are(pair):
    pattern, key = pair
    if fault_of(pattern) or fault_of(key) or {"*", "?"} & {*pattern}:
        return
    granted = policy(document([{"effect": "allow", "match": {"keys": [f"{pattern}/**"]}}]))
    assert granted.decide(Request("Save", f"{key}/x")).effective.allows


def test_limits_on_endings_and_conditions_see_the_normal_form():
    made = policy(document([{"effect": "allow", "limits": {"extensions": [".tgz", "é"]}}]))
    for key in ("a.tgz", "a.t%67z", "cafe\u0301", "caf%C3%A9"):
        assert made.decide(Request("Save", key)).effective.allows
    assert made.decide(Request("Save", "a.tgz%41")).effective.code == "EXTENSION"
    made = policy(document([{"effect": "allow"}, {"effect": "deny", "when": "key == 'a:b/é' && segments[1] == 'é'"}]))
    for key in ("a:b/é", "a%3Ab/e\u0301", "a\u200d:b/%C3%A9"):
        assert made.decide(Request("Load", key)).effective.code == "DENIED"


def test_an_encryption_rule_applies_to_every_spelling():
    rules = [{"match": {"keys": ["a:b/**"]}, "key": "one"}, {"key": "two"}]
    made = policy(document([{"effect": "allow"}], encryption=rules))
    for key in ("a:b/x", "a%3Ab/x", "a\u200d:b/x"):
        assert made.encryption(Request("Save", key)).key == "one"
