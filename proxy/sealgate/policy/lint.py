"""What is valid in a policy and yet probably not meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sealgate.documents.validate import DocumentFault, converted
from sealgate.policy import templates
from sealgate.policy.load import DocumentSource
from sealgate.policy.schema import ArtifactPolicy, EncryptionRule, IdentityMatch, Match, Rule, decode

_TWINS = (("Load", "OpenStream", "read"), ("Save", "SaveStream", "write"))
_MOST_STARS, _MOST_ANY = 4, 2


def warnings(sources: Sequence[DocumentSource]) -> list[str]:
    """A line for each doubt about valid documents, with its place."""
    found = []
    for source in sources:
        policy, _ = converted(source.document.value, ArtifactPolicy, decode)
        if policy is not None:
            found += [source.line(fault) for fault in _doubts(policy)]
    return found


def _doubts(policy: ArtifactPolicy) -> Iterator[DocumentFault]:
    spec = policy.spec
    attests = any(rule.require.attested_identity for rule in spec.rules)
    folded: dict[str, str] = {}
    for number, rule in enumerate(spec.rules):
        path = ("spec", "rules", str(number), "match")
        yield from _twins(rule, path)
        yield from _patterns(rule.match, path, folded)
        yield from _local_paths(rule.match, path)
        if rule.effect == "allow" and not attests and _keys_on_identity(rule):
            fact = f"L003: {rule.name} grants by identity, and no rule of the document has attestedIdentity: true"
            yield DocumentFault(path, fact)
    for number, sealing in enumerate(spec.encryption):
        yield from _patterns(sealing.match, ("spec", "encryption", str(number), "match"), folded)
    yield from _encryption(spec.encryption)


def _twins(rule: Rule, path: tuple[str, ...]) -> Iterator[DocumentFault]:
    named = rule.match.operations
    # Argo's server has no other way to read than OpenStream.
    if rule.effect == "allow" or rule.match.identity.components == ("server",):
        return
    for first, second, alias in _TWINS:
        if (first in named) != (second in named) and alias not in named and "*" not in named:
            named_one, other = (first, second) if first in named else (second, first)
            fact = f"L001: {rule.name} names {named_one} and not {other}, which does the same: write {alias}"
            yield DocumentFault((*path, "operations"), fact)


def _patterns(match: Match, path: tuple[str, ...], folded: dict[str, str]) -> Iterator[DocumentFault]:
    named = [("keys", *item) for item in enumerate(match.keys)]
    named += [("exceptKeys", *item) for item in enumerate(match.except_keys)]
    for field, number, pattern in named:
        place = (*path, field, str(number))
        other = folded.setdefault(pattern.casefold(), pattern)
        if other != pattern:
            yield DocumentFault(
                place, f'L002: "{pattern}" and "{other}" differ by case alone, and keys are case-sensitive'
            )
        segments = pattern.split("/")
        if segments.count("**") > _MOST_ANY or any(s.count("*") > _MOST_STARS for s in segments):
            yield DocumentFault(
                place, f"L004: more than {_MOST_ANY} ** or {_MOST_STARS} * in a segment: nobody can predict it"
            )


def _local_paths(match: Match, path: tuple[str, ...]) -> Iterator[DocumentFault]:
    """Argo has a Load create `PATH.tmp`, and renames that itself."""
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
                f"L008: {rule.name} names a key for some operations or paths: other reads of an object may be by a rule"
            )
            yield DocumentFault(
                (*path, "match"), f"{fact} that names another, and are denied then unless its readKeys has {rule.key}"
            )
        if rule.read_plaintext == "allow" and rule.write == "required":
            fact = f"L005: {rule.name} reads plaintext, which whoever writes to storage can plant: end it some day"
            yield DocumentFault((*path, "readPlaintext"), fact)
