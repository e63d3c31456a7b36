"""What each rule made of a request, for those who ask why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sealgate.policy import canonical_keys as keys
from sealgate.policy.engine import ProcessPolicy, ReadyRule
from sealgate.policy.facts import READS, WRITES, Measures, Request
from sealgate.policy.rules import broken_limit, broken_requirement
from sealgate.policy.schema import Limits, Requirements


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """One rule and one request."""

    rule: str
    """`policy/rule`."""
    effect: str
    mode: str
    state: str
    """`no`: not meant. `grants`, `over`: an allow whose limits hold or do not. `denies`, `ok`: the others. `first`: the
    encryption rule that counts."""
    reason: str


def traced(policy: ProcessPolicy, request: Request, measures: Measures) -> Iterator[RuleTrace]:
    """Each rule in the order of documents, with its state and why. None is asked of a key that is not canonical."""
    fault = keys.fault_of(request.key)
    for ready in policy.rules:
        state, reason = ("no", fault) if fault else _state(policy, ready, request, measures)
        yield RuleTrace(ready.name, ready.rule.effect, ready.mode, state, reason)


def selected(policy: ProcessPolicy, request: Request) -> Iterator[RuleTrace]:
    """Each encryption rule in its order: the first that matches is the one. None is asked of what moves no bytes."""
    if keys.fault_of(request.key) or request.operation not in READS | WRITES:
        return
    found = False
    for ready in policy.encryption_rules:
        state, reason = "no", "another comes first"
        if not found:
            answer = ready.answer(request)
            found = answer is not False
            if answer is True and ready.result:
                state, reason = "first", f"key {ready.result.key or 'of the configuration'}"
            else:
                state, reason = ("denies", str(answer)) if found else ("no", ready.matching.why_not(request))
        yield RuleTrace(f"{ready.policy}/encryption/{ready.rule.name}", "encrypt", "enforce", state, reason)


def _state(policy: ProcessPolicy, ready: ReadyRule, request: Request, measures: Measures) -> tuple[str, str]:
    matching = ready.matching
    answer = matching.match(request) if request.operation in matching.operations else False
    if answer is not True:
        fails = isinstance(answer, str) and ready.rule.effect != "allow" and ready.on_error == "deny"
        return "denies" if fails else "no", matching.why_not(request)
    if ready.rule.effect == "deny":
        return "denies", "it matches"
    broken = broken_requirement(
        ready.rule.require, request, measures, attested=policy.process.attested
    ) or broken_limit(ready.rule.limits, request, measures)
    if ready.rule.effect == "allow":
        return ("over", broken[1]) if broken else ("grants", _held(ready, request, measures))
    return ("denies", broken[1]) if broken else ("ok", _held(ready, request, measures))


def _held(ready: ReadyRule, request: Request, measures: Measures) -> str:
    """Which limits were looked at, as `maxDepth 2<=12`."""
    limits, held = ready.rule.limits, []
    for name, measured, limit in (
        ("maxBytes", measures.bytes, limits.max_bytes),
        ("maxTotalBytes", measures.total, limits.max_total_bytes),
        ("maxFiles", measures.files, limits.max_files),
        ("maxListing", measures.listing, limits.max_listing),
        ("maxDepth", request.key.count("/") + 1, limits.max_depth),
        ("maxKeyBytes", len(request.key.encode()), limits.max_key_bytes),
    ):
        if limit is not None:
            held.append(f"{name} {'?' if measured is None else measured}<={int(limit)}")
    if ready.rule.require != Requirements():
        held.append("what it requires is so")
    return ", ".join(held) or ("no limits" if limits == Limits() else "its limits hold")
