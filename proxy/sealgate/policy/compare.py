"""Compares policies over all requests: what a new policy allows or denies that an old one did not, and claims.

Rules are decided exactly: the representatives of all requests (`sealgate.policy.representatives`) are decided by the
engine itself, so each difference has a concrete request as its example. What no finite number of requests decides is
reported as such: a condition (`when`), and a pattern with a variable and a wildcard in one segment. These are assumed
to hold and not to hold, and matter only if some assumption shows a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sealgate.policy import automata, canonical_keys
from sealgate.policy.assumptions import TooManyAssumptions, assumed, undecided
from sealgate.policy.decision import READS, WRITES, Decision, Measures, Request
from sealgate.policy.encryption import Encryption
from sealgate.policy.engine import Matched, ProcessPolicy
from sealgate.policy.load import PolicySet
from sealgate.policy.measuring import measures_of
from sealgate.policy.representatives import Relevant, Representatives, Side
from sealgate.policy.rules import Process
from sealgate.policy.schema import NEVER, Rule

_MOST_PROCESSES = 20_000
_NEVER = "never"
TOO_MANY = "the patterns combine in too many ways"


@dataclass(frozen=True, slots=True)
class Difference:
    """A kind of difference, with one request as its example. The engine has decided the example."""

    kind: str
    """`allowed`: the new policy allows it, and the old one does not. `denied`: the other way round. `encryption`: both
    allow it, under different encryption settings. `claim`: the policy allows what a claim excludes."""
    request: Request
    process: Process
    measures: Measures
    decisions: tuple[Decision, ...]
    """The decision of each policy."""


@dataclass(slots=True)
class Comparison:
    """The result of a comparison."""

    differences: list[Difference] = field(default_factory=list)
    unclear: list[tuple[str, str]] = field(default_factory=list)
    """The kind of difference that there may be more of, or an empty text for any kind, and why that is not decided."""


Judge = Callable[[Sequence[Matched], Measures], str]
"""Returns the kind of difference that a request with measures shows; empty if it shows none."""


def differences(old: PolicySet, new: PolicySet, now: int) -> Comparison:
    """Return what `new` allows, denies or encrypts otherwise than `old`: an example for each pair of reasons.

    Calls begin at `now`, in Unix seconds, or later.
    """

    def relevant(sides: Sequence[Side]) -> bool:
        return sides[0].meaning != sides[1].meaning

    return _compared((old, new), relevant, _difference, now)


def violations(policy: PolicySet, claim: PolicySet, now: int) -> Comparison:
    """Return examples of requests that `policy` allows and `claim` (`sealgate.policy.claims`) excludes.

    Calls begin at `now`, in Unix seconds, or later.
    """

    def relevant(sides: Sequence[Side]) -> bool:
        return any(live.rule.name == _NEVER for live in sides[1].rules)

    return _compared((policy, claim), relevant, _violation, now)


def _difference(matched: Sequence[Matched], measures: Measures) -> str:
    old, new = (each.judge(measures).effective.allows for each in matched)
    if old != new:
        return "allowed" if new else "denied"
    old_settings, new_settings = (each.encryption for each in matched)
    moves_bytes = matched[0].request.operation in READS | WRITES
    if (
        not old
        or not moves_bytes
        or not isinstance(old_settings, Encryption)
        or not isinstance(new_settings, Encryption)
    ):
        return ""
    return "" if old_settings.is_same_as(new_settings) else "encryption"


def _violation(matched: Sequence[Matched], measures: Measures) -> str:
    policy, claim = matched
    certain = {ready.rule.name.partition("-")[0] for ready, unknown in claim.denies if not unknown}
    return "claim" if certain == {_NEVER} and policy.judge(measures).effective.allows else ""


def _compared(policies: Sequence[PolicySet], relevant: Relevant, judge: Judge, now: int) -> Comparison:
    sides = [Side.of(policy) for policy in policies]
    search = _Search(policies, judge)
    representatives = Representatives(sides, relevant, _times(sides, now))
    try:
        for count, (process, left) in enumerate(representatives.processes()):
            if count >= _MOST_PROCESSES:
                search.add_unclear(f"the rules tell more than {_MOST_PROCESSES} identities apart")
                break
            search.run(process, left, representatives)
    except automata.TooManyStates:
        search.add_unclear(TOO_MANY)
    return search.result()


def _times(sides: Sequence[Side], now: int) -> Sequence[int | None]:
    """Return the times that the rules tell apart from `now` on: each rule that expires ends a period."""
    ends = {live.rule.expires for side in sides for live in side.rules if isinstance(live.rule, Rule)} - {NEVER}
    return sorted({now, *(end for end in ends if end > now)}) if ends else (None,)


class _Search:
    """Decides requests, and collects the differences that they show."""

    def __init__(self, policies: Sequence[PolicySet], judge: Judge) -> None:
        self._policies = policies
        self._judge = judge
        self._found: dict[tuple[str, ...], Difference] = {}
        self._unclear: dict[tuple[str, str], None] = {}

    def add_unclear(self, reason: str, kind: str = "") -> None:
        """Record something that cannot be decided."""
        self._unclear[kind, reason] = None

    def result(self) -> Comparison:
        """Return all that was found."""
        return Comparison(list(self._found.values()), list(self._unclear))

    def run(self, process: Process, sides: Sequence[Side], representatives: Representatives) -> None:
        """Decide all requests of one process."""
        prepared = [ProcessPolicy(side.policy(), process) for side in sides]
        reason = _reason(sides)
        try:
            assumptions = [[ProcessPolicy(policy, process) for policy in policies] for policies in assumed(sides)]
            for request in representatives.requests(sides):
                kinds = self._try(request, process, prepared)
                for policies in assumptions:
                    assuming = [policy.match(request, canonical=False) for policy in policies]
                    for kind in {kind for kind, _ in self._shown(assuming)} - kinds:
                        self.add_unclear(reason, kind)
        except TooManyAssumptions:
            self.add_unclear(f"too many conditions and patterns at once: {reason}")
        except automata.TooManyStates:
            self.add_unclear(TOO_MANY)

    def _try(self, request: Request, process: Process, prepared: Sequence[ProcessPolicy]) -> set[str]:
        matched = [policy.match(request, canonical=False) for policy in prepared]
        kinds = set()
        for kind, measures in self._shown(matched):
            kinds.add(kind)
            decisions = tuple(each.judge(measures) for each in matched)
            reasons = (kind, *(f"{d.effective.policy}/{d.effective.rule}/{d.effective.code}" for d in decisions))
            if reasons not in self._found and self._is_decided(kind, request, process, measures):
                self._found[reasons] = Difference(kind, request, process, measures, decisions)
        return kinds

    def _shown(self, matched: Sequence[Matched]) -> Iterator[tuple[str, Measures]]:
        """Yield each kind of difference that a request shows, with measures."""
        for measures in measures_of(matched):
            if kind := self._judge(matched, measures):
                yield kind, measures

    def _is_decided(self, kind: str, request: Request, process: Process, measures: Measures) -> bool:
        """Return whether the whole policies decide an example as the rules that were left did."""
        whole = [ProcessPolicy(policy, process).match(request) for policy in self._policies]
        if self._judge(whole, measures) == kind:
            return True
        fault = canonical_keys.fault_of(request.key)
        self.add_unclear(f"no example could be built{fault and f': {fault}'}", kind)
        return False


def _reason(sides: Sequence[Side]) -> str:
    """Name the rules that no finite number of requests decides, and what of them."""
    reasons: dict[str, None] = {}
    for side in sides:
        for live in side.rules:
            for found in undecided(live):
                what = "`when`" if found.is_condition else f"the pattern {found.text}"
                reasons[f"{what} of {live.document.metadata.name}/{live.rule.name}"] = None
    return ", ".join(reasons)
