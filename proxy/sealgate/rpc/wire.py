"""Converts between Argo's messages (proto/artifact.proto) and the plain values of `sealgate.plugin`.

Frames with data are made and read by hand, to save copies of the data.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from sealgate.errors import BadRequest
from sealgate.plugin import Artifact, Capabilities, Chunk
from sealgate.rpc import artifact_pb2 as pb

_DATA = b"\x0a"  # field 1, length-delimited: OpenStreamResponse.data
_CHUNK = b"\x12"  # field 2, length-delimited: SaveStreamArtifactRequest.chunk
_REPLACES_WHOLE = ("sealgate-replaces", "1")
"""Trailing metadata of GetCapabilities: Argo's message has no field for this, and Argo ignores the metadata."""
_CREATES = ("sealgate-creates", "1")
"""Trailing metadata of GetCapabilities: the plugin knows `rpc.edge.CREATE_ONLY`."""
_CONNECTION_METADATA = frozenset({"user-agent", "content-type", "te", "host"})

M = TypeVar("M", bound=Message)


def artifact_from(request: Message, field: str) -> Artifact:
    """Return the artifact in the field `field` of a request.

    Raises:
        BadRequest: the request has no artifact, or one without a plugin.
    """
    message: pb.Artifact = getattr(request, field)
    if not message.HasField("plugin"):
        remedy = "Give the artifact a plugin and a key"
        raise BadRequest("the request has no artifact with a plugin", remedy=remedy)
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
    """Return the message for `artifact`."""
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
    """Parse `message` as a message of the type `kind`.

    Raises:
        BadRequest: the bytes are not such a message.
    """
    parsed = kind()
    try:
        parsed.ParseFromString(message)
    except DecodeError:
        raise BadRequest(f"the message is not a valid {kind.__name__} of Argo's contract") from None
    return parsed


def data_frame(data: Chunk) -> bytes:
    """Serialise an OpenStreamResponse that has `data` alone, with one copy of it."""
    return b"".join((_DATA, _varint(len(data)), data))


def chunk_frame(chunk: Chunk) -> bytes:
    """Serialise a SaveStreamArtifactRequest that has `chunk` alone, with one copy of it."""
    return b"".join((_CHUNK, _varint(len(chunk)), chunk))


def data_of(frame: bytes) -> Chunk | None:
    """Return the data of a serialised OpenStreamResponse without a copy; None if the message has other fields."""
    return _sole_field(frame, _DATA)


def chunk_of(frame: bytes) -> Chunk | None:
    """Return the chunk of a serialised SaveStreamArtifactRequest without a copy; None if it has other fields."""
    return _sole_field(frame, _CHUNK)


def forwarded_metadata(metadata: Iterable[tuple[str, str | bytes]]) -> tuple[tuple[str, str | bytes], ...]:
    """Return a caller's metadata without the names that belong to its own connection."""
    return tuple(
        (name, value)
        for name, value in metadata
        if name not in _CONNECTION_METADATA and not name.startswith((":", "grpc-"))
    )


def capabilities_metadata(capabilities: Capabilities) -> tuple[tuple[str, str], ...]:
    """Return the trailing metadata for what Argo's answer to GetCapabilities cannot express."""
    marks = ((_REPLACES_WHOLE, capabilities.replaces_whole), (_CREATES, capabilities.creates))
    return tuple(mark for mark, offered in marks if offered)


def capabilities_from(answer: pb.GetCapabilitiesResponse, trailing: Iterable[tuple[str, str | bytes]]) -> Capabilities:
    """Return the capabilities in an answer to GetCapabilities and its trailing metadata."""
    marks = list(trailing)
    return Capabilities(answer.supports_save_stream, _REPLACES_WHOLE in marks, _CREATES in marks)


def size_of_texts(texts: Iterable[str]) -> int:
    """Return the size in bytes of a message whose only field, numbered 1 to 15, has the values `texts`."""
    return sum(1 + len(_varint(size)) + size for size in (len(text.encode()) for text in texts))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _sole_field(frame: bytes, tag: bytes) -> memoryview | None:
    """Return the content of the field with the tag `tag`, if the frame is this field and nothing else."""
    if frame[:1] != tag:
        return None
    size = 0
    for at in range(1, min(len(frame), 6)):
        size |= (frame[at] & 0x7F) << 7 * (at - 1)
        if frame[at] < 0x80:  # noqa: PLR2004 - the last byte of a varint
            return memoryview(frame)[at + 1 :] if at + 1 + size == len(frame) else None
    return None
