"""A second reader of directories, made from docs/format.md, with Google Tink for the bodies. No code of the program."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import tink
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

MAGIC = b"\x89SEAL\r\n\x1a"
MANIFEST = ".sealgate-manifest"
Objects = Mapping[str, bytes]
"""The stored objects of a directory, by their paths beneath its key."""


class Refused(Exception):
    """The directory or the file is refused; the arguments are the names of the errors that are right."""


@dataclass(frozen=True)
class Header:
    authenticated: bytes
    wrapped_key: str
    binding: int
    key_commitment: bytes


def primitive(data_key: bytes) -> streaming_aead.StreamingAead:
    """Return Tink's streaming AEAD for a data key: a reader without this program needs nothing else."""
    streaming_aead.register()
    parameters = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=1 << 20, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
    )
    key = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(params=parameters, key_value=data_key)
    keyset = tink_pb2.Keyset(primary_key_id=1)
    keyset.key.add(
        key_data=tink_pb2.KeyData(
            type_url="type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey",
            value=key.SerializeToString(),
            key_material_type=tink_pb2.KeyData.SYMMETRIC,
        ),
        status=tink_pb2.ENABLED,
        key_id=1,
        output_prefix_type=tink_pb2.RAW,
    )
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


def read_directory(
    objects: Objects, artifact_key: str, data_key_of: Callable[[str], bytes]
) -> tuple[dict[str, bytes], set[str]]:
    """Return the files and the empty directories of the stored directory.

    Raises:
        Refused: it is not what one Save stored.
    """
    if MANIFEST not in objects:
        raise Refused("DirectoryIncomplete")
    header, plaintext = _opened(objects[MANIFEST], artifact_key, data_key_of, b"sealed artifact v1 manifest")
    sizes, empty = _listed(plaintext)
    files = {}
    for path, size in sizes.items():
        if path not in objects:
            raise Refused("DirectoryIncomplete")
        if objects[path].startswith(MAGIC) and _header(objects[path])[0].key_commitment != header.key_commitment:
            raise Refused("DirectoryIncomplete")
        _, files[path] = _opened(objects[path], f"{artifact_key}/{path}", data_key_of, b"sealed artifact v1")
        if len(files[path]) != size:
            raise Refused("DirectoryIncomplete")
    return files, empty


def _opened(
    sealed: bytes, artifact_key: str, data_key_of: Callable[[str], bytes], label: bytes
) -> tuple[Header, bytes]:
    header, body = _header(sealed)
    data_key = data_key_of(header.wrapped_key)
    commitment = HKDF(SHA256(), 32, salt=None, info=b"sealed artifact v1 key commitment").derive(data_key)
    if commitment != header.key_commitment:
        raise Refused("WrongDataKey")
    context = artifact_key.encode() if header.binding == 2 else b""
    parts = header.authenticated, context
    associated_data = label + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    try:
        with primitive(data_key).new_decrypting_stream(io.BytesIO(body), associated_data) as stream:
            return header, stream.read()
    except tink.TinkError:
        raise Refused("Tampered", "Truncated") from None


def _header(sealed: bytes) -> tuple[Header, bytes]:
    if not sealed.startswith(MAGIC):
        raise Refused("Truncated" if MAGIC.startswith(sealed) else "NotSealed")
    size = int.from_bytes(sealed[8:12], "big")
    if len(sealed) < 12 + size:
        raise Refused("Truncated")
    outer = dict(_fields(sealed[12 : 12 + size]))
    inner, envelope = dict(_fields(outer[1])), dict(_fields(outer[2]))
    return Header(outer[1], envelope[4].decode(), inner[2], inner[3]), sealed[12 + size :]


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a protobuf message that has only numbers, bytes and texts."""
    at = 0

    def varint() -> int:
        nonlocal at
        number = shift = 0
        while True:
            byte, at = message[at], at + 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    while at < len(message):
        tag = varint()
        value = varint()
        if tag & 7:
            yield tag >> 3, message[at : at + value]
            at += value
        else:
            yield tag >> 3, value


# --- the list ---------------------------------------------------------------------------------------------


def _listed(plaintext: bytes) -> tuple[dict[str, int], set[str]]:
    """Return the sizes of the files, and the empty directories."""
    rest = io.BytesIO(plaintext)
    sizes: dict[str, int] = {}
    empty: set[str] = set()
    _require(len(plaintext) <= 16_777_216 and rest.read(4) == b"SGM1")
    count = _number(rest, 4)
    _require(count <= 100_000)
    paths = []
    for _ in range(count):
        kind = _number(rest, 1)
        _require(kind in {1, 2})
        paths.append(_exactly(rest, _number(rest, 2)))
        name = _path(paths[-1])
        if kind == 1:
            sizes[name] = _number(rest, 8)
        else:
            empty.add(name)
    _require(not rest.read(1))
    _require(paths == sorted(set(paths)))
    parents = {path[:end] for path in paths for end in range(len(path)) if path[end] == ord("/")}
    _require(parents.isdisjoint(paths))
    _require(len(parents) + len(empty) <= 100_000)
    return sizes, empty


def _path(path: bytes) -> str:
    segments = path.split(b"/")
    _require(len(segments) <= 255 and b"\0" not in path)
    _require(all(1 <= len(segment) <= 255 for segment in segments))
    _require({b".", b"..", MANIFEST.encode()}.isdisjoint(segments))
    try:
        return path.decode()
    except UnicodeDecodeError:
        raise Refused("ManifestInvalid") from None


def _number(rest: io.BytesIO, size: int) -> int:
    return int.from_bytes(_exactly(rest, size), "big")


def _exactly(rest: io.BytesIO, size: int) -> bytes:
    taken = rest.read(size)
    _require(len(taken) == size)
    return taken


def _require(condition: bool) -> None:
    if not condition:
        raise Refused("ManifestInvalid")
