"""One operation on its way through the layers: the call, its instructions, and the facts that layers record in it.

Every layer may read all of it. Each class of facts names the one owner that may write it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum

from sealgate.errors import Cancelled, DeadlineExceeded, PluginError, shown_key
from sealgate.meter import Meter, Unlimited

_UNDOING, _UNDOING_AT_THE_END = 10.0, 0.5
"""Seconds after which no more objects of a write that failed are deleted; and if this process ended the call, as it
does when it ends itself: it then records the outcome only within the next second."""


class Operation(StrEnum):
    """The operations of Argo's contract, by the names of their RPCs."""

    LOAD = "Load"
    OPEN_STREAM = "OpenStream"
    SAVE = "Save"
    DELETE = "Delete"
    LIST_OBJECTS = "ListObjects"
    IS_DIRECTORY = "IsDirectory"
    SAVE_STREAM = "SaveStream"
    GET_CAPABILITIES = "GetCapabilities"


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


@dataclass(frozen=True, slots=True)
class SealingInstructions:
    """What `Governed` decided and `Sealed` carries out. The defaults apply where no policy exists."""

    key: str = ""
    """The name of the key that wraps a new data key; empty for the provider's default."""
    author_keys: Mapping[str, str] = field(default_factory=dict)
    """The keys that a workflow's author may choose instead: every accepted spelling, with the key's name."""
    opens: frozenset[str] = frozenset()
    """The names of the keys that stored objects may be sealed under; empty for any key that the provider unwraps."""
    context: tuple[tuple[str, str], ...] = ()
    """Written into the authenticated header, and required there when an object is opened."""
    reads_plaintext: bool = False
    """Objects that were never sealed are read as they are."""
    passthrough: bool = False
    """Objects are stored without sealing."""
    skips_links: bool = False
    """Symbolic links in a directory that is saved are left out instead of refused."""
    meter: Meter = field(default_factory=Unlimited)
    """Where `Sealed` reports each object and each run of bytes."""


@dataclass(slots=True)
class SealedFacts:
    """What the `Sealed` layer did in this call. That layer alone writes it."""

    plaintext_bytes: int = 0
    stored_bytes: int = 0
    files: int = 0
    unsealed_files: int = 0
    """How many of `files` were read or stored as plaintext, because a policy allows it."""
    left_out: int = 0
    """Stored objects beneath a directory that were not loaded, because its manifest does not list them."""
    key: WrappedKey | None = None
    vacant: str = ""
    """The key of a directory that is saved, if nothing was stored beneath it before. A source in this process need not
    ask the store for each file of the directory."""


@dataclass(slots=True)
class DecisionFacts:
    """What the `Governed` layer decided in this call. That layer alone writes it."""

    effective: str = ""
    """`allow`, `deny` or `skip`; empty before a decision."""
    proposed: str = ""
    """The outcome if every rule were enforced, including rules on trial."""
    code: str = ""
    """The reason in one word, such as `OK`, `NO_RULE` or `LIMIT_BYTES`."""
    reason: str = ""
    """The same in a few words, which contain no key; empty for an allowed call."""
    policy: str = ""
    """The name of the document that decided."""
    rule: str = ""
    """The name of its rule, or `default`, `builtin`, or `encryption/NAME`."""
    digest: str = ""
    """SHA-256 over all documents; empty if there are none."""
    mode: str = "enforce"
    """`warn` or `shadow` where `proposed` denies only because of a rule on trial."""
    would_deny: tuple[str, ...] = ()
    """Each rule on trial that would have denied, as `policy/rule`."""
    annotations: tuple[tuple[str, str], ...] = ()
    """What the deciding rule adds to the audit record."""


@dataclass(slots=True)
class KeyUsage:
    """What this call cost the key service. The key provider writes it."""

    requests: int = 0
    """Requests that the key service carried out."""
    data_keys: int = 0
    """Data keys that the key service created or unwrapped."""
    remembered: int = 0
    """Data keys that the cache supplied without a request."""
    request_id: str = ""
    """The key service's id of the last request, which its own audit log repeats."""
    seconds: float = 0.0
    """The time that all requests took."""


@dataclass(slots=True)
class StoredFacts:
    """What went to the downstream or came from it. The `Digested` layer writes it, if it is composed.

    A Load that is tried again in another way begins with new facts.
    """

    files: int = 0
    sha256: str = ""
    """Of the ciphertext with its header; empty unless the call moved exactly one file."""


@dataclass(slots=True)
class AuditFacts:
    """The place of this call's attempt in the audit trail. The `Audited` layer writes it."""

    chain: str = ""
    sequence: int = 0


def every_key(_key: str) -> bool:
    """Return True: every key is hidden. So it is as long as the policies are not known."""
    return True


_NO_STEP = nullcontext("")


def _untraced(_step: str) -> AbstractContextManager[str]:
    return _NO_STEP


@dataclass(slots=True)
class TraceFacts:
    """The span of this call, if calls are traced. `telemetry.tracing` writes it."""

    trace_id: str = ""
    span_id: str = ""
    span: object = None
    """For `telemetry.tracing` alone."""
    step: Callable[[str], AbstractContextManager[str]] = _untraced
    """Begins a named part of the work; yields the W3C `traceparent` for services that it calls; may be empty."""


@dataclass(slots=True)
class Call:
    """One operation: its deadline, its caller's metadata, and the facts that layers have recorded so far."""

    operation: Operation
    deadline: float | None = None
    """On the clock of `time.monotonic`, as `began` is; None if the caller set no deadline."""
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    """The caller's gRPC metadata, which travels on to the downstream."""
    only_new: bool = False
    """A write must fail if anything is stored at its key (`errors.AlreadyStored`). A plugin that cannot do that in one
    step with the write ignores it; `Capabilities.creates` reports which. `Governed` and the edge set it."""
    hides: Callable[[str], bool] = field(default=every_key, repr=False)
    """Whether no log line and no record may contain a key. `Governed` sets it before it decides."""
    began: float = field(default_factory=time.monotonic)
    id: str = field(default_factory=lambda: os.urandom(8).hex())
    """The decision id: error text, log and audit record all contain it."""
    sealed: SealedFacts = field(default_factory=SealedFacts)
    decision: DecisionFacts = field(default_factory=DecisionFacts)
    instructions: SealingInstructions = field(default_factory=SealingInstructions)
    """`Governed` alone writes it."""
    keys: KeyUsage = field(default_factory=KeyUsage)
    stored: StoredFacts = field(default_factory=StoredFacts)
    audit: AuditFacts = field(default_factory=AuditFacts)
    trace: TraceFacts = field(default_factory=TraceFacts)
    ended_by: PluginError | None = None
    """Why this process ended the call, if it did."""
    before_effects: Callable[[], None] | None = field(default=None, repr=False)
    """Runs once before the first effect. `Audited` sets it; `decided` runs it."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _cancelled: threading.Event = field(default_factory=threading.Event, repr=False)
    _on_cancel: list[Callable[[], object]] = field(default_factory=list, repr=False)

    def remaining(self) -> float | None:
        """Return the seconds until the deadline, never below zero; None without a deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def decided(self) -> None:
        """Run `before_effects`. `Governed` calls this once the call is allowed, before a layer below it acts."""
        before_effects, self.before_effects = self.before_effects, None
        if before_effects is not None:
            before_effects()

    def end(self, reason: PluginError) -> None:
        """Stop all work for this call, and have `check` raise `reason`."""
        self.ended_by = reason
        self.cancel()

    def cancel(self) -> None:
        """Stop all work for this call. It may be repeated, and has no effect after the end."""
        with self._lock:
            self._cancelled.set()
            callbacks, self._on_cancel = self._on_cancel, []
        for callback in callbacks:
            callback()

    def undoing(self) -> Call:
        """Return a Delete of its own for what this call has stored, with the same id and a deadline of its own.

        A call whose caller has left carries out nothing any more.
        """
        deadline = time.monotonic() + (_UNDOING if self.ended_by is None else _UNDOING_AT_THE_END)
        return Call(Operation.DELETE, deadline, self.metadata, hides=self.hides, id=self.id, trace=self.trace)

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Run `callback` when the caller goes away, or at once if it already has."""
        with self._lock:
            if not self._cancelled.is_set():
                self._on_cancel.append(callback)
                return
        callback()

    def forget(self, callback: Callable[[], object]) -> None:
        """Undo one `on_cancel`: a call with many steps keeps nothing of those that have ended."""
        with self._lock, suppress(ValueError):
            self._on_cancel.remove(callback)

    def cancelled_within(self, seconds: float) -> bool:
        """Wait up to `seconds`; return whether the caller has gone away."""
        return self._cancelled.wait(seconds)

    def check(self) -> None:
        """Raise if the caller no longer waits. Long work calls this between its steps.

        Raises:
            PluginError: this process ended the call; see `ended_by`.
            DeadlineExceeded: the deadline passed.
            Cancelled: the caller went away.
        """
        if self.ended_by is not None:
            raise self.ended_by
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise DeadlineExceeded("the caller's deadline passed")
        if self._cancelled.is_set():
            raise Cancelled("the caller went away")


current_call: ContextVar[Call | None] = ContextVar("current_call", default=None)
"""The call that this thread works for. Only the log and library spans read it; all other code is given the call."""

downstream_ending: ContextVar[tuple[str, str]] = ContextVar("downstream_ending", default=("", ""))
"""gRPC status and kind of error of the downstream RPC that this thread reports. The client sets it only for that."""


def logged_key(call: Call, key: str) -> str:
    """Return `key` as the log may show it: as `errors.shown_key` does, and replaced where it is hidden."""
    return "(hidden)" if call.hides(key) else shown_key(key)
