"""A client of a plugin on one connection, which does not decode the frames of a stream."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import grpc

from sealgate.rpc import artifact_pb2 as pb
from sealgate.rpc import wire

_PATIENCE = 900
_FRAME = 1 << 20


class Client:
    """Calls the plugin on `socket`, and raises if a call fails."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix:{socket}", options=[("grpc.use_local_subchannel_pool", 1)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def save(self, key: str, path: Path) -> None:
        """Store the file or directory at `path`."""
        request = pb.SaveArtifactRequest(path=str(path), output_artifact=_artifact(key))
        _require(self._ask("Save", request, pb.SaveArtifactResponse))

    def load(self, key: str, path: Path) -> None:
        """Load the artifact to `path`."""
        request = pb.LoadArtifactRequest(path=str(path), input_artifact=_artifact(key))
        _require(self._ask("Load", request, pb.LoadArtifactResponse))

    def delete(self, key: str) -> None:
        """Delete the artifact."""
        _require(self._ask("Delete", pb.DeleteArtifactRequest(artifact=_artifact(key)), pb.DeleteArtifactResponse))

    def list_objects(self, key: str) -> list[str]:
        """Return the keys beneath `key`."""
        answer = self._ask("ListObjects", pb.ListObjectsRequest(artifact=_artifact(key)), pb.ListObjectsResponse)
        return list(answer.objects)

    def is_directory(self, key: str) -> bool:
        """Return whether `key` is a directory."""
        answer = self._ask("IsDirectory", pb.IsDirectoryRequest(artifact=_artifact(key)), pb.IsDirectoryResponse)
        return bool(answer.is_directory)

    def save_stream(self, key: str, path: Path) -> None:
        """Upload the file at `path` in frames of 1 MiB."""
        stub: Any = self._channel.stream_unary("/artifact.ArtifactService/SaveStream")
        answer = stub(_frames(key, path), timeout=_PATIENCE)
        _require(pb.SaveArtifactResponse.FromString(answer))

    def read_stream(self, key: str) -> int:
        """Receive an OpenStream, decode the last frame only, and return the number of received bytes."""
        stub: Any = self._channel.unary_stream("/artifact.ArtifactService/OpenStream")
        request = pb.OpenStreamRequest(artifact=_artifact(key)).SerializeToString()
        size, frame = 0, b""
        for frame in stub(request, timeout=_PATIENCE):
            size += len(frame)
        if error := pb.OpenStreamResponse.FromString(frame).error:
            raise RuntimeError(error)
        return size

    def _ask(self, operation: str, request: Any, answer: Any) -> Any:
        stub = self._channel.unary_unary(
            f"/artifact.ArtifactService/{operation}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return stub(request, timeout=_PATIENCE)


def median_seconds(calls: int, ask: Callable[[], object]) -> float:
    """Return the median time of `calls` calls of `ask`."""
    seconds = []
    for _ in range(calls):
        began = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def _artifact(key: str) -> pb.Artifact:
    return pb.Artifact(name="main", plugin=pb.PluginArtifact(name="bench", configuration="{}", key=key))


def _frames(key: str, path: Path) -> Iterator[bytes]:
    yield pb.SaveStreamArtifactRequest(output_artifact=_artifact(key)).SerializeToString()
    with path.open("rb") as file:
        while data := file.read(_FRAME):
            yield wire.chunk_frame(data)


def _require(answer: Any) -> None:
    if not answer.success:
        raise RuntimeError(answer.error)
