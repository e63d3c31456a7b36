"""The audit record: one typed value, whose JSON follows OCSF's Datastore Activity (docs/audit.md).

Nothing gets into a record but by a field here. All numbers are whole, so that canonical JSON is one text.
"""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum

import msgspec

from sealgate.identity import Identity

LONGEST = 4096
"""Bytes of a line with its end: what a pipe takes whole, and what no log collector splits."""


class Phase(StrEnum):
    """Which of an access's records it is, or of a session's."""

    ATTEMPT = "attempt"
    OUTCOME = "outcome"
    START = "session.start"
    END = "session.end"


class _RecordPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a record; what there is nothing to say of is left out."""


class Product(_RecordPart, frozen=True):
    """What wrote the record."""

    version: str
    name: str = msgspec.field(default_factory=lambda: "sealgate")


class RecordMetadata(_RecordPart, frozen=True):
    """Where the record belongs. `correlation_uid` is the decision id, `sequence` the place in the chain."""

    uid: str
    product: Product
    version: str
    sequence: int
    correlation_uid: str = ""
    profiles: tuple[str, ...] = ()


class Actor(_RecordPart, frozen=True):
    """Whom the process worked for, as the pod's environment asserts it.

    Namespace and service account are what the key service has proven, where `attested` says so.
    """

    attested: bool
    namespace: str = ""
    service_account: str = ""
    workflow: str = ""
    workflow_uid: str = ""
    pod: str = ""
    pod_uid: str = ""
    node: str = ""
    component: str = ""


class Named(_RecordPart, frozen=True):
    """OCSF's way to name a thing."""

    name: str = ""
    uid: str = ""


class Api(_RecordPart, frozen=True):
    """Which call it was."""

    operation: str
    service: Named


class PolicyInfo(_RecordPart, frozen=True):
    """What decided; `uid` is the digest of all policies."""

    name: str = ""
    rule: str = ""
    uid: str = ""


class DecisionInfo(_RecordPart, frozen=True):
    """The decision, and what it would be if every rule were enforced."""

    code: str = ""
    effective: str = ""
    proposed: str = ""
    mode: str = ""
    would_deny: tuple[str, ...] = ()
    """Rules on trial that would have denied: the first of them."""
    annotations: dict[str, str] = {}
    """What the deciding rule wants here: the first of it."""


class Crypto(_RecordPart, frozen=True):
    """Under which key the data key is wrapped."""

    provider: str
    key: str
    key_version: int
    mount: str = ""


class Flow(_RecordPart, frozen=True):
    """How much went through. Of a listing the number of objects alone."""

    plaintext_bytes: int = 0
    stored_bytes: int = 0
    files: int = 0
    unsealed_files: int = 0
    listed: int = 0
    ciphertext_sha256: str = ""
    """Of a single stored file with its header, where `audit.digest` asks for it."""


class KeyService(_RecordPart, frozen=True):
    """What the key service was asked; `request_id` is in its own audit log."""

    requests: int = 0
    remembered: int = 0
    request_id: str = ""
    milliseconds: int = 0


class Trace(_RecordPart, frozen=True):
    """The span of the call."""

    trace_id: str
    span_id: str


class Certificate(_RecordPart, frozen=True):
    """What the certifying key signs once a process: that this chain is signed by that key."""

    chain_uid: str
    not_before: int
    public_key: str
    actor: Actor
    version: str
    algorithm: str = msgspec.field(default_factory=lambda: "ed25519")


class Certified(_RecordPart, frozen=True):
    """A certificate, its signature, and which version of which key made it."""

    certificate: Certificate
    key: str
    key_version: int
    signature: str


class SessionInfo(_RecordPart, frozen=True):
    """How a chain begins or ends."""

    attestation: str = ""
    """`certified`, or `none`: the records are chained, and nobody signs them."""
    reason: str = ""
    """Why nobody does."""
    certified: Certified | None = None
    mode: str = ""
    require: str = ""
    phases: str = ""
    sinks: tuple[str, ...] = ()
    records: int = 0


class Unmapped(_RecordPart, frozen=True):
    """What OCSF has no place for."""

    phase: Phase
    decision: DecisionInfo | None = None
    crypto: Crypto | None = None
    io: Flow | None = None
    vault: KeyService | None = None
    trace: Trace | None = None
    grpc_status: str = ""
    key_sha256: str = ""
    """Of an artifact key that is shown in part."""
    session: SessionInfo | None = None


class Fingerprint(_RecordPart, frozen=True):
    """Of the canonical JSON of a record without its fingerprint and signatures."""

    value: str
    algorithm: str = msgspec.field(default_factory=lambda: "SHA-256")
    algorithm_id: int = msgspec.field(default_factory=lambda: 3)


class Signature(_RecordPart, frozen=True):
    """Of the fingerprint, by the key of the chain's certificate."""

    value: str
    algorithm: str = msgspec.field(default_factory=lambda: "Ed25519")
    algorithm_id: int = msgspec.field(default_factory=lambda: 99)


class Previous(_RecordPart, frozen=True):
    """The record before this one in the chain."""

    fingerprint: str


class Attestation(_RecordPart, frozen=True):
    """What ties a record into its chain."""

    chain_uid: str
    prev_event: Previous | None = None
    fingerprint: Fingerprint | None = None
    signatures: tuple[Signature, ...] = ()


class Record(_RecordPart, frozen=True, kw_only=True):
    """One line of the trail."""

    sealgate_audit: int
    activity_id: int
    activity_name: str
    actor: Actor
    category_uid: int
    class_uid: int
    metadata: RecordMetadata
    severity_id: int
    status: str
    status_id: int
    time: int
    """Milliseconds since 1970."""
    type_uid: int
    unmapped: Unmapped
    action: str = ""
    action_id: int = 0
    api: Api | None = None
    attestation: Attestation | None = None
    databucket: Named | None = None
    disposition: str = ""
    disposition_id: int = 0
    duration: int | None = None
    """Milliseconds."""
    policy: PolicyInfo | None = None
    resource: Named | None = None
    status_code: str = ""
    status_detail: str = ""


def canonical(record: Record) -> bytes:
    """Canonical JSON (RFC 8785): names sorted, no space, UTF-8."""
    return msgspec.json.encode(record, order="sorted")


def actor(identity: Identity, clip: int = 120) -> Actor:
    """Whom records name."""
    texts = {name: shown(text, clip) for name, text in asdict(identity).items() if isinstance(text, str)}
    return Actor(identity.attested, **texts)


def shown(text: str, clip: int) -> str:
    """A text from outside as a record may show it: printable, and no longer than `clip` characters."""
    if text.isprintable() and len(text) <= clip:
        return text
    clipped = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[:clip])
    return clipped if len(text) <= clip else f"{clipped}…"
