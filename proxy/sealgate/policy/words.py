"""Finds the values of an identity that the patterns of rules tell apart.

A pattern tells two values apart if it is a pattern for that field, or if it stands where a variable for the field
stands: beside `${identity.namespace}/**`, the pattern `team-*/x` tells namespaces apart that begin with `team-` from
others. So a value is tried at each place of its variable against all patterns for that place.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sealgate.policy import automata, globs
from sealgate.policy.canonical_keys import normal_form
from sealgate.policy.decision import Request
from sealgate.policy.rules import Matching, Patterns, Process
from sealgate.policy.schema import ArtifactPolicy, EncryptionRule, Rule

FIELDS = {"namespace": "namespaces", "serviceAccount": "service_accounts", "workflow": "workflows"}
"""The names of an identity that rules have patterns for, each with its field of `IdentityMatch`."""
_VARIABLE = re.compile(r"\$\{identity\.(\w+)\}")
_NO_VALUE = "\ufdd2"
"""Stands for a variable without a value. It is a noncharacter, which is in no pattern."""
_SEALING = "sealing"
"""The place of the names of keys, and of contexts."""


@dataclass(frozen=True, slots=True)
class LiveRule:
    """A rule that can still match, given what is chosen so far."""

    document: ArtifactPolicy
    rule: Rule | EncryptionRule
    meaning: bytes
    """The same for two rules that have the same effect on access."""
    matching: Matching
    """What the rule matches in the process, once it is chosen."""
    sealing: tuple[str, ...] = ()
    """The keys and the context of an encryption rule in the process, once it is chosen."""

    def prepared(self, process: Process) -> LiveRule:
        """Return the rule with its variables filled in for `process`."""
        sealing = tuple(_filled(text, process.identity) for place, text in _texts_of(self.rule) if place == _SEALING)
        matching = Matching.of(self.rule.match, "", process, self.params)
        return replace(self, matching=matching, sealing=sealing)

    @property
    def params(self) -> Mapping[str, str]:
        """The parameters of its document."""
        return self.document.spec.params

    def facts(self) -> tuple[object, ...]:
        """Return what the rule is in its process. Two rules with the same facts match the same requests."""
        found = self.matching
        patterns = [(None if p is None else (p.texts, bool(p.unknown))) for p in (found.keys, found.except_keys)]
        others = [(name, p.texts, bool(p.unknown)) for name, _, p in found.others]
        return self.meaning, self.sealing, *patterns, *others, found.identity is True

    def covers(self, operation: str) -> bool:
        """Return whether the rule can match a request for `operation`."""
        return operation in self.matching.operations

    def can_have(self, field: str, request: Request) -> bool:
        """Return whether the rule can match a request whose `field` is that of `request`."""
        return all(
            p.match(value_of(request)) is not False for name, value_of, p in self.matching.others if name == field
        )


def mentions(rule: Rule | EncryptionRule, name: str) -> bool:
    """Return whether a variable of `rule` is the identity's field `name`."""
    return any(f"${{identity.{name}}}" in text for _, text in _texts_of(rule))


def can_match(live: LiveRule, name: str, identity: Mapping[str, str]) -> bool:
    """Return whether a rule can match in a process with the field `name` of `identity`. Later fields may be missing."""
    patterns = live.rule.match.identity.components if name == "component" else _identity_patterns(live.rule, name)
    value = identity[name]
    return not patterns or not value or Patterns.filled(patterns, identity, live.params).match(value) is not False


def irregular(rule: Rule | EncryptionRule) -> Iterator[str]:
    """Yield each pattern of `rule` that no finite number of values decides.

    Such a pattern has a variable and a wildcard, or two variables, in one segment.
    """
    for place, text in _texts_of(rule):
        if place != _SEALING and any(_is_irregular(segment) for segment in text.split("/")):
            yield text


def _is_irregular(segment: str) -> bool:
    found = _VARIABLE.findall(segment)
    return len(found) > 1 or (bool(found) and ("*" in segment or "?" in segment))


def words_of(name: str, chosen: Mapping[str, str], rules: Sequence[LiveRule]) -> list[str]:
    """Return values of the field `name`, one for each class, and the empty text for an unknown value.

    Args:
        name: a name of `templates.IDENTITY`.
        chosen: the fields that have a value already.
        rules: the rules that can still match.

    Raises:
        automata.TooManyStates: the patterns combine in too many ways.
    """
    places = _PatternPlaces.of(chosen, rules)
    if name not in places.mentioned | places.plain.keys() | places.around.keys():
        return [""]
    tracks = [
        automata.Track(globs.Automaton(*map(globs.tokens, sorted(patterns))), before, sorted(afters))
        for patterns, before, afters in places.tracks(name)
    ]
    return [*automata.classes(tracks, automata.NameGrammar()), ""]


@dataclass(frozen=True, slots=True)
class _PatternPlaces:
    """The segments of all patterns, by the place where a text for them stands: `keys`, `namespace` and so on."""

    plain: dict[str, set[str]]
    """Segments without a variable."""
    around: dict[str, set[tuple[str, str, str]]]
    """The variables, each with the text before and after it in its segment."""
    mentioned: set[str]
    """All variables, also those in irregular patterns."""

    @classmethod
    def of(cls, chosen: Mapping[str, str], rules: Sequence[LiveRule]) -> _PatternPlaces:
        """Collect the segments in `rules`, with the values in `chosen` filled in."""
        places = cls(defaultdict(set), defaultdict(set), set())
        for live in rules:
            for place, text in _texts_of(live.rule):
                filled = _filled(_filled(text, live.params, "params"), chosen)
                for segment in filled.removeprefix("/").split("/"):
                    places._add(place, segment)
        for name, value in chosen.items():
            places._add(name, value)
        return places

    def _add(self, place: str, segment: str) -> None:
        if _NO_VALUE in segment or not segment:
            return  # a variable without a value: the pattern matches nothing
        self.mentioned.update(_VARIABLE.findall(segment))
        if not (found := _VARIABLE.search(segment)):
            self.plain[place].add(segment)
        elif not _is_irregular(segment):
            before, after = normal_form(segment[: found.start()]), normal_form(segment[found.end() :])
            self.around[place].add((found[1], before, after))

    @property
    def variables(self) -> set[str]:
        """The variables that have no value yet."""
        return {variable for around in self.around.values() for variable, _, _ in around}

    def tracks(self, name: str) -> Iterator[tuple[set[str], str, set[str]]]:
        """Yield, for each place of the field `name`, the patterns there, the text before it, and the texts after it.

        Two variables at one place can have the same value, so a value is tried at the places of both.
        """
        names = self.variables | {name} if name in self.variables else {name}
        for field in sorted(names):
            if field in self.plain:
                yield self.plain[field], "", {""}
        for place, around in self.around.items():
            befores = defaultdict(set)
            for variable, before, after in around:
                if variable in names:
                    befores[before].add(after)
            for before, afters in befores.items():
                yield self.plain.get(place, set()) | self._possible(around), before, afters

    def _possible(self, around: set[tuple[str, str, str]]) -> set[str]:
        """Return patterns for what the variables at a place can become, given the patterns for their values."""
        return {
            f"{before}{pattern}{after}"
            for variable, before, after in around
            for pattern in self.plain.get(variable, ())
        }


def _filled(text: str, values: Mapping[str, str], source: str = "identity") -> str:
    """Return `text` with those variables replaced that `values` has."""
    for name, value in values.items():
        text = text.replace(f"${{{source}.{name}}}", value or _NO_VALUE)
    return text


def _identity_patterns(rule: Rule | EncryptionRule, name: str) -> Sequence[str]:
    return getattr(rule.match.identity, FIELDS[name]) if name in FIELDS else ()


def _texts_of(rule: Rule | EncryptionRule) -> Iterator[tuple[str, str]]:
    """Yield each text of `rule` that a decision compares, with the place where it is compared."""
    match = rule.match
    for place, texts in (
        ("keys", (*match.keys, *match.except_keys)),
        ("localPaths", match.local_paths),
        ("artifactNames", match.artifact_names),
        ("plugins", match.plugins),
        *((name, _identity_patterns(rule, name)) for name in FIELDS),
    ):
        yield from ((place, text) for text in texts)
    if isinstance(rule, EncryptionRule):
        sealing = (rule.key, *rule.author_keys, *rule.read_keys, *rule.context.values())
        yield from ((_SEALING, text) for text in sealing if text)
