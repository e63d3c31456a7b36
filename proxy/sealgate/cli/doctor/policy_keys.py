"""Which keys the encryption rules of policies name, as far as they apply to this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from sealgate.compose.policies import load_policies, policy_identity
from sealgate.config import Settings
from sealgate.errors import PluginError
from sealgate.identity import Identity
from sealgate.policy import templates
from sealgate.policy.load import key_name
from sealgate.policy.rules import Matching, Process
from sealgate.policy.schema import ArtifactPolicy, EncryptionRule


@dataclass(frozen=True, slots=True)
class PolicyKeys:
    """Key names, each with one rule that names it, written as `POLICY/RULE`."""

    seal: dict[str, str] = field(default_factory=dict)
    """Keys that artifacts are sealed under. They are opened with them, too."""
    read: dict[str, str] = field(default_factory=dict)
    """Keys that artifacts are only opened with."""
    unknown: dict[str, str] = field(default_factory=dict)
    """Keys as they are written, whose variables have no value in this process."""

    def all_but(self, configured: str) -> dict[str, str]:
        """Return every key with its rule, without the `configured` one, in the order of their names."""
        return {name: rule for name, rule in sorted({**self.read, **self.seal}.items()) if name != configured}


FindPolicyKeys = Callable[[Identity], PolicyKeys]
"""Returns the keys that policies name for a process with this identity."""


def no_policy_keys(_: Identity) -> PolicyKeys:
    """Return no keys."""
    return PolicyKeys()


class PolicyKeyFinder:
    """Finds the keys that the policies of a configuration name. Policies that do not load name none."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _documents(self) -> tuple[ArtifactPolicy, ...]:
        try:
            return load_policies(self._settings).documents
        except PluginError:  # another check reports it
            return ()

    def __call__(self, known: Identity) -> PolicyKeys:
        """Return the keys of all rules but those for other identities than `known`."""
        found = PolicyKeys()
        process = Process(policy_identity(known), attested=known.attested)
        for document in self._documents:
            for rule in document.spec.encryption:
                if Matching.of(rule.match, "", process, document.spec.params).identity is not False:
                    _add(found, document, rule, process)
        return found


def _add(found: PolicyKeys, document: ArtifactPolicy, rule: EncryptionRule, process: Process) -> None:
    """Add the keys of `rule` to `found`."""
    named = f"{document.metadata.name}/{rule.name}"
    for texts, names in (((rule.key, *rule.author_keys), found.seal), (rule.read_keys, found.read)):
        for text in filter(None, texts):
            try:
                name = key_name(templates.filled(text, process.identity, document.spec.params))[1]
            except (templates.NotKnown, ValueError):
                found.unknown[text] = named
            else:
                names.setdefault(name, named)
