"""The probe: what the rules of one call need to know about stored objects.

The questions are whether an object exists, how old it is, and which objects are beneath a key. The probe asks the
storage only if a rule needs the answer. It reads the stored objects directly and not through the layer that seals.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from sealgate.call import Call
from sealgate.errors import Cancelled, DeadlineExceeded, Denied, NotConfigured, PluginError, Refused, UnclearAnswer
from sealgate.layers.author_block import without_author_block
from sealgate.layers.ruling import Ruling
from sealgate.plugin import Artifact
from sealgate.policy.decision import Decision, Measures
from sealgate.policy.engine import Matched
from sealgate.storage.stored_objects import StoredHeader, StoredObjects, is_manifest

_EXISTS, _AGE = "exists", "age"
_NEED_STORAGE = frozenset({"OVERWRITE", "RETENTION"})
"""The codes of denials that depend on what is stored."""
_TEACH = "Make the downstream answer, or add its text for absent keys to downstream.absentTexts"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class StorageProbe:
    """Asks the storage on behalf of one ruling.

    A question that only rules on trial need never fails the call, even if the storage does not answer it.
    """

    call: Call
    ruling: Ruling
    stored: StoredObjects | None
    now: Callable[[], float]
    """Unix seconds."""
    unclear: list[PluginError] = field(default_factory=list)
    """The answers of the storage that did not say what an enforced rule needs to know."""

    def require(self, decision: Decision, key: str = "", *, is_own: bool = False) -> None:
        """Do what `Ruling.require` does. If an answer of the storage was unclear, the remedy of a denial says so.

        Raises:
            BadRequest: the key is not canonical.
            Denied: a policy denies.
        """
        try:
            self.ruling.require(decision, key, is_own=is_own)
        except Denied as error:
            if self.unclear and decision.effective.code in _NEED_STORAGE:
                error.remedy = _TEACH
            raise

    def beneath(self) -> list[str]:
        """Return the keys that the storage lists for the artifact, without the artifact's own key.

        Keys that are not beneath the artifact's key are returned, too, and judged: a store that lists by prefix may
        also delete by prefix.
        """
        artifact = self.ruling.artifact(self.ruling.artifact_key)

        def ask() -> list[str]:
            return self._stored().keys(self.call, without_author_block(artifact))

        listed = self._ask_if_possible(ask, needed=self.ruling.policy.enforces) or []
        return [key for key in listed if key != artifact.key and not is_manifest(key)]

    def exists(self, key: str, matched: Matched) -> tuple[bool | None, frozenset[str]]:
        """Return whether an object is stored at `key` or beneath it, and the facts that stay unknown.

        The first value is None if no rule in `matched` needs the answer, or if the storage does not give it.
        """

        def ask() -> bool:
            if self.ruling.nothing_stored:
                return False
            artifact = self.ruling.artifact(key)
            forwarded = without_author_block(artifact)
            return self._header(artifact) is not None or self._stored().has_keys_beneath(self.call, forwarded)

        return self._ask(matched, _EXISTS, ask)

    def may_delete(self, beneath: Collection[str]) -> bool:
        """Judge the deletion of the artifact's own object and of each one in `beneath`; False if a rule keeps one.

        Raises:
            Denied: a policy refuses the deletion.
        """
        for key in (self.ruling.artifact_key, *beneath):
            self.call.check()
            matched = self.ruling.rules_for(key)
            header, pending = self._header_if_needed(matched, key)
            if header or not beneath or key != self.ruling.artifact_key:
                measures = Measures(age=self._age(header), files=len(beneath), pending=pending)
                self.require(matched.judge(measures), key)
        return not self.ruling.skips

    def require_removable(self, keys: Iterable[str]) -> None:
        """Judge the removal of objects that a write replaces.

        Raises:
            Denied: a policy keeps one of them.
        """
        for key in keys:
            self.call.check()
            matched = self.ruling.rules_for_removal(key)
            is_artifact = key == self.ruling.artifact_key
            decision = matched.judge(Measures(pending=frozenset({_AGE})))
            if is_artifact and ((decision.proposed.allows and not decision.awaits) or self._is_absent(matched)):
                continue
            header, pending = self._header_if_needed(matched, key)
            self.ruling.require_removal(matched.judge(Measures(age=self._age(header), pending=pending)), key)

    def _is_absent(self, matched: Matched) -> bool:
        """Return False only if an object is known to be stored at the artifact's own key."""
        if self.ruling.nothing_stored:
            return True
        decision = matched.judge(Measures(pending=frozenset({_AGE})))
        needed = bool(decision.needs) or not decision.effective.allows
        artifact = self.ruling.artifact(self.ruling.artifact_key)
        return self._ask_if_possible(lambda: self._header(artifact) is None, needed=needed) is not False

    def _header_if_needed(self, matched: Matched, key: str) -> tuple[StoredHeader | None, frozenset[str]]:
        return self._ask(matched, _AGE, lambda: self._header(self.ruling.artifact(key)))

    def _ask(self, matched: Matched, fact: str, ask: Callable[[], _T]) -> tuple[_T | None, frozenset[str]]:
        """Call `ask` if a rule awaits `fact`; return its answer or None, and the facts that stay unknown.

        A refusal by the storage counts as an answer (None) if an enforced rule needs the fact: asking again would be
        refused, too, and the rule defines what an unknown fact means.
        """
        decision = matched.judge(Measures(pending=frozenset({fact})))
        if not decision.awaits:
            return None, frozenset()
        try:
            return ask(), frozenset()
        except PluginError as error:
            if decision.needs and isinstance(error, Refused | UnclearAnswer):
                self.unclear.append(error)
                return None, frozenset()
            self._raise_if_needed(error, needed=bool(decision.needs))
            return None, frozenset({fact})

    def _ask_if_possible(self, ask: Callable[[], _T], *, needed: bool) -> _T | None:
        """Return the answer of `ask`; None if the storage fails to answer and no enforced rule needs it."""
        try:
            return ask()
        except PluginError as error:
            self._raise_if_needed(error, needed=needed)
            return None

    def _raise_if_needed(self, error: PluginError, *, needed: bool) -> None:
        """Raise `error` if an enforced rule needed the answer or the call is over; else record an unknown outcome."""
        if needed or isinstance(error, Cancelled | DeadlineExceeded):
            raise error
        self.ruling.record_unknown()

    def _stored(self) -> StoredObjects:
        if self.stored is None:
            raise NotConfigured(
                "a rule needs to know what is stored under the key, and this plugin cannot read storage"
            )
        return self.stored

    def _header(self, artifact: Artifact) -> StoredHeader | None:
        return self._stored().header(self.call, without_author_block(artifact))

    def _age(self, header: StoredHeader | None) -> int | None:
        """Return the seconds since the object was sealed; None if it is not sealed, or sealed in the future."""
        if header is None or header.sealed_at is None:
            return None
        age = int(self.now()) - header.sealed_at
        return age if age >= 0 else None
