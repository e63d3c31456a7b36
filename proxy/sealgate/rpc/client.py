"""A downstream plugin as an `ArtifactPlugin`: the gRPC client on the second Unix socket.

A downstream is hostile until proven otherwise: what it sends is bounded, and that it says it is done does
not mean that it is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from typing_extensions import override

from sealgate.call import Call, Operation
from sealgate.errors import (
    DataLoss,
    DeadlineExceeded,
    DownstreamStatus,
    LimitReached,
    PluginError,
    Refused,
    Unavailable,
)
from sealgate.plugin import Artifact, ArtifactPlugin, Capabilities, Chunk
from sealgate.rpc import artifact_pb2 as pb
from sealgate.rpc import wire
from sealgate.rpc.endpoint import Endpoint
from sealgate.rpc.watched import Underneath

LARGEST_ANSWER = 16 << 20
"""More than Argo itself would take of a plugin, so that an answer too large for Argo gets our text."""
_OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_ANSWER),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)
_PREFIX = "/artifact.ArtifactService/"
_SAYS = "downstream"
_OF_THE_LIBRARY = (
    "failed to connect to all addresses",
    "Stream removed",
    "Socket closed",
    "Deadline Exceeded",
    "Channel closed",
    "Exception iterating requests",
    "Cancelling all calls",
    "Locally cancelled",
    "Connection reset",
    "Broken pipe",
    "Endpoint closing",
    "GOAWAY",
    "recvmsg",
    "sendmsg",
)
"""How the texts begin that the library makes up when no answer came; it marks them in no other way."""

M = TypeVar("M", bound=Message)


class Downstream(ArtifactPlugin):
    """The plugin at `endpoint`, told that its name is `plugin_name` where one is given.

    Args:
        shown: makes a channel whose calls are looked at out of another.
    """

    def __init__(
        self, endpoint: Endpoint, plugin_name: str | None = None, *, shown: Callable[[Any], Any] | None = None
    ) -> None:
        self._endpoint = endpoint
        self._shown: Callable[[Any], Any] = shown or (lambda channel: channel)
        self._plugin_name = plugin_name
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None

    @override
    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        """That something lies at `path` afterwards is for the caller to see."""
        request = pb.LoadArtifactRequest(input_artifact=self._named(artifact), path=str(path))
        self._ask(call, Operation.LOAD, request, pb.LoadArtifactResponse)

    @override
    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        request = pb.SaveArtifactRequest(output_artifact=self._named(artifact), path=str(path))
        self._ask(call, Operation.SAVE, request, pb.SaveArtifactResponse)

    @override
    def delete(self, call: Call, artifact: Artifact) -> None:
        request = pb.DeleteArtifactRequest(artifact=self._named(artifact))
        self._ask(call, Operation.DELETE, request, pb.DeleteArtifactResponse)

    @override
    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        request = pb.ListObjectsRequest(artifact=self._named(artifact))
        return list(self._ask(call, Operation.LIST_OBJECTS, request, pb.ListObjectsResponse).objects)

    @override
    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        request = pb.IsDirectoryRequest(artifact=self._named(artifact))
        return self._ask(call, Operation.IS_DIRECTORY, request, pb.IsDirectoryResponse).is_directory

    @override
    def get_capabilities(self, call: Call) -> Capabilities:
        """A plugin older than the question has no SaveStream."""
        try:
            answer = self._ask(
                call, Operation.GET_CAPABILITIES, pb.GetCapabilitiesRequest(), pb.GetCapabilitiesResponse
            )
        except DownstreamStatus as status:
            if status.code == "UNIMPLEMENTED":
                return Capabilities(save_stream=False)
            raise
        return Capabilities(save_stream=answer.supports_save_stream)

    @override
    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        """Data in the frame that ends the stream is kept."""
        request = pb.OpenStreamRequest(artifact=self._named(artifact)).SerializeToString()
        with self._asking(call) as underneath:
            stub = self._shown(underneath).unary_stream(f"{_PREFIX}{Operation.OPEN_STREAM}")
            stream = stub(request, **_terms(call))
            if isinstance(stream, Generator):
                underneath.at_end(stream.close)
            for frame in stream:
                data = wire.data_of(frame)
                if data is not None:
                    yield data
                    continue
                answer = _unrefused(_answer(pb.OpenStreamResponse, frame))
                if answer.data:
                    yield answer.data
                if answer.is_end:
                    return

    @override
    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        """A downstream that confirms before it has all of it is not believed."""
        sent = _Sent(pb.SaveStreamArtifactRequest(output_artifact=self._named(artifact)).SerializeToString(), chunks)
        with sent, self._asking(call) as underneath:
            stub = self._shown(underneath).stream_unary(f"{_PREFIX}{Operation.SAVE_STREAM}")
            answering = stub.future(sent.frames(), **_terms(call))
            try:
                _unrefused(_answer(pb.SaveArtifactResponse, answering.result()))
            except (grpc.RpcError, grpc.FutureCancelledError):
                if sent.fault is not None:
                    raise sent.fault from None  # why the stream stopped, not that it did
                raise
            if not sent.whole:
                raise DataLoss("the downstream reported success before it had the whole artifact", says=_SAYS)

    def close(self) -> None:
        """Let go of the connection and of the downstream."""
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        self._endpoint.close()

    def _named(self, artifact: Artifact) -> pb.Artifact:
        return wire.artifact_to(replace(artifact, plugin=self._plugin_name) if self._plugin_name else artifact)

    def _ask(self, call: Call, operation: Operation, request: Message, answer: type[M]) -> M:
        with self._asking(call) as underneath:
            stub = self._shown(underneath).unary_unary(f"{_PREFIX}{operation}")
            answering = stub.future(request.SerializeToString(), **_terms(call))
            return _unrefused(_answer(answer, answering.result()))

    @contextmanager
    def _asking(self, call: Call) -> Iterator[Underneath]:
        """A channel for one RPC. However that ends, it is over then, and whoever looks at it is told how."""
        underneath: Underneath | None = None
        ended: BaseException | None = None
        try:
            with self._connection(call) as channel:
                underneath = Underneath(channel, call)
                yield underneath
        except BaseException as error:
            ended = error
            raise
        finally:
            if underneath is not None:
                underneath.ended(ended)

    @contextmanager
    def _connection(self, call: Call) -> Iterator[grpc.Channel]:
        """A channel to the downstream once it can be reached; every way for a call on it to fail gets a name."""
        self._endpoint.await_ready(call)
        with self._lock:
            if self._channel is None:
                self._channel = grpc.insecure_channel(f"unix:{self._endpoint.path}", options=_OPTIONS)
            channel = self._channel
        try:
            yield channel
        except grpc.FutureCancelledError:
            call.check()
            raise self._lost(channel) from None
        except grpc.RpcError as error:
            raise self._error_of(error, call, channel) from None

    def _error_of(self, error: Any, call: Call, channel: grpc.Channel) -> PluginError:
        code: grpc.StatusCode = error.code()
        text: str = error.details() or ""
        if not text.startswith(_OF_THE_LIBRARY):
            return DownstreamStatus(code.name, text)
        call.check()
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return LimitReached(f"the downstream sent more than {LARGEST_ANSWER} bytes in one message", says=_SAYS)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded("the caller's deadline passed while the downstream worked")
        return self._lost(channel)

    def _lost(self, channel: grpc.Channel) -> Unavailable:
        # A new connection is not bound to the old one's backoff.
        self._endpoint.lost()
        with self._lock:
            if self._channel is channel:
                self._channel = None
        channel.close()
        return Unavailable(
            "the connection to the downstream broke before it answered",
            remedy="Look at the downstream's log lines; the operation may be repeated",
        )


class _Sent(AbstractContextManager["_Sent"]):
    """The frames of a SaveStream, and whether the last of them was asked for.

    At its end the chunks are closed, so that their maker does not wait for who forgets them: the library does so some
    time after the call. It may be at work on one just then, and closes them itself once it has it.
    """

    def __init__(self, first: bytes, chunks: Iterator[Chunk]) -> None:
        self._first = first
        self._chunks = chunks
        self._at_work = threading.Lock()
        self._over = False
        self.whole = False
        self.fault: BaseException | None = None

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._close_idle()

    def _close_idle(self) -> None:
        if isinstance(self._chunks, Generator) and self._at_work.acquire(blocking=False):
            try:
                self._chunks.close()
            finally:
                self._at_work.release()

    def _each(self) -> Iterator[Chunk]:
        while True:
            with self._at_work:
                chunk = next(self._chunks, None)
            if self._over:
                self._close_idle()
            if chunk is None or self._over:
                return
            yield chunk

    def frames(self) -> Iterator[bytes]:
        """Frames of at most 2 MiB. If the chunks fail, the stream breaks instead of ending."""
        try:
            yield self._first
            for chunk in self._each():
                view = memoryview(chunk)
                for start in range(0, len(view), wire.LARGEST_CHUNK):
                    yield wire.chunk_frame(view[start : start + wire.LARGEST_CHUNK])
        except Exception as fault:
            self.fault = fault
            raise
        self.whole = not self._over


def _terms(call: Call) -> dict[str, Any]:
    return {"timeout": call.remaining(), "metadata": call.metadata}


def _answer(kind: type[M], message: bytes) -> M:
    try:
        return wire.parse(kind, message)
    except PluginError:
        raise Unavailable("the downstream answered what is no message of Argo's contract", says=_SAYS) from None


def _unrefused(answer: M) -> M:
    """The answer, unless it is a refusal: one is no success, or has an error where it cannot say that."""
    found: Any = answer
    fields = found.DESCRIPTOR.fields_by_name
    if not found.success if "success" in fields else "error" in fields and found.error:
        raise Refused(found.error)
    return answer
