"""What no finite number of requests decides, and policies in which it is assumed to hold or not to hold.

It is a condition (`when`), or a pattern with a variable and a wildcard in one segment. Both are the same in two
policies if their text is the same. So an assumption is made for both, and a condition that both have makes no
difference.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from msgspec import structs

from sealgate.policy import words
from sealgate.policy.load import PolicySet
from sealgate.policy.representatives import Side
from sealgate.policy.schema import EncryptionRule, IdentityMatch, Limits, Match, Requirements, Rule
from sealgate.policy.words import LiveRule

_MOST = 4
"""Conditions and patterns that are assumed to hold or not, in every combination."""
_HOLDS, _FAILS, _ERROR = "holds", "fails", "error"
_NOTHING = "\ufdd3"
"""A pattern that matches nothing: no text has this noncharacter."""


class TooManyAssumptions(Exception):
    """More than `_MOST` conditions and patterns would have to be assumed."""


@dataclass(frozen=True, slots=True)
class Undecided:
    """A condition, or a pattern, with the parameters that it may use."""

    text: str
    params: tuple[tuple[str, str], ...]
    is_condition: bool


def undecided(live: LiveRule) -> Iterator[Undecided]:
    """Yield what of a rule no finite number of requests decides."""
    params = tuple(sorted(live.params.items()))
    if isinstance(live.rule, Rule) and live.rule.when:
        yield Undecided(live.rule.when, params, is_condition=True)
    for pattern in words.irregular(live.rule):
        yield Undecided(pattern, params, is_condition=False)


def assumed(sides: Sequence[Side]) -> Iterator[list[PolicySet]]:
    """Yield the policies of `sides` for each assumption. Yields nothing if everything is decided.

    Raises:
        TooManyAssumptions: there are too many conditions and patterns.
    """
    unknown = list(dict.fromkeys(found for side in sides for live in side.rules for found in undecided(live)))
    if len(unknown) > _MOST:
        raise TooManyAssumptions
    if not unknown:
        return
    answers = [(_HOLDS, _FAILS, _ERROR) if found.is_condition else (_HOLDS, _FAILS) for found in unknown]
    for given in itertools.product(*answers):
        assumption = dict(zip(unknown, given, strict=True))
        yield [side.policy(partial(_changed, assumption=assumption)) for side in sides]


def _changed(live: LiveRule, assumption: Mapping[Undecided, str]) -> Rule | EncryptionRule | None:
    """Return the rule of `live` under an assumption; None if it then matches nothing."""
    found = {each.text: assumption[each] for each in undecided(live)}
    rule = structs.replace(live.rule, match=_changed_match(live.rule.match, found))
    if isinstance(rule, EncryptionRule) or not rule.when:
        return rule
    answer = found[rule.when]
    rule = structs.replace(rule, when="")
    if answer == _HOLDS:
        return rule
    if answer == _FAILS or rule.effect == "allow" or live.document.spec.on_error == "allow":
        return None
    # A deny or require rule that cannot be evaluated denies.
    return structs.replace(rule, effect="deny", limits=Limits(), require=Requirements())


def _changed_match(match: Match, found: Mapping[str, str]) -> Match:
    def changed(part: Match | IdentityMatch) -> dict[str, Any]:
        return {
            name: tuple("**" if found.get(text) == _HOLDS else text for text in texts if found.get(text) != _FAILS)
            or (() if name == "except_keys" else (_NOTHING,))
            for name in part.__struct_fields__
            if isinstance(texts := getattr(part, name), tuple) and texts
        }

    identity = structs.replace(match.identity, **changed(match.identity))
    return structs.replace(match, **{**changed(match), "identity": identity})
