"""Questions about stored objects that the rules of one call ask: is there an object, how old is it, what lies beneath.

The probe asks the storage only what a rule needs. It goes to the stored objects directly and not through the layer
that seals.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TypeVar

from sealgate.call import Call
from sealgate.errors import Cancelled, DeadlineExceeded, NotConfigured, PluginError, Refused
from sealgate.layers.author_block import forwarded
from sealgate.layers.ruling import Ruling
from sealgate.plugin import Artifact
from sealgate.policy.decision import Measures
from sealgate.policy.engine import Matched
from sealgate.storage.stored_objects import StoredHeader, StoredObjects

_EXISTS, _AGE = "exists", "age"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class StorageProbe:
    """Asks the storage on behalf of one ruling.

    A fact that only rules on trial need, and that the storage does not answer, never fails the call.
    """

    call: Call
    ruling: Ruling
    stored: StoredObjects | None
    now: Callable[[], float]
    """Unix seconds."""

    def beneath(self, *, if_directory: bool = False) -> list[str]:
        """The keys of the objects beneath the artifact's key; with `if_directory`, [] for an artifact that is a file.

        A downstream may list the object itself as well, which is judged in any case. Every other key that it lists is
        judged as if it lay beneath: a store that lists by prefix may delete by prefix.
        """
        artifact = self.ruling.artifact(self.ruling.artifact_key)

        def ask() -> list[str]:
            stored, sent = self._stored(), forwarded(artifact)
            if if_directory and not stored.is_directory(self.call, sent):
                return []
            return stored.list_objects(self.call, sent)

        found = self._ask_or_skip(ask, needed=self.ruling.policy.enforces) or []
        return [key for key in found if key != artifact.key]

    def exists(self, key: str) -> tuple[bool | None, frozenset[str]]:
        """Whether an object lies at `key` or beneath it, if a rule needs that; and the facts that stay unknown."""
        artifact = self.ruling.artifact(key)

        def ask() -> bool:
            if self.ruling.nothing_beneath:
                return False
            return self._header(artifact) is not None or self._stored().is_directory(self.call, forwarded(artifact))

        return self._ask(self.ruling.matched(key), _EXISTS, ask)

    def may_delete(self, beneath: Collection[str]) -> bool:
        """Judge the deletion of the artifact's own object and of each one beneath; False if one must be kept."""
        for key in (self.ruling.artifact_key, *beneath):
            matched = self.ruling.matched(key)
            header, pending = self._header_if_needed(matched, key)
            if header or not beneath or key != self.ruling.artifact_key:
                measures = Measures(age=self._age(header), files=len(beneath), pending=pending)
                self.ruling.require(matched.judge(measures), key)
        return not self.ruling.skips

    def require_removable(self, keys: Iterable[str]) -> None:
        """Judge the removal of objects that a write replaces.

        Raises:
            Denied: a policy keeps one of them.
        """
        for key in keys:
            matched = self.ruling.removal(key)
            own = key == self.ruling.artifact_key
            decision = matched.judge(Measures(pending=frozenset({_AGE})))
            if own and ((decision.proposed.allows and not decision.awaits) or self._is_absent(matched)):
                continue
            header, pending = self._header_if_needed(matched, key)
            self.ruling.require_removal(matched.judge(Measures(age=self._age(header), pending=pending)), key)

    def _is_absent(self, matched: Matched) -> bool:
        if self.ruling.nothing_beneath:
            return True
        effective = matched.judge(Measures(pending=frozenset({_AGE})))
        needed = bool(effective.needs) or not effective.effective.allows
        artifact = self.ruling.artifact(self.ruling.artifact_key)
        return self._ask_or_skip(lambda: self._header(artifact) is None, needed=needed) is not False

    def _header_if_needed(self, matched: Matched, key: str) -> tuple[StoredHeader | None, frozenset[str]]:
        return self._ask(matched, _AGE, lambda: self._header(self.ruling.artifact(key)))

    def _ask(self, matched: Matched, fact: str, ask: Callable[[], _T]) -> tuple[_T | None, frozenset[str]]:
        """The answer, or None if the storage has none; and `fact`, if no enforced rule needs it."""
        decision = matched.judge(Measures(pending=frozenset({fact})))
        if not decision.awaits:
            return None, frozenset()
        try:
            return ask(), frozenset()
        except PluginError as error:
            if decision.needs and isinstance(error, Refused):
                return None, frozenset()  # the storage will refuse the next time, too: the rule says what that means
            self._forgive(error, needed=bool(decision.needs))
            return None, frozenset({fact})

    def _ask_or_skip(self, ask: Callable[[], _T], *, needed: bool) -> _T | None:
        try:
            return ask()
        except PluginError as error:
            self._forgive(error, needed=needed)
            return None

    def _forgive(self, error: PluginError, *, needed: bool) -> None:
        if needed or isinstance(error, Cancelled | DeadlineExceeded):
            raise error
        self.ruling.unknown()

    def _stored(self) -> StoredObjects:
        if self.stored is None:
            raise NotConfigured("a rule asks what is stored under the key, and this plugin cannot look")
        return self.stored

    def _header(self, artifact: Artifact) -> StoredHeader | None:
        return self._stored().header(self.call, forwarded(artifact))

    def _age(self, header: StoredHeader | None) -> int | None:
        """Seconds since the object was sealed; None if it was not sealed, or at a time that lies ahead."""
        if header is None or header.sealed_at is None:
            return None
        age = int(self.now()) - header.sealed_at
        return age if age >= 0 else None
