"""The body of a sealed file: docs/format.md, "Body", which is Tink's AES256_GCM_HKDF_1MB.

A body is a stream header of 40 bytes and then segments of 1 MiB as stored. The first segment is shorter by the stream
header; the last may have any length. A segment is ciphertext, as long as its plaintext, and a 16-byte tag.
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
"""Stored size of a full segment with its tag, in bytes. All sizes here are in bytes."""
TAG = 16
STREAM_HEADER = 40
FIRST_PLAINTEXT = SEGMENT - STREAM_HEADER - TAG
PLAINTEXT = SEGMENT - TAG
_SALT = 32
_PREFIX = 7


def segment_count(plaintext: int) -> int:
    """Return how many segments `plaintext` bytes take. An empty plaintext takes one empty segment."""
    return 1 if plaintext <= FIRST_PLAINTEXT else 1 + -(-(plaintext - FIRST_PLAINTEXT) // PLAINTEXT)


def stored_size(plaintext: int) -> int:
    """Return the stored size of a body with `plaintext` plaintext bytes, without the file's header."""
    return STREAM_HEADER + plaintext + TAG * segment_count(plaintext)


def plaintext_size(stored: int) -> int:
    """Return the plaintext size of a body of `stored` bytes; nothing has to be decrypted for it.

    Raises:
        Truncated: no body has this size.
    """
    segments = -(-stored // SEGMENT)
    plaintext = stored - STREAM_HEADER - TAG * segments
    if stored < STREAM_HEADER + TAG or segment_count(plaintext) != segments:
        raise Truncated(f"the body of the sealed file is cut short: no sealed body has {stored} bytes")
    return plaintext


def plaintext_span(index: int, plaintext: int) -> tuple[int, int]:
    """Return the offset and the length of segment `index` in a plaintext of `plaintext` bytes."""
    offset = 0 if index == 0 else FIRST_PLAINTEXT + (index - 1) * PLAINTEXT
    return offset, min(plaintext - offset, FIRST_PLAINTEXT if index == 0 else PLAINTEXT)


def stored_offset(index: int) -> int:
    """Return the offset of segment `index` in the stored body."""
    return STREAM_HEADER if index == 0 else index * SEGMENT


@dataclass(frozen=True, slots=True)
class Body:
    """The body key and the nonce prefix of one body. Several threads may use it at once."""

    _cipher: AESGCM
    _prefix: bytes
    stream_header: bytes

    @classmethod
    def new(cls, data_key: bytes, associated_data: bytes) -> Body:
        """Begin a body that is to be sealed, with a new random salt and nonce prefix."""
        header = bytes([STREAM_HEADER]) + os.urandom(_SALT + _PREFIX)
        return cls.of(data_key, associated_data, header)

    @classmethod
    def of(cls, data_key: bytes, associated_data: bytes, stream_header: bytes) -> Body:
        """Begin the body whose stored bytes start with `stream_header` (40 bytes).

        Raises:
            Truncated: `stream_header` has fewer bytes.
            Tampered: it is not a stream header.
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
        """Seal `plaintext` as segment `index`, write it to the start of `out`, and return its stored length."""
        length = len(plaintext) + TAG
        self._cipher.encrypt_into(self._nonce(index, last=last), plaintext, None, out[:length])
        return length

    def open(self, index: int, sealed: Chunk, out: memoryview, *, last: bool) -> int:
        """Verify and decrypt segment `index`, write its plaintext to the start of `out`, and return its length.

        The content of `out` may be used only if this returns.

        Raises:
            Truncated: the segment is intact, but it was sealed as one that others follow.
            Tampered: the segment is not the one that was sealed at this place.
        """
        length = len(sealed) - TAG
        if length < (0 if index == 0 else 1):  # only an empty plaintext is sealed as an empty segment
            raise Truncated(f"the sealed file is cut short inside segment {index}")
        try:
            self._cipher.decrypt_into(self._nonce(index, last=last), sealed, None, out[:length])
        except InvalidTag:
            raise self._fault(index, sealed, out[:length], last=last) from None
        return length

    def _fault(self, index: int, sealed: Chunk, scratch: memoryview, *, last: bool) -> Tampered | Truncated:
        """Return the error for a segment that failed to open; the other value of `last` shows which one it is."""
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
            return Truncated(f"the sealed file is cut short: segment {index} is whole and another must follow")
        return Tampered(f"bytes were added to the sealed file after its last segment, which is segment {index}")
