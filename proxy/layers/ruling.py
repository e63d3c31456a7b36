"""The ruling on one call: its decisions, what of them is recorded, and the meter that goes on deciding."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

from policies.engine import Matched, Policy
from policies.facts import Decision, Encryption, Measures, Request, Verdict
from proxy.plugin import (
    Artifact,
    BadRequest,
    Call,
    ContextDiffers,
    Denied,
    NotSealed,
    PluginError,
    logged_key,
    shown_key,
)
from proxy.terms import Terms

log = logging.getLogger("sealgate.policy")

_READS = ("Load", "OpenStream")
_STRICTER = ("", "allow", "skip", "deny")


class Ruling:
    """What is decided on one call, on the artifact and on each object of it."""

    def __init__(self, call: Call, artifact: Artifact, policy: Policy, request: Request) -> None:
        self.policy = policy
        self.nothing_beneath = False
        """It is known that nothing is stored under the artifact's key or beneath it."""
        self._call = call
        self._artifact = artifact
        self._request = request
        self._matched: dict[str, Matched] = {}

    @property
    def artifact_key(self) -> str:
        """The key that the call is about."""
        return self._artifact.key

    def artifact(self, key: str) -> Artifact:
        """The artifact that one object of this one is."""
        return self._artifact if key == self._artifact.key else replace(self._artifact, key=key)

    def matched(self, key: str) -> Matched:
        """The rules that mean one object of this artifact, or the artifact itself."""
        if key == self._request.key:
            if key not in self._matched:
                self._matched[key] = self.policy.match(self._request)
            return self._matched[key]
        return self.policy.match(replace(self._request, key=key))

    def at(self, path: str) -> None:
        """The local path that is used: decided on again, if a link led elsewhere than the request says."""
        if path != self._request.path:
            self._request = replace(self._request, path=path)
            self._matched.clear()
            self.require(self.decide(self.artifact_key, Measures(pending=frozenset({"object", "exists"}))))

    def decide(self, key: str, measures: Measures) -> Decision:
        """The decision on one object of this artifact, or on the artifact itself."""
        return self.matched(key).judge(measures)

    def awaits(self, key: str, facts: Collection[str]) -> bool:
        """Whether a rule that means the key looks at one of these facts."""
        return bool(self.decide(key, Measures(pending=frozenset(facts))).awaits)

    def may_read(self, key: str) -> bool:
        """Whether the object could be opened, by either operation that reads."""
        requests = (replace(self._request, operation=operation, key=key, path="") for operation in _READS)
        return any(self.policy.decide(request).effective.allows for request in requests)

    @property
    def skips(self) -> bool:
        """Whether the call succeeds and does nothing."""
        return self._call.decision.effective == "skip"

    def set_terms(self, exists: Callable[[str], bool]) -> None:
        """Tell the layer below what holds in this call; `exists` tells whether something lies under a key."""
        if self.policy.is_baseline:
            return
        found = self.policy.encryption(self._request)
        encryption = found if isinstance(found, Encryption) else Encryption()
        self._call.terms = Terms(
            key=encryption.key,
            author_keys=encryption.author_keys,
            context=encryption.context,
            reads_plaintext=encryption.reads_plaintext,
            passthrough=encryption.passthrough,
            skips_links=self.policy.skips_links,
            meter=PolicyMeter(self, exists),
        )

    # --- what came of it ----------------------------------------------------------------------------------

    def require(self, decision: Decision, key: str = "") -> None:
        """Record a decision, and raise if it denies. The strictest one that was recorded is what the call says.

        Raises:
            BadRequest: the key is not canonical.
            Denied: a policy says no.
        """
        facts, effective, proposed = self._call.decision, decision.effective, decision.proposed
        facts.digest = self.policy.digest
        if not facts.effective or _STRICTER.index(effective.outcome) > _STRICTER.index(facts.effective):
            self._record(effective)
        if _STRICTER.index(proposed.outcome) > _STRICTER.index(facts.proposed):
            facts.proposed = proposed.outcome
            facts.mode = proposed.mode if effective.allows and not proposed.allows else "enforce"
        names = (f"{verdict.policy}/{verdict.rule}".lstrip("/") for verdict in decision.would_deny)
        facts.would_deny = tuple(dict.fromkeys((*facts.would_deny, *names)))
        if effective.outcome == "deny":
            raise refusal(effective, key if key != self._artifact.key else "")

    def deny(self, code: str, fact: str) -> None:
        """Deny the call for a reason that no single rule has."""
        verdict = Verdict("deny", code, fact=fact)
        self._record(verdict)
        self._call.decision.proposed = "deny"
        raise refusal(verdict)

    def _record(self, verdict: Verdict) -> None:
        facts = self._call.decision
        facts.effective, facts.code = verdict.outcome, verdict.code
        facts.policy, facts.rule = verdict.policy, verdict.rule
        note = self.policy.audit_note(verdict)
        if note:
            facts.annotations, facts.hmac_key = tuple(sorted(note.annotations.items())), note.hmac_key

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """While the layers below work: what they find is decided here, and trials are told when all is done."""
        try:
            yield
        except NotSealed:
            self.require(self.decide(self._request.key, Measures(sealed=False)))
            raise
        except ContextDiffers as found:
            encryption = self.policy.encryption(self._request)
            policy, rule = getattr(encryption, "policy", ""), f"encryption/{getattr(encryption, 'rule', '')}"
            verdict = Verdict("deny", "CONTEXT", policy, rule, found.fact, found.remedy)
            self._record(verdict)
            raise refusal(verdict) from None
        facts = self._call.decision
        if facts.effective == "allow" and facts.proposed != "allow" and facts.mode == "warn":
            log.warning(
                "%s %s is allowed, and would be denied if the policy were enforced: %s [d=%s]",
                self._call.operation,
                logged_key(self._call, self._artifact.key),
                ", ".join(facts.would_deny),
                self._call.id,
            )


class PolicyMeter:
    """Decides on each object as it comes, and again with each run of its bytes."""

    def __init__(self, ruling: Ruling, exists: Callable[[str], bool]) -> None:
        self._ruling = ruling
        self._exists = exists
        self._key = ""
        self._object: Matched | None = None
        self._whole: Matched | None = None
        """The rules that mean the artifact itself, where it is a directory."""
        self._bytes = self._total = self._files = 0
        self._sealed: bool | None = None
        self._is_there: bool | None = None

    def rehearsal(self) -> PolicyMeter:
        """See `Meter.rehearsal`."""
        return PolicyMeter(self._ruling, self._exists)

    def reached(self, path: str) -> None:
        """See `Meter.reached`."""
        self._ruling.at(path)

    def object(self, key: str, size: int | None, *, sealed: bool) -> None:
        """See `Meter.object`."""
        self._key, self._sealed = key, sealed
        self._files += 1
        self._bytes = size or 0
        self._total += size or 0
        self._object = self._ruling.matched(key)
        own = key == self._ruling.artifact_key
        self._whole = None if own else self._whole or self._ruling.matched(self._ruling.artifact_key)
        self._is_there = None
        if self._ruling.awaits(key, {"exists"}):
            self._is_there = not self._ruling.nothing_beneath and self._exists(key)
        self._judge(complete=size is not None)

    def count(self, size: int) -> None:
        """See `Meter.count`."""
        self._bytes += size
        self._total += size
        self._judge(complete=False)

    def end(self) -> None:
        """See `Meter.end`."""
        self._judge(complete=True)

    def _judge(self, *, complete: bool) -> None:
        if self._object is None:
            return
        measures = Measures(
            bytes=self._bytes,
            total=self._total,
            files=self._files,
            sealed=self._sealed,
            exists=self._is_there,
            complete=complete,
        )
        self._ruling.require(self._object.judge(measures), self._key)
        self._object = self._object.surviving(measures)
        if self._whole:
            measures = Measures(total=self._total, files=self._files, pending=frozenset({"object", "exists"}))
            self._ruling.require(self._whole.judge(measures))
            self._whole = self._whole.surviving(measures)


def refusal(verdict: Verdict, key: str = "") -> PluginError:
    """The error for a verdict that denies; `key` names the object, where it is another than the artifact."""
    if verdict.code == "BAD_KEY":
        return BadRequest(verdict.fact, says="baseline policy, BAD_KEY", remedy=verdict.advice)
    fact = f'object "{shown_key(key)}": {verdict.fact}' if key else verdict.fact
    return Denied(fact, says=verdict.says, remedy=verdict.advice)
