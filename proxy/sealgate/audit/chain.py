"""The chain of records of one process: each names the one before, and is signed (docs/audit.md, "The chain").

The process makes an Ed25519 key for itself, which never leaves it. What the chain is worth comes from its first
record: a certificate for that key, signed once by a key that the process does not have.
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
"""What precedes the fingerprint of a record in what is signed."""
SESSION_LABEL = b"sealgate-audit-session-v1\0"
"""What precedes a certificate in what is signed, so that no signature of one kind serves as another."""
_LARGEST_CERTIFICATE, _SHORT = 2048, 24
"""Bytes of a certificate that leave room for the record around it, and characters of its texts where it has more."""
_MARK = b'"sealgate_audit":1,'


@dataclass(frozen=True, slots=True)
class Certification:
    """What a certifying key answered: which key it is, its version, and 64 bytes of Ed25519."""

    key: str
    key_version: int
    signature: bytes


class Chain:
    """Ties records together, one after the other. Not safe for two threads at a time."""

    def __init__(self) -> None:
        self.uid = os.urandom(16).hex()
        self.length = 0
        """How many records it has, and so the sequence of the next one."""
        self._key: Ed25519PrivateKey | None = Ed25519PrivateKey.generate()
        self._last: str | None = None

    def certify(self, identity: Identity, sign: Callable[[bytes], Certification]) -> Certified:
        """Have this chain's key certified by `sign`."""
        assert self._key is not None  # noqa: S101 - for the type checker: it is there until `unsigned`
        public = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        certificate = Certificate(
            chain_uid=self.uid,
            not_before=time.time_ns() // 1_000_000,
            public_key=base64.b64encode(public).decode(),
            actor=actor(identity),
            version=program_version(),
        )
        if len(to_be_certified(certificate)) > _LARGEST_CERTIFICATE:
            certificate = msgspec.structs.replace(certificate, actor=actor(identity, _SHORT))
        made = sign(to_be_certified(certificate))
        return Certified(certificate, made.key, made.key_version, base64.b64encode(made.signature).decode())

    def unsigned(self) -> None:
        """Go on without a signature: a key that nobody certified proves nothing."""
        self._key = None

    def sealed(self, record: Record) -> SignedLine:
        """The line of a record as the next of the chain. The chain goes on from it once it is `added`."""
        previous = None if self._last is None else Previous(self._last)
        tied = msgspec.structs.replace(record, attestation=Attestation(self.uid, previous))
        digest = hashlib.sha256(canonical(tied)).digest()
        signatures: tuple[Signature, ...] = ()
        if self._key is not None:
            signature = self._key.sign(RECORD_LABEL + digest)
            signatures = (Signature(base64.b64encode(signature).decode()),)
        attestation = Attestation(self.uid, previous, Fingerprint(digest.hex()), signatures)
        text = canonical(msgspec.structs.replace(tied, attestation=attestation))
        # A reader tells by the first bytes what kind of line it is.
        line = b"{" + _MARK + text[1:].replace(_MARK, b"", 1) + b"\n"
        return SignedLine(line, digest.hex())

    def added(self, sealed: SignedLine) -> None:
        """Note that the line was written."""
        self.length += 1
        self._last = sealed.fingerprint


@dataclass(frozen=True, slots=True)
class SignedLine:
    """A line of the trail, with its end, and the fingerprint that the next one names."""

    line: bytes
    fingerprint: str


def to_be_certified(certificate: Certificate) -> bytes:
    """What the certifying key signs."""
    return SESSION_LABEL + msgspec.json.encode(certificate, order="sorted")
