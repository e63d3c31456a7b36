"""The errors that callers see. Every failure of an operation is one of these; anything else is a defect.

PluginError                     INTERNAL
├── BadRequest                  INVALID_ARGUMENT     the request cannot be carried out
├── NotPermitted                PERMISSION_DENIED    the key service or a file system refuses
│   └── Denied                                       a policy refuses
│       ├── AlreadyStored    ALREADY_EXISTS           something is stored where a write must not replace anything
│       ├── NotSealed                                storage holds plaintext
│       └── ContextDiffers                           the object was sealed for another context
│           └── KeyDiffers                           the object was sealed under another key
├── NotConfigured               FAILED_PRECONDITION  the configuration is missing or forbids this
│   ├── PolicyInvalid                                the policies do not load
│   ├── UnclearAnswer                                it is unknown whether something is stored
│   └── UnsupportedFormat                            a newer version of Sealgate sealed the object
├── DataLoss                    DATA_LOSS            stored bytes are not what was sealed
│   ├── HeaderInvalid, WrongDataKey, Truncated, Tampered
│   └── ManifestInvalid, DirectoryIncomplete, NotBound
├── Unavailable                 UNAVAILABLE          a service does not answer; Argo may retry
│   └── TimedOut
│       └── AuditBlocked                             the access cannot be recorded
├── LimitReached                RESOURCE_EXHAUSTED   a limit of this process
│   └── Busy                                         it is reached for now; Argo may retry
├── Cancelled                   CANCELLED            the caller went away
├── DeadlineExceeded            DEADLINE_EXCEEDED    the caller's deadline passed
│   └── Stalled                                      the caller of a stream made no progress
├── Refused                     (in the answer)      a plugin answered `success: false`
└── DownstreamStatus            (its own)            the downstream answered with a gRPC status
"""

from __future__ import annotations

import errno
from typing import ClassVar, Protocol

from sealgate.argo import RETRIED_TEXTS

_LONGEST_KEY_SHOWN, _LONGEST_DENIAL = 120, 400
"""Bytes."""
_LEAST_ADVICE = 100
"""Characters of advice that are worth a shorter key."""
_LONGEST_ANSWER = 300
"""Characters of a downstream's text in the line of an error."""


class NamedCall(Protocol):
    """What the line of an error contains about the call. `sealgate.call.Call` has both."""

    @property
    def operation(self) -> str:
        """The name of the operation."""

    @property
    def id(self) -> str:
        """The decision id."""


class PluginError(Exception):
    """A named failure, with everything that its one line of text needs.

    Args:
        fact: what is wrong, with measured values where possible. It contains no secret, no configuration and no
            text of a library.
        says: the component that found the fault.
        remedy: what the reader can do.
    """

    status: ClassVar[str] = "INTERNAL"
    """The gRPC status that the caller sees."""
    transient: ClassVar[str] = ""
    """Which of `argo.TRANSIENT` the text ends in; empty for a fault that lasts."""
    reason: ClassVar[str] = ""
    """The code in the metadata of the answer, where no decision has set one."""

    def __init__(self, fact: str, *, says: str = "sealgate", remedy: str = "") -> None:
        super().__init__(fact)
        self.fact = fact
        self.says = says
        self.remedy = remedy

    def line(self, call: NamedCall, key: str) -> str:
        """Return the line that the caller reads: operation, artifact, fact, component, remedy, decision id."""
        text = self._line(call, shown_key(key))
        # A key, a path or a name can contain one of these texts, and Argo must not retry a fault that lasts.
        for mark in () if self.transient else RETRIED_TEXTS:
            text = text.replace(mark, mark.replace(" ", "_"))
        return text

    def _line(self, call: NamedCall, key: str) -> str:
        remedy = f" {self.remedy.rstrip('.')}." if self.remedy else ""
        transient = f" ({self.transient})" if self.transient else ""
        subject = f' "{key}"' if key else ""
        return one_line(f"{call.operation}{subject}: {self.fact} ({self.says}).{remedy}{transient} [d={call.id}]")


class BadRequest(PluginError):
    """The request cannot be carried out: its key is malformed, its path is outside the roots, its file is missing."""

    status = "INVALID_ARGUMENT"


class NotPermitted(PluginError):
    """The key service or a file system refuses."""

    status = "PERMISSION_DENIED"


class Denied(NotPermitted):
    """A policy refuses. Its line has at most 400 bytes, however long the policy's message and the key are."""

    def _line(self, call: NamedCall, key: str) -> str:
        remedy, end = self.remedy.rstrip("."), f" [d={call.id}]"
        for shown, least in ((key, _LEAST_ADVICE), (_cut(key, 40), _LEAST_ADVICE), (_cut(key, 40), 0)):
            line = f'denied {call.operation} "{shown}": {self.fact} ({self.says}).'
            room = _LONGEST_DENIAL - len(f"{line} .{end}".encode())
            advice = _fitting(remedy, room)
            if room >= 0 and (advice == remedy or len(advice) >= least):
                return one_line(f"{line} {advice}.{end}" if advice else line + end)
        # The names of policy and rule and the code take at most 170 bytes, so the message of the policy is cut.
        line = f'denied {call.operation} "{_cut(key, 20)}": {_cut(self.fact, 20)} ({self.says}). [d={call.id}]'
        return one_line(line)


class AlreadyStored(Denied):
    """Something is stored under the key, and this write must not replace anything (`Call.only_new`)."""

    status = "ALREADY_EXISTS"

    def __init__(self, *, says: str = "sealgate") -> None:
        super().__init__("the key is in use already, and this write replaces nothing", says=says)


class NotSealed(Denied):
    """The stored object does not begin as a sealed file does; plaintext is refused by default."""


class ContextDiffers(Denied):
    """The object was sealed for another context than the encryption rule requires."""

    reason = "CONTEXT"


class KeyDiffers(ContextDiffers):
    """The object was sealed under a key that the encryption rule does not name."""

    reason = "OTHER_KEY"


class NotConfigured(PluginError):
    """The configuration is missing, does not load, or forbids this."""

    status = "FAILED_PRECONDITION"


class PolicyInvalid(NotConfigured):
    """The policies do not load. Every call is refused until they do."""

    reason = "POLICY_INVALID"


class UnclearAnswer(NotConfigured):
    """The downstream's answer does not say whether something is stored under a key, and the call needs to know.

    Args:
        question: the name of the downstream's operation.
        answer: the downstream's text. Only the caller's line contains it, because it may repeat the configuration.
    """

    def __init__(self, question: str, answer: str) -> None:
        super().__init__(
            f"the answer to {question} does not say whether anything is stored under the key",
            says="downstream",
            remedy="If it means that nothing is, add its text to downstream.absentTexts; otherwise repair its cause",
        )
        self._answer = answer

    def _line(self, call: NamedCall, key: str) -> str:
        line = super()._line(call, key)
        return one_line(f"{line} The answer: {_cut(self._answer, _LONGEST_ANSWER)}") if self._answer else line


class UnsupportedFormat(NotConfigured):
    """A newer version of Sealgate sealed the object."""


class DataLoss(PluginError):
    """The stored bytes are not what was sealed. No unverified byte was released."""

    status = "DATA_LOSS"


class HeaderInvalid(DataLoss):
    """The header of a sealed file cannot be read or contradicts itself."""


class ManifestInvalid(DataLoss):
    """The manifest of a directory breaks a rule of the format."""


class DirectoryIncomplete(DataLoss):
    """A directory has no manifest, or storage does not hold exactly what its manifest lists."""


class NotBound(DataLoss):
    """The object was sealed without an artifact key, so nothing proves which artifact it is."""


class WrongDataKey(DataLoss):
    """The data key that the header leads to is not the one that sealed the body."""


class Truncated(DataLoss):
    """A sealed file ends before its last segment."""


class Tampered(DataLoss):
    """Authentication failed: bytes were changed, moved, added or cut, or belong to another artifact."""


class Unavailable(PluginError):
    """A service that this call needs cannot be reached now."""

    status = "UNAVAILABLE"
    transient = "connect: connection refused"


class TimedOut(Unavailable):
    """A service that this call needs did not answer in time."""

    transient = "i/o timeout"


class AuditBlocked(TimedOut):
    """The access cannot be recorded, so it does not happen."""


class LimitReached(PluginError):
    """A limit of this process is reached: space, size or number."""

    status = "RESOURCE_EXHAUSTED"


class Busy(LimitReached):
    """A limit of this process is reached for now. A later attempt can succeed."""

    transient = "i/o timeout"


def out_of_descriptors(error: BaseException) -> Busy | None:
    """Return the error that callers see if `error` is the report that no further file can be opened, or else None."""
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        remedy = "Try again, or raise the limit of open files of the plugin's container"
        return Busy("too many files are open", says="file system", remedy=remedy)
    return None


class Cancelled(PluginError):
    """The caller went away."""

    status = "CANCELLED"


class DeadlineExceeded(PluginError):
    """The caller's own deadline passed."""

    status = "DEADLINE_EXCEEDED"


class Stalled(DeadlineExceeded):
    """The caller of a stream neither took nor sent anything for too long."""


class Refused(PluginError):
    """A plugin refused in its answer (`success: false` with `error`). The text is passed on unchanged."""

    def line(self, call: NamedCall, key: str) -> str:  # noqa: ARG002 - the text is the plugin's
        """Return the plugin's text, unchanged."""
        return self.fact


class DownstreamStatus(PluginError):
    """The downstream answered with a gRPC status. Code and text are passed on unchanged."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text, says="downstream")
        self.code = code

    def line(self, call: NamedCall, key: str) -> str:  # noqa: ARG002 - the text is the downstream's
        """Return the downstream's text, unchanged."""
        return self.fact


def name_of(error: BaseException) -> str:
    """Return the class name of a `PluginError`, and `Unexpected` for every other exception."""
    return type(error).__name__ if isinstance(error, PluginError) else "Unexpected"


def shown_key(key: str) -> str:
    """Return `key` as a text may show it: without control characters, at most 120 bytes."""
    shown = "".join(c if c.isprintable() and c != '"' else f"\\x{ord(c):02x}" for c in key[: _LONGEST_KEY_SHOWN + 1])
    most = shown.encode(errors="replace")[:_LONGEST_KEY_SHOWN].decode(errors="ignore")
    return shown if shown == most else most + "…"


def one_line(text: str, instead: str = " ") -> str:
    """Return `text` with every line break and control character replaced."""
    return "".join(c if c.isprintable() else instead for c in text)


def _fitting(text: str, most: int) -> str:
    """Return `text`, cut to `most` bytes of UTF-8; empty if not even a character fits."""
    if len(text.encode()) <= most:
        return text
    begin = text.encode()[: max(0, most - len("…".encode()))].decode(errors="ignore")
    return f"{begin}…" if begin else ""


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[:most] + "…"
