"""The engine: a request in, a decision out. Pure, and made for one process (docs/policies.md, "How a call is decided").

Access does not depend on the order of rules: deny over require over allow over the default. The encryption list is
the one that is ordered: its first match wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from sealgate.policy import canonical_keys as keys
from sealgate.policy import templates
from sealgate.policy.facts import NOTHING_YET, READS, WRITES, Decision, Encryption, Measures, Request, Verdict
from sealgate.policy.load import PolicySet, key_name
from sealgate.policy.rules import Answer, Matching, Process, awaited, broken_limit, broken_requirement
from sealgate.policy.schema import ArtifactPolicy, AuditNote, EncryptionRule, Rule, Spec

BASELINE_LISTING = 10_000
"""The most names that a listing gives where there is no policy."""
_HINTS = 3
_ASK = "Ask the owner of the policies"
_ALONE = "Save and load it by its own key"


@dataclass(frozen=True, slots=True)
class ReadyRule:
    """A rule for one process."""

    policy: str
    rule: Rule
    mode: str
    on_error: str
    matching: Matching
    message: str
    """For the author: the rule's own, or whom to ask."""

    @property
    def name(self) -> str:
        """`policy/rule`, as explain and the audit record write it."""
        return f"{self.policy}/{self.rule.name}"

    def denies(self, code: str, fact: str, operation: str) -> Verdict:
        """The verdict of this rule when it does not let a request pass."""
        outcome = "skip" if operation == "Delete" and self.rule.on_delete == "skip" else "deny"
        return Verdict(outcome, code, self.policy, self.rule.name, fact, self.message, self.mode)


@dataclass(frozen=True, slots=True)
class ReadyEncryption:
    """An encryption rule for one process."""

    policy: str
    rule: EncryptionRule
    matching: Matching
    result: Encryption | None
    unknown: str
    """Why there is no result."""

    def answer(self, request: Request) -> Answer:
        """Whether it means the request; or why that, or what it says then, cannot be told."""
        answer = self.matching.match(request) if request.operation in self.matching.operations else False
        return self.unknown or True if answer is True else answer


@dataclass(frozen=True, slots=True)
class _Default:
    """What becomes of a request that no rule decides."""

    effective: str
    proposed: str
    mode: str
    """Of the document that the proposed one comes from."""


class ProcessPolicy:
    """All documents, for one process."""

    def __init__(self, documents: PolicySet, process: Process) -> None:
        self.digest = documents.digest
        self.process = process
        specs = [document.spec for document in documents.documents]
        enforced = [spec for spec in specs if spec.enforcement == "enforce"]
        self.is_empty = not specs
        self.is_baseline = not enforced
        """No document is enforced, though single rules may be: what holds where there is none goes on holding."""
        self.enforces = bool(enforced) or any(rule.enforcement == "enforce" for spec in specs for rule in spec.rules)
        """Some document is enforced, or a single rule of one on trial: what is asked for them is needed."""
        self.listing = "deny" if any(spec.listing == "deny" for spec in enforced) else "filter"
        self.skips_links = bool(enforced) and all(spec.symlinks == "skip" for spec in enforced)
        self.default = _default(specs)
        self.rules = [
            _ready(document, rule, process) for document in documents.documents for rule in document.spec.rules
        ]
        counting = [document for document in documents.documents if document.spec.enforcement == "enforce"]
        self.encryption_rules = [
            _ready_encryption(document, rule, process, documents.mount)
            for document in counting
            for rule in document.spec.encryption
        ]
        self._notes = {
            (ready.policy, ready.rule.name): ready.rule.audit for ready in self.rules if ready.rule.audit != AuditNote()
        }
        self._by_operation: dict[str, list[ReadyRule]] = {}
        self._by_segment: dict[str, _BySegment] = {}

    def match(self, request: Request, *, canonical: bool = True) -> Matched:
        """Everything about a request that cannot change any more; its key may be any unless it must be `canonical`."""
        if canonical and (fault := keys.fault_of(request.key)):
            return Matched(self, request, fault=fault)
        denies: list[tuple[ReadyRule, str]] = []
        requires: list[tuple[ReadyRule, str]] = []
        allows: list[ReadyRule] = []
        for ready in self._possible(request):
            answer = ready.matching.match(request)
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
        """The decision on a request of which this much is known."""
        return self.match(request).judge(measures)

    def encryption(self, request: Request) -> Encryption | Verdict:
        """What the first matching encryption rule says, or why there is none."""
        for ready in self.encryption_rules:
            answer = ready.answer(request)
            if answer is False:
                continue
            if answer is not True or ready.result is None:
                fact = f"the encryption rule cannot be evaluated: {answer}"
                return Verdict("deny", "ERROR", ready.policy, f"encryption/{ready.rule.name}", fact, _ASK)
            return ready.result
        if self.encryption_rules:
            return Verdict("deny", "NO_KEY", fact="no encryption rule covers this key", advice=_ASK)
        return Encryption()

    def audit_note(self, verdict: Verdict) -> AuditNote | None:
        """What the rule of a verdict wants in the audit record."""
        return self._notes.get((verdict.policy, verdict.rule))

    def no_rule(self, request: Request) -> Verdict:
        """The verdict where nothing grants, with what would have been granted to the same process."""
        namespace = self.process.identity.get("namespace", "")
        whose = f" for namespace {namespace}" if namespace else ""
        starts: list[str] = []
        for ready in self._for(request.operation):
            patterns = ready.matching.keys
            counts = ready.rule.effect == "allow" and ready.mode == "enforce"
            if counts and patterns and ready.matching.matches_but_for_keys(request):
                starts += [_start(text) for text in patterns.texts if "${" not in text]
        found = list(dict.fromkeys(start for start in starts if start))[:_HINTS]
        advice = f"Your keys start with {' or '.join(found)}" if found else _ASK
        return Verdict("deny", "NO_RULE", fact=f"no allow rule covers this key{whose}", advice=advice)

    def _possible(self, request: Request) -> Sequence[ReadyRule]:
        """The rules that could mean the request, by the first segment of its key, in their order."""
        if request.operation not in self._by_segment:
            self._by_segment[request.operation] = _BySegment(self._for(request.operation))
        index = self._by_segment[request.operation]
        return index.rules.get(request.key.partition("/")[0], index.others)

    def _for(self, operation: str) -> list[ReadyRule]:
        if operation not in self._by_operation:
            self._by_operation[operation] = [
                ready
                for ready in self.rules
                if operation in ready.matching.operations and ready.matching.identity is not False
            ]
        return self._by_operation[operation]


class _BySegment:
    """Rules by the first segment that all of a rule's patterns begin with, so that few are looked at."""

    def __init__(self, rules: Sequence[ReadyRule]) -> None:
        self.rules: dict[str, list[ReadyRule]] = {}
        self.others: list[ReadyRule] = []
        """Those whose patterns begin with a star, or that have none: they are in each list."""
        for ready in rules:
            firsts = ready.matching.first_segments()
            for first in firsts or self.rules:
                self.rules.setdefault(first, list(self.others)).append(ready)
            if not firsts:
                self.others.append(ready)


@dataclass(frozen=True, slots=True)
class Matched:
    """A request with the rules that mean it, to be judged again with every fact that comes in."""

    policy: ProcessPolicy
    request: Request
    denies: Sequence[tuple[ReadyRule, str]] = ()
    """With why it cannot be evaluated, where that is so."""
    requires: Sequence[tuple[ReadyRule, str]] = ()
    allows: Sequence[ReadyRule] = ()
    fault: str = ""
    """Why the key is not canonical."""
    encryption: Encryption | Verdict = field(default_factory=Encryption)
    """What the encryption list says: looked up once, however often the request is judged."""
    whole: Encryption | None = None
    """What the directory is under that the object is read or written as a part of."""

    def judge(self, measures: Measures = NOTHING_YET) -> Decision:
        """The decision, as far as facts are known."""
        if self.fault:
            verdict = Verdict("deny", "BAD_KEY", "", "builtin", self.fault, "Store the artifact under a plain key")
            return Decision(verdict, verdict)
        blocks = self._blocks(measures)
        effective = self._verdict([block for block in blocks if block.mode == "enforce"], measures, trial=False)
        proposed = self._verdict(blocks, measures, trial=True)
        if effective.allows:
            effective = self._encrypted(effective, measures)
        would = tuple(block for block in blocks if block.mode != "enforce")
        if not would and not proposed.allows and effective.allows:
            would = (proposed,)
        return Decision(effective, proposed, would, *self._awaits(measures))

    def surviving(self, measures: Measures) -> Matched:
        """The same without the grants whose limits are passed: what has passed one stays so."""
        kept = [ready for ready in self.allows if not broken_limit(ready.rule.limits, self.request, measures)]
        return self if len(kept) == len(self.allows) or not kept else replace(self, allows=kept)

    def _blocks(self, measures: Measures) -> list[Verdict]:
        """The verdict of each deny and require rule that does not let the request pass."""
        operation = self.request.operation
        blocks = []
        for ready, unknown in self.denies:
            code, fact = ("ERROR", _cannot(unknown)) if unknown else ("DENIED", "a rule denies it")
            blocks.append(ready.denies(code, fact, operation))
        for ready, unknown in self.requires:
            broken = (
                ("ERROR", _cannot(unknown))
                if unknown
                else broken_requirement(
                    ready.rule.require, self.request, measures, attested=self.policy.process.attested
                )
                or broken_limit(ready.rule.limits, self.request, measures)
            )
            if broken:
                blocks.append(ready.denies(*broken, operation))
        return blocks

    def _verdict(self, blocks: Sequence[Verdict], measures: Measures, *, trial: bool) -> Verdict:
        # Whichever rule comes first: what is denied by one is not merely skipped by another.
        for outcome in ("deny", "skip"):
            for block in blocks:
                if block.outcome == outcome:
                    return block
        over: Verdict | None = None
        for ready in self.allows:
            if ready.mode != "enforce" and not trial:
                continue
            broken = broken_limit(ready.rule.limits, self.request, measures)
            if not broken:
                return Verdict("allow", "OK", ready.policy, ready.rule.name)
            over = over or ready.denies(*broken, self.request.operation)
        if over:
            return over
        default = self.policy.default
        if (default.proposed if trial else default.effective) == "deny":
            verdict = self.policy.no_rule(self.request)
            return replace(verdict, mode=default.mode) if trial else verdict
        listing = measures.listing or 0
        if self.policy.is_baseline and listing > BASELINE_LISTING:
            fact = f"{listing} names exceeds maxListing {BASELINE_LISTING}"
            return Verdict("deny", "LIMIT_LISTING", "baseline", "default", fact, "List a directory further down")
        return Verdict("allow", "OK", "baseline") if self.policy.is_baseline else Verdict("allow", "DEFAULT_ALLOW")

    def _encrypted(self, allowed: Verdict, measures: Measures) -> Verdict:
        """What the encryption list, which is always enforced, makes of an operation that is allowed."""
        if self.request.operation not in READS | WRITES:
            return allowed
        found = self.encryption
        if isinstance(found, Verdict):
            return found
        if self.whole and not self.whole.is_same_as(found):
            fact = "its encryption rule asks for something else than that of its directory"
            return Verdict("deny", "ENCRYPTION", found.policy, f"encryption/{found.rule}", fact, _ALONE)
        if measures.sealed is False and self.request.operation in READS and not found.reads_plaintext:
            fact = "the stored object was never sealed, and plaintext is not read here"
            advice = "Only sealed objects are read; save the artifact again through Sealgate"
            rule = "default" if found.rule == "default" else f"encryption/{found.rule}"
            policy = "baseline" if self.policy.is_baseline else found.policy
            return Verdict("deny", "PLAINTEXT", policy, rule, fact, advice)
        return allowed

    def _awaits(self, measures: Measures) -> tuple[frozenset[str], frozenset[str]]:
        """Which pending facts any rule looks at, and which one that is enforced."""
        awaits: frozenset[str] = frozenset()
        needs: frozenset[str] = frozenset()
        for ready, _ in self.requires if measures.pending else ():
            looks = awaited(ready.rule.require, self.request, measures.pending)
            awaits |= looks
            needs |= looks if ready.mode == "enforce" else frozenset()
        return awaits, needs


def _cannot(unknown: str) -> str:
    return f"a rule cannot be evaluated: {unknown}"


def _start(pattern: str) -> str:
    """What every key that matches begins with, as a hint shows it."""
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
    message = f"Ask {document.metadata.annotations.get('owner') or f'the owner of policy {policy}'}"
    if rule.message:
        with suppress(templates.NotKnown):
            message = templates.filled(rule.message, process.identity, spec.params)
    mode = rule.enforcement or spec.enforcement
    matching = Matching.of(rule.match, rule.when, process, spec.params)
    return ReadyRule(policy, rule, mode, spec.on_error, matching, message)


def _ready_encryption(document: ArtifactPolicy, rule: EncryptionRule, process: Process, mount: str) -> ReadyEncryption:
    policy, spec = document.metadata.name, document.spec

    def filled(text: str) -> str:
        return templates.filled(text, process.identity, spec.params)

    result, unknown = None, ""
    try:
        result = Encryption(
            policy,
            rule.name,
            key=key_name(filled(rule.key))[1] if rule.key else "",
            context=tuple(sorted((name, filled(value)) for name, value in rule.context.items())),
            reads_plaintext=rule.read_plaintext == "allow",
            passthrough=rule.write == "passthrough",
            author_keys=_spelled([key_name(filled(key)) for key in rule.author_keys], mount),
            opens=frozenset(
                key_name(filled(key))[1] for key in (rule.key, *rule.author_keys, *rule.read_keys) if rule.key
            ),
        )
    except templates.NotKnown as fault:
        unknown = str(fault)
    except ValueError:
        unknown = "what is filled in makes no name of a key"
    return ReadyEncryption(policy, rule, Matching.of(rule.match, "", process, spec.params), result, unknown)


def _spelled(keys: Sequence[tuple[str, str]], mount: str) -> dict[str, str]:
    """The names of keys, by each way to write one. No other mount will do: that would be another key."""
    bare = {name: name for _, name in keys}
    return bare | {f"{at}/keys/{name}": name for given, name in keys if (at := given or mount)}


BASELINE = PolicySet((), "")
"""What counts where there is no document: everything on canonical keys, sealed, and nothing that was not."""
