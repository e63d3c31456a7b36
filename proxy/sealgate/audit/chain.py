"""How the records of a process are linked and signed (docs/audit.md, "The chain").

The process generates an Ed25519 key that never leaves its memory, and signs each record with it. The first record holds
a certificate for that key, signed once by the certifying key, which the process does not hold.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealgate import program_version
from sealgate.audit.records import (
    Attestation,
    Certificate,
    Certified,
    Fingerprint,
    Previous,
    Record,
    Signature,
    actor,
    canonical,
)
from sealgate.identity import Identity

RECORD_LABEL = b"sealgate-audit-v1\0"
"""Comes before the fingerprint of a record in the signed bytes."""
SESSION_LABEL = b"sealgate-audit-session-v1\0"
"""Comes before a certificate in the signed bytes, so that a signature of one kind is not valid as the other."""
_LARGEST_CERTIFICATE = 2048
"""Bytes of a certificate that leave room for the rest of the first record."""
_SHORT_NAME = 24
"""Characters of each name in a certificate that would be larger."""
_MARK = b'"sealgate_audit":1,'


@dataclass(frozen=True, slots=True)
class Certification:
    """The answer of the certifying key: its name, its version, and an Ed25519 signature of 64 bytes."""

    key: str
    key_version: int
    signature: bytes


class Chain:
    """Links and signs records, one after the other. Only one thread may use it at a time."""

    def __init__(self) -> None:
        self.uid = os.urandom(16).hex()
        self.length = 0
        """The number of records, which is also the sequence number of the next one."""
        self._key: Ed25519PrivateKey | None = Ed25519PrivateKey.generate()
        self._last: Previous | None = None

    def certify(self, identity: Identity, sign: Callable[[bytes], Certification]) -> Certified:
        """Return a certificate for the key of this chain, signed by `sign`."""
        assert self._key is not None  # noqa: S101 - for the type checker: only `go_unsigned` removes the key
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        certificate = Certificate(
            chain_uid=self.uid,
            not_before=time.time_ns() // 1_000_000,
            public_key=base64.b64encode(public).decode(),
            actor=actor(identity),
            version=program_version(),
        )
        if len(certificate_bytes(certificate)) > _LARGEST_CERTIFICATE:
            certificate = msgspec.structs.replace(certificate, actor=actor(identity, _SHORT_NAME))
        made = sign(certificate_bytes(certificate))
        return Certified(certificate, made.key, made.key_version, base64.b64encode(made.signature).decode())

    def go_unsigned(self) -> None:
        """Chain records without signing them: a signature by a key without a certificate proves nothing."""
        self._key = None

    def signed_line(self, record: Record) -> SignedLine:
        """Return the line of `record` as the next one of the chain. `advance` makes it part of the chain."""
        previous = self._last
        linked = msgspec.structs.replace(record, attestation_list=(Attestation(self.uid, previous),))
        digest = hashlib.sha256(canonical(linked)).digest()
        signatures: tuple[Signature, ...] = ()
        if self._key is not None:
            signature = self._key.sign(RECORD_LABEL + digest)
            signatures = (Signature(base64.b64encode(signature).decode()),)
        attestation = Attestation(self.uid, previous, Fingerprint(digest.hex()), signatures)
        text = canonical(msgspec.structs.replace(linked, attestation_list=(attestation,)))
        # A reader and a log collector recognise a record by the first bytes of its line.
        line = b"{" + _MARK + text[1:].replace(_MARK, b"", 1) + b"\n"
        return SignedLine(line, Previous(record.metadata.uid, record.type_uid, digest.hex()))

    def advance(self, written: SignedLine) -> None:
        """Make the line, which was written, the last one of the chain."""
        self.length += 1
        self._last = written.as_previous


@dataclass(frozen=True, slots=True)
class SignedLine:
    """A line of the trail, with its line break, and how the next record will name it."""

    line: bytes
    as_previous: Previous


def certificate_bytes(certificate: Certificate) -> bytes:
    """Return the bytes that the certifying key signs for `certificate`."""
    return SESSION_LABEL + msgspec.json.encode(certificate, order="sorted")
