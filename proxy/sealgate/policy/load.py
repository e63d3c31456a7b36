"""From files to policy documents: read, validated, and held to what the schema alone cannot say.

Every fault of a document is told at once, as `file:line:column: what is wrong`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sealgate.argo import RETRIED_TEXTS
from sealgate.documents.reader import LONGEST, Document, Unreadable, read
from sealgate.documents.validate import DocumentFault, converted, meant, printable
from sealgate.policy import cel, globs, templates
from sealgate.policy.schema import ArtifactPolicy, EncryptionRule, Limits, Match, Requirements, Rule, decode

KIND, TEST_KIND = "ArtifactPolicy", "ArtifactPolicyTest"
SUFFIXES = (".yaml", ".yml", ".json")
_MOST_DOCUMENTS = 256
_LONGEST_ANNOTATION = 240
_KEY_NAME = re.compile(r"(?:(?P<mount>\w[\w-]*(?:/\w[\w-]*)*)/keys/)?(?P<name>\w(?:[\w.-]*\w)?)", re.ASCII)


class Invalid(Exception):
    """No policy can be made of what was given. Each of `faults` is one line with its place."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__(faults[0])
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class DocumentSource:
    """A document as it was read, and where from."""

    name: str
    document: Document

    @property
    def kind(self) -> str:
        """What it says it is."""
        return self._text_at("kind")

    @property
    def called(self) -> str:
        """The name that it gives itself, whatever else is wrong with it."""
        return self._text_at("metadata", "name")

    def _text_at(self, *names: str) -> str:
        value = self.document.value
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value if isinstance(value, str) else ""

    def line(self, fault: DocumentFault) -> str:
        """A fault with its place."""
        _, line, column = self.document.find(fault.path)
        return f"{self.name}:{line}:{column}: {fault.fact}"


@dataclass(frozen=True, slots=True)
class Installation:
    """What a policy must fit to. None: not known here, and not looked at."""

    mount: str | None = None
    """Where the key service keeps its keys."""
    allows_passthrough: bool | None = None


@dataclass(frozen=True, slots=True)
class PolicySet:
    """All documents that count, sorted by name."""

    documents: tuple[ArtifactPolicy, ...]
    digest: str
    """SHA-256 over their canonical form, in hexadecimal."""
    mount: str = ""
    """Where the key service keeps its keys; empty: not known here."""


def sources_at(path: Path, *, tests: bool = False) -> list[DocumentSource]:
    """The documents in a file, or in the files of a directory; with `tests`, the test documents and no others.

    Raises:
        Invalid: one cannot be read, is of another kind, or there are none.
    """
    faults: list[str] = []
    files = sorted(_files(path, faults)) if path.is_dir() else [path]
    found = []
    for file in files[: _MOST_DOCUMENTS + 1]:
        try:
            source = DocumentSource(str(file), _read(file))
        except Unreadable as fault:
            faults.append(fault.at(str(file)))
            continue
        if source.kind not in {KIND, TEST_KIND}:
            faults.append(source.line(_kind_fault(source.kind)))
        elif (source.kind == TEST_KIND) == tests:
            found.append(source)
    if len(files) > _MOST_DOCUMENTS:
        faults.append(f"{path}: there are more than {_MOST_DOCUMENTS} documents")
    if faults:
        raise Invalid(faults)
    if not found:
        raise Invalid([f"{path}: there is no {TEST_KIND if tests else KIND} in it"])
    return found


def _files(directory: Path, faults: list[str]) -> Iterator[Path]:
    """The files that count. What looks like a policy and does not count is a fault: a lost rule opens a gate.

    Hidden entries are how Kubernetes keeps the versions of a mounted directory.
    """
    try:
        for name in sorted(os.listdir(directory)):
            path = directory / name
            if name.startswith("."):
                continue
            if path.is_dir():
                faults.append(f"{path}: a directory within a directory is not read: name it beside the other")
            elif name.endswith(SUFFIXES):
                yield path
            elif name.lower().endswith(SUFFIXES):
                faults.append(f"{path}: is not read: its name must end in {', '.join(SUFFIXES)}, in lower case")
    except OSError as error:
        raise Invalid([f"{directory}: cannot be read: {os.strerror(error.errno or 0).lower()}"]) from None


def _read(path: Path) -> Document:
    try:
        # A pipe must not make this wait.
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), encoding="utf-8") as file:
            text = file.read(LONGEST + 1)
    except UnicodeDecodeError:
        raise Unreadable("is not UTF-8") from None
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else "it is no file"
        raise Unreadable(f"cannot be read: {reason}") from None
    document = read(text)
    if document.empty:
        raise Unreadable("the document is empty")
    return document


def _kind_fault(kind: str) -> DocumentFault:
    known = (KIND, TEST_KIND)
    return DocumentFault(("kind",), f"kind must be {' or '.join(known)}{meant(kind, known)}")


def loaded(sources: Sequence[DocumentSource], installation: Installation = Installation()) -> PolicySet:
    """The documents in `sources`, validated together.

    Raises:
        Invalid: with every fault of each of them.
    """
    faults: list[str] = []
    documents: dict[str, ArtifactPolicy] = {}
    called: set[str] = set()
    for source in sources:
        policy, found = converted(
            source.document.value, ArtifactPolicy, decode, lambda policy: _faults_of(policy, installation)
        )
        name = source.called
        if name and name in called:
            found.append(DocumentFault(("metadata", "name"), f"another document is called {name}, too"))
        called.add(name)
        if policy is not None:
            documents[policy.metadata.name] = policy
        faults += [source.line(fault) for fault in sorted(found, key=lambda f: source.document.find(f.path)[1])]
    if faults:
        raise Invalid(faults)
    ordered = tuple(documents[name] for name in sorted(documents))
    encoded = msgspec.json.encode(ordered, order="deterministic", enc_hook=int)
    return PolicySet(ordered, hashlib.sha256(encoded).hexdigest(), installation.mount or "")


def key_name(text: str) -> tuple[str, str]:
    """Mount and name of a key written as `transit/keys/NAME` or `NAME`; the mount may be empty.

    Raises:
        ValueError: it is neither.
    """
    found = _KEY_NAME.fullmatch(text)
    if not found or ".." in text:
        raise ValueError(text)
    return found["mount"] or "", found["name"]


# --- what the schema cannot say ---------------------------------------------------------------------------


def _faults_of(policy: ArtifactPolicy, installation: Installation) -> Iterator[DocumentFault]:
    spec = policy.spec
    for name, text in policy.metadata.annotations.items():
        if not text.isprintable() or len(text) > _LONGEST_ANNOTATION:
            yield DocumentFault(("metadata", "annotations", name), "an annotation is one short line of plain text")
        yield from (DocumentFault(("metadata", "annotations", name), fault) for fault in _retried(text, {}))
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
                yield DocumentFault((*path, "name"), f"another rule is called {rule.name}, too")
            names.add(rule.name)
            yield from _match_faults(rule.match, (*path, "match"), spec.params)
            found = (
                _rule_faults(rule, spec.params)
                if isinstance(rule, Rule)
                else _encryption_faults(rule, spec.params, installation)
            )
            yield from (DocumentFault((*path, *fault.path), fault.fact) for fault in found)


def _match_faults(match: Match, path: tuple[str, ...], params: dict[str, str]) -> Iterator[DocumentFault]:
    patterns: dict[tuple[str, ...], tuple[str, ...]] = {
        ("keys",): match.keys,
        ("exceptKeys",): match.except_keys,
        ("localPaths",): match.local_paths,
        ("artifactNames",): match.artifact_names,
        ("plugins",): match.plugins,
        ("identity", "namespaces"): match.identity.namespaces,
        ("identity", "serviceAccounts"): match.identity.service_accounts,
        ("identity", "workflows"): match.identity.workflows,
    }
    for field, items in patterns.items():
        for number, pattern in enumerate(items):
            faults = list(templates.faults_of(pattern, params))
            if not faults and (fault := globs.fault_of(pattern)):
                faults = [fault]
            if not faults and field in {("keys",), ("exceptKeys",)} and pattern.startswith("/"):
                faults = ["no key begins with a slash"]
            if not faults and field == ("localPaths",) and not pattern.startswith(("/", "**")):
                faults = ["a local path begins with a slash"]
            yield from (DocumentFault((*path, *field, str(number)), fault) for fault in faults)


def _rule_faults(rule: Rule, params: dict[str, str]) -> Iterator[DocumentFault]:
    has_limits, has_requirements = rule.limits != Limits(), rule.require != Requirements()
    if rule.effect == "deny" and has_limits:
        yield DocumentFault(("limits",), "a deny rule has no limits: what it matches is denied")
    if rule.effect != "require" and has_requirements:
        yield DocumentFault(("require",), "only a rule with `effect: require` requires something")
    if rule.effect == "require" and not has_limits and not has_requirements:
        yield DocumentFault(("effect",), "the rule requires nothing: give it limits or require")
    if rule.effect == "allow" and rule.on_delete == "skip":
        yield DocumentFault(("onDelete",), "an allow rule refuses no Delete that could be skipped")
    if not rule.message.isprintable():
        yield DocumentFault(("message",), "a message is one line of plain text")
    yield from (DocumentFault(("message",), fault) for fault in templates.faults_of(rule.message, params))
    yield from (DocumentFault(("message",), fault) for fault in _retried(rule.message, params))
    if rule.when:
        try:
            cel.compiled(rule.when, params)
        except cel.Unusable as fault:
            yield DocumentFault(("when",), printable(str(fault)))


def _retried(text: str, params: dict[str, str]) -> Iterator[str]:
    for name, value in params.items():
        text = text.replace(f"${{params.{name}}}", value)
    if mark := next((mark for mark in RETRIED_TEXTS if mark in text), ""):
        yield f"Argo takes a text with `{mark}` for a passing fault, and would try again: say it in other words"


def _encryption_faults(
    rule: EncryptionRule, params: dict[str, str], installation: Installation
) -> Iterator[DocumentFault]:
    named = (("key", (rule.key,) if rule.key else ()), ("authorKeys", rule.author_keys), ("readKeys", rule.read_keys))
    for field, keys in named:
        for key in keys:
            yield from (DocumentFault((field,), fault) for fault in _key_faults(key, params, installation.mount))
    if rule.read_keys and not rule.key:
        yield DocumentFault(("readKeys",), "without a key, what is read may be sealed under any: name one in `key`")
    for name, value in rule.context.items():
        if not name or len(name) > globs.LONGEST_PATTERN or len(value) > globs.LONGEST_PATTERN:
            yield DocumentFault(("context",), "an entry of the context has no name, or is too long")
        yield from (DocumentFault(("context", name), fault) for fault in templates.faults_of(value, params))
    if rule.write == "passthrough":
        if installation.allows_passthrough is False:
            yield DocumentFault(
                ("write",), "plaintext may be stored only with `allowPassthrough: true` in the configuration"
            )
        if rule.key or rule.context or rule.author_keys:
            yield DocumentFault(("write",), "what passes through is not sealed, and needs no key and no context")
        if rule.read_plaintext == "deny":
            yield DocumentFault(("write",), "what passes through could not be read again: add `readPlaintext: allow`")


def _key_faults(key: str, params: dict[str, str], mount: str | None) -> Iterator[str]:
    faults = list(templates.faults_of(key, params))
    yield from faults
    if faults:
        return
    try:
        # Any name that a process could have stands for its own.
        named, _ = key_name(templates.filled(key, dict.fromkeys(templates.IDENTITY, "x"), params))
    except (ValueError, templates.NotKnown):
        yield f"`{printable(key[:80])}` is no key: write transit/keys/NAME, or NAME"
        return
    if named and mount is not None and named != mount:
        yield f"the key is of the mount {named}, and the configuration uses {mount}"
