"""What is stored, found out for one call, as far as a rule looks at it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from policies.engine import Matched
from policies.facts import Measures
from proxy.layers.ruling import Ruling
from proxy.plugin import (
    Artifact,
    ArtifactPlugin,
    Call,
    Cancelled,
    DeadlineExceeded,
    NotConfigured,
    PluginError,
    Refused,
)

_EXISTS, _AGE = "exists", "age"
_T = TypeVar("_T")


class Seen(Protocol):
    """An object that is stored."""

    @property
    def sealed_at(self) -> int | None:
        """Unix seconds; None where it was never sealed."""


class Looks(Protocol):
    """Who can look at what is stored, for rules about age and about overwriting."""

    def look(self, call: Call, artifact: Artifact) -> Seen | None:
        """The object under this very key; None if there is none."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Asks what is stored. What only rules on trial want to know, and nothing tells, fails no call."""

    call: Call
    ruling: Ruling
    inner: ArtifactPlugin
    looks: Looks | None
    now: Callable[[], float]

    def beneath(self, *, if_directory: bool = False) -> list[str]:
        """The keys beneath the artifact's; none are looked for, `if_directory`, where it is none.

        A downstream may name the object itself as well, which is decided on anyway. Whatever else it names is decided
        on as if it lay there: who lists by prefix may delete by prefix.
        """
        artifact = self.ruling.artifact(self.ruling.artifact_key)

        def ask() -> list[str]:
            if if_directory and not self.inner.is_directory(self.call, artifact):
                return []
            return self.inner.list_objects(self.call, artifact)

        found = self._told(ask, needed=self.ruling.policy.enforces) or []
        return [key for key in found if key != artifact.key]

    def exists(self, key: str) -> tuple[bool | None, frozenset[str]]:
        """See `Asks.exists`."""
        artifact = self.ruling.artifact(key)

        def ask() -> bool:
            if self.ruling.nothing_beneath:
                return False
            return self._look(artifact) is not None or self.inner.is_directory(self.call, artifact)

        return self._asked(self.ruling.matched(key), _EXISTS, ask)

    def may_go(self, beneath: Collection[str]) -> bool:
        """Decide on the artifact's own object and on each beneath it; false if one of them is to be kept."""
        for key in (self.ruling.artifact_key, *beneath):
            matched = self.ruling.matched(key)
            seen, pending = self._seen(matched, key)
            if seen or not beneath or key != self.ruling.artifact_key:
                measures = Measures(age=self._age(seen), files=len(beneath), pending=pending)
                self.ruling.require(matched.judge(measures), key)
        return not self.ruling.skips

    def removed(self, keys: Iterable[str]) -> None:
        """See `Asks.removed`."""
        for key in keys:
            matched = self.ruling.removal(key)
            own = key == self.ruling.artifact_key
            decision = matched.judge(Measures(pending=frozenset({_AGE})))
            if own and ((decision.proposed.allows and not decision.awaits) or self._is_absent(matched)):
                continue
            seen, pending = self._seen(matched, key)
            self.ruling.require_removal(matched.judge(Measures(age=self._age(seen), pending=pending)), key)

    def _is_absent(self, matched: Matched) -> bool:
        if self.ruling.nothing_beneath:
            return True
        effective = matched.judge(Measures(pending=frozenset({_AGE})))
        needed = bool(effective.needs) or not effective.effective.allows
        artifact = self.ruling.artifact(self.ruling.artifact_key)
        return self._told(lambda: self._look(artifact) is None, needed=needed) is not False

    def _seen(self, matched: Matched, key: str) -> tuple[Seen | None, frozenset[str]]:
        return self._asked(matched, _AGE, lambda: self._look(self.ruling.artifact(key)))

    def _asked(self, matched: Matched, fact: str, ask: Callable[[], _T]) -> tuple[_T | None, frozenset[str]]:
        """The answer, None if nothing tells; and the fact, if no rule looks at it, or only ones on trial would."""
        decision = matched.judge(Measures(pending=frozenset({fact})))
        if not decision.awaits:
            return None, frozenset()
        try:
            return ask(), frozenset()
        except PluginError as error:
            if decision.needs and isinstance(error, Refused):
                return None, frozenset()  # it will not tell the next time either: the rule says what that means
            self._forgive(error, needed=bool(decision.needs))
            return None, frozenset({fact})

    def _told(self, ask: Callable[[], _T], *, needed: bool) -> _T | None:
        try:
            return ask()
        except PluginError as error:
            self._forgive(error, needed=needed)
            return None

    def _forgive(self, error: PluginError, *, needed: bool) -> None:
        if needed or isinstance(error, Cancelled | DeadlineExceeded):
            raise error
        self.ruling.unknown()

    def _look(self, artifact: Artifact) -> Seen | None:
        if self.looks is None:
            raise NotConfigured("a rule asks what is stored under the key, and nothing here can tell")
        return self.looks.look(self.call, artifact)

    def _age(self, seen: Seen | None) -> int | None:
        """Seconds since it was sealed. A time that lies ahead is none."""
        if seen is None or seen.sealed_at is None:
            return None
        age = int(self.now()) - seen.sealed_at
        return age if age >= 0 else None
