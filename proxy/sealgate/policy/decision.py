"""What the engine decides on (`Request`, `Measures`) and what it returns (`Verdict`, `Decision`)."""

from __future__ import annotations

from dataclasses import dataclass, field

READS, WRITES = frozenset({"Load", "OpenStream"}), frozenset({"Save", "SaveStream"})
ALIASES = {
    "read": READS,
    "write": WRITES,
    "delete": frozenset({"Delete"}),
    "list": frozenset({"ListObjects"}),
    "stat": frozenset({"IsDirectory"}),
}
"""The short names of operations in a policy, each with its RPCs."""
OPERATIONS = READS | WRITES | {"Delete", "ListObjects", "IsDirectory"}
"""The RPCs that policies decide on. GetCapabilities is not among them, because it names no artifact."""


@dataclass(frozen=True, slots=True)
class Request:
    """One operation on one artifact key, as it is known before the storage is asked."""

    operation: str
    """The name of the RPC."""
    key: str
    plugin: str = ""
    artifact: str = ""
    path: str = ""
    """The local path of a Load or a Save; empty for the other operations."""
    time: int | None = None
    """When the call began, in Unix seconds. If it is None, no rule that expires grants anything."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What is measured while the call runs. A measure that is None is unknown, and no limit on it is violated yet."""

    bytes: int | None = None
    """Plaintext bytes of the object so far; its whole size if `complete`."""
    total: int | None = None
    """Plaintext bytes of all objects of the call so far."""
    files: int | None = None
    listing: int | None = None
    """The number of names that a listing would return."""
    sealed: bool | None = None
    """Whether the stored object begins with the header of a sealed file."""
    exists: bool | None = None
    """Whether an object is stored under the key."""
    age: int | None = None
    """Seconds since the stored object was sealed."""
    complete: bool = False
    """`bytes` is final, so that `minBytes` can be checked."""
    pending: frozenset[str] = frozenset()
    """Measures that are not known yet but may be later: `exists`, `age`, and `object` (the key names an object)."""


NOTHING_YET = Measures()


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome with its reason, and the rule that it comes from."""

    outcome: str
    """`allow`, `deny` or `skip`. `skip` is for a Delete that succeeds and removes nothing."""
    code: str
    policy: str = ""
    rule: str = "default"
    fact: str = ""
    advice: str = ""
    """What the author of the workflow can do, in one line. May be empty."""
    mode: str = "enforce"

    @property
    def allows(self) -> bool:
        """Whether the operation may proceed."""
        return self.outcome == "allow"

    @property
    def says(self) -> str:
        """The source of the verdict, for the text of an error: policy, rule and code."""
        by = f"policy {self.policy}, " if self.policy else ""
        return f"{by}rule {self.rule}, {self.code}" if self.rule not in {"default", "builtin"} else f"{by}{self.code}"


@dataclass(frozen=True, slots=True)
class Decision:
    """The result for one request."""

    effective: Verdict
    proposed: Verdict
    """The verdict if every rule were enforced, including rules on trial. Encryption rules have no trial."""
    would_deny: tuple[Verdict, ...] = ()
    """A verdict for each rule on trial that would have denied."""
    awaits: frozenset[str] = field(default_factory=frozenset)
    """The pending measures that at least one matching rule needs."""
    needs: frozenset[str] = field(default_factory=frozenset)
    """The pending measures that at least one enforced matching rule needs."""
