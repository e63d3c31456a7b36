"""The report of a rotation: what it found, what it did, and which key versions are no longer needed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from sealgate.errors import PluginError
from sealgate.keys.provider import KeyVersions

_MOST_FAULTS = 100


@dataclass(frozen=True, slots=True)
class RewrapFault:
    """One object that could not be moved and was left unchanged."""

    key: str
    fact: str
    remedy: str


@dataclass(frozen=True, slots=True, order=True)
class StaleObject:
    """One object that a dry run found under an older key version."""

    key: str
    """The key of the artifact."""
    key_name: str
    key_version: int


@dataclass(slots=True)
class Report:
    """Counts of objects, and what follows from them. `sealgate rewrap --output json` prints them (docs/rotation.md)."""

    found: int = 0
    """Objects that were read."""
    moved: int = 0
    """Objects that were moved to the newest version."""
    current: int = 0
    """Objects that were under the newest version already."""
    not_sealed: int = 0
    gone: int = 0
    """Deleted since they were listed."""
    failed: int = 0
    faults: list[RewrapFault] = field(default_factory=list)
    """The first hundred faults."""
    stale_objects: list[StaleObject] = field(default_factory=list)
    """Of a dry run: all objects under an older version, sorted. Other runs move them."""
    versions: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How many objects are now sealed under which key and version, by their headers."""
    newest: dict[str, KeyVersions] = field(default_factory=dict)
    """The versions of each key that a header named."""
    finished: bool = False
    """Whether every object of this run was handled."""
    whole: bool = False
    """Whether this run covered every object beneath the prefix."""
    reached: str = ""
    """Every object up to this key was handled; empty if not even the first was."""
    stopped_by: PluginError | None = None
    """The error that ended the run early."""

    @property
    def stale(self) -> int:
        """How many objects are still sealed under an older version."""
        return sum(count for (key, version), count in self.versions.items() if version < self.newest[key].newest)

    def under(self, key: str) -> dict[int, int]:
        """Return how many objects are sealed under each version of `key`."""
        versions = sorted(self.versions.items())
        return {version: count for (name, version), count in versions if name == key and count}

    def may_be_raised_to(self, key: str) -> int | None:
        """Return the highest `min_decryption_version` that still opens all these objects; None if that is not known."""
        return None if self.failed or not self.whole else min(self.under(key), default=None)

    def fail(self, key: str, fault: PluginError) -> None:
        """Count an object that could not be moved."""
        self.failed += 1
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(RewrapFault(key, fault.fact, fault.remedy))
