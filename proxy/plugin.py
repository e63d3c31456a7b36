"""The one interface under everything: the eight operations on an artifact, in plain Python.

A *source* of the interface (the downstream client, the bundled backend), a *layer* around one, and the
server that turns one into a gRPC service all meet here, and nothing here knows of gRPC.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Protocol

from proxy.facts import AuditFacts, DecisionFacts, KeyFacts, SealedFacts, StoredFacts, TraceFacts
from proxy.terms import Terms

if TYPE_CHECKING:
    from pathlib import Path  # 10 ms, and nothing needs it on the way to the socket

Chunk = bytes | bytearray | memoryview
"""A run of an artifact's bytes. Valid until the next one is asked for: its buffer may be used again."""


class Operation(StrEnum):
    """The operations of the contract, by the names of their RPCs."""

    LOAD = "Load"
    OPEN_STREAM = "OpenStream"
    SAVE = "Save"
    DELETE = "Delete"
    LIST_OBJECTS = "ListObjects"
    IS_DIRECTORY = "IsDirectory"
    SAVE_STREAM = "SaveStream"
    GET_CAPABILITIES = "GetCapabilities"


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a request says of an artifact. Every field comes from a workflow's author: nothing is trusted."""

    key: str
    """Where the artifact lies, as `/`-separated segments."""
    name: str = ""
    plugin: str = ""
    """The name that Argo knows the plugin by."""
    configuration: str = field(default="", repr=False)
    """The author's free text for the plugin. It may hold credentials: never logged, never in an error."""
    path: str = ""
    mode: int = 0
    source: str = ""
    """Argo's field `from`."""
    optional: bool = False
    sub_path: str = ""
    """Already part of the key when a request arrives: never applied a second time."""
    recurse_mode: bool = False
    from_expression: str = ""
    deleted: bool = False
    connection_timeout_seconds: int = 0
    """Argo's own bound on connecting; no deadline of a call."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Which optional operations a plugin has."""

    save_stream: bool


@dataclass(slots=True)
class Call:
    """One operation on its way through the layers: how long it may take, and what was learned so far."""

    operation: Operation
    deadline: float | None = None
    """On the clock of `time.monotonic`, as `began` is, or None: the caller waits for ever."""
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    """The caller's gRPC metadata, which travels on to the downstream."""
    began: float = field(default_factory=time.monotonic)
    id: str = field(default_factory=lambda: os.urandom(8).hex())
    """The decision id: in the error text, the log and the audit record alike."""
    sealed: SealedFacts = field(default_factory=SealedFacts)
    decision: DecisionFacts = field(default_factory=DecisionFacts)
    terms: Terms = field(default_factory=Terms)
    """`Governed` alone writes it."""
    keys: KeyFacts = field(default_factory=KeyFacts)
    stored: StoredFacts = field(default_factory=StoredFacts)
    audit: AuditFacts = field(default_factory=AuditFacts)
    trace: TraceFacts = field(default_factory=TraceFacts)
    before_effects: Callable[[], None] | None = field(default=None, repr=False)
    """What must come before any effect; set by the layer above the one that decides."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _cancelled: threading.Event = field(default_factory=threading.Event, repr=False)
    _on_cancel: list[Callable[[], object]] = field(default_factory=list, repr=False)

    def remaining(self) -> float | None:
        """Seconds until the deadline, never below zero, or None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def decided(self) -> None:
        """Told by the layer that decides, once all is decided and allowed, before the layers below it act."""
        act, self.before_effects = self.before_effects, None
        if act is not None:
            act()

    def cancel(self) -> None:
        """Tell everything that works for this call to stop. Harmless when repeated or after the end."""
        with self._lock:
            self._cancelled.set()
            callbacks, self._on_cancel = self._on_cancel, []
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Have `callback` run when the caller goes away; at once if it already has."""
        with self._lock:
            if not self._cancelled.is_set():
                self._on_cancel.append(callback)
                return
        callback()

    def cancelled_within(self, seconds: float) -> bool:
        """Whether the caller goes away within so many seconds, or already has."""
        return self._cancelled.wait(seconds)

    def check(self) -> None:
        """Raise if nobody waits for the answer any more. Long work asks between its steps."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise DeadlineExceeded("the caller's deadline passed")
        if self._cancelled.is_set():
            raise Cancelled("the caller went away")


class ArtifactPlugin(Protocol):
    """Eight operations on an artifact. A failure is a `PluginError`; anything else is a defect."""

    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        """Create a file or a directory at `path`, whole or not at all."""

    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        """Yield the artifact's bytes. Ends normally only after the last of them; closing it stops the work."""

    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        """Store the file or directory at `path`, replacing what was there."""

    def delete(self, call: Call, artifact: Artifact) -> None:
        """Remove the artifact and, if it is a directory, all beneath it. An absent one is no error."""

    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        """Name every object beneath the artifact's key, by full key."""

    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        """Tell whether objects lie beneath the artifact's key. An absent artifact is none."""

    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        """Store what `chunks` yields, once it has ended normally; if it raises, store nothing."""

    def get_capabilities(self, call: Call) -> Capabilities:
        """Tell which optional operations work. Needs no configuration and nobody's help."""


# --- errors ----------------------------------------------------------------------------------------------

TRANSIENT = ("i/o timeout", "connect: connection refused")
"""What Argo's `retryPolicy: OnTransientError` looks for; a passing fault's text ends in one of them."""

_ARGO_TAKES_FOR_TRANSIENT = (
    *TRANSIENT,
    "Connection closed by foreign host",
    "net/http: TLS handshake timeout",
    "connection timed out",
    "connection reset by peer",
    "http2: client connection lost",
    "http2: server sent GOAWAY and closed the connection",
    "invalid connection",
    "etcdserver: leader changed",
    "etcdserver: request timed out",
    "etcdserver: too many requests",
    "upper: no more rows in",
)
_LONGEST_KEY_SHOWN, _LONGEST_DENIAL = 120, 400


class PluginError(Exception):
    """A named failure, with everything that its one line of text needs.

    Args:
        fact: what is wrong, measured where possible; no secret, no configuration, no library's text.
        says: who established it.
        remedy: what the reader can do.
    """

    status: ClassVar[str] = "INTERNAL"
    """The gRPC status that the caller sees."""
    transient: ClassVar[str] = ""
    """Which of `TRANSIENT` the text carries; empty for a lasting fault."""
    reason: ClassVar[str] = ""
    """The code in the answer's metadata, where no decision has one."""

    def __init__(self, fact: str, *, says: str = "sealgate", remedy: str = "") -> None:
        super().__init__(fact)
        self.fact = fact
        self.says = says
        self.remedy = remedy

    def line(self, call: Call, key: str) -> str:
        """The one line that the caller reads: what was tried, on what, the fact, who says so, what to do."""
        text = self._line(call, shown_key(key))
        # A key, a path or a name can spell one of the marks; a lasting fault must not be retried for that.
        for mark in () if self.transient else _ARGO_TAKES_FOR_TRANSIENT:
            text = text.replace(mark, mark.replace(" ", "_"))
        return text

    def _line(self, call: Call, key: str) -> str:
        remedy = f" {self.remedy.rstrip('.')}." if self.remedy else ""
        transient = f" ({self.transient})" if self.transient else ""
        subject = f' "{key}"' if key else ""
        return one_line(f"{call.operation}{subject}: {self.fact} ({self.says}).{remedy}{transient} [d={call.id}]")


class BadRequest(PluginError):
    """The request itself cannot be carried out: a bad key, a path outside, a file that is not there."""

    status = "INVALID_ARGUMENT"


class NotPermitted(PluginError):
    """Somebody who has a say in it says no, such as the key service."""

    status = "PERMISSION_DENIED"


class Denied(NotPermitted):
    """A policy says no. Its line has at most 400 bytes, whatever a policy's own message and the key are."""

    def _line(self, call: Call, key: str) -> str:
        remedy = self.remedy.rstrip(".")
        for parts in ((key, remedy), (key, _cut(remedy, 100)), (_cut(key, 40), _cut(remedy, 100)), (_cut(key, 40), "")):
            advice = f" {parts[1]}." if parts[1] else ""
            line = f'denied {call.operation} "{parts[0]}": {self.fact} ({self.says}).{advice} [d={call.id}]'
            if len(line.encode()) <= _LONGEST_DENIAL:
                return one_line(line)
        # Who decided, and the code, are at most 170 bytes: what the author wrote makes room for them.
        line = f'denied {call.operation} "{_cut(key, 20)}": {_cut(self.fact, 20)} ({self.says}). [d={call.id}]'
        return one_line(line)


class NotSealed(Denied):
    """What lies in storage does not begin as a sealed file does; plaintext is not read by default."""


class ContextDiffers(Denied):
    """A sealed file was sealed for another context than the one that is asked for."""

    reason = "CONTEXT"


class KeyDiffers(ContextDiffers):
    """A sealed file was sealed under another key than those that the encryption rule names."""

    reason = "OTHER_KEY"


class NotConfigured(PluginError):
    """The configuration is missing, does not load, or does not allow this."""

    status = "FAILED_PRECONDITION"


class PolicyInvalid(NotConfigured):
    """The policies do not load: nothing is allowed until they do."""

    reason = "POLICY_INVALID"


class UnsupportedFormat(NotConfigured):
    """A sealed file of a newer version of the program."""


class DataLoss(PluginError):
    """What lies in storage is not what was sealed. Nothing of it was let through unverified."""

    status = "DATA_LOSS"


class HeaderInvalid(DataLoss):
    """The header of a sealed file cannot be read or contradicts itself."""


class WrongDataKey(DataLoss):
    """The data key that the header leads to is not the one that the body was sealed with."""


class Truncated(DataLoss):
    """A sealed file ends before its last segment."""


class Tampered(DataLoss):
    """Authentication failed: bytes were changed, moved, added or cut, or belong to another artifact."""


class Unavailable(PluginError):
    """Something that this call needs cannot be reached now."""

    status = "UNAVAILABLE"
    transient = "connect: connection refused"


class TimedOut(Unavailable):
    """Something that this call needs did not answer in time."""

    transient = "i/o timeout"


class AuditBlocked(TimedOut):
    """An access cannot be recorded, and so it does not happen."""


class LimitReached(PluginError):
    """A limit of this process: space, size, number."""

    status = "RESOURCE_EXHAUSTED"


class Cancelled(PluginError):
    """The caller went away."""

    status = "CANCELLED"


class DeadlineExceeded(PluginError):
    """The caller's own deadline passed."""

    status = "DEADLINE_EXCEEDED"


class Refused(PluginError):
    """A plugin's own refusal, in the answer itself (`success: false`, `error`): passed on as it was."""

    def line(self, call: Call, key: str) -> str:  # noqa: ARG002 - the text is the plugin's
        """The plugin's text, unchanged."""
        return self.fact


class DownstreamStatus(PluginError):
    """A gRPC status that the downstream itself answered: passed on as it was."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text, says="downstream")
        self.code = code

    def line(self, call: Call, key: str) -> str:  # noqa: ARG002 - the text is the downstream's
        """The downstream's text, unchanged."""
        return self.fact


def name_of(error: BaseException) -> str:
    """The name of an error of ours; of another only that it was none."""
    return type(error).__name__ if isinstance(error, PluginError) else "Unexpected"


def shown_key(key: str) -> str:
    """A key as a text may show it: no control character, at most 120 bytes."""
    shown = "".join(c if c.isprintable() and c != '"' else f"\\x{ord(c):02x}" for c in key[: _LONGEST_KEY_SHOWN + 1])
    most = shown.encode(errors="replace")[:_LONGEST_KEY_SHOWN].decode(errors="ignore")
    return shown if shown == most else most + "…"


def logged_key(call: Call, key: str) -> str:
    """A key as the log may show it: on one line, in part, and not at all where a policy hides it."""
    return "(hidden)" if call.decision.hmac_key else ascii(key[:_LONGEST_KEY_SHOWN])


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"


def one_line(text: str) -> str:
    """Text with every line break and control character made a space."""
    return "".join(c if c.isprintable() else " " for c in text)
