"""The body of a sealed file: Tink's AES256_GCM_HKDF_1MB (docs/format.md, "Body").

A stream header of 40 bytes, then segments of 1 MiB as stored, the first shorter by the stream header.
Each segment is plaintext of the same length followed by its 16-byte tag; the last may be shorter.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from sealgate.errors import Tampered, Truncated
from sealgate.plugin import Chunk

SEGMENT = 1 << 20
"""Stored bytes of a full segment, its tag included."""
TAG = 16
STREAM_HEADER = 40
FIRST_PLAINTEXT = SEGMENT - STREAM_HEADER - TAG
PLAINTEXT = SEGMENT - TAG
_SALT = 32
_PREFIX = 7


def segment_count(plaintext: int) -> int:
    """How many segments hold `plaintext` bytes; an empty plaintext is one empty segment."""
    return 1 if plaintext <= FIRST_PLAINTEXT else 1 + -(-(plaintext - FIRST_PLAINTEXT) // PLAINTEXT)


def stored_size(plaintext: int) -> int:
    """Stored bytes of a body, without the file's header."""
    return STREAM_HEADER + plaintext + TAG * segment_count(plaintext)


def plaintext_size(stored: int) -> int:
    """Plaintext bytes of a body of `stored` bytes, before any decryption.

    Raises:
        Truncated: no body has this size.
    """
    segments = -(-stored // SEGMENT)
    plaintext = stored - STREAM_HEADER - TAG * segments
    if stored < STREAM_HEADER + TAG or segment_count(plaintext) != segments:
        raise Truncated(f"the body of the sealed file is cut short: no sealed body has {stored} bytes")
    return plaintext


def plaintext_span(index: int, plaintext: int) -> tuple[int, int]:
    """Offset and length of segment `index` in a plaintext of `plaintext` bytes."""
    offset = 0 if index == 0 else FIRST_PLAINTEXT + (index - 1) * PLAINTEXT
    return offset, min(plaintext - offset, FIRST_PLAINTEXT if index == 0 else PLAINTEXT)


def stored_offset(index: int) -> int:
    """Where segment `index` begins in the stored body."""
    return STREAM_HEADER if index == 0 else index * SEGMENT


@dataclass(frozen=True, slots=True)
class Body:
    """The key of one body and its nonces. Safe to use from several threads at once."""

    _cipher: AESGCM
    _prefix: bytes
    stream_header: bytes

    @classmethod
    def new(cls, data_key: bytes, associated_data: bytes) -> Body:
        """A body that is about to be sealed, with a salt and a nonce prefix of its own."""
        header = bytes([STREAM_HEADER]) + os.urandom(_SALT + _PREFIX)
        return cls.of(data_key, associated_data, header)

    @classmethod
    def of(cls, data_key: bytes, associated_data: bytes, stream_header: bytes) -> Body:
        """The body that begins with `stream_header` (40 bytes).

        Raises:
            Truncated: fewer bytes than that.
            Tampered: they are no stream header.
        """
        if len(stream_header) < STREAM_HEADER:
            raise Truncated("the sealed file ends before its first segment")
        if stream_header[0] != STREAM_HEADER:
            raise Tampered("the sealed file was changed: its body does not begin with a stream header")
        salt, prefix = stream_header[1 : 1 + _SALT], stream_header[1 + _SALT : STREAM_HEADER]
        key = HKDF(SHA256(), 32, salt=salt, info=associated_data).derive(data_key)
        return cls(AESGCM(key), prefix, stream_header)

    def _nonce(self, index: int, *, last: bool) -> bytes:
        return self._prefix + index.to_bytes(4, "big") + (b"\x01" if last else b"\x00")

    def seal(self, index: int, plaintext: Chunk, out: memoryview, *, last: bool) -> int:
        """Write segment `index` to the start of `out` and return its stored length."""
        length = len(plaintext) + TAG
        self._cipher.encrypt_into(self._nonce(index, last=last), plaintext, None, out[:length])
        return length

    def open(self, index: int, sealed: Chunk, out: memoryview, *, last: bool) -> int:
        """Write the plaintext of segment `index` to the start of `out` and return its length.

        Nothing may be read from `out` unless this returns.

        Raises:
            Truncated: the segment is whole, and is not the last of its body.
            Tampered: it is not what was sealed at this place.
        """
        length = len(sealed) - TAG
        if length < (0 if index == 0 else 1):  # only an empty plaintext has an empty segment
            raise Truncated(f"the sealed file is cut short inside segment {index}")
        try:
            self._cipher.decrypt_into(self._nonce(index, last=last), sealed, None, out[:length])
        except InvalidTag:
            raise self._fault(index, sealed, out[:length], last=last) from None
        return length

    def _fault(self, index: int, sealed: Chunk, scratch: memoryview, *, last: bool) -> Tampered | Truncated:
        """Say why a segment did not open: only the holder of the key can tell these apart."""
        try:
            self._cipher.decrypt_into(self._nonce(index, last=not last), sealed, None, scratch)
        except InvalidTag:
            return Tampered(
                f"the sealed file fails authentication in segment {index}: it was changed, cut inside that"
                " segment, or sealed for another artifact",
                remedy="Restore the object from a copy that was not changed",
            )
        scratch[:] = bytes(len(scratch))
        if last:
            return Truncated(f"the sealed file is cut short: segment {index} is whole and more must follow")
        return Tampered(f"bytes were added to the sealed file after its last segment, which is segment {index}")
