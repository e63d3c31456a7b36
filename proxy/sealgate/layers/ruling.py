"""The ruling: all decisions of one call, what the call records of them, and the errors that they raise.

The artifact's own key and the key of each object of a directory are decided separately (docs/policy-reference.md).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from sealgate.call import Call, SealingInstructions, logged_key
from sealgate.errors import AlreadyStored, BadRequest, ContextDiffers, Denied, NotSealed, PluginError, shown_key
from sealgate.log_event import LogEvent
from sealgate.meter import Meter
from sealgate.plugin import Artifact
from sealgate.policy.bounds import Bounds, KindsBeneath, bounds_of
from sealgate.policy.decision import WRITES, Decision, Measures, Request, Verdict
from sealgate.policy.encryption import Encryption
from sealgate.policy.engine import Matched, ProcessPolicy

log = logging.getLogger("sealgate.policy")

_READS = ("Load", "OpenStream")
_STRICTER = ("", "allow", "unknown", "skip", "deny")
"""Outcomes, each stricter than the one before it."""


class Ruling:
    """Decides one call: on the artifact, and on each object of it.

    Args:
        call: the call; its `decision` and `instructions` are written here.
        artifact: what the request says about the artifact.
        policy: the policies, for this process.
        request: the same request as policies see it.
    """

    def __init__(self, call: Call, artifact: Artifact, policy: ProcessPolicy, request: Request) -> None:
        self.policy = policy
        self.nothing_stored = False
        """Whether it is known that nothing is stored at the artifact's key or beneath it."""
        self.stored_beneath: frozenset[str] = frozenset()
        """For a write: the keys of the objects that were stored beneath the artifact's key before."""
        self._call = call
        self._artifact = artifact
        self._request = request
        self._own = policy.match(request)
        self._beneath: KindsBeneath[Bounds | None] | None = None
        self._readable: dict[str, KindsBeneath[bool]] = {}
        self.removable: set[str] = set()
        """Stored objects that this call may remove. Each is decided once, though a Save asks twice."""
        self._warns = False
        """Whether a rule in mode warn would have denied."""

    @property
    def artifact_key(self) -> str:
        """The key in the request."""
        return self._artifact.key

    def artifact(self, key: str) -> Artifact:
        """Return the artifact for one object of this artifact: the same request with another key."""
        return self._artifact if key == self._artifact.key else replace(self._artifact, key=key)

    def rules_for(self, key: str) -> Matched:
        """Return the rules that apply to the object `key` of this artifact, or to the artifact itself."""
        if key == self._request.key:
            return self._own
        # An object that is stored under a key that is not canonical can still be deleted.
        return self.policy.match(self._request_for(key), canonical=self._request.operation != "Delete")

    def rules_for_replaced(self, key: str) -> Matched:
        """Return the rules that apply to a stored object that this write replaces. Its key need not be canonical."""
        return self.policy.match(self._request_for(key), canonical=False)

    def rules_for_removal(self, key: str) -> Matched:
        """Return the rules that apply to the removal of a stored object by a write. Its key need not be canonical."""
        return self.policy.match(replace(self._request, operation="Delete", key=key, path=""), canonical=False)

    def _request_for(self, key: str) -> Request:
        return replace(self._request, key=key, path=self._path_of(key))

    def _path_of(self, key: str) -> str:
        """Return the local path that the object `key` of this artifact is read from or written to."""
        path, beneath = self._request.path, f"{self.artifact_key}/"
        return f"{path.rstrip('/')}/{key.removeprefix(beneath)}" if path and key.startswith(beneath) else path

    def rules_for_part(self, key: str) -> Matched:
        """Return the rules for an object that is read or written as a part of this artifact.

        They also require that the object has the same encryption as the artifact.
        """
        matched, whole = self.rules_for(key), self._own.encryption
        if key == self.artifact_key or isinstance(whole, Verdict):
            return matched
        return replace(matched, whole=whole)

    def bounds_of_part(self, key: str) -> Bounds | None:
        """Return within which measures an object needs no judgement, by its `rules_for_part`; None if it needs one."""
        if key == self.artifact_key:
            return bounds_of(self._own)
        if self._beneath is None:
            self._beneath = KindsBeneath.of(
                self.policy, self._request, bounds_of, self.rules_for_part, self._request_for
            )
        return self._beneath.find(key)

    def resolved_path(self, path: str) -> None:
        """Decide the call again if symbolic links led to another local path than the one in the request."""
        if path != self._request.path:
            self._request = replace(self._request, path=path)
            self._own = self.policy.match(self._request)
            self._beneath = None
            self._call.instructions = self._with_encryption(self._call.instructions)
            self.require(self.decide(self.artifact_key, Measures(pending=frozenset({"object", "exists"}))))

    def decide(self, key: str, measures: Measures) -> Decision:
        """Decide on the object `key` of this artifact, or on the artifact itself."""
        return self.rules_for(key).judge(measures)

    def may_read(self, key: str) -> bool:
        """Return whether the object may be read, by Load or by OpenStream."""
        self._call.check()
        return any(self._may(operation, key) for operation in _READS)

    def _may(self, operation: str, key: str) -> bool:
        def of_key(key: str) -> Request:
            return replace(self._request, operation=operation, key=key, path="")

        if operation not in self._readable:
            own = of_key(self._request.key)
            self._readable[operation] = KindsBeneath.of(
                self.policy, own, _is_allowed, lambda key: self.policy.match(of_key(key)), of_key
            )
        known = self._readable[operation].find(key)
        return _is_allowed(self.policy.match(of_key(key))) if known is None else known

    @property
    def writes(self) -> bool:
        """Whether this call writes, so that the objects that flow are the caller's own files."""
        return self._request.operation in WRITES

    @property
    def skips(self) -> bool:
        """Whether the decision is `skip`: the call succeeds and does nothing."""
        return self._call.decision.effective == "skip"

    def instruct(self, meter: Meter) -> None:
        """Write the call's instructions for `Sealed`."""
        instructions = SealingInstructions(skips_links=self.policy.skips_links, meter=meter)
        self._call.instructions = self._with_encryption(instructions)

    def _with_encryption(self, instructions: SealingInstructions) -> SealingInstructions:
        """Return `instructions` with the terms of the encryption rule that applies to the artifact."""
        own = self._own.encryption
        encryption = own if isinstance(own, Encryption) else Encryption()
        return replace(
            instructions,
            key=encryption.key,
            author_keys=encryption.author_keys,
            opens=encryption.opens,
            context=encryption.context,
            reads_plaintext=encryption.reads_plaintext,
            passthrough=encryption.passthrough,
        )

    def require_new(self, replacing: Measures) -> None:
        """Have the write fail if something is stored by then, if `replacing` it would be denied."""
        if not self.decide(self.artifact_key, replacing).effective.allows:
            self._call.only_new = True

    # --- decisions ----------------------------------------------------------------------------------------

    def require(self, decision: Decision, key: str = "", *, is_own: bool = False) -> None:
        """Record `decision` in the call, and raise if it denies. The call keeps the strictest decision.

        Args:
            decision: on the artifact, or on the object `key` of it.
            key: the object's key. The error names it only if the caller may read the object or `is_own` is set.
            is_own: whether the object is one of the caller's own files.

        Raises:
            BadRequest: the key is not canonical.
            Denied: a policy denies.
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
            if effective.code == "BAD_KEY":
                raise self._unusable_name(effective, key if is_own else "")
            named = f'object "{shown_key(key)}"' if is_own or self.may_read(key) else "an object beneath it"
            raise refusal(replace(effective, fact=f"{named}: {effective.fact}"))

    def _unusable_name(self, verdict: Verdict, key: str) -> PluginError:
        """Return the error for a directory in which one object has a key that is refused.

        Args:
            verdict: why the key is refused.
            key: the key, if the object is one of the caller's own files; else empty, and it is not named.
        """
        if not key:
            fact, advice = f"an object beneath it: {verdict.fact}", "Rename the file, and save the directory again"
        else:
            file = shown_key(key.removeprefix(f"{self.artifact_key}/"))
            fact, advice = f'file "{file}": {verdict.fact}', "Rename the file, or save an archive of the directory"
        return refusal(replace(verdict, fact=fact, advice=advice))

    def require_removal(self, decision: Decision, key: str) -> None:
        """Record and require a decision on an object that a write would remove. Here `skip` denies, too."""
        effective, proposed = (
            verdict
            if verdict.allows
            else replace(verdict, outcome="deny", fact=f"this would delete it, and {verdict.fact}")
            for verdict in (decision.effective, decision.proposed)
        )
        self.require(replace(decision, effective=effective, proposed=proposed), key)

    def record_unknown(self) -> None:
        """Record that the outcome of rules on trial is unknown, because the storage did not answer their question."""
        facts = self._call.decision
        facts.proposed = max(facts.proposed, "unknown", key=_STRICTER.index)

    def deny(self, code: str, fact: str) -> None:
        """Deny the call for a reason that does not come from a single rule.

        Raises:
            Denied: always.
        """
        verdict = Verdict("deny", code, fact=fact)
        self._record(verdict)
        self._call.decision.proposed = "deny"
        raise refusal(verdict)

    def _record(self, verdict: Verdict) -> None:
        facts = self._call.decision
        facts.effective, facts.code, facts.reason = verdict.outcome, verdict.code, verdict.fact
        facts.policy, facts.rule = verdict.policy, verdict.rule
        note = self.policy.audit_note(verdict)
        if note:
            facts.annotations = tuple(sorted(note.annotations.items()))

    @contextmanager
    def enforced(self) -> Iterator[None]:
        """Wrap the work of the layers below: decide on what they find, and log at the end if a rule on trial denied.

        Raises:
            Denied: the stored object is plaintext, or was sealed for another context or under another key.
        """
        try:
            yield
        except AlreadyStored:  # since the storage was asked
            self.require(self.decide(self._request.key, Measures(exists=True)))
            raise
        except NotSealed:
            self.require(self.decide(self._request.key, Measures(sealed=False)))
            raise
        except ContextDiffers as error:
            rule = self._own.encryption
            verdict = Verdict("deny", error.reason, rule.policy, f"encryption/{rule.rule}", error.fact, error.remedy)
            self._record(verdict)
            raise refusal(verdict) from None
        finally:
            facts = self._call.decision
            if facts.effective == "allow" and self._warns:
                log.warning(
                    LogEvent(
                        "a policy on trial would deny the call",
                        operation=self._call.operation,
                        key=logged_key(self._call, self._artifact.key),
                        would_deny=list(facts.would_deny),
                        decision_id=self._call.id,
                    )
                )


def _is_allowed(matched: Matched) -> bool:
    return matched.judge().effective.allows


def refusal(verdict: Verdict) -> PluginError:
    """Return the error for a verdict that denies."""
    if verdict.code == "BAD_KEY":
        return BadRequest(verdict.fact, says="baseline policy, BAD_KEY", remedy=verdict.advice)
    return Denied(verdict.fact, says=verdict.says, remedy=verdict.advice)
