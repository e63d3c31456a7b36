"""`expires` on a rule: it ends a grant by itself, and never a restriction."""

from __future__ import annotations

import pytest
from harness.policy import document, documents, policy

from sealgate.policy.decision import NOTHING_YET, Measures, Request, Verdict
from sealgate.policy.load import Invalid

AT, END = "2026-12-01T18:00:00Z", 1_796_148_000
GLASS = {"effect": "allow", "match": {"keys": ["pci/**"]}, "expires": AT}
OWN = {"effect": "allow", "match": {"keys": ["team-a/**", "pci/own/**"]}, "limits": {"maxBytes": 10}}


def verdict(*rules: dict, time: int | None, key="pci/x", measures: Measures = NOTHING_YET, **spec) -> Verdict:
    return policy(document(rules, **spec)).decide(Request("Load", key, time=time), measures).effective


@pytest.mark.parametrize(("time", "code"), [(0, "OK"), (END - 1, "OK"), (END, "EXPIRED"), (END + 10**9, "EXPIRED")])
def test_a_rule_grants_until_it_expires(time, code):
    found = verdict(GLASS, time=time)
    assert (found.code, found.rule) == (code, "r0")
    assert found.allows == (code == "OK")


def test_a_refusal_names_the_rule_and_when_it_expired():
    assert verdict(GLASS, time=END).fact == f"the rule expired at {AT}"


def test_a_rule_that_expires_grants_nothing_at_an_unknown_time():
    found = verdict(GLASS, time=None)
    assert (found.code, found.fact) == ("EXPIRED", f"the rule grants until {AT}, and the time is not known")


def test_a_grant_that_does_not_expire_is_enough():
    assert verdict(GLASS, OWN, key="pci/own/x", time=END).rule == "r1"


def test_a_limit_is_named_before_a_rule_that_has_expired():
    found = verdict(GLASS, OWN, key="pci/own/x", time=END, measures=Measures(bytes=11))
    assert found.code == "LIMIT_BYTES"


def test_no_default_decision_allows_what_a_rule_allowed_until_it_expired():
    assert verdict(GLASS, time=END, defaultDecision="allow").code == "EXPIRED"
    assert verdict(GLASS, key="other", time=END, defaultDecision="allow").code == "DEFAULT_ALLOW"


def test_a_deny_rule_takes_precedence_over_a_rule_that_expires():
    assert verdict(GLASS, {"effect": "deny"}, time=0).code == "DENIED"


def test_the_hint_names_no_prefix_of_a_rule_that_has_expired():
    assert verdict(GLASS, OWN, key="x", time=0).advice == "Your keys start with pci/ or team-a/ or pci/own/"
    assert verdict(GLASS, OWN, key="x", time=END).advice == "Your keys start with team-a/ or pci/own/"


@pytest.mark.parametrize("rule", [{"effect": "deny"}, {"effect": "require", "limits": {"maxBytes": 1}}])
def test_a_rule_that_restricts_cannot_expire(rule):
    with pytest.raises(Invalid, match="only an allow rule can expire"):
        documents(document([{**rule, "expires": AT}]))


@pytest.mark.parametrize("written", ["2026-12-01T19:00:00+01:00", "2026-12-01t18:00:00z", "2026-12-01T18:00:00.9Z"])
def test_two_spellings_of_a_time_are_one_policy(written):
    once, again = (documents(document([{**GLASS, "expires": at}])) for at in (AT, written))
    assert once == again


@pytest.mark.parametrize(
    "written",
    ["", "soon", "2026-12-01", "2026-12-01T18:00:00", "30d", END, True, None, [], "1969-12-31T23:59:59Z",
     "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+23:00", "2026-02-30T00:00:00Z"],
)  # fmt: skip
def test_a_time_that_is_not_an_instant_is_refused(written):
    value = document([{**GLASS, "expires": written}])
    with pytest.raises(Invalid, match="a time with its zone"):
        documents(value)
