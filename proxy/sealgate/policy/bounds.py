"""Bounds: up to which measures a request stays allowed, so that it need not be judged again for each run of bytes.

`Matched.judge` defines what is decided. Within its bounds, a match is *plainly allowed*: its decision allows, also with
every rule on trial enforced, so there is nothing to record. Everything else is judged. The bounds themselves are found
by judging, and objects that the patterns, conditions and limits of a policy do not tell apart share them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from sealgate.policy import canonical_keys, globs
from sealgate.policy.decision import NOTHING_YET, WRITES, Decision, Measures, Request
from sealgate.policy.engine import Matched, ProcessPolicy
from sealgate.policy.rules import Matching, Patterns, violated_limit
from sealgate.policy.schema import Limits

PART = frozenset({"object", "exists"})
"""The measures of the directory itself that stay pending while its objects are read or written."""
_MOST_KINDS = 1000
"""How many kinds of objects are remembered for one call."""
_Kind = tuple[object, ...]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The largest measures within which a match is plainly allowed. Sizes are in bytes; `math.inf` is no limit."""

    bytes: float
    total: float
    files: float
    least: float
    """The least bytes of an object that is complete."""
    plaintext: bool
    """Whether that is so for an object that was never sealed."""
    new: bool
    """Whether that is so only if nothing is stored under the key."""

    def contain(self, size: int, total: int, files: int, *, sealed: bool, complete: bool) -> bool:
        """Return whether a match with these measures is plainly allowed."""
        return (
            size <= self.bytes
            and total <= self.total
            and files <= self.files
            and (sealed or self.plaintext)
            and (size >= self.least or not complete)
        )


def bounds_of(matched: Matched, pending: frozenset[str] = frozenset()) -> Bounds | None:
    """Return the bounds of `matched`; None if it is not plainly allowed, however small its measures are.

    Grants that are withheld whatever is measured, as an expired one is, have no part in it.
    """
    least = least_measures(pending)
    matched = matched.surviving(least)
    if not _is_plain(matched.judge(least)):
        return None
    limits = [ready.rule.limits for ready in (*(ready for ready, _ in matched.requires), *matched.allows)]
    checks_least = matched.request.operation in WRITES and "object" not in pending
    return Bounds(
        bytes=_lowest(limit.max_bytes for limit in limits),
        total=_lowest(limit.max_total_bytes for limit in limits),
        files=_lowest(limit.max_files for limit in limits),
        least=max((limit.min_bytes or 0 for limit in limits if checks_least), default=0),
        plaintext=_is_plain(matched.judge(replace(least, sealed=False))),
        new=not _is_plain(matched.judge(replace(least, exists=None))),
    )


def least_measures(pending: frozenset[str] = frozenset()) -> Measures:
    """Return the measures of a new and sealed object of which no byte has arrived."""
    return Measures(bytes=0, total=0, files=0, sealed=True, exists=False, pending=pending)


@dataclass(slots=True)
class KindsBeneath(Generic[T]):
    """What the policies say of the objects beneath one key: found once for each kind of object.

    An object is of the same kind as another if all that can tell them apart is the same for both: each pattern that
    matches some keys beneath the key and not all, each condition, each rule about local paths, and each limit on keys.
    """

    _prefix: str
    """In normal form, with a slash at its end."""
    _say: Callable[[Matched], T]
    _match: Callable[[str], Matched]
    _request: Callable[[str], Request]
    _patterns: tuple[globs.Matcher, ...]
    _others: tuple[Callable[[Request], object], ...]
    _known: dict[_Kind, T] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        policy: ProcessPolicy,
        request: Request,
        say: Callable[[Matched], T],
        match: Callable[[str], Matched],
        of_key: Callable[[str], Request],
    ) -> KindsBeneath[T]:
        """Prepare what is said of the objects beneath the key of `request`.

        Args:
            policy: the policies.
            request: the request for the artifact itself.
            say: returns what is said of a match. It may depend on the policies, and not on the key.
            match: returns the match of an object, by its key.
            of_key: returns the request for an object, by its key.
        """
        prefix = f"{canonical_keys.normal_form(request.key)}/"
        rules = policy.candidates(request)
        matchings = [ready.matching for ready in rules] + policy.encryption_rules.matchings(request.operation)
        others: list[Callable[[Request], object]] = [each.match for each in matchings if each.looks_beyond_keys]
        others += [_violates(limits) for ready in rules if _concern_keys(limits := ready.rule.limits)]
        return cls(prefix, say, match, of_key, tuple(_telling_apart(matchings, prefix)), tuple(others))

    def find(self, key: str) -> T | None:
        """Return what is said of the object `key`; None if its key is not canonical, or not beneath the artifact's."""
        text = canonical_keys.normal_form(key)
        if not text.startswith(self._prefix) or canonical_keys.fault_of(key):
            return None
        kind: _Kind = tuple([matches(text) for matches in self._patterns])
        if self._others:
            request = self._request(key)
            kind += tuple([tells(request) for tells in self._others])
        if kind in self._known:
            return self._known[kind]
        said = self._say(self._match(key))
        if len(self._known) < _MOST_KINDS:
            self._known[kind] = said
        return said


def _telling_apart(matchings: Sequence[Matching], prefix: str) -> Iterator[globs.Matcher]:
    """Yield the matcher of each pattern that may match some keys beginning with `prefix` and not others."""
    lists: list[Patterns | None] = [found for each in matchings for found in (each.keys, each.except_keys)]
    for pattern in dict.fromkeys(text for patterns in lists if patterns for text in patterns.filled_in):
        if globs.matches_beneath(pattern, prefix) is None:
            yield globs.compiled(pattern)


def _concern_keys(limits: Limits) -> bool:
    return bool(limits.extensions) or limits.max_depth is not None or limits.max_key_bytes is not None


def _violates(limits: Limits) -> Callable[[Request], bool]:
    return lambda request: violated_limit(limits, request, NOTHING_YET) is not None


def _is_plain(decision: Decision) -> bool:
    return decision.effective.allows and decision.proposed.allows and not decision.would_deny


def _lowest(limits: Iterator[int | None]) -> float:
    return min((limit for limit in limits if limit is not None), default=math.inf)
