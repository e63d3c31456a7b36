"""Between Argo's messages and the plain values of `sealgate.plugin`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from sealgate.errors import BadRequest
from sealgate.plugin import Artifact, Chunk
from sealgate.rpc import artifact_pb2 as pb

LARGEST_CHUNK = 2 << 20
"""Argo's own bound on a frame of SaveStream."""

_DATA = b"\x0a"  # field 1, length-delimited: OpenStreamResponse.data
_CHUNK = b"\x12"  # field 2, length-delimited: SaveStreamArtifactRequest.chunk
_OF_THE_CONNECTION = frozenset({"user-agent", "content-type", "te", "host"})

M = TypeVar("M", bound=Message)


def artifact_from(request: Message, field: str) -> Artifact:
    """The artifact in `field` of a request.

    Raises:
        BadRequest: the request has none, or one without a plugin.
    """
    message: pb.Artifact = getattr(request, field)
    if not message.HasField("plugin"):
        remedy = "Give the artifact a plugin and a key"
        raise BadRequest("the request names no artifact with a plugin", remedy=remedy)
    return Artifact(
        key=message.plugin.key,
        name=message.name,
        plugin=message.plugin.name,
        configuration=message.plugin.configuration,
        path=message.path,
        mode=message.mode,
        source=getattr(message, "from"),
        optional=message.optional,
        sub_path=message.sub_path,
        recurse_mode=message.recurse_mode,
        from_expression=message.from_expression,
        deleted=message.deleted,
        connection_timeout_seconds=message.plugin.connection_timeout_seconds,
    )


def artifact_to(artifact: Artifact) -> pb.Artifact:
    """The message for an artifact that is passed on."""
    message = pb.Artifact(
        name=artifact.name,
        path=artifact.path,
        mode=artifact.mode,
        optional=artifact.optional,
        sub_path=artifact.sub_path,
        recurse_mode=artifact.recurse_mode,
        from_expression=artifact.from_expression,
        deleted=artifact.deleted,
        plugin=pb.PluginArtifact(
            name=artifact.plugin,
            configuration=artifact.configuration,
            key=artifact.key,
            connection_timeout_seconds=artifact.connection_timeout_seconds,
        ),
    )
    setattr(message, "from", artifact.source)
    return message


def parse(kind: type[M], message: bytes) -> M:
    """A message of the contract.

    Raises:
        BadRequest: the bytes are no such message.
    """
    parsed = kind()
    try:
        parsed.ParseFromString(message)
    except DecodeError:
        raise BadRequest(f"the message is no {kind.__name__} of Argo's contract") from None
    return parsed


def data_frame(data: Chunk) -> bytes:
    """A serialised OpenStreamResponse with `data` alone, made with one copy of it."""
    return b"".join((_DATA, _varint(len(data)), data))


def chunk_frame(chunk: Chunk) -> bytes:
    """A serialised SaveStreamArtifactRequest with `chunk` alone, made with one copy of it."""
    return b"".join((_CHUNK, _varint(len(chunk)), chunk))


def data_of(frame: bytes) -> Chunk | None:
    """The data of a serialised OpenStreamResponse, uncopied, or None if it holds anything else."""
    return _sole_field(frame, _DATA)


def chunk_of(frame: bytes) -> Chunk | None:
    """The chunk of a serialised SaveStreamArtifactRequest, uncopied, or None if it holds anything else."""
    return _sole_field(frame, _CHUNK)


def passed_on(metadata: Iterable[tuple[str, str | bytes]]) -> tuple[tuple[str, str | bytes], ...]:
    """A caller's metadata without what belongs to its own connection."""
    return tuple(
        (name, value)
        for name, value in metadata
        if name not in _OF_THE_CONNECTION and not name.startswith((":", "grpc-"))
    )


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _sole_field(frame: bytes, tag: bytes) -> memoryview | None:
    if frame[:1] != tag:
        return None
    size = 0
    for place in range(1, min(len(frame), 6)):
        size |= (frame[place] & 0x7F) << 7 * (place - 1)
        if frame[place] < 0x80:  # noqa: PLR2004 - the last byte of a varint
            return memoryview(frame)[place + 1 :] if place + 1 + size == len(frame) else None
    return None
