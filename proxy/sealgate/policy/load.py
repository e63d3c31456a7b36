"""Read policy documents from files and validate them, including the rules that a schema cannot express.

All faults of a document are reported at once, each as `file:line:column: fact`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from sealgate.argo import RETRIED_TEXTS
from sealgate.documents.reader import LONGEST, Document, Unreadable, read
from sealgate.documents.validate import DocumentFault, converted, did_you_mean, printable
from sealgate.policy import cel, globs, templates
from sealgate.policy.schema import NEVER, ArtifactPolicy, EncryptionRule, Limits, Match, Requirements, Rule, decode

KIND, TEST_KIND = "ArtifactPolicy", "ArtifactPolicyTest"
SUFFIXES = (".yaml", ".yml", ".json")
_MOST_DOCUMENTS = 256
_LONGEST_ANNOTATION = 240
_LONGEST_STREAM = 4 * LONGEST + 4
"""Bytes of UTF-8 that more than the longest document can have."""
_OPEN_FILE = "standard input"
"""The name of an open file in faults. Only standard input is read in this way."""
OF_KEYS = ("keys", "exceptKeys")
"""The fields of a match whose patterns are for keys."""
_KEY_NAME = re.compile(r"(?:(?P<mount>\w[\w-]*(?:/\w[\w-]*)*)/keys/)?(?P<name>\w(?:[\w.-]*\w)?)", re.ASCII)


class Invalid(Exception):
    """Policy documents are not valid. Each of `faults` is one line with its place."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(faults[0])
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class DocumentSource:
    """A document and the name of the file, or other source, that it was read from."""

    name: str
    document: Document

    @property
    def kind(self) -> str:
        """The `kind` of the document; empty if it has none."""
        return self._text_at("kind")

    @property
    def document_name(self) -> str:
        """The `metadata.name` of the document, even if the document is not valid; empty if it has none."""
        return self._text_at("metadata", "name")

    def _text_at(self, *names: str) -> str:
        value = self.document.value
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, str) else ""

    def line(self, fault: DocumentFault) -> str:
        """Return `fault` as one line with its place."""
        _, line, column = self.document.find(fault.path)
        return f"{self.name}:{line}:{column}: {fault.fact}"


@dataclass(frozen=True, slots=True)
class Installation:
    """Settings of the configuration that policies must agree with. A setting that is None is not checked."""

    mount: str | None = None
    """The mount of the key service's keys."""
    allows_passthrough: bool | None = None


@dataclass(frozen=True, slots=True)
class PolicySet:
    """All policy documents, sorted by name."""

    documents: tuple[ArtifactPolicy, ...]
    digest: str
    """SHA-256 over the canonical form of the documents, in hexadecimal."""
    mount: str = ""
    """The mount of the key service's keys; empty if it is unknown."""


def sources_at(*places: Path | BinaryIO, tests: bool = False) -> list[DocumentSource]:
    """Read the policy documents in `places`.

    Args:
        places: files, directories whose subdirectories are not read, and open files with one document each.
        tests: return the test documents instead.

    Raises:
        Invalid: a file cannot be read or has another kind, or no document is found.
    """
    faults: list[str] = []
    files: list[Path | BinaryIO] = []
    for place in places:
        files += sorted(_files(place, faults)) if isinstance(place, Path) and place.is_dir() else [place]
    sources = []
    for file in files[: _MOST_DOCUMENTS + 1]:
        name = _name_of(file)
        try:
            source = DocumentSource(name, _read(file))
        except Unreadable as fault:
            faults.append(fault.at(name))
            continue
        if source.kind not in {KIND, TEST_KIND}:
            faults.append(source.line(_kind_fault(source.kind)))
        elif (source.kind == TEST_KIND) == tests:
            sources.append(source)
    searched = ", ".join(map(_name_of, places))
    if len(files) > _MOST_DOCUMENTS:
        faults.append(f"{searched}: there are more than {_MOST_DOCUMENTS} documents")
    if faults:
        raise Invalid(faults)
    if not sources:
        raise Invalid([f"{searched}: contains no {TEST_KIND if tests else KIND}"])
    return sources


def _name_of(place: Path | BinaryIO) -> str:
    return str(place) if isinstance(place, Path) else _OPEN_FILE


def _files(directory: Path, faults: list[str]) -> Iterator[Path]:
    """Yield the documents in `directory`. Add a fault for an entry that looks like a policy and would not be read.

    Ignoring such an entry could lose a deny rule. Hidden entries are skipped: Kubernetes keeps the versions of a
    mounted directory in them.
    """
    try:
        for name in sorted(os.listdir(directory)):
            path = directory / name
            if name.startswith("."):
                continue
            if path.is_dir():
                faults.append(f"{path}: subdirectories are not read: list this directory separately")
            elif name.endswith(SUFFIXES):
                yield path
            elif name.lower().endswith(SUFFIXES):
                faults.append(f"{path}: is not read: the file name must end in {', '.join(SUFFIXES)}, in lower case")
    except OSError as error:
        raise Invalid([f"{directory}: cannot be read: {os.strerror(error.errno or 0).lower()}"]) from None


def _read(place: Path | BinaryIO) -> Document:
    try:
        if isinstance(place, Path):
            # O_NONBLOCK: opening a pipe must not block.
            with open(os.open(place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), encoding="utf-8") as file:
                text = file.read(LONGEST + 1)
        else:
            text = place.read(_LONGEST_STREAM).decode()
    except UnicodeDecodeError:
        raise Unreadable("is not UTF-8") from None
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else "not a file"
        raise Unreadable(f"cannot be read: {reason}") from None
    document = read(text)
    if document.empty:
        raise Unreadable("the document is empty")
    return document


def _kind_fault(kind: str) -> DocumentFault:
    known = (KIND, TEST_KIND)
    return DocumentFault(("kind",), f"kind must be {' or '.join(known)}{did_you_mean(kind, known)}")


def loaded(sources: Sequence[DocumentSource], installation: Installation = Installation()) -> PolicySet:
    """Validate the documents in `sources` together.

    Raises:
        Invalid: at least one is not valid; it has all faults of all documents.
    """
    faults: list[str] = []
    documents: dict[str, ArtifactPolicy] = {}
    names: set[str] = set()
    for source in sources:
        policy, found = converted(
            source.document.value, ArtifactPolicy, decode, lambda policy: _faults_of(policy, installation)
        )
        name = source.document_name
        if name and name in names:
            found.append(DocumentFault(("metadata", "name"), f"another document has the name {name}"))
        names.add(name)
        if policy is not None:
            documents[policy.metadata.name] = policy
        faults += [source.line(fault) for fault in sorted(found, key=lambda f: source.document.find(f.path)[1])]
    if faults:
        raise Invalid(faults)
    ordered = tuple(documents[name] for name in sorted(documents))
    encoded = msgspec.json.encode(ordered, order="deterministic", enc_hook=int)
    return PolicySet(ordered, hashlib.sha256(encoded).hexdigest(), installation.mount or "")


def key_name(text: str) -> tuple[str, str]:
    """Split a key written as `MOUNT/keys/NAME` or `NAME` into its mount, which may be empty, and its name.

    Raises:
        ValueError: `text` has neither form.
    """
    found = _KEY_NAME.fullmatch(text)
    if not found or ".." in text:
        raise ValueError(text)
    return found["mount"] or "", found["name"]


# --- checks beyond the schema -----------------------------------------------------------------------------


def _faults_of(policy: ArtifactPolicy, installation: Installation) -> Iterator[DocumentFault]:
    spec = policy.spec
    for name, text in policy.metadata.annotations.items():
        if not text.isprintable() or len(text) > _LONGEST_ANNOTATION:
            fact = f"an annotation must be one line of at most {_LONGEST_ANNOTATION} printable characters"
            yield DocumentFault(("metadata", "annotations", name), fact)
        yield from (DocumentFault(("metadata", "annotations", name), fault) for fault in _retry_faults(text, {}))
    for name, value in spec.params.items():
        if fault := templates.word_fault(value) if value else "is empty":
            yield DocumentFault(("spec", "params", name), f"params.{name} {fault}")
    sections: tuple[tuple[str, Sequence[Rule | EncryptionRule]], ...] = (
        ("rules", spec.rules),
        ("encryption", spec.encryption),
    )
    for section, rules in sections:
        names: set[str] = set()
        for number, rule in enumerate(rules):
            path = ("spec", section, str(number))
            if rule.name in names:
                yield DocumentFault((*path, "name"), f"another rule has the name {rule.name}")
            names.add(rule.name)
            yield from _match_faults(rule.match, (*path, "match"), spec.params)
            found = (
                _rule_faults(rule, spec.params)
                if isinstance(rule, Rule)
                else _encryption_faults(rule, spec.params, installation)
            )
            yield from (DocumentFault((*path, *fault.path), fault.fact) for fault in found)


def patterns_in(match: Match) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each pattern of `match`, with its place: the names of its fields, and its number."""
    lists: dict[tuple[str, ...], tuple[str, ...]] = {
        ("keys",): match.keys,
        ("exceptKeys",): match.except_keys,
        ("localPaths",): match.local_paths,
        ("artifactNames",): match.artifact_names,
        ("plugins",): match.plugins,
        ("identity", "namespaces"): match.identity.namespaces,
        ("identity", "serviceAccounts"): match.identity.service_accounts,
        ("identity", "workflows"): match.identity.workflows,
    }
    for fields, patterns in lists.items():
        yield from (((*fields, str(number)), pattern) for number, pattern in enumerate(patterns))


def _match_faults(match: Match, path: tuple[str, ...], params: dict[str, str]) -> Iterator[DocumentFault]:
    for place, pattern in patterns_in(match):
        faults = list(templates.faults_of(pattern, params))
        if not faults and (fault := globs.fault_of(pattern)):
            faults = [fault]
        if not faults and place[0] in OF_KEYS and pattern.startswith("/"):
            faults = ["a key pattern must not begin with a slash"]
        if not faults and place[0] == "localPaths" and not pattern.startswith(("/", "**")):
            faults = ["a local path must begin with a slash or with **"]
        yield from (DocumentFault((*path, *place), fault) for fault in faults)


def _rule_faults(rule: Rule, params: dict[str, str]) -> Iterator[DocumentFault]:
    has_limits, has_requirements = rule.limits != Limits(), rule.require != Requirements()
    if rule.effect == "deny" and has_limits:
        yield DocumentFault(("limits",), "a deny rule cannot have limits: it denies every request that it matches")
    if rule.effect != "require" and has_requirements:
        yield DocumentFault(("require",), "only a rule with `effect: require` can have `require`")
    if rule.effect == "require" and not has_limits and not has_requirements:
        yield DocumentFault(("effect",), "the rule requires nothing: add `limits` or `require`")
    if rule.effect == "allow" and rule.on_delete == "skip":
        yield DocumentFault(("onDelete",), "an allow rule cannot skip a Delete: remove onDelete")
    if rule.effect != "allow" and rule.expires != NEVER:
        fact = "only an allow rule can expire, because a rule that restricts must not end by itself: remove expires"
        yield DocumentFault(("expires",), fact)
    if not rule.message.isprintable():
        yield DocumentFault(("message",), "a message must be one line of printable text")
    yield from (DocumentFault(("message",), fault) for fault in templates.faults_of(rule.message, params))
    yield from (DocumentFault(("message",), fault) for fault in _retry_faults(rule.message, params))
    if rule.when:
        try:
            cel.compiled(rule.when, params)
        except cel.InvalidCondition as fault:
            yield DocumentFault(("when",), printable(str(fault)))


def _retry_faults(text: str, params: dict[str, str]) -> Iterator[str]:
    """Yield a fault if Argo would take an error with `text` for a transient one and retry the call."""
    for name, value in params.items():
        text = text.replace(f"${{params.{name}}}", value)
    if mark := next((mark for mark in RETRIED_TEXTS if mark in text), ""):
        yield f"Argo retries a call whose error contains `{mark}`: use other words"


def _encryption_faults(
    rule: EncryptionRule, params: dict[str, str], installation: Installation
) -> Iterator[DocumentFault]:
    named = (("key", (rule.key,) if rule.key else ()), ("authorKeys", rule.author_keys), ("readKeys", rule.read_keys))
    for field, keys in named:
        for key in keys:
            yield from (DocumentFault((field,), fault) for fault in _key_faults(key, params, installation.mount))
    if rule.read_keys and not rule.key:
        yield DocumentFault(
            ("readKeys",), "readKeys needs `key`: a rule without `key` reads what is sealed under any key"
        )
    for name, value in rule.context.items():
        if not name or len(name) > globs.LONGEST_PATTERN or len(value) > globs.LONGEST_PATTERN:
            limit = globs.LONGEST_PATTERN
            yield DocumentFault(
                ("context",), f"a context entry needs a name, and at most {limit} characters in each part"
            )
        yield from (DocumentFault(("context", name), fault) for fault in templates.faults_of(value, params))
    if rule.write == "passthrough":
        if installation.allows_passthrough is False:
            fact = "`write: passthrough` needs `allowPassthrough: true` in the configuration"
            yield DocumentFault(("write",), fact)
        if rule.key or rule.context or rule.author_keys:
            yield DocumentFault(("write",), "`write: passthrough` seals nothing: remove key, authorKeys and context")
        if rule.read_plaintext == "deny":
            yield DocumentFault(("write",), "the stored plaintext could not be read: add `readPlaintext: allow`")


def _key_faults(key: str, params: dict[str, str], mount: str | None) -> Iterator[str]:
    faults = list(templates.faults_of(key, params))
    yield from faults
    if faults:
        return
    try:
        # `x` represents the value of any identity variable.
        named, _ = key_name(templates.filled(key, dict.fromkeys(templates.IDENTITY, "x"), params))
    except (ValueError, templates.NotKnown):
        yield f"`{printable(key[:80])}` is not a key name: write transit/keys/NAME or NAME"
        return
    if named and mount is not None and named != mount:
        yield f"the key is in mount {named}, but the configuration uses mount {mount}"
