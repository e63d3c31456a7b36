"""How each rule evaluated a request, for `sealgate policy explain` and the coverage of policy tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sealgate.policy import canonical_keys, readable
from sealgate.policy.decision import READS, WRITES, Measures, Request
from sealgate.policy.engine import ProcessPolicy, ReadyRule
from sealgate.policy.rules import violated_limit, violated_requirement, withheld_grant
from sealgate.policy.schema import NEVER, Limits, Requirements


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """How one rule evaluated one request."""

    rule: str
    """`policy/rule`."""
    effect: str
    mode: str
    state: str
    """`no`: the rule does not match. `grants` or `over`: an allow rule within its limits, or over them or expired.
    `denies` or `ok`: a deny or require rule. `first`: the encryption rule that applies."""
    reason: str


def traced(policy: ProcessPolicy, request: Request, measures: Measures) -> Iterator[RuleTrace]:
    """Yield each access rule in the order of the documents, with its state and the reason.

    A key that is not canonical matches no rule.
    """
    fault = canonical_keys.fault_of(request.key)
    for ready in policy.rules:
        state, reason = ("no", fault) if fault else _state(policy, ready, request, measures)
        yield RuleTrace(ready.name, ready.rule.effect, ready.mode, state, reason)


def selected(policy: ProcessPolicy, request: Request) -> Iterator[RuleTrace]:
    """Yield each encryption rule in its order, with its state and the reason.

    Yields nothing for a key that is not canonical, or for an operation that moves no bytes.
    """
    if canonical_keys.fault_of(request.key) or request.operation not in READS | WRITES:
        return
    found = False
    for ready in policy.encryption_rules.rules:
        state, reason = "no", "an earlier rule applies"
        if not found:
            answer = ready.match(request)
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
    if ready.rule.effect == "allow":
        withheld = withheld_grant(ready.rule, request, measures)
        return ("over", withheld[1]) if withheld else ("grants", _reason(ready, request, measures))
    violation = violated_requirement(
        ready.rule.require, request, measures, attested=policy.process.attested
    ) or violated_limit(ready.rule.limits, request, measures)
    return ("denies", violation[1]) if violation else ("ok", _reason(ready, request, measures))


def _reason(ready: ReadyRule, request: Request, measures: Measures) -> str:
    """Return the limits that were compared, such as `maxDepth 2<=12`, for a rule that holds."""
    limits, reasons = ready.rule.limits, []
    for name, measured, limit in (
        ("maxBytes", measures.bytes, limits.max_bytes),
        ("maxTotalBytes", measures.total, limits.max_total_bytes),
        ("maxFiles", measures.files, limits.max_files),
        ("maxListing", measures.listing, limits.max_listing),
        ("maxDepth", request.key.count("/") + 1, limits.max_depth),
        ("maxKeyBytes", len(request.key.encode()), limits.max_key_bytes),
    ):
        if limit is not None:
            reasons.append(f"{name} {'?' if measured is None else measured}<={int(limit)}")
    if ready.rule.expires != NEVER:
        reasons.append(f"until {readable.time(ready.rule.expires)}")
    if ready.rule.require != Requirements():
        reasons.append("requirements hold")
    return ", ".join(reasons) or ("no limits" if limits == Limits() else "limits hold")
