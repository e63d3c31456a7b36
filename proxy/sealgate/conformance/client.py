"""A client of an artifact plugin that takes answers as Argo's does (docs/argo-contract.md, "Messages and errors").

It hides nothing: it repairs no answer of a plugin, and repeats no call.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message

from sealgate.argo import METHODS
from sealgate.rpc import artifact_pb2 as pb

IN_ANSWER = "in the answer"
"""The code of a failure that the message of the answer reports, and not a gRPC status."""
_LARGEST_RECEIVED = 64 << 20
"""Bytes. Larger than Argo accepts, so that a check can say how large a message is."""
_OPTIONS = (
    ("grpc.max_receive_message_length", _LARGEST_RECEIVED),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    # A window of fixed size: a reader that stops then stops the plugin after little data.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1 << 16),
)

M = TypeVar("M", bound=Message)


class CallFailed(Exception):
    """A call failed, as Argo sees it: by a gRPC status, or by the message of the answer.

    Args:
        operation: the name of the RPC.
        code: the name of the status, or `IN_ANSWER`.
        text: the plugin's text, which can be anything.
    """

    def __init__(self, operation: str, code: str, text: str) -> None:
        super().__init__(operation)
        self.operation = operation
        self.code = code
        self.text = text

    def __str__(self) -> str:
        """Return a sentence for the report."""
        status = "" if self.code == IN_ANSWER else f" with {self.code}"
        return f"{self.operation} failed{status}: {self.text or 'there was no text'}"


class ArgoClient:
    """A client on one connection, which `close` ends.

    Args:
        socket: the plugin's socket.
        configuration: what an artifact carries as `plugin.configuration`.
        plugin: the plugin's name, which an artifact carries as well.
        seconds: the time limit of each call. Argo itself sets none.
    """

    def __init__(self, socket: str, configuration: str, plugin: str, seconds: float) -> None:
        self.socket = socket
        self.configuration = configuration
        self.plugin = plugin
        self.seconds = seconds
        self.channel = grpc.insecure_channel(f"unix:{socket}", options=_OPTIONS)

    def close(self) -> None:
        """Close the connection."""
        self.channel.close()

    def on_its_own_connection(self) -> ArgoClient:
        """Return the same client on a connection of its own."""
        return ArgoClient(self.socket, self.configuration, self.plugin, self.seconds)

    def connect(self, seconds: float) -> None:
        """Wait until the connection is ready.

        Raises:
            CallFailed: it is not ready within `seconds`.
        """
        try:
            grpc.channel_ready_future(self.channel).result(seconds)
        except grpc.FutureTimeoutError:
            raise CallFailed("the connection", "UNAVAILABLE", f"HTTP/2 was not ready within {seconds:g} s") from None

    def artifact(self, key: str, name: str = "main", **fields: Any) -> pb.Artifact:
        """Return the message for the artifact `key`; `fields` are those of its `plugin`, besides the usual ones."""
        given: dict[str, Any] = {"name": self.plugin, "configuration": self.configuration, "key": key, **fields}
        return pb.Artifact(name=name, plugin=pb.PluginArtifact(**given))

    # --- the operations -----------------------------------------------------------------------------------

    def save(self, key: str, path: Path, name: str = "main") -> None:
        """Save the file or directory at `path`."""
        request = pb.SaveArtifactRequest(path=str(path), output_artifact=self.artifact(key, name))
        self._require("Save", self.unary("Save", request, pb.SaveArtifactResponse))

    def load(self, key: str, path: Path) -> None:
        """Load to `path`. Argo believes a success, so the caller has to check what is there."""
        request = pb.LoadArtifactRequest(input_artifact=self.artifact(key), path=str(path))
        self._require("Load", self.unary("Load", request, pb.LoadArtifactResponse))

    def cancelled_load(self, key: str, path: Path, seconds: float) -> None:
        """Begin a Load to `path`, and cancel it after `seconds`."""
        request = pb.LoadArtifactRequest(input_artifact=self.artifact(key), path=str(path))
        stub: Any = self.channel.unary_unary(f"{METHODS}Load")
        call = stub.future(request.SerializeToString(), timeout=self.seconds)
        time.sleep(seconds)
        call.cancel()

    def delete(self, key: str) -> None:
        """Delete once. Argo would try up to five times."""
        request = pb.DeleteArtifactRequest(artifact=self.artifact(key))
        self._require("Delete", self.unary("Delete", request, pb.DeleteArtifactResponse))

    def list_objects(self, key: str) -> list[str]:
        """Return the listing, also one that is larger than Argo accepts."""
        return list(self.listing(key).objects)

    def listing(self, key: str) -> pb.ListObjectsResponse:
        """Return the answer to ListObjects."""
        request = pb.ListObjectsRequest(artifact=self.artifact(key))
        answer = self.unary("ListObjects", request, pb.ListObjectsResponse)
        if answer.error:
            raise CallFailed("ListObjects", IN_ANSWER, answer.error)
        return answer

    def is_directory(self, key: str) -> bool:
        """Return the answer to IsDirectory."""
        request = pb.IsDirectoryRequest(artifact=self.artifact(key))
        answer = self.unary("IsDirectory", request, pb.IsDirectoryResponse)
        if answer.error:
            raise CallFailed("IsDirectory", IN_ANSWER, answer.error)
        return answer.is_directory

    def supports_save_stream(self) -> bool:
        """Return whether Argo's server would use SaveStream."""
        try:
            answer = self.unary("GetCapabilities", pb.GetCapabilitiesRequest(), pb.GetCapabilitiesResponse)
        except CallFailed as fault:
            if fault.code == "UNIMPLEMENTED":
                return False
            raise
        return answer.supports_save_stream

    def frames(self, key: str) -> OpenedStream:
        """Begin an OpenStream."""
        return OpenedStream(self, self.artifact(key))

    def frames_of(self, artifact: pb.Artifact | None) -> OpenedStream:
        """Begin an OpenStream of any message, also of none."""
        return OpenedStream(self, artifact)

    def read_stream(self, key: str) -> Iterator[bytes]:
        """Yield the data of a stream. Data beside `is_end` or `error` is kept: another check reports it."""
        with self.frames(key) as stream:
            for frame in stream:
                if frame.data:
                    yield frame.data
                if frame.error:
                    raise CallFailed("OpenStream", IN_ANSWER, frame.error)
                if frame.is_end:
                    return

    def save_stream(self, key: str, chunks: Iterable[bytes]) -> None:
        """Upload `chunks`, each in a message of its own."""
        with UploadCall(self, self.artifact(key), chunks) as upload:
            self._require("SaveStream", upload.answer())

    # --- below --------------------------------------------------------------------------------------------

    def unary(self, operation: str, request: Message, answer: type[M]) -> M:
        """Call an operation with one request, and return its answer."""
        return answer.FromString(self.raw(operation, request.SerializeToString()))

    def raw(self, operation: str, request: bytes) -> bytes:
        """Call an operation with one request as bytes, and return its answer as bytes."""
        try:
            stub: Any = self.channel.unary_unary(f"{METHODS}{operation}")
            answer: bytes = stub(request, timeout=self.seconds)
        except grpc.RpcError as error:
            raise failure(operation, error) from None
        return answer

    @staticmethod
    def _require(operation: str, answer: Any) -> None:
        if not answer.success:
            raise CallFailed(operation, IN_ANSWER, answer.error)


class OpenedStream:
    """An OpenStream, which leaving the `with` statement cancels."""

    def __init__(self, client: ArgoClient, artifact: pb.Artifact | None) -> None:
        stub: Any = client.channel.unary_stream(f"{METHODS}OpenStream")
        self._call = stub(pb.OpenStreamRequest(artifact=artifact).SerializeToString(), timeout=client.seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._call.cancel()

    def __iter__(self) -> Iterator[pb.OpenStreamResponse]:
        """Yield the messages.

        Raises:
            CallFailed: the stream ended with a status.
        """
        try:
            for frame in self._call:
                yield pb.OpenStreamResponse.FromString(frame)
        except grpc.RpcError as error:
            raise failure("OpenStream", error) from None


class UploadCall:
    """A SaveStream: first a message with the artifact, then one for each chunk, then the end of the stream.

    Args:
        client: the client whose connection it uses.
        artifact: what the first message contains.
        chunks: may block; leaving the `with` statement cancels the call, and does not wait for them.
    """

    def __init__(self, client: ArgoClient, artifact: pb.Artifact, chunks: Iterable[bytes]) -> None:
        self._first = pb.SaveStreamArtifactRequest(output_artifact=artifact)
        self._chunks = chunks
        stub: Any = client.channel.stream_unary(f"{METHODS}SaveStream")
        self._call = stub.future(self._frames(), timeout=client.seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._call.cancel()

    def _frames(self) -> Iterator[bytes]:
        yield self._first.SerializeToString()
        for chunk in self._chunks:
            yield pb.SaveStreamArtifactRequest(chunk=chunk).SerializeToString()

    def answer(self, seconds: float | None = None) -> pb.SaveArtifactResponse:
        """Wait up to `seconds` for the answer; None for the client's own time limit.

        Raises:
            CallFailed: the call ended with a status.
            TimeoutError: there is no answer yet.
        """
        try:
            return pb.SaveArtifactResponse.FromString(self._call.result(seconds))
        except grpc.RpcError as error:
            raise failure("SaveStream", error) from None
        except grpc.FutureTimeoutError:
            raise TimeoutError from None


def failure(operation: str, error: grpc.RpcError) -> CallFailed:
    """Return the failure that a status of gRPC is."""
    call: Any = error
    return CallFailed(operation, call.code().name, call.details() or "")
