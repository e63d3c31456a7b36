"""A second writer of sealed files, made from docs/format.md alone. It uses no code of the program.

All bytes are derived from labels, so that each run writes the same bytes. It must never seal real data.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = bytes.fromhex("89 53 45 41 4C 0D 0A 1A")
SEGMENT, TAG, STREAM_HEADER = 1_048_576, 16, 40
FIRST_PLAINTEXT, PLAINTEXT = 1_048_520, 1_048_560
NONE, ARTIFACT_KEY = 1, 2
VAULT, LOCAL = 1, 2
FILE_LABEL, MANIFEST_LABEL = b"sealed artifact v1", b"sealed artifact v1 manifest"
KEY = "team-a/report.csv"
TEXT = b"id,amount\r\n1,100\r\n2,250\r\n\x00\xff\x1a the end"


def fixed(label: str, size: int) -> bytes:
    """Return bytes that look random and are the same each time."""
    return hashlib.shake_256(b"sealed artifact v1 vectors: " + label.encode()).digest(size)


KEYRING: dict[str, dict[str, Any]] = {
    "keys": {
        name: {
            "latest": latest,
            "versions": {
                str(version): base64.b64encode(fixed(f"keyring {name} {version}", 32)).decode()
                for version in range(1, latest + 1)
            },
        }
        for name, latest in (("default", 3), ("Schlüssel/ключ", 1))
    }
}


def wrap(data_key: bytes, key_name: str, version: int) -> str:
    """Return a data key, wrapped as the local provider wraps it."""
    key = base64.b64decode(KEYRING["keys"][key_name]["versions"][str(version)])
    nonce = fixed(f"wrap {key_name} {version} {data_key.hex()}", 12)
    sealed = nonce + AESGCM(key).encrypt(nonce, data_key, key_name.encode())
    return f"local:v{version}:{base64.b64encode(sealed).decode()}"


def hkdf(ikm: bytes, salt: bytes | None, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=salt, info=info).derive(ikm)


def commitment(data_key: bytes) -> bytes:
    return hkdf(data_key, None, b"sealed artifact v1 key commitment")


# --- protobuf --------------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    number %= 1 << 64
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def long_varint(number: int) -> bytes:
    """Return the number in one byte more than it needs, which every parser accepts."""
    short = varint(number)
    return short[:-1] + bytes([short[-1] | 0x80, 0])


def field(number: int, value: int | str | bytes) -> bytes:
    """Return one field, even if it has its default value."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def message(*values: int | str | bytes) -> bytes:
    """Return the fields 1, 2, 3…, without those that have their default value."""
    return b"".join(field(number, value) for number, value in enumerate(values, 1) if value)


# --- the file --------------------------------------------------------------------------------------------


def u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def stored(header: bytes, body: bytes) -> bytes:
    return MAGIC + u32(len(header)) + header + body


def associated_data(authenticated: bytes, context: bytes, label: bytes = FILE_LABEL) -> bytes:
    return label + u32(len(authenticated)) + authenticated + u32(len(context)) + context


def nonce_suffix(index: int, last: bool) -> bytes:
    return u32(index) + (b"\x01" if last else b"\x00")


def segments(
    body_key: bytes, prefix: bytes, plaintext: bytes, suffix: Callable[[int, bool], bytes] = nonce_suffix
) -> bytes:
    """Return the segments of a body, without its stream header."""
    cipher, out, start, index = AESGCM(body_key), [], 0, 0
    while True:
        end = min(len(plaintext), FIRST_PLAINTEXT + index * PLAINTEXT)
        last = end == len(plaintext)
        out.append(cipher.encrypt(prefix + suffix(index, last), plaintext[start:end], None))
        if last:
            return b"".join(out)
        start, index = end, index + 1


@dataclass(frozen=True)
class Recipe:
    """The content of one sealed file. `dataclasses.replace` changes one property of it."""

    label: str = "base"
    """The data key, the salt and the nonce prefix are derived from it."""
    plaintext: bytes = TEXT
    artifact_key: str = KEY
    suite: int = 1
    binding: int = ARTIFACT_KEY
    key_commitment: bytes | None = None
    sealed_at: int = 1_767_225_600
    context: tuple[tuple[str, str], ...] = (("team", "finance"), ("tenant", "a"))
    audit_chain: str = "chain-1"
    audit_sequence: int = 7
    provider: int = LOCAL
    mount: str = ""
    key_name: str = "default"
    wrapped_key: str | None = None
    key_version: int = 1
    derivation_context: bytes = b""
    raw_authenticated: bytes | None = None
    """These bytes in place of the serialised `AuthenticatedHeader`."""
    raw_envelope: bytes | None = None
    """These bytes in place of the serialised `KeyEnvelope`."""

    @property
    def data_key(self) -> bytes:
        return fixed(f"data key {self.label}", 32)

    @property
    def salt(self) -> bytes:
        return fixed(f"salt {self.label}", 32)

    @property
    def prefix(self) -> bytes:
        return fixed(f"nonce prefix {self.label}", 7)

    @property
    def wrapped(self) -> str:
        if self.wrapped_key is not None:
            return self.wrapped_key
        return wrap(self.data_key, self.key_name, self.key_version)

    def authenticated(self) -> bytes:
        if self.raw_authenticated is not None:
            return self.raw_authenticated
        committed = commitment(self.data_key) if self.key_commitment is None else self.key_commitment
        return (
            message(self.suite, self.binding, committed, self.sealed_at)
            + b"".join(field(5, message(name, value)) for name, value in self.context)
            + (field(6, self.audit_chain) if self.audit_chain else b"")
            + (field(7, self.audit_sequence) if self.audit_sequence else b"")
        )

    def envelope(self) -> bytes:
        if self.raw_envelope is not None:
            return self.raw_envelope
        return message(
            self.provider, self.mount, self.key_name, self.wrapped, self.key_version, self.derivation_context
        )

    def header(self) -> bytes:
        return message(self.authenticated(), self.envelope())

    def associated_data(self) -> bytes:
        return associated_data(self.authenticated(), b"" if self.binding == NONE else self.artifact_key.encode())

    def body(self) -> bytes:
        key = hkdf(self.data_key, self.salt, self.associated_data())
        return self.stream_header() + segments(key, self.prefix, self.plaintext)

    def stream_header(self) -> bytes:
        return bytes([STREAM_HEADER]) + self.salt + self.prefix

    def file(self) -> bytes:
        return stored(self.header(), self.body())


# --- vectors ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """A part of another vector's file."""

    vector: str
    at: int
    size: int


@dataclass(frozen=True)
class Vector:
    """One stored file, and the result that a reader must give."""

    name: str
    what: str
    content: bytes | tuple[Piece | bytes, ...]
    """The bytes of a file of its own, or pieces of other files."""
    data_key: bytes
    artifact_key: str = KEY
    error: str | tuple[str, ...] = ""
    """The name of the error that it must give, or of each that is right; empty if it must open."""
    released: tuple[str, int] = ("", 0)
    """For a fault behind the first segment: the vector whose plaintext a stream yields first, and how many bytes."""
    recipe: Recipe | None = None
    """For a vector that must open: its header and its plaintext."""
