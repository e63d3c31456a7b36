"""Warnings about valid policies that their author probably did not intend (docs/policy-reference.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sealgate.documents.validate import DocumentFault, converted
from sealgate.policy import readable, templates
from sealgate.policy.load import OF_KEYS, DocumentSource, patterns_in
from sealgate.policy.schema import ArtifactPolicy, EncryptionRule, IdentityMatch, Match, Rule, decode

_TWINS = (("Load", "OpenStream", "read"), ("Save", "SaveStream", "write"))
_MOST_STARS, _MOST_DOUBLE_STARS = 4, 2
_VARIABLE = re.compile(r"\$\{[^{}]*\}")
_REGULAR_EXPRESSION = re.compile(r"^\^|\$$|[.\])]\*|\.\+|\[[^\]]*\]|\([^)]*[|?][^)]*\)")
_BRACES = re.compile(r"\{[^{}]*,[^{}]*\}")
_ACCOUNT_PREFIX = "system:serviceaccount:"
_EVERYTHING = "**"
_SOON = 14 * 86_400
"""Seconds before a rule expires in which there is a warning."""


def warnings(sources: Sequence[DocumentSource], now: int | None = None) -> list[str]:
    """Return a line with its place for each warning about `sources`, which must be valid.

    Args:
        sources: the documents.
        now: Unix seconds, for warnings about rules that expire; None for no such warnings.
    """
    policies = [
        (source, policy)
        for source in sources
        if (policy := converted(source.document.value, ArtifactPolicy, decode)[0]) is not None
    ]
    grants = any(rule.effect == "allow" for _, policy in policies for rule in policy.spec.rules)
    lines = []
    for source, policy in policies:
        lines += [source.line(fault) for fault in _warnings_of(policy)]
        if now is not None:
            lines += [source.line(fault) for fault in _expiring(policy, now)]
        if not grants and policy.spec.enforcement == "enforce" and policy.spec.default_decision == "deny":
            fact = "L014: no rule allows anything, so every access is denied: add an allow rule"
            lines.append(source.line(DocumentFault(("spec",), f"{fact}, or defaultDecision: allow")))
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
        yield from _spellings(rule.match, path)
        yield from _reach(rule, spec.rules, path)
        yield from _extensions(rule, path[:-1])
        if rule.effect == "allow" and not attests and _keys_on_identity(rule):
            fact = f"L003: {rule.name} grants by identity, but no rule in this document has attestedIdentity: true"
            yield DocumentFault(path, fact)
    for number, encryption_rule in enumerate(spec.encryption):
        path = ("spec", "encryption", str(number), "match")
        yield from _patterns(encryption_rule.match, path, folded)
        yield from _spellings(encryption_rule.match, path)
    yield from _encryption(spec.encryption)


def _expiring(policy: ArtifactPolicy, now: int) -> Iterator[DocumentFault]:
    for number, rule in enumerate(policy.spec.rules):
        if rule.expires - now > _SOON:
            continue
        at, left = readable.time(rule.expires), rule.expires - now
        fact = (
            f"L018: {rule.name} expires in {readable.age(left)}, at {at}: set a later time if it is still needed"
            if left > 0
            else f"L018: {rule.name} expired at {at} and grants nothing: remove it, or set a later time"
        )
        yield DocumentFault(("spec", "rules", str(number), "expires"), fact)


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
    for within, pattern in patterns_in(match):
        if within[0] not in OF_KEYS:
            continue
        place = (*path, *within)
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


def _spellings(match: Match, path: tuple[str, ...]) -> Iterator[DocumentFault]:
    """Warn of patterns in another language than that of policies."""
    for place, pattern in patterns_in(match):
        if doubt := _spelling(pattern) or (_name_doubt(pattern) if place[0] == "identity" else ""):
            yield DocumentFault((*path, *place), doubt)


def _spelling(pattern: str) -> str:
    text = _VARIABLE.sub("x", pattern)
    if "{{" in text:
        return f'L009: "{pattern}" has a variable of Argo, which only workflows can use: write ${{identity.namespace}}'
    if _REGULAR_EXPRESSION.search(text):
        return f'L010: "{pattern}" looks like a regular expression: only *, ? and ** have a meaning'
    if _BRACES.search(text):
        return f'L011: "{pattern}" has braces, which have no meaning: write one pattern for each alternative'
    return ""


def _name_doubt(pattern: str) -> str:
    if pattern.startswith(_ACCOUNT_PREFIX):
        return f'L015: "{pattern}" is never the name of an account: write the name after the last colon'
    if pattern != pattern.lower() and not _VARIABLE.search(pattern):
        return f'L015: "{pattern}" matches nothing, because names in Kubernetes have no capital letters'
    return ""


def _reach(rule: Rule, rules: Sequence[Rule], path: tuple[str, ...]) -> Iterator[DocumentFault]:
    """Warn of rules that match far more or far less than their authors expect."""
    denies_all = rule.effect == "deny" and _is_everything(rule)
    if denies_all and not rule.match.except_keys:
        fact = f"L012: {rule.name} denies every access, whatever other rules allow: name operations or keys"
        yield DocumentFault(path[:-1], fact)
    if rule.effect != "allow":
        return
    for number, pattern in enumerate(rule.match.keys):
        if pattern.endswith("/*") and pattern.count("/") == 1:
            fact = f'L013: "{pattern}" matches one segment, and keys of Argo have more: write "{pattern}*"'
            yield DocumentFault((*path, "keys", str(number)), fact)
    for other in rules:
        if other.effect == "deny" and not _is_everything(other) and _covers(other.match, rule.match):
            fact = f"L016: {rule.name} allows nothing, because {other.name} denies the same keys and takes precedence"
            yield DocumentFault(path[:-1], fact)


def _is_everything(rule: Rule) -> bool:
    match = rule.match
    every_operation = not match.operations or "*" in match.operations
    every_key = not match.keys or _EVERYTHING in match.keys
    bare = match == Match(operations=match.operations, keys=match.keys, except_keys=match.except_keys)
    return bare and every_operation and every_key and not rule.when


def _covers(outer: Match, inner: Match) -> bool:
    """Return whether `outer` matches all requests that `inner` matches, as far as their texts show it."""
    operations = not outer.operations or "*" in outer.operations or {*inner.operations} <= {*outer.operations}
    bare = outer == Match(operations=outer.operations, keys=outer.keys)
    return (
        bare
        and operations
        and bool(inner.keys)
        and all(any(_is_beneath(key, pattern) for pattern in outer.keys) for key in inner.keys)
    )


def _is_beneath(key: str, pattern: str) -> bool:
    base = pattern.removesuffix(f"/{_EVERYTHING}")
    return key == pattern or (base != pattern and "*" not in base and key.startswith(f"{base}/"))


def _extensions(rule: Rule, path: tuple[str, ...]) -> Iterator[DocumentFault]:
    for number, ending in enumerate(rule.limits.extensions):
        if not ending.startswith(".") or "*" in ending or "?" in ending:
            plain = ending.lstrip("*.?")
            fact = f'L017: "{ending}" is compared with the end of a key as it is: write ".{plain}"'
            yield DocumentFault((*path, "limits", "extensions", str(number)), fact)


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
