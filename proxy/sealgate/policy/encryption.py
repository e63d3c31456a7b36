"""Encryption rules: which key seals an object, and which keys it may be opened with.

They are the one ordered list of a policy: the first rule that matches applies (docs/policy-reference.md, "Encryption").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sealgate.policy import templates
from sealgate.policy.contact import advice_of
from sealgate.policy.decision import READS, WRITES, Measures, Request, Verdict
from sealgate.policy.load import PolicySet, key_name
from sealgate.policy.rules import Answer, Matching, Process
from sealgate.policy.schema import ArtifactPolicy, EncryptionRule


@dataclass(frozen=True, slots=True)
class Encryption:
    """The settings of the encryption rule that applies. The defaults apply if no policy has encryption rules."""

    policy: str = ""
    rule: str = "default"
    key: str = ""
    """The name of the key that seals; empty for the key of the configuration."""
    context: tuple[tuple[str, str], ...] = ()
    reads_plaintext: bool = False
    passthrough: bool = False
    author_keys: Mapping[str, str] = field(default_factory=dict)
    """The keys that an author may choose: every accepted spelling (`NAME`, `MOUNT/keys/NAME`), and its key name."""
    opens: frozenset[str] = frozenset()
    """The names of the keys that a stored object may be sealed under; empty for any key."""

    def is_same_as(self, other: Encryption) -> bool:
        """Whether both have the same settings, even if they come from different rules."""
        return self is other or replace(self, policy=other.policy, rule=other.rule) == other


_DEFAULT = Encryption()


@dataclass(frozen=True, slots=True)
class ReadyEncryption:
    """An encryption rule with its variables filled in and its patterns compiled for one process."""

    policy: str
    rule: EncryptionRule
    matching: Matching
    result: Encryption | None
    unknown: str
    """Why `result` is None; empty otherwise."""
    advice: str
    """Whom to ask if the rule cannot be evaluated."""

    def match(self, request: Request) -> Answer:
        """Return whether the rule applies to `request`, or the reason why that or its result is unknown."""
        answer = self.matching.match(request) if request.operation in self.matching.operations else False
        return self.unknown or True if answer is True else answer


class EncryptionRules:
    """The encryption rules of all enforced documents, in their order, for one process."""

    def __init__(self, documents: PolicySet, process: Process) -> None:
        enforced = [document for document in documents.documents if document.spec.enforcement == "enforce"]
        self.rules = [
            _ready(document, rule, process, documents.mount)
            for document in enforced
            for rule in document.spec.encryption
        ]
        self._advice = advice_of(enforced)

    def matchings(self, operation: str) -> list[Matching]:
        """Return what the rules match that can apply to `operation`."""
        return [ready.matching for ready in self.rules if operation in ready.matching.operations]

    def select(self, request: Request) -> Encryption | Verdict:
        """Return the settings of the first rule that matches `request`, or the verdict that denies it.

        A rule that cannot be evaluated denies. Skipping it could seal the object under the key of a later rule.
        """
        for ready in self.rules:
            answer = ready.match(request)
            if answer is False:
                continue
            if answer is not True or ready.result is None:
                fact = f"the encryption rule cannot be evaluated: {answer}"
                return Verdict("deny", "ERROR", ready.policy, f"encryption/{ready.rule.name}", fact, ready.advice)
            return ready.result
        if self.rules:
            return Verdict("deny", "NO_KEY", fact="no encryption rule covers this key", advice=self._advice)
        return _DEFAULT


def encryption_denial(
    selected: Encryption | Verdict,
    request: Request,
    measures: Measures,
    *,
    directory: Encryption | None,
    is_baseline: bool,
) -> Verdict | None:
    """Return the verdict if encryption denies a read or a write that the access rules allow; None if it does not.

    Args:
        selected: the result of `EncryptionRules.select` for `request`.
        request: the request; operations that move no bytes are never denied here.
        measures: only `sealed` is used.
        directory: the settings of the directory that the object is read or written as a part of, if there is one.
        is_baseline: no document is enforced, so that the refusal names the baseline.
    """
    if request.operation not in READS | WRITES:
        return None
    if isinstance(selected, Verdict):
        return selected
    if directory and not directory.is_same_as(selected):
        fact = "its encryption rule differs from that of its directory"
        advice = "Save and load this object as a separate artifact"
        return Verdict("deny", "ENCRYPTION", selected.policy, f"encryption/{selected.rule}", fact, advice)
    if measures.sealed is False and request.operation in READS and not selected.reads_plaintext:
        fact = "the stored object was never sealed, and reading plaintext is not allowed"
        advice = "Save the artifact again through Sealgate"
        rule = "default" if selected.rule == "default" else f"encryption/{selected.rule}"
        return Verdict("deny", "PLAINTEXT", "baseline" if is_baseline else selected.policy, rule, fact, advice)
    return None


def _ready(document: ArtifactPolicy, rule: EncryptionRule, process: Process, mount: str) -> ReadyEncryption:
    policy, spec = document.metadata.name, document.spec

    def filled(text: str) -> str:
        return templates.filled(text, process.identity, spec.params)

    result, unknown = None, ""
    try:
        result = Encryption(
            policy,
            rule.name,
            key=key_name(filled(rule.key))[1] if rule.key else "",
            context=tuple(sorted((name, filled(value)) for name, value in rule.context.items())),
            reads_plaintext=rule.read_plaintext == "allow",
            passthrough=rule.write == "passthrough",
            author_keys=_spellings([key_name(filled(key)) for key in rule.author_keys], mount),
            opens=frozenset(
                key_name(filled(key))[1] for key in (rule.key, *rule.author_keys, *rule.read_keys) if rule.key
            ),
        )
    except templates.NotKnown as fault:
        unknown = str(fault)
    except ValueError:
        unknown = "with its variables filled in, a key name is not valid"
    matching = Matching.of(rule.match, "", process, spec.params)
    return ReadyEncryption(policy, rule, matching, result, unknown, advice_of([document]))


def _spellings(keys: Sequence[tuple[str, str]], mount: str) -> dict[str, str]:
    """Return every accepted spelling of `keys` (mount and name each) with its key name.

    A key without a mount of its own is in `mount`. Spellings with another mount are left out: they name other keys.
    """
    bare = {name: name for _, name in keys}
    return bare | {f"{at}/keys/{name}": name for given, name in keys if (at := given or mount)}
