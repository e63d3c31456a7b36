"""What a decision is made from, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

READS, WRITES = frozenset({"Load", "OpenStream"}), frozenset({"Save", "SaveStream"})
ALIASES = {
    "read": READS,
    "write": WRITES,
    "delete": frozenset({"Delete"}),
    "list": frozenset({"ListObjects"}),
    "stat": frozenset({"IsDirectory"}),
}
OPERATIONS = READS | WRITES | {"Delete", "ListObjects", "IsDirectory"}
"""What is decided. GetCapabilities is not: it says nothing of an artifact."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, by what is known at once."""

    operation: str
    """By the name of its RPC."""
    key: str
    plugin: str = ""
    artifact: str = ""
    path: str = ""
    """The local path, for the operations that have one."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What is learned on the way. None: not known (yet), and a limit on it holds so far."""

    bytes: int | None = None
    """Plaintext of the object so far, or of the whole of it."""
    total: int | None = None
    """Plaintext of the whole request so far."""
    files: int | None = None
    listing: int | None = None
    """Names that a listing would give."""
    sealed: bool | None = None
    """Whether the stored object begins as a sealed file does."""
    exists: bool | None = None
    """Whether something is stored under the key."""
    age: int | None = None
    """Seconds since the stored object was sealed."""
    complete: bool = False
    """Nothing more comes: the least of an object can be told."""
    pending: frozenset[str] = frozenset()
    """What is still being asked for, of `exists`, `age` and `object` (whether the key is that of an object)."""


NOTHING_YET = Measures()


@dataclass(frozen=True, slots=True)
class Verdict:
    """One outcome and its reason."""

    outcome: str
    """`allow`, `deny` or `skip`: a Delete that succeeds and removes nothing."""
    code: str
    policy: str = ""
    rule: str = "default"
    fact: str = ""
    advice: str = ""
    """What the author can do, in one line; may be empty."""
    mode: str = "enforce"

    @property
    def allows(self) -> bool:
        """Whether the operation may go on."""
        return self.outcome == "allow"

    @property
    def says(self) -> str:
        """Who decided, for an error's text."""
        by = f"policy {self.policy}, " if self.policy else ""
        return f"{by}rule {self.rule}, {self.code}" if self.rule not in {"default", "builtin"} else f"{by}{self.code}"


@dataclass(frozen=True, slots=True)
class Encryption:
    """What the first matching encryption rule says."""

    policy: str = ""
    rule: str = "default"
    key: str = ""
    """The name of the key; empty: the configuration's own."""
    context: tuple[tuple[str, str], ...] = ()
    reads_plaintext: bool = False
    passthrough: bool = False
    author_keys: Mapping[str, str] = field(default_factory=dict)
    """The names of the keys that an author may choose, by each way to write one: `NAME`, `MOUNT/keys/NAME`."""
    opens: frozenset[str] = frozenset()
    """The names of the keys that what is read may be sealed under; empty: any."""

    def is_same_as(self, other: Encryption) -> bool:
        """Whether both ask for the same, whichever rules say so."""
        return replace(self, policy=other.policy, rule=other.rule) == other


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a request."""

    effective: Verdict
    proposed: Verdict
    """The same if every rule were enforced, those on trial too. The encryption list has no trial."""
    would_deny: tuple[Verdict, ...] = ()
    """Each rule on trial that would have denied."""
    awaits: frozenset[str] = field(default_factory=frozenset)
    """Which of the facts that are pending a matching rule looks at."""
    needs: frozenset[str] = field(default_factory=frozenset)
    """Of these, what a rule that is enforced looks at."""
