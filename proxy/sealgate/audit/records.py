"""What an audit record may contain: one typed value whose JSON follows OCSF's Datastore Activity (docs/audit.md).

Only the fields below reach a record. All numbers are integers, so that a record has exactly one canonical JSON.
"""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from functools import lru_cache

import msgspec

from sealgate.identity import Identity

LONGEST = 4096
"""Bytes of a line with its line break: a pipe accepts as much in one piece, and log collectors do not split it."""


class Phase(StrEnum):
    """The kind of record: attempt or outcome of an access, or start or end of a session."""

    ATTEMPT = "attempt"
    OUTCOME = "outcome"
    START = "session.start"
    END = "session.end"


class _RecordPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of a record. Fields with their default value are left out of the JSON."""


class Product(_RecordPart, frozen=True):
    """The program that wrote the record."""

    version: str
    name: str = msgspec.field(default_factory=lambda: "sealgate")


class RecordMetadata(_RecordPart, frozen=True):
    """The ids of the record: `correlation_uid` is the decision id, `sequence` the place in the chain."""

    uid: str
    product: Product
    version: str
    sequence: int
    correlation_uid: str = ""
    profiles: tuple[str, ...] = ()


class Actor(_RecordPart, frozen=True):
    """The identity that the process worked for, as the environment of the pod asserts it.

    If `attested` is true, the key service has proven namespace and service account.
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
    """An object of OCSF that has a name and an id."""

    name: str = ""
    uid: str = ""


class Api(_RecordPart, frozen=True):
    """The operation that was called."""

    operation: str
    service: Named


class PolicyInfo(_RecordPart, frozen=True):
    """The policy and the rule that decided; `uid` is the digest of all policies."""

    name: str = ""
    rule: str = ""
    uid: str = ""


class DecisionInfo(_RecordPart, frozen=True):
    """The decision (`effective`), and what it would be if every rule were enforced (`proposed`)."""

    code: str = ""
    effective: str = ""
    proposed: str = ""
    mode: str = ""
    would_deny: tuple[str, ...] = ()
    """The first rules on trial that would have denied."""
    annotations: dict[str, str] = {}
    """The first annotations of the deciding rule."""


class Crypto(_RecordPart, frozen=True):
    """The key that the data key is wrapped under."""

    provider: str
    key: str
    key_version: int
    mount: str = ""


class Flow(_RecordPart, frozen=True):
    """How much the access moved. A listing reports the number of objects and never their names."""

    plaintext_bytes: int = 0
    stored_bytes: int = 0
    files: int = 0
    unsealed_files: int = 0
    listed: int = 0
    ciphertext_sha256: str = ""
    """Of the stored file with its header, if `audit.digest` is set and the call moved exactly one file."""
    left_out: int = 0
    """Stored objects beneath a directory that a Load left out, because the directory's manifest does not list them."""


class KeyService(_RecordPart, frozen=True):
    """The use of the key service by this access; `request_id` is also in the audit log of the key service."""

    requests: int = 0
    remembered: int = 0
    request_id: str = ""
    milliseconds: int = 0


class Trace(_RecordPart, frozen=True):
    """The span of the call."""

    trace_id: str
    span_id: str


class Certificate(_RecordPart, frozen=True):
    """The certificate that is signed once for a process: `public_key` signs the records of this chain."""

    chain_uid: str
    not_before: int
    public_key: str
    actor: Actor
    version: str
    algorithm: str = msgspec.field(default_factory=lambda: "ed25519")


class Certified(_RecordPart, frozen=True):
    """A certificate, its signature, and the name and version of the key that signed it."""

    certificate: Certificate
    key: str
    key_version: int
    signature: str


class SessionInfo(_RecordPart, frozen=True):
    """What the first and the last record of a chain say about it."""

    attestation: str = ""
    """`certified`, or `none` if the records are chained and not signed."""
    reason: str = ""
    """Why the records are not signed."""
    certified: Certified | None = None
    mode: str = ""
    require: str = ""
    phases: str = ""
    sinks: tuple[str, ...] = ()
    records: int = 0


class Unmapped(_RecordPart, frozen=True):
    """The facts that OCSF defines no field for."""

    phase: Phase
    decision: DecisionInfo | None = None
    crypto: Crypto | None = None
    io: Flow | None = None
    vault: KeyService | None = None
    trace: Trace | None = None
    grpc_status: str = ""
    key_sha256: str = ""
    """Of the artifact key, if only a part of it is shown."""
    session: SessionInfo | None = None


class Fingerprint(_RecordPart, frozen=True):
    """The digest of the canonical JSON of a record without its fingerprint and signatures."""

    value: str
    algorithm: str = msgspec.field(default_factory=lambda: "SHA-256")
    algorithm_id: int = msgspec.field(default_factory=lambda: 3)


class Signature(_RecordPart, frozen=True):
    """The signature of the fingerprint, by the key in the certificate of the chain."""

    value: str
    algorithm: str = msgspec.field(default_factory=lambda: "Ed25519")
    algorithm_id: int = msgspec.field(default_factory=lambda: 99)
    serialization: str = msgspec.field(default_factory=lambda: "JCS")
    serialization_id: int = msgspec.field(default_factory=lambda: 2)


class Previous(_RecordPart, frozen=True):
    """The record before this one in the chain: its `metadata.uid`, its `type_uid` and its fingerprint."""

    uid: str
    type_uid: int
    fingerprint: str


class Attestation(_RecordPart, frozen=True):
    """The place of a record in its chain: the chain, the record before it, its own fingerprint and signature."""

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
    """Milliseconds since 1970, UTC."""
    type_uid: int
    unmapped: Unmapped
    action: str = ""
    action_id: int = 0
    api: Api | None = None
    attestation_list: tuple[Attestation, ...] = ()
    """OCSF's profile record_integrity. A record has one attestation, by its own process."""
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
    """Return the canonical JSON of `record` (RFC 8785): sorted names, no spaces, UTF-8."""
    return msgspec.json.encode(record, order="sorted")


@lru_cache(maxsize=8)  # the identity of a process seldom changes, and each of its records names it
def actor(identity: Identity, limit: int = 120) -> Actor:
    """Return `identity` as a record names it, each name cut to `limit` characters."""
    texts = {name: printable(text, limit) for name, text in asdict(identity).items() if isinstance(text, str)}
    return Actor(identity.attested, **texts)


def printable(text: str, limit: int) -> str:
    r"""Return a text from outside with its first `limit` characters, unprintable ones escaped as `\x1b`."""
    if text.isprintable() and len(text) <= limit:
        return text
    escaped = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text[:limit])
    return escaped if len(text) <= limit else f"{escaped}…"
