"""The ruling on one call: its decisions, what of them is recorded, and the meter that goes on deciding."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sealgate.call import Call, SealingInstructions, logged_key
from sealgate.errors import BadRequest, ContextDiffers, Denied, NotSealed, PluginError, shown_key
from sealgate.meter import Meter
from sealgate.plugin import Artifact
from sealgate.policy.decision import WRITES, Decision, Measures, Request, Verdict
from sealgate.policy.encryption import Encryption
from sealgate.policy.engine import Matched, ProcessPolicy

log = logging.getLogger("sealgate.policy")

_READS = ("Load", "OpenStream")
_STRICTER = ("", "allow", "unknown", "skip", "deny")


class Ruling:
    """What is decided on one call, on the artifact and on each object of it."""

    def __init__(self, call: Call, artifact: Artifact, policy: ProcessPolicy, request: Request) -> None:
        self.policy = policy
        self.nothing_beneath = False
        """It is known that nothing is stored under the artifact's key or beneath it."""
        self.beneath: frozenset[str] = frozenset()
        """What is stored beneath the key that is written to."""
        self._call = call
        self._artifact = artifact
        self._request = request
        self._own = policy.match(request)
        self.removable: set[str] = set()
        """Stored objects that this call may remove: decided once, though a Save looks before it seals and after."""
        self._warns = False
        """A rule on trial that asks for a line in the log would have denied."""

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
            return self._own
        request = replace(self._request, key=key, path=self._path_of(key))
        # What was stored under another spelling of a key can at least be cleared away.
        return self.policy.match(request, canonical=request.operation != "Delete")

    def replaced(self, key: str) -> Matched:
        """The rules that mean an object which is stored where this call writes, under whatever spelling."""
        return self.policy.match(replace(self._request, key=key, path=self._path_of(key)), canonical=False)

    def removal(self, key: str) -> Matched:
        """The rules that mean the removal of an object by writing in its place."""
        return self.policy.match(replace(self._request, operation="Delete", key=key, path=""), canonical=False)

    def _path_of(self, key: str) -> str:
        """The local path that one object of this artifact is read from or written to."""
        path, beneath = self._request.path, f"{self.artifact_key}/"
        return f"{path.rstrip('/')}/{key.removeprefix(beneath)}" if path and key.startswith(beneath) else path

    def part(self, key: str) -> Matched:
        """The same, for an object that is read or written as a part of this artifact: under one encryption with it."""
        found, whole = self.matched(key), self._own.encryption
        if key == self.artifact_key or isinstance(whole, Verdict):
            return found
        return replace(found, whole=whole)

    def resolved_path(self, path: str) -> None:
        """Judge the call again if a symbolic link led to another local path than the request names."""
        if path != self._request.path:
            self._request = replace(self._request, path=path)
            self._own = self.policy.match(self._request)
            self._call.instructions = self._encrypted(self._call.instructions)
            self.require(self.decide(self.artifact_key, Measures(pending=frozenset({"object", "exists"}))))

    def decide(self, key: str, measures: Measures) -> Decision:
        """The decision on one object of this artifact, or on the artifact itself."""
        return self.matched(key).judge(measures)

    def may_read(self, key: str) -> bool:
        """Whether the object could be opened, by either operation that reads."""
        requests = (replace(self._request, operation=operation, key=key, path="") for operation in _READS)
        return any(self.policy.decide(request).effective.allows for request in requests)

    @property
    def writes(self) -> bool:
        """Whether the objects that flow are the caller's own."""
        return self._request.operation in WRITES

    @property
    def skips(self) -> bool:
        """Whether the call succeeds and does nothing."""
        return self._call.decision.effective == "skip"

    def instruct(self, meter: Meter) -> None:
        """Write into the call what the layer that seals must do."""
        self._call.instructions = self._encrypted(SealingInstructions(skips_links=self.policy.skips_links, meter=meter))

    def _encrypted(self, instructions: SealingInstructions) -> SealingInstructions:
        """`instructions` with what the encryption rule requires."""
        found = self._own.encryption
        encryption = found if isinstance(found, Encryption) else Encryption()
        return replace(
            instructions,
            key=encryption.key,
            author_keys=encryption.author_keys,
            opens=encryption.opens,
            context=encryption.context,
            reads_plaintext=encryption.reads_plaintext,
            passthrough=encryption.passthrough,
        )

    # --- what came of it ----------------------------------------------------------------------------------

    def require(self, decision: Decision, key: str = "", *, is_own: bool = False) -> None:
        """Record a decision, and raise if it denies. The strictest one that was recorded is what the call says.

        Args:
            decision: on the artifact, or on the object of it under `key`.
            key: the object's; the text names it if it may be read, or is one of the caller's own files.
            is_own: it is one of the caller's own files.

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
        if decision.would_deny:
            self._warns |= any(verdict.mode == "warn" for verdict in decision.would_deny)
            names = (f"{verdict.policy}/{verdict.rule}".lstrip("/") for verdict in decision.would_deny)
            facts.would_deny = tuple(dict.fromkeys((*facts.would_deny, *names)))
        if effective.outcome == "deny":
            if not key or key == self._artifact.key:
                raise refusal(effective)
            named = f'object "{shown_key(key)}"' if is_own or self.may_read(key) else "an object beneath it"
            raise refusal(replace(effective, fact=f"{named}: {effective.fact}"))

    def require_removal(self, decision: Decision, key: str) -> None:
        """The same for an object that a write would remove: here nothing can be skipped."""
        effective, proposed = (
            verdict
            if verdict.allows
            else replace(verdict, outcome="deny", fact=f"this would delete it, and {verdict.fact}")
            for verdict in (decision.effective, decision.proposed)
        )
        self.require(replace(decision, effective=effective, proposed=proposed), key)

    def unknown(self) -> None:
        """Record that rules on trial asked for what nothing tells."""
        facts = self._call.decision
        facts.proposed = max(facts.proposed, "unknown", key=_STRICTER.index)

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
            asked = self._own.encryption
            verdict = Verdict("deny", found.reason, asked.policy, f"encryption/{asked.rule}", found.fact, found.remedy)
            self._record(verdict)
            raise refusal(verdict) from None
        finally:
            facts = self._call.decision
            if facts.effective == "allow" and self._warns:
                log.warning(
                    "%s %s is allowed, and would be denied if the policy were enforced: %s [d=%s]",
                    self._call.operation,
                    logged_key(self._call, self._artifact.key),
                    ", ".join(facts.would_deny),
                    self._call.id,
                )


def refusal(verdict: Verdict) -> PluginError:
    """The error for a verdict that denies."""
    if verdict.code == "BAD_KEY":
        return BadRequest(verdict.fact, says="baseline policy, BAD_KEY", remedy=verdict.advice)
    return Denied(verdict.fact, says=verdict.says, remedy=verdict.advice)
