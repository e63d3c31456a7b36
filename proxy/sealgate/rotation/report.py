"""What a rotation found and did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from sealgate.errors import PluginError
from sealgate.keys.provider import KeyVersions

_MOST_FAULTS = 100


@dataclass(frozen=True, slots=True)
class RewrapFault:
    """One object that was left as it was."""

    key: str
    fact: str
    remedy: str


@dataclass(slots=True)
class Report:
    """Counts of objects, and what they allow."""

    found: int = 0
    """Objects that were looked at."""
    moved: int = 0
    current: int = 0
    not_sealed: int = 0
    gone: int = 0
    """Deleted since they were listed."""
    failed: int = 0
    faults: list[RewrapFault] = field(default_factory=list)
    """The first hundred."""
    versions: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How many objects lie under which version of which key now, by their headers."""
    newest: dict[str, KeyVersions] = field(default_factory=dict)
    """The versions of each key that was met."""
    finished: bool = False
    """Whether everything that was asked for was looked at."""
    whole: bool = False
    """Whether that was everything there is."""
    reached: str = ""
    """Everything up to this key was done."""
    stopped_by: PluginError | None = None

    @property
    def stale(self) -> int:
        """How many objects lie under an older version still."""
        return sum(count for (key, version), count in self.versions.items() if version < self.newest[key].newest)

    def under(self, key: str) -> dict[int, int]:
        """How many objects lie under each version of a key."""
        found = sorted(self.versions.items())
        return {version: count for (name, version), count in found if name == key and count}

    def may_be_raised_to(self, key: str) -> int | None:
        """The `min_decryption_version` that leaves none of these objects behind; None if that is not known."""
        return None if self.failed or not self.whole else min(self.under(key), default=None)

    def fail(self, key: str, fault: PluginError) -> None:
        """Count an object that was left as it was."""
        self.failed += 1
        if len(self.faults) < _MOST_FAULTS:
            self.faults.append(RewrapFault(key, fault.fact, fault.remedy))
