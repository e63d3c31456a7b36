"""What is learned in a call besides its bytes. Each is written by one owner, and read by all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as its provider wrapped it: what a sealed header stores, and all that unwrapping needs."""

    provider: str
    """`vault` or `local`."""
    mount: str
    key_name: str
    wrapped_key: str
    """The provider's own text, verbatim."""
    key_version: int
    derivation_context: bytes = b""


@dataclass(slots=True)
class SealedFacts:
    """What the `Sealed` layer learned in this call. That layer alone writes it."""

    plaintext_bytes: int = 0
    stored_bytes: int = 0
    files: int = 0
    unsealed_files: int = 0
    """Of `files`, those that were read or stored as plaintext, because a policy allows it."""
    key: WrappedKey | None = None


@dataclass(slots=True)
class DecisionFacts:
    """What the `Governed` layer decided in this call. That layer alone writes it."""

    effective: str = ""
    """`allow`, `deny` or `skip`; empty where nothing was decided."""
    proposed: str = ""
    """The same if every rule were enforced, those on trial too."""
    code: str = ""
    """Why, in one word, such as `OK`, `NO_RULE` or `LIMIT_BYTES`."""
    policy: str = ""
    """The name of the document that decided."""
    rule: str = ""
    """The name of its rule, `default`, `builtin`, or `encryption/NAME`."""
    digest: str = ""
    """SHA-256 over all documents; empty where there is none."""
    mode: str = "enforce"
    """`warn` or `shadow` where `proposed` denies by a trial alone."""
    would_deny: tuple[str, ...] = ()
    """Each rule on trial that would have denied, as `policy/rule`."""
    annotations: tuple[tuple[str, str], ...] = ()
    """What the deciding rule wants in the audit record."""
    hmac_key: bool = False
    """Whether it wants the artifact's key there as an HMAC alone."""


@dataclass(slots=True)
class KeyFacts:
    """What the key provider was asked in this call. The provider writes it."""

    requests: int = 0
    """Requests that the key service carried out."""
    data_keys: int = 0
    """Data keys that the key service made or unwrapped."""
    remembered: int = 0
    """Data keys that the cache had."""
    request_id: str = ""
    """The key service's own name for the last request, which its audit log repeats."""
    seconds: float = 0.0
    """How long all of it took."""


@dataclass(slots=True)
class StoredFacts:
    """What went to the downstream or came from it. The `Digested` layer writes it, where there is one."""

    files: int = 0
    sha256: str = ""
    """Of the ciphertext, header included; empty unless it was one file."""


@dataclass(slots=True)
class AuditFacts:
    """Where the record of this call's attempt stands in the audit trail. The `Audited` layer writes it."""

    chain: str = ""
    sequence: int = 0


@contextmanager
def _untraced(_step: str) -> Iterator[str]:
    yield ""


@dataclass(slots=True)
class TraceFacts:
    """The span of this call, where calls are traced. The tracing writes it."""

    trace_id: str = ""
    span_id: str = ""
    span: object = None
    """For the tracing alone."""
    asked: tuple[str, str] = ("", "")
    """How the RPC to the downstream ended that is about to be told: gRPC status, and kind of error. The client writes
    it, and only while it tells."""
    step: Callable[[str], AbstractContextManager[str]] = _untraced
    """A part of the work, by name; gives the W3C `traceparent` for whoever is asked in it, or nothing."""


class Known(Protocol):
    """What is known of a call where nobody hands it on."""

    @property
    def id(self) -> str:
        """Its decision id."""

    @property
    def trace(self) -> TraceFacts:
        """Its span."""


current_call: ContextVar[Known | None] = ContextVar("current_call", default=None)
"""The call that this thread works for, for the log and for spans of a library's: everybody else is handed it."""
