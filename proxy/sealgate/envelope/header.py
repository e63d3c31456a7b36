"""The header of a sealed file: docs/format.md, "Layout", and its key commitment and associated data: "Keys".

proto/envelope.proto defines the messages. A header is parsed strictly: every unknown or missing field is an error.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Container
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
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
"""Size of the magic and the header length, in bytes: read first, because they say how long the header is."""

_LABEL, _MANIFEST_LABEL = b"sealed artifact v1", b"sealed artifact v1 manifest"
"""The domains of associated data. The length that follows a label begins with a zero byte, so neither is a prefix."""
_COMMITMENT_LABEL = b"sealed artifact v1 key commitment"
_SUITES = (pb.SUITE_AES256_GCM_HKDF_SHA256_1MIB,)
_BINDINGS = (pb.BINDING_NONE, pb.BINDING_ARTIFACT_KEY)
_PROVIDERS = {"vault": pb.PROVIDER_VAULT, "local": pb.PROVIDER_LOCAL}
_PROVIDER_NAMES = {number: name for name, number in _PROVIDERS.items()}


class Binding(IntEnum):
    """What a body is bound to besides its data key (docs/format.md, "Keys")."""

    NONE = pb.BINDING_NONE
    ARTIFACT_KEY = pb.BINDING_ARTIFACT_KEY


@dataclass(frozen=True, slots=True)
class Header:
    """A header as stored. All files of one artifact have the same header, and so the same data key."""

    authenticated: bytes
    """The serialised `AuthenticatedHeader`, exactly as stored. Every body authenticates these bytes."""
    key: WrappedKey
    binding: Binding
    key_commitment: bytes
    sealed_at: int
    """Unix seconds."""
    context: tuple[tuple[str, str], ...] = ()
    audit_chain: str = ""
    audit_sequence: int = 0

    def encode(self) -> bytes:
        """Return the bytes before the body: magic, header length and header.

        Raises:
            HeaderInvalid: the header is longer than 65,536 bytes.
        """
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
            raise HeaderInvalid(f"the header would have {len(encoded)} bytes; at most {LONGEST_HEADER} are allowed")
        return MAGIC + len(encoded).to_bytes(4, "big") + encoded

    def associated_data(self, artifact_key: str, *, manifest: bool = False) -> bytes:
        """Return the associated data of a body: the authenticated header, and `artifact_key` if the header binds it.

        The body of a manifest is in a domain of its own: no file opens as a manifest, nor a manifest as a file.
        """
        context = artifact_key.encode() if self.binding is Binding.ARTIFACT_KEY else b""
        return b"".join(
            (
                _MANIFEST_LABEL if manifest else _LABEL,
                len(self.authenticated).to_bytes(4, "big"),
                self.authenticated,
                len(context).to_bytes(4, "big"),
                context,
            )
        )

    def require_key(self, data_key: bytes) -> None:
        """Check `data_key` against the key commitment, in constant time.

        Raises:
            WrongDataKey: it is not the data key that this header was made for.
        """
        if not hmac.compare_digest(commitment(data_key), self.key_commitment):
            raise WrongDataKey(
                "the data key does not belong to this sealed file: its key envelope was replaced",
                remedy="Restore the object from a copy that was not changed",
            )


Unlock = Callable[[Header], bytes]
"""Returns the data key of a header, from a key provider or a cache. The caller checks it by `Header.require_key`."""


def commitment(data_key: bytes) -> bytes:
    """Return the key commitment of `data_key`: 32 bytes that tie a header to it (docs/format.md, "Keys")."""
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
    """Make the header of an artifact that is about to be sealed.

    Args:
        data_key: 32 random bytes, new for each artifact.
        key: `data_key`, wrapped by a key provider.
        sealed_at: the time of sealing, in Unix seconds.
        binding: whether bodies are bound to their artifact keys.
        context: pairs of name and value; names are distinct and not empty. They are stored sorted by name.
        audit_chain: the audit chain that records this Save; empty if it is not recorded.
        audit_sequence: the sequence number of the record in that chain.

    Raises:
        HeaderInvalid: a value is one that no reader would accept.
    """
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
        raise HeaderInvalid(f"the header cannot be made: {fault}")
    return header


def header_size(prelude: bytes) -> int:
    """Return how many bytes come before the body, from the first `PRELUDE_SIZE` bytes of a sealed file.

    Raises:
        NotSealed: `prelude` does not begin with the magic bytes.
        Truncated: it is shorter than `PRELUDE_SIZE`.
        HeaderInvalid: the header length is not from 1 to 65,536.
    """
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
        raise HeaderInvalid(f"the header claims {size} bytes; at most {LONGEST_HEADER} are allowed")
    return PRELUDE_SIZE + size


def read_header(read: Callable[[int, int], bytes]) -> tuple[Header, int]:
    """Read a header by `read(size, offset)`; return it and the offset of the body.

    Raises:
        NotSealed: the file does not begin with the magic bytes.
        Truncated: it ends inside its header.
        HeaderInvalid: the header is damaged.
        UnsupportedFormat: a newer version of the program wrote it.
    """
    size = header_size(read(PRELUDE_SIZE, 0))
    encoded = read(size - PRELUDE_SIZE, PRELUDE_SIZE)
    if len(encoded) < size - PRELUDE_SIZE:
        raise Truncated(f"the sealed file ends after {PRELUDE_SIZE + len(encoded)} bytes, inside its header")
    return decode(encoded), size


@lru_cache(maxsize=4)  # all files of a directory have the same header
def decode(encoded: bytes) -> Header:
    """Parse and check a serialised `SealedHeader`. No unknown field is skipped, and no missing one gets a default.

    Raises:
        HeaderInvalid: the bytes are not a message, or a field is missing or wrong.
        UnsupportedFormat: a field, the suite, the binding or the provider is unknown.
    """
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
        return "its time of sealing is before 1970"
    if "" in names or any(a >= b for a, b in pairwise(names)):
        return "the names of its context are not distinct, sorted and non-empty"
    if not header.key.key_name or not header.key.wrapped_key:
        return "its key name or its wrapped data key is empty"
    if header.key.key_version < 1:
        return "its key version is missing"
    return ""


def _parse(message: Message, encoded: bytes) -> None:
    try:
        message.ParseFromString(encoded)
    except DecodeError:
        raise _damaged("it is not a protobuf message") from None


def _require_known(what: str, number: int, known: Container[int]) -> None:
    if number == 0:
        raise _damaged(f"it has no {what}")
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
