"""A client of a plugin that checks answers in the same order as Argo's (docs/argo-contract.md)."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import grpc

from sealgate.rpc import artifact_pb2 as pb

CONFIGURATION = "{}"  # Argo requires a configuration that is not empty
FRAME = 2 << 20


class Failed(Exception):
    """The answer of a call reports a failure: `success: false`, or an `error`."""


class Argo:
    """A client that opens a connection for each operation, like Argo's, and closes them all in `close`."""

    def __init__(self, socket: Path, configuration: str = CONFIGURATION, timeout: float | None = 60) -> None:
        self._socket = socket
        self._configuration = configuration
        self._timeout = timeout
        self.channels: list[grpc.Channel] = []

    def close(self) -> None:
        for channel in self.channels:
            channel.close()
        self.channels.clear()

    def load(self, key: str, path: Path) -> None:
        request = pb.LoadArtifactRequest(input_artifact=self.artifact(key), path=str(path))
        self._require(self.unary("Load", request, pb.LoadArtifactResponse))

    def save(self, key: str, path: Path) -> None:
        request = pb.SaveArtifactRequest(output_artifact=self.artifact(key), path=str(path))
        self._require(self.unary("Save", request, pb.SaveArtifactResponse))

    def delete(self, key: str) -> None:
        self._require(
            self.unary("Delete", pb.DeleteArtifactRequest(artifact=self.artifact(key)), pb.DeleteArtifactResponse)
        )

    def list_objects(self, key: str) -> list[str]:
        request = pb.ListObjectsRequest(artifact=self.artifact(key))
        answer = self.unary("ListObjects", request, pb.ListObjectsResponse)
        if answer.error:
            raise Failed(answer.error)
        return list(answer.objects)

    def is_directory(self, key: str) -> bool:
        request = pb.IsDirectoryRequest(artifact=self.artifact(key))
        answer = self.unary("IsDirectory", request, pb.IsDirectoryResponse)
        if answer.error:
            raise Failed(answer.error)
        return answer.is_directory

    def open_stream(self, key: str) -> bytes:
        return b"".join(self.stream(key))

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the data that Argo would pass on: it checks for an error, then for the end, then for data."""
        for frame in self.frames(key):
            if frame.error:
                raise Failed(frame.error)
            if frame.is_end:
                return
            yield frame.data

    def frames(self, key: str) -> Iterator[pb.OpenStreamResponse]:
        request = pb.OpenStreamRequest(artifact=self.artifact(key))
        stub = self.channel().unary_stream(
            "/artifact.ArtifactService/OpenStream",
            request_serializer=pb.OpenStreamRequest.SerializeToString,
            response_deserializer=pb.OpenStreamResponse.FromString,
        )
        return stub(request, timeout=self._timeout)

    def save_stream(self, key: str, chunks: Iterable[bytes] | bytes) -> None:
        """Upload bytes in frames of 2 MiB, as Argo does, or each of `chunks` in a frame of its own.

        Like Argo's client, it fails with `EOF` if an answer, and not a status, comes before it has sent all frames.
        """
        if isinstance(chunks, bytes):
            chunks = [chunks[start : start + FRAME] for start in range(0, len(chunks), FRAME)]
        sent = threading.Event()

        def frames() -> Iterator[pb.SaveStreamArtifactRequest]:
            yield pb.SaveStreamArtifactRequest(output_artifact=self.artifact(key))
            for chunk in chunks:
                yield pb.SaveStreamArtifactRequest(chunk=chunk)
            sent.set()

        answer = self.raw_save_stream(frames())
        if not sent.is_set():
            raise Failed("EOF")
        self._require(answer)

    def raw_save_stream(self, frames: Iterator[pb.SaveStreamArtifactRequest]) -> pb.SaveArtifactResponse:
        stub = self.channel().stream_unary(
            "/artifact.ArtifactService/SaveStream",
            request_serializer=pb.SaveStreamArtifactRequest.SerializeToString,
            response_deserializer=pb.SaveArtifactResponse.FromString,
        )
        return stub(frames, timeout=self._timeout)

    @staticmethod
    def begin_save_stream(channel: grpc.Channel, frames: Iterator[pb.SaveStreamArtifactRequest]):
        """Begin an upload that the caller can cancel."""
        stub = channel.stream_unary(
            "/artifact.ArtifactService/SaveStream",
            request_serializer=pb.SaveStreamArtifactRequest.SerializeToString,
            response_deserializer=pb.SaveArtifactResponse.FromString,
        )
        return stub.future(frames)

    def supports_save_stream(self) -> bool:
        try:
            answer = self.unary("GetCapabilities", pb.GetCapabilitiesRequest(), pb.GetCapabilitiesResponse)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return False
            raise
        return answer.supports_save_stream

    def artifact(self, key: str, name: str = "main") -> pb.Artifact:
        plugin = pb.PluginArtifact(name="crypt", configuration=self._configuration, key=key)
        return pb.Artifact(name=name, plugin=plugin)

    def unary(self, method, request, answer, metadata=(), timeout=None):
        return self._stub(method, request, answer)(request, timeout=timeout or self._timeout, metadata=metadata)

    def begin(self, method, request, answer):
        """Begin a call that the caller can cancel."""
        return self._stub(method, request, answer).future(request, timeout=self._timeout)

    def raw(self, method: str, message: bytes, metadata=()) -> bytes:
        """Call `method` with bytes that need not be a valid message."""
        stub = self.channel().unary_unary(f"/artifact.ArtifactService/{method}")
        return stub(message, timeout=self._timeout, metadata=metadata)

    def _stub(self, method, request, answer):
        return self.channel().unary_unary(
            f"/artifact.ArtifactService/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )

    def channel(self) -> grpc.Channel:
        channel = grpc.insecure_channel(f"unix:{self._socket}", options=[("grpc.use_local_subchannel_pool", 1)])
        self.channels.append(channel)
        return channel

    @staticmethod
    def _require(answer) -> None:
        if not answer.success:
            raise Failed(answer.error)
