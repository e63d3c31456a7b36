"""The header of a sealed file (docs/format.md, "Layout" and "Keys")."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Container
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from sealgate.call import WrappedKey
from sealgate.envelope import envelope_pb2 as pb
from sealgate.errors import HeaderInvalid, NotSealed, Truncated, UnsupportedFormat, WrongDataKey

MAGIC = b"\x89SEAL\r\n\x1a"
LONGEST_HEADER = 65_536
DATA_KEY_SIZE = 32
PRELUDE_SIZE = len(MAGIC) + 4
"""Magic and header length: what must be read before the header's own size is known."""

_AAD_LABEL = b"sealed artifact v1"
_COMMITMENT_LABEL = b"sealed artifact v1 key commitment"
_SUITES = (pb.SUITE_AES256_GCM_HKDF_SHA256_1MIB,)
_BINDINGS = (pb.BINDING_NONE, pb.BINDING_ARTIFACT_KEY)
_PROVIDERS = {"vault": pb.PROVIDER_VAULT, "local": pb.PROVIDER_LOCAL}
_PROVIDER_NAMES = {number: name for name, number in _PROVIDERS.items()}


class Binding(IntEnum):
    """What a sealed body is tied to besides its data key."""

    NONE = pb.BINDING_NONE
    ARTIFACT_KEY = pb.BINDING_ARTIFACT_KEY


@dataclass(frozen=True, slots=True)
class Header:
    """A header as stored. All files of one artifact share one, and so one data key."""

    authenticated: bytes
    """The serialised `AuthenticatedHeader`, exactly as stored: every body authenticates these bytes."""
    key: WrappedKey
    binding: Binding
    key_commitment: bytes
    sealed_at: int
    """Unix seconds."""
    context: tuple[tuple[str, str], ...] = ()
    audit_chain: str = ""
    audit_sequence: int = 0

    def encode(self) -> bytes:
        """Magic, length and header: the bytes before the body."""
        envelope = pb.KeyEnvelope(
            provider=_PROVIDERS[self.key.provider],
            mount=self.key.mount,
            key_name=self.key.key_name,
            wrapped_key=self.key.wrapped_key,
            key_version=self.key.key_version,
            derivation_context=self.key.derivation_context,
        )
        message = pb.SealedHeader(authenticated=self.authenticated, key=envelope)
        encoded = message.SerializeToString(deterministic=True)
        if len(encoded) > LONGEST_HEADER:
            raise HeaderInvalid(f"the header would have {len(encoded)} bytes, {LONGEST_HEADER} are the most")
        return MAGIC + len(encoded).to_bytes(4, "big") + encoded

    def associated_data(self, artifact_key: str) -> bytes:
        """What a body of this header authenticates: the header, and the artifact if it is bound to one."""
        context = artifact_key.encode() if self.binding is Binding.ARTIFACT_KEY else b""
        return b"".join(
            (
                _AAD_LABEL,
                len(self.authenticated).to_bytes(4, "big"),
                self.authenticated,
                len(context).to_bytes(4, "big"),
                context,
            )
        )

    def require_key(self, data_key: bytes) -> None:
        """Raise `WrongDataKey` unless `data_key` is the one that this header was sealed with."""
        if not hmac.compare_digest(commitment(data_key), self.key_commitment):
            raise WrongDataKey(
                "the data key does not belong to this sealed file: its key envelope was exchanged",
                remedy="Restore the object from a copy that was not changed",
            )


Unlock = Callable[[Header], bytes]
"""Finds the data key of a header, from a key provider or from memory. `Header.require_key` checks it."""


def commitment(data_key: bytes) -> bytes:
    """32 bytes that tie a header to one data key (docs/format.md, "Keys")."""
    return HKDF(SHA256(), 32, salt=None, info=_COMMITMENT_LABEL).derive(data_key)


def new_header(
    data_key: bytes,
    key: WrappedKey,
    *,
    sealed_at: int,
    binding: Binding = Binding.ARTIFACT_KEY,
    context: tuple[tuple[str, str], ...] = (),
    audit_chain: str = "",
    audit_sequence: int = 0,
) -> Header:
    """The header for one artifact that is about to be sealed under `data_key`, which `key` is the wrap of."""
    context = tuple(sorted(context))
    key_commitment = commitment(data_key)
    authenticated = pb.AuthenticatedHeader(
        suite=pb.SUITE_AES256_GCM_HKDF_SHA256_1MIB,
        binding=pb.Binding.ValueType(int(binding)),
        key_commitment=key_commitment,
        sealed_at=sealed_at,
        context=[pb.ContextEntry(name=name, value=value) for name, value in context],
        audit_chain=audit_chain,
        audit_sequence=audit_sequence,
    ).SerializeToString(deterministic=True)
    header = Header(authenticated, key, binding, key_commitment, sealed_at, context, audit_chain, audit_sequence)
    if fault := _fault_of(header):
        raise HeaderInvalid(f"no header can be made: {fault}")
    return header


def header_size(prelude: bytes) -> int:
    """The size of the whole header from the first `PRELUDE_SIZE` bytes of a sealed file."""
    if not prelude.startswith(MAGIC):
        if MAGIC.startswith(prelude):
            raise Truncated(f"the sealed file ends after {len(prelude)} bytes, inside its header")
        raise NotSealed(
            "the stored object is not sealed: it does not begin with a Sealgate header",
            says="default policy",
            remedy="Only sealed objects are read; save the artifact again through Sealgate",
        )
    if len(prelude) < PRELUDE_SIZE:
        raise Truncated(f"the sealed file ends after {len(prelude)} bytes, inside its header")
    size = int.from_bytes(prelude[len(MAGIC) : PRELUDE_SIZE], "big")
    if not 1 <= size <= LONGEST_HEADER:
        raise HeaderInvalid(f"the header claims {size} bytes, {LONGEST_HEADER} are the most")
    return PRELUDE_SIZE + size


def read_header(read: Callable[[int, int], bytes]) -> tuple[Header, int]:
    """Read a header by `read(size, offset)` and tell where the body begins.

    Raises:
        NotSealed: the file does not begin as a sealed file does.
        Truncated: it ends inside its header.
        HeaderInvalid: the header cannot be read.
        UnsupportedFormat: it was written by a newer version of the program.
    """
    size = header_size(read(PRELUDE_SIZE, 0))
    encoded = read(size - PRELUDE_SIZE, PRELUDE_SIZE)
    if len(encoded) < size - PRELUDE_SIZE:
        raise Truncated(f"the sealed file ends after {PRELUDE_SIZE + len(encoded)} bytes, inside its header")
    return decode(encoded), size


def decode(encoded: bytes) -> Header:
    """Parse and check a serialised `SealedHeader`: nothing unknown is skipped, nothing missing is assumed."""
    sealed, authenticated = pb.SealedHeader(), pb.AuthenticatedHeader()
    _parse(sealed, encoded)
    _parse(authenticated, sealed.authenticated)
    for message in (sealed, sealed.key, authenticated, *authenticated.context):
        _refuse_unknown(message)
    _require_known("suite", authenticated.suite, _SUITES)
    _require_known("binding", authenticated.binding, _BINDINGS)
    _require_known("key provider", sealed.key.provider, _PROVIDER_NAMES)
    header = Header(
        authenticated=sealed.authenticated,
        key=WrappedKey(
            provider=_PROVIDER_NAMES[sealed.key.provider],
            mount=sealed.key.mount,
            key_name=sealed.key.key_name,
            wrapped_key=sealed.key.wrapped_key,
            key_version=sealed.key.key_version,
            derivation_context=sealed.key.derivation_context,
        ),
        binding=Binding(authenticated.binding),
        key_commitment=authenticated.key_commitment,
        sealed_at=authenticated.sealed_at,
        context=tuple((entry.name, entry.value) for entry in authenticated.context),
        audit_chain=authenticated.audit_chain,
        audit_sequence=authenticated.audit_sequence,
    )
    if fault := _fault_of(header):
        raise _damaged(fault)
    return header


def _fault_of(header: Header) -> str:
    names = [name for name, _ in header.context]
    if len(header.key_commitment) != DATA_KEY_SIZE:
        return f"its key commitment has {len(header.key_commitment)} bytes instead of {DATA_KEY_SIZE}"
    if header.sealed_at < 0:
        return "its time of sealing lies before 1970"
    if "" in names or any(a >= b for a, b in pairwise(names)):
        return "its context is not sorted by distinct names"
    if not header.key.key_name or not header.key.wrapped_key:
        return "it names no wrapped data key"
    if header.key.key_version < 1:
        return "it names no key version"
    return ""


def _parse(message: Message, encoded: bytes) -> None:
    try:
        message.ParseFromString(encoded)
    except DecodeError:
        raise _damaged("it is no protobuf message") from None


def _require_known(what: str, number: int, known: Container[int]) -> None:
    if number == 0:
        raise _damaged(f"it names no {what}")
    if number not in known:
        raise _unsupported(what, number)


def _refuse_unknown(message: Message) -> None:
    unknown = UnknownFieldSet(message)
    if len(unknown):
        raise _unsupported(f"{type(message).__name__} field", unknown[0].field_number)


def _damaged(fault: str) -> HeaderInvalid:
    return HeaderInvalid(f"the header of the sealed file is damaged: {fault}")


def _unsupported(what: str, number: int) -> UnsupportedFormat:
    return UnsupportedFormat(
        f"the sealed file uses {what} {number}, which format version 1 does not have",
        remedy="Open it with the version of Sealgate that sealed it, or a later one",
    )
