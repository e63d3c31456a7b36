"""Finds representatives of all requests: requests such that no rule tells any other request apart from one of them.

The search chooses one part of a request after the other: the identity of the process, the operation, the names, the
path, and at last the key. Each choice leaves out the rules that can no longer match. Where the rules that are left
cannot show a difference, the search goes no further.

An identity is unknown, or a name as Kubernetes has them. A variable such as `${identity.namespace}` is a text in a
pattern once its value is chosen. Values are chosen such that each class occurs that the patterns tell apart, at every
place where the variable stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import structs

from sealgate.policy import automata, globs, templates, words
from sealgate.policy.canonical_keys import LONGEST_KEY
from sealgate.policy.decision import READS, WRITES, Request
from sealgate.policy.load import PolicySet
from sealgate.policy.rules import Matching, Patterns, Process
from sealgate.policy.schema import ArtifactPolicy, AuditNote, EncryptionRule, Match, Rule
from sealgate.policy.words import LiveRule

_COMPONENT = "component"
_COMPONENTS = ("sidecar", "init", "gc", "server", "")
_WORDS = tuple(name for name in templates.IDENTITY if name != _COMPONENT)
_OPERATIONS = ("Load", "OpenStream", "Save", "SaveStream", "Delete", "ListObjects", "IsDirectory")
_WITH_PATH = frozenset({"Load", "Save"})
_REQUEST_FIELDS = {"plugins": "plugin", "artifactNames": "artifact", "localPaths": "path"}
_TEXT_FIELDS = tuple(_REQUEST_FIELDS)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the policies that are compared, with the rules that can still match."""

    documents: PolicySet
    rules: tuple[LiveRule, ...]
    defaults: tuple[object, ...]
    """What decides where no rule does."""

    @classmethod
    def of(cls, documents: PolicySet) -> Side:
        """Return a side with all rules that are enforced. Rules on trial decide nothing."""
        rules = []
        for document in documents.documents:
            spec = document.spec
            enforced = spec.enforcement == "enforce"
            rules += [
                LiveRule(document, rule, _meaning(document, rule), _ANYTHING)
                for rule in spec.rules
                if (rule.enforcement or spec.enforcement) == "enforce"
            ]
            rules += [
                LiveRule(document, rule, _meaning(document, rule), _ANYTHING) for rule in spec.encryption if enforced
            ]
        specs = [document.spec for document in documents.documents if document.spec.enforcement == "enforce"]
        defaults = (
            not specs,
            any(spec.default_decision == "deny" for spec in specs),
            any(spec.encryption for spec in specs),
        )
        return cls(documents, tuple(rules), defaults)

    @property
    def meaning(self) -> tuple[object, ...]:
        """The same for two sides that decide alike whatever else is chosen."""
        access = frozenset(live.meaning for live in self.rules if isinstance(live.rule, Rule))
        encryption = tuple(live.meaning for live in self.rules if isinstance(live.rule, EncryptionRule))
        return self.defaults, access, encryption

    def kept(self, keep: Callable[[LiveRule], bool]) -> Side:
        """Return the same side with those rules that `keep` keeps."""
        return replace(self, rules=tuple(filter(keep, self.rules)))

    def prepared(self, process: Process) -> Side:
        """Return the same side with the rules that can match in `process`, and their variables filled in."""
        rules = [live.prepared(process) for live in self.rules]
        return replace(self, rules=tuple(live for live in rules if live.matching.identity is not False))

    def policy(self, change: Callable[[LiveRule], Rule | EncryptionRule | None] = attrgetter("rule")) -> PolicySet:
        """Return the documents with these rules alone, each as `change` returns it. None leaves a rule out.

        A document keeps one encryption rule that cannot match: without any, the key of the configuration would apply.
        """
        documents = []
        for document in self.documents.documents:
            changed = [change(live) for live in self.rules if live.document is document]
            rules = [rule for rule in changed if isinstance(rule, Rule)]
            encryption = [rule for rule in changed if isinstance(rule, EncryptionRule)] or document.spec.encryption[:1]
            spec = structs.replace(document.spec, rules=tuple(rules), encryption=tuple(encryption))
            documents.append(structs.replace(document, spec=spec))
        return replace(self.documents, documents=tuple(documents))


_ANYTHING = Matching.of(Match(), "", Process({}), {})
"""What a rule matches as long as no process is chosen."""


def _meaning(document: ArtifactPolicy, rule: Rule | EncryptionRule) -> bytes:
    """Return the parts of a rule that decide, in a canonical form."""
    if isinstance(rule, Rule):
        # A Delete that is skipped removes as little as one that is denied.
        rule = structs.replace(
            rule, name="", description="", message="", audit=AuditNote(), enforcement=None, on_delete="deny"
        )
    else:
        rule = structs.replace(rule, name="")
    parts = (rule, document.spec.on_error, document.spec.params)
    return msgspec.json.encode(parts, order="deterministic", enc_hook=int)


Relevant = Callable[[Sequence[Side]], bool]
"""Whether the rules that are left can still show what is searched for."""


@dataclass(frozen=True, slots=True)
class Representatives:
    """The representatives of all requests for `sides`. Each method may raise `automata.TooManyStates`."""

    sides: Sequence[Side]
    relevant: Relevant
    times: Sequence[int | None] = (None,)
    """When calls begin, in Unix seconds; None where no rule expires."""
    _seen: set[object] = field(default_factory=set)
    """What the rules are for the processes so far, with their variables filled in."""

    def processes(self) -> Iterator[tuple[Process, Sequence[Side]]]:
        """Yield each process, with the rules that can match in it."""
        asks = any(_asks_for_attestation(live.rule) for side in self.sides for live in side.rules)
        for attested in (True, False) if asks else (False,):
            for identity, sides in self._identities({}, self.sides, (_COMPONENT, *_WORDS)):
                process = Process(identity, attested)
                prepared = [side.prepared(process) for side in sides]
                facts = (attested, *(tuple(live.facts() for live in side.rules) for side in prepared))
                if facts not in self._seen:
                    self._seen.add(facts)
                    yield process, prepared

    def _identities(
        self, chosen: dict[str, str], sides: Sequence[Side], names: Sequence[str]
    ) -> Iterator[tuple[dict[str, str], Sequence[Side]]]:
        if not self.relevant(sides):
            return
        if not names:
            yield chosen, sides
            return
        name, *others = names
        rules = [live for side in sides for live in side.rules]
        if name != _COMPONENT:
            values: Sequence[str] = words.words_of(name, chosen, rules)
        elif any(live.rule.match.identity.components or words.mentions(live.rule, name) for live in rules):
            values = _COMPONENTS
        else:
            values = ("",)
        for value in values:
            identity = {**chosen, name: value}
            left = [side.kept(partial(words.can_match, name=name, identity=identity)) for side in sides]
            yield from self._identities(identity, left, others)

    def requests(self, sides: Sequence[Side]) -> Iterator[Request]:
        """Yield each request for one process, whose rules are `sides`."""
        seen = set()
        known: dict[tuple[int, ...], list[str]] = {}
        for operation in _OPERATIONS:
            left = [side.kept(partial(LiveRule.covers, operation=operation)) for side in sides]
            with_path = operation in _WITH_PATH and any(
                name == "localPaths" for side in left for live in side.rules for name, _, _ in live.matching.others
            )
            # Two operations that do the same need no request each, unless a rule names one of them.
            same = (_kind(operation), with_path, *(tuple(id(live.rule) for live in side.rules) for side in left))
            if self.relevant(left) and same not in seen:
                seen.add(same)
                fields = _TEXT_FIELDS if with_path else _TEXT_FIELDS[:-1]
                yield from self._named(Request(operation, ""), left, fields, known)

    def _named(
        self, request: Request, sides: Sequence[Side], fields: Sequence[str], known: dict[tuple[int, ...], list[str]]
    ) -> Iterator[Request]:
        """Yield each request with the operation, names and path of `request`. `known` has the keys for some rules."""
        if not self.relevant(sides):
            return
        if not fields:
            rules = {id(live): live for side in sides for live in side.rules}
            if (same := tuple(rules)) not in known:
                known[same] = list(_keys(list(rules.values())))
            yield from (replace(request, key=key, time=time) for key in known[same] for time in self.times)
            return
        name, *others = fields
        patterns = [
            found for side in sides for live in side.rules for field, _, found in live.matching.others if field == name
        ]
        for text in ("", *_texts(patterns)) if patterns else ("",):
            value = f"/{text}" if text and name == "localPaths" else text
            changed: dict[str, Any] = {_REQUEST_FIELDS[name]: value}
            given = replace(request, **changed)
            left = [side.kept(partial(LiveRule.can_have, field=name, request=given)) for side in sides]
            yield from self._named(given, left, others, known)


def _asks_for_attestation(rule: Rule | EncryptionRule) -> bool:
    return isinstance(rule, Rule) and (rule.require.attested_identity or "attested" in rule.when)


def _kind(operation: str) -> str:
    return "read" if operation in READS else "write" if operation in WRITES else operation


def _filled(patterns: Sequence[Patterns]) -> list[str]:
    """Return, without repetitions, the patterns whose variables could be filled in."""
    return list(dict.fromkeys(text for found in patterns for text in found.filled_in))


def _texts(patterns: Sequence[Patterns]) -> Iterator[str]:
    """Yield a text for each class that `patterns` tell apart."""
    automaton = globs.Automaton(*map(globs.tokens, _filled(patterns)))
    return automata.classes([automata.Track(automaton)], automata.key_grammar(automaton))


def _keys(rules: Sequence[LiveRule]) -> Iterator[str]:
    """Yield a key for each class that `rules` tell apart: by patterns, endings, segments and bytes."""
    patterns = _filled([found for live in rules for found in (live.matching.keys, live.matching.except_keys) if found])
    limits = [live.rule.limits for live in rules if isinstance(live.rule, Rule)]
    endings = dict.fromkeys(ending for limit in limits for ending in limit.extensions if "/" not in ending)
    automaton = globs.Automaton(*map(globs.tokens, patterns), *map(globs.ending_tokens, endings))
    depths = {limit.max_depth for limit in limits if limit.max_depth is not None}
    grammar = automata.key_grammar(automaton, max(depths, default=0))
    bits = dict(zip(patterns, automaton.accepting, strict=False))
    of_endings = sum(automaton.accepting[len(patterns) :])
    always = 1 << sum(automaton.accepting).bit_length()
    wanted = {(_bits(bits, live.matching.keys, always), _bits(bits, live.matching.except_keys, 0)) for live in rules}

    def label(accepted: automata.Accepted, slashes: int) -> object:
        ((found,),) = accepted
        matched = tuple(((found | always) & keys > 0, found & excepted > 0) for keys, excepted in wanted)
        return matched, found & of_endings, sum(slashes >= depth for depth in depths)

    sizes = sorted({limit.max_key_bytes + 1 for limit in limits if limit.max_key_bytes is not None})
    for key in automata.classes([automata.Track(automaton)], grammar, label):
        if len(key.encode()) > LONGEST_KEY:
            continue
        yield key
        for size in sizes:
            if len(key.encode()) < size <= LONGEST_KEY:
                longer = automata.of_size(key, size, automaton, grammar)
                if len(longer.encode()) <= LONGEST_KEY:
                    yield longer


def _bits(bits: Mapping[str, int], patterns: Patterns | None, absent: int) -> int:
    """Return the bits of `patterns` in an automaton; `absent` if the rule has none."""
    return absent if patterns is None else sum(bits.get(text, 0) for text in dict.fromkeys(patterns.texts))
