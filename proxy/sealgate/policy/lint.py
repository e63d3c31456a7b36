"""Warnings about valid policies that their author probably did not intend (docs/policies.md, "The command line")."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sealgate.documents.validate import DocumentFault, converted
from sealgate.policy import templates
from sealgate.policy.load import DocumentSource
from sealgate.policy.schema import ArtifactPolicy, EncryptionRule, IdentityMatch, Match, Rule, decode

_TWINS = (("Load", "OpenStream", "read"), ("Save", "SaveStream", "write"))
_MOST_STARS, _MOST_DOUBLE_STARS = 4, 2


def warnings(sources: Sequence[DocumentSource]) -> list[str]:
    """Return a line with its place for each warning about `sources`, which must be valid."""
    lines = []
    for source in sources:
        policy, _ = converted(source.document.value, ArtifactPolicy, decode)
        if policy is not None:
            lines += [source.line(fault) for fault in _warnings_of(policy)]
    return lines


def _warnings_of(policy: ArtifactPolicy) -> Iterator[DocumentFault]:
    spec = policy.spec
    attests = any(rule.require.attested_identity for rule in spec.rules)
    folded: dict[str, str] = {}
    for number, rule in enumerate(spec.rules):
        path = ("spec", "rules", str(number), "match")
        yield from _twins(rule, path)
        yield from _patterns(rule.match, path, folded)
        yield from _local_paths(rule.match, path)
        if rule.effect == "allow" and not attests and _keys_on_identity(rule):
            fact = f"L003: {rule.name} grants by identity, but no rule in this document has attestedIdentity: true"
            yield DocumentFault(path, fact)
    for number, encryption_rule in enumerate(spec.encryption):
        yield from _patterns(encryption_rule.match, ("spec", "encryption", str(number), "match"), folded)
    yield from _encryption(spec.encryption)


def _twins(rule: Rule, path: tuple[str, ...]) -> Iterator[DocumentFault]:
    named = rule.match.operations
    # Argo's server reads by OpenStream only.
    if rule.effect == "allow" or rule.match.identity.components == ("server",):
        return
    for first, second, alias in _TWINS:
        if (first in named) != (second in named) and alias not in named and "*" not in named:
            given, other = (first, second) if first in named else (second, first)
            fact = f"L001: {rule.name} names {given} but not {other}, which does the same: write {alias}"
            yield DocumentFault((*path, "operations"), fact)


def _patterns(match: Match, path: tuple[str, ...], folded: dict[str, str]) -> Iterator[DocumentFault]:
    named = [("keys", *item) for item in enumerate(match.keys)]
    named += [("exceptKeys", *item) for item in enumerate(match.except_keys)]
    for field, number, pattern in named:
        place = (*path, field, str(number))
        other = folded.setdefault(pattern.casefold(), pattern)
        if other != pattern:
            yield DocumentFault(
                place, f'L002: "{pattern}" and "{other}" differ only by case, and keys are case-sensitive'
            )
        segments = pattern.split("/")
        if segments.count("**") > _MOST_DOUBLE_STARS or any(s.count("*") > _MOST_STARS for s in segments):
            fact = (
                f"L004: more than {_MOST_DOUBLE_STARS} ** in the pattern or {_MOST_STARS} * in a segment: simplify it"
            )
            yield DocumentFault(place, fact)


def _local_paths(match: Match, path: tuple[str, ...]) -> Iterator[DocumentFault]:
    """Warn of paths that no Load matches: Argo loads to `PATH.tmp` and renames that file itself."""
    if match.operations and not {"*", "read", "Load"} & {*match.operations}:
        return
    for number, pattern in enumerate(match.local_paths):
        if not pattern.endswith(("*", ".tmp")) and f"{pattern}.tmp" not in match.local_paths:
            fact = (
                f'L007: Argo loads to a path that ends in .tmp, which "{pattern}" does not match: add "{pattern}.tmp"'
            )
            yield DocumentFault((*path, "localPaths", str(number)), fact)


def _keys_on_identity(rule: Rule) -> bool:
    identity, match = rule.match.identity, rule.match
    bare = IdentityMatch(components=identity.components)
    return identity != bare or any(templates.uses_identity(text) for text in match.keys)


def _encryption(rules: Sequence[EncryptionRule]) -> Iterator[DocumentFault]:
    everything = ""
    for number, rule in enumerate(rules):
        path = ("spec", "encryption", str(number))
        if everything:
            yield DocumentFault(path, f"L006: {rule.name} is never reached, because {everything} matches everything")
        whole = rule.match == Match(keys=rule.match.keys) and (not rule.match.keys or "**" in rule.match.keys)
        if whole and not everything:
            everything = rule.name
        if rule.key and (rule.match.operations or rule.match.local_paths):
            fact = (
                f"L008: {rule.name} sets a key for some operations or local paths only; "
                f"other reads are denied unless readKeys of the rule that matches them contains {rule.key}"
            )
            yield DocumentFault((*path, "match"), fact)
        if rule.read_plaintext == "allow" and rule.write == "required":
            fact = (
                f"L005: {rule.name} reads plaintext, which anyone with write access to the storage can plant: "
                "remove readPlaintext after the migration"
            )
            yield DocumentFault((*path, "readPlaintext"), fact)
