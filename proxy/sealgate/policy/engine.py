"""The engine: takes a request and returns a decision, without input or output.

docs/policies.md, "How a call is decided", describes the steps.

The order of access rules has no effect: deny takes precedence over require, require over allow, and allow over the
default decision. Only encryption rules are ordered (`sealgate.policy.encryption`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from sealgate.policy import canonical_keys, templates
from sealgate.policy.contact import advice_of
from sealgate.policy.decision import NOTHING_YET, Decision, Measures, Request, Verdict
from sealgate.policy.encryption import Encryption, EncryptionRules, encryption_denial
from sealgate.policy.globs import Matcher
from sealgate.policy.load import PolicySet
from sealgate.policy.rules import (
    Matching,
    Process,
    expiry,
    pending_measures,
    violated_limit,
    violated_requirement,
    withheld_grant,
)
from sealgate.policy.schema import ArtifactPolicy, AuditNote, Rule, Spec

BASELINE_LISTING = 10_000
"""The most names that a caller is shown in one listing while no document is enforced."""
_DENIED = "DENIED", "a rule denies it"
_HINTS = 3
"""The most key prefixes that a refusal suggests."""


@dataclass(frozen=True, slots=True)
class Baseline(PolicySet):
    """The policy when none is configured."""

    most_listed: int | None = BASELINE_LISTING
    """The most names that a listing returns; None for no limit."""


@dataclass(frozen=True, slots=True)
class ReadyRule:
    """An access rule with its variables filled in and its patterns compiled for one process."""

    policy: str
    rule: Rule
    mode: str
    on_error: str
    matching: Matching
    advice: str
    """The advice for the author: the rule's own message, and the owner to ask."""
    denied: Verdict
    """The verdict of a deny rule that matches, for every operation but Delete."""

    @property
    def name(self) -> str:
        """`policy/rule`, as `sealgate policy explain` and the audit record write it."""
        return f"{self.policy}/{self.rule.name}"

    def denial(self, code: str, fact: str, operation: str) -> Verdict:
        """Return the verdict of this rule when it denies `operation`; `skip` for a Delete if the rule says so."""
        outcome = "skip" if operation == "Delete" and self.rule.on_delete == "skip" else "deny"
        return Verdict(outcome, code, self.policy, self.rule.name, fact, self.advice, self.mode)


@dataclass(frozen=True, slots=True)
class _Default:
    """The decision where no rule decides."""

    effective: str
    proposed: str
    mode: str
    """The mode of the document that `proposed` comes from."""


class ProcessPolicy:
    """All documents, prepared for one process."""

    def __init__(self, documents: PolicySet, process: Process) -> None:
        self.digest = documents.digest
        self.process = process
        specs = [document.spec for document in documents.documents]
        self._enforced = [document for document in documents.documents if document.spec.enforcement == "enforce"]
        enforced = [document.spec for document in self._enforced]
        self.is_empty = not specs
        self.is_baseline = not enforced
        """No document is enforced, so the baseline applies. Single rules of a document on trial may be enforced."""
        self.most_listed = documents.most_listed if isinstance(documents, Baseline) else BASELINE_LISTING
        """The limit of the baseline for a listing."""
        self.enforces = bool(enforced) or any(rule.enforcement == "enforce" for spec in specs for rule in spec.rules)
        """At least one document or one rule is enforced, so the storage must answer what the rules ask."""
        self.listing = "deny" if any(spec.listing == "deny" for spec in enforced) else "filter"
        self.skips_links = bool(enforced) and all(spec.symlinks == "skip" for spec in enforced)
        self.default = _default(specs)
        self.rules = [
            _ready(document, rule, process) for document in documents.documents for rule in document.spec.rules
        ]
        self.encryption_rules = EncryptionRules(documents, process)
        self._notes = {
            (ready.policy, ready.rule.name): ready.rule.audit for ready in self.rules if ready.rule.audit != AuditNote()
        }
        self._by_operation: dict[str, list[ReadyRule]] = {}
        self._by_segment: dict[str, _BySegment] = {}

    def match(self, request: Request, *, canonical: bool = True) -> Matched:
        """Return the rules that match `request`, ready to be judged with measures.

        Args:
            request: the request.
            canonical: whether a key that is not canonical is denied.
        """
        if canonical and (fault := canonical_keys.fault_of(request.key)):
            return Matched(self, request, fault=fault)
        denies: list[tuple[ReadyRule, str]] = []
        requires: list[tuple[ReadyRule, str]] = []
        allows: list[ReadyRule] = []
        key = canonical_keys.normal_form(request.key)
        for ready in self.candidates(request):
            alone = ready.matching.keys_alone if key else None
            answer = ready.matching.match(request) if alone is None else _any_matches(alone, key)
            if answer is False:
                continue
            if ready.rule.effect == "allow":
                if answer is True:
                    allows.append(ready)
            elif answer is True or ready.on_error == "deny":
                (denies if ready.rule.effect == "deny" else requires).append(
                    (ready, answer if isinstance(answer, str) else "")
                )
        return Matched(self, request, denies, requires, allows, encryption=self.encryption(request))

    def decide(self, request: Request, measures: Measures = NOTHING_YET) -> Decision:
        """Return the decision on `request`, given `measures`."""
        return self.match(request).judge(measures)

    def encryption(self, request: Request) -> Encryption | Verdict:
        """Return the settings of the first encryption rule that matches, or the verdict that denies `request`."""
        return self.encryption_rules.select(request)

    def audit_note(self, verdict: Verdict) -> AuditNote | None:
        """Return what the rule of `verdict` adds to the audit record; None if it adds nothing."""
        return self._notes.get((verdict.policy, verdict.rule))

    def no_rule(self, request: Request) -> Verdict:
        """Return the verdict for a request that no rule allows. It names key prefixes that this process may use."""
        namespace = self.process.identity.get("namespace", "")
        suffix = f" for namespace {namespace}" if namespace else ""
        prefixes: list[str] = []
        for ready in self._for(request.operation):
            patterns = ready.matching.keys
            grants = ready.rule.effect == "allow" and ready.mode == "enforce" and not expiry(ready.rule, request)
            if grants and patterns and ready.matching.matches_but_for_keys(request):
                # A key that the rule excludes may begin with the same prefix.
                excluded = ready.matching.excluding(request.key) if patterns.match(request.key) is True else ""
                but = f" (but not {excluded})" if excluded else ""
                prefixes += [f"{prefix}{but}" for text in patterns.filled_in if (prefix := _prefix(text))]
        hints = list(dict.fromkeys(prefixes))[:_HINTS]
        advice = advice_of(self._enforced, f"Your keys start with {' or '.join(hints)}" if hints else "")
        return Verdict("deny", "NO_RULE", fact=f"no allow rule covers this key{suffix}", advice=advice)

    def candidates(self, request: Request) -> Sequence[ReadyRule]:
        """Return the rules that can match the first segment of the key, in their order."""
        if request.operation not in self._by_segment:
            self._by_segment[request.operation] = _BySegment(self._for(request.operation))
        index = self._by_segment[request.operation]
        return index.rules.get(canonical_keys.normal_form(request.key).partition("/")[0], index.others)

    def _for(self, operation: str) -> list[ReadyRule]:
        if operation not in self._by_operation:
            self._by_operation[operation] = [
                ready
                for ready in self.rules
                if operation in ready.matching.operations and ready.matching.identity is not False
            ]
        return self._by_operation[operation]


class _BySegment:
    """An index of rules by the first segment of their key patterns, so that a decision evaluates few rules."""

    def __init__(self, rules: Sequence[ReadyRule]) -> None:
        self.rules: dict[str, list[ReadyRule]] = {}
        self.others: list[ReadyRule] = []
        """The rules whose first segment has a wildcard, or that have no key patterns. Every list contains them."""
        for ready in rules:
            firsts = ready.matching.first_segments()
            for first in firsts or self.rules:
                self.rules.setdefault(first, list(self.others)).append(ready)
            if not firsts:
                self.others.append(ready)


@dataclass(frozen=True, slots=True)
class Matched:
    """A request with the rules that match it. It is judged again whenever a measure becomes known."""

    policy: ProcessPolicy
    request: Request
    denies: Sequence[tuple[ReadyRule, str]] = ()
    """Each rule with the reason why it cannot be evaluated, or an empty string."""
    requires: Sequence[tuple[ReadyRule, str]] = ()
    allows: Sequence[ReadyRule] = ()
    fault: str = ""
    """Why the key is not canonical."""
    encryption: Encryption | Verdict = field(default_factory=Encryption)
    """The encryption of the request, selected once however often the request is judged."""
    whole: Encryption | None = None
    """The encryption of the directory that the object is read or written as a part of."""

    def judge(self, measures: Measures = NOTHING_YET) -> Decision:
        """Return the decision, given `measures`."""
        if self.fault:
            verdict = Verdict("deny", "BAD_KEY", "", "builtin", self.fault, canonical_keys.remedy_of(self.request.key))
            return Decision(verdict, verdict)
        denials = self._denials(measures)
        effective = self._verdict([denial for denial in denials if denial.mode == "enforce"], measures, trial=False)
        proposed = self._verdict(denials, measures, trial=True)
        if effective.allows:
            effective = self._encryption_denial(measures) or effective
        would = tuple([denial for denial in denials if denial.mode != "enforce"])
        if not would and not proposed.allows and effective.allows:
            would = (proposed,)
        return Decision(effective, proposed, would, *self._pending(measures))

    def surviving(self, measures: Measures) -> Matched:
        """Return the same without the allow rules whose limits are violated, or unchanged if all are.

        A limit that is violated stays violated, because measures only grow.
        """
        kept = [ready for ready in self.allows if not withheld_grant(ready.rule, self.request, measures)]
        return self if len(kept) == len(self.allows) or not kept else replace(self, allows=kept)

    def _denials(self, measures: Measures) -> list[Verdict]:
        """Return the verdict of each deny and require rule that denies the request."""
        operation = self.request.operation
        denials = []
        for ready, unknown in self.denies:
            if unknown:
                denials.append(ready.denial("ERROR", _cannot_evaluate(unknown), operation))
            else:
                denials.append(ready.denied if operation != "Delete" else ready.denial(*_DENIED, operation))
        for ready, unknown in self.requires:
            violation = (
                ("ERROR", _cannot_evaluate(unknown))
                if unknown
                else violated_requirement(
                    ready.rule.require, self.request, measures, attested=self.policy.process.attested
                )
                or violated_limit(ready.rule.limits, self.request, measures)
            )
            if violation:
                denials.append(ready.denial(*violation, operation))
        return denials

    def _verdict(self, denials: Sequence[Verdict], measures: Measures, *, trial: bool) -> Verdict:
        # A denial takes precedence over a skip, whichever rule comes first.
        for outcome in ("deny", "skip"):
            for denial in denials:
                if denial.outcome == outcome:
                    return denial
        withheld: list[Verdict] = []
        for ready in self.allows:
            if ready.mode != "enforce" and not trial:
                continue
            violation = withheld_grant(ready.rule, self.request, measures)
            if not violation:
                return Verdict("allow", "OK", ready.policy, ready.rule.name)
            withheld.append(ready.denial(*violation, self.request.operation))
        if withheld:
            # A limit is named before an expired rule, because the author can keep to it.
            return min(withheld, key=lambda verdict: verdict.code == "EXPIRED")
        default = self.policy.default
        if (default.proposed if trial else default.effective) == "deny":
            verdict = self.policy.no_rule(self.request)
            return replace(verdict, mode=default.mode) if trial else verdict
        listing, most = measures.listing or 0, self.policy.most_listed
        if self.policy.is_baseline and most is not None and listing > most:
            fact = f"{listing} names exceeds maxListing {most}"
            return Verdict("deny", "LIMIT_LISTING", "baseline", "default", fact, "List a subdirectory")
        return Verdict("allow", "OK", "baseline") if self.policy.is_baseline else Verdict("allow", "DEFAULT_ALLOW")

    def _encryption_denial(self, measures: Measures) -> Verdict | None:
        return encryption_denial(
            self.encryption,
            self.request,
            measures,
            directory=self.whole,
            is_baseline=self.policy.is_baseline,
        )

    def _pending(self, measures: Measures) -> tuple[frozenset[str], frozenset[str]]:
        """Return the pending measures that any matching rule needs, and those that an enforced one needs."""
        awaits: frozenset[str] = frozenset()
        needs: frozenset[str] = frozenset()
        for ready, _ in self.requires if measures.pending else ():
            pending = pending_measures(ready.rule.require, self.request, measures.pending)
            awaits |= pending
            needs |= pending if ready.mode == "enforce" else frozenset()
        return awaits, needs


def _any_matches(patterns: Sequence[Matcher], key: str) -> bool:
    for matches in patterns:  # noqa: SIM110 - `any` takes twice the time, and most rules have one pattern
        if matches(key):
            return True
    return False


def _cannot_evaluate(reason: str) -> str:
    return f"a rule cannot be evaluated: {reason}"


def _prefix(pattern: str) -> str:
    """Return the prefix that all keys matching `pattern` share, up to a slash; empty if there is none."""
    head = pattern.partition("*")[0].partition("?")[0]
    return head if head == pattern else head.rpartition("/")[0] + "/" if "/" in head else ""


def _default(specs: Sequence[Spec]) -> _Default:
    enforced = [spec for spec in specs if spec.enforcement == "enforce"]
    denying = [spec for spec in specs if spec.default_decision == "deny"]
    return _Default(
        effective="deny" if any(spec.default_decision == "deny" for spec in enforced) else "allow",
        proposed="deny" if denying else "allow",
        mode=min((spec.enforcement for spec in denying), key=("enforce", "warn", "shadow").index, default="enforce"),
    )


def _ready(document: ArtifactPolicy, rule: Rule, process: Process) -> ReadyRule:
    policy, spec = document.metadata.name, document.spec
    message = ""
    with suppress(templates.NotKnown):
        message = templates.filled(rule.message, process.identity, spec.params)
    mode = rule.enforcement or spec.enforcement
    matching = Matching.of(rule.match, rule.when, process, spec.params)
    advice = advice_of([document], message)
    denied = Verdict("deny", _DENIED[0], policy, rule.name, _DENIED[1], advice, mode)
    return ReadyRule(policy, rule, mode, spec.on_error, matching, advice, denied)


BASELINE = Baseline((), "")
"""The policy when none is configured: every canonical key is allowed and sealed, and plaintext is not read."""
CANONICAL_KEYS = Baseline((), "", most_listed=None)
"""The policy of a plugin that decides nothing else: every canonical key is allowed, and listings have no limit."""
