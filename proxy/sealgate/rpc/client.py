"""The source `Downstream`: another artifact plugin, reached as a gRPC client over the second Unix socket.

A downstream is not trusted. Its messages are bounded in size, and its report of success is not believed without proof.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from typing_extensions import override

from sealgate.argo import LARGEST_CHUNK, METHODS
from sealgate.call import Call, Operation
from sealgate.errors import (
    AlreadyStored,
    DataLoss,
    DeadlineExceeded,
    DownstreamStatus,
    LimitReached,
    PluginError,
    Refused,
    Unavailable,
)
from sealgate.log_event import LogEvent
from sealgate.plugin import Artifact, ArtifactPlugin, Capabilities, Chunk
from sealgate.rpc import artifact_pb2 as pb
from sealgate.rpc import wire
from sealgate.rpc.edge import CREATE_ONLY, LARGEST_ANSWER, LARGEST_ANSWER_METADATA, UPLOAD_END
from sealgate.rpc.endpoint import Endpoint
from sealgate.rpc.observer import ON_ONE_THREAD, CallChannel
from sealgate.rpc.streams import WINDOW

log = logging.getLogger("sealgate.downstream")

_OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_ANSWER),
    ("grpc.max_send_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ON_ONE_THREAD,
    # A fixed window: by default gRPC grows it to megabytes for each stream whose reader is slow.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", WINDOW),
)
# This process also lists to decide, to save and to delete: an answer may be larger than Argo accepts of this process.
_OWN_METADATA = ((LARGEST_ANSWER_METADATA, str(LARGEST_ANSWER)),)
_SAYS = "downstream"
_LIBRARY_TEXTS = (
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
"""The beginnings of the status texts that gRPC itself makes when no answer came. Nothing else marks them."""
_TOO_LARGE = "Received message larger than max"
"""Part of such a text, for a message of more than `LARGEST_ANSWER` bytes."""
_TOO_MUCH_METADATA = "received metadata size exceeds"
"""Part of such a text, for a status or other metadata that are longer than gRPC accepts, 16 KiB."""
_LONGEST_TEXT = 2048
"""Bytes of a downstream's text that an error repeats. gRPC sends a status of this length even if it escapes it all."""

M = TypeVar("M", bound=Message)
_Marks = tuple[tuple[str, str], ...]
"""Metadata of this process's own."""


class Downstream(ArtifactPlugin):
    """The plugin that serves at `endpoint`.

    Args:
        endpoint: the downstream's socket.
        plugin_name: the plugin's name in every artifact that is sent to it; None to send the name of the request.
        instrument: returns an instrumented channel for the channel that it is given.
    """

    def __init__(
        self, endpoint: Endpoint, plugin_name: str | None = None, *, instrument: Callable[[Any], Any] | None = None
    ) -> None:
        self._endpoint = endpoint
        self._instrument: Callable[[Any], Any] = instrument or (lambda channel: channel)
        self._plugin_name = plugin_name
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._marks_uploads = False
        """Whether the downstream knows `UPLOAD_END`; it has said so in its answer to GetCapabilities."""
        self._creates: bool | None = None
        """Whether the downstream knows `CREATE_ONLY`; None until it has answered GetCapabilities."""
        self._warned = False
        # A process that the downstream left behind may hold its connections open, and would never answer.
        endpoint.on_end(self._disconnect)

    @override
    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        """Ask the downstream to create `path`. The caller has to check that it did."""
        request = pb.LoadArtifactRequest(input_artifact=self._named(call, artifact), path=str(path))
        self._unary(call, Operation.LOAD, request, pb.LoadArtifactResponse)

    @override
    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        request = pb.SaveArtifactRequest(output_artifact=self._named(call, artifact), path=str(path))
        self._unary(call, Operation.SAVE, request, pb.SaveArtifactResponse, self._create_only(call))

    @override
    def delete(self, call: Call, artifact: Artifact) -> None:
        request = pb.DeleteArtifactRequest(artifact=self._named(call, artifact))
        self._unary(call, Operation.DELETE, request, pb.DeleteArtifactResponse)

    @override
    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        request = pb.ListObjectsRequest(artifact=self._named(call, artifact))
        return list(self._unary(call, Operation.LIST_OBJECTS, request, pb.ListObjectsResponse).objects)

    @override
    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        request = pb.IsDirectoryRequest(artifact=self._named(call, artifact))
        return self._unary(call, Operation.IS_DIRECTORY, request, pb.IsDirectoryResponse).is_directory

    @override
    def get_capabilities(self, call: Call) -> Capabilities:
        """Ask for the optional operations. A plugin that does not implement this RPC has no SaveStream."""
        try:
            request = pb.GetCapabilitiesRequest()
            with self._unary_rpc(call, Operation.GET_CAPABILITIES, request) as rpc:
                answer = _accepted(_parse(pb.GetCapabilitiesResponse, rpc.result()))
                trailing = [(name, value) for name, value in rpc.trailing_metadata() or ()]
                self._marks_uploads = UPLOAD_END in trailing
                offered = wire.capabilities_from(answer, trailing)
                self._creates = offered.creates
                return offered
        except DownstreamStatus as status:
            if status.code == "UNIMPLEMENTED":
                self._creates = False
                return Capabilities(save_stream=False)
            raise

    @override
    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        """Yield the data of all frames, including that of a frame which also ends the stream."""
        request = pb.OpenStreamRequest(artifact=self._named(call, artifact)).SerializeToString()
        with self._rpc(call) as channel:
            stub = self._instrument(channel).unary_stream(f"{METHODS}{Operation.OPEN_STREAM}")
            stream = stub(request, **_rpc_options(call))
            if isinstance(stream, Generator):
                channel.on_end(stream.close)
            for frame in stream:
                data = wire.data_of(frame)
                if data is not None:
                    yield data
                    continue
                answer = _accepted(_parse(pb.OpenStreamResponse, frame))
                if answer.data:
                    yield answer.data
                if answer.is_end:
                    return

    @override
    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        """Send the chunks as frames. A downstream that reports success before it has all of them failed."""
        first = pb.SaveStreamArtifactRequest(output_artifact=self._named(call, artifact)).SerializeToString()
        create_only, marked = self._create_only(call), self._marks_uploads
        own = (*create_only, UPLOAD_END) if marked else create_only
        with _SentUpload(first, chunks, marked=marked) as upload, self._rpc(call, own) as channel:
            stub = self._instrument(channel).stream_unary(f"{METHODS}{Operation.SAVE_STREAM}")
            future = stub.future(upload.frames(), **_rpc_options(call))
            try:
                _accepted(_parse(pb.SaveArtifactResponse, future.result()))
            except (grpc.RpcError, grpc.FutureCancelledError):
                if upload.fault is not None:
                    raise upload.fault from None  # the cause, instead of gRPC's report of a broken stream
                raise
            if not upload.complete:
                raise DataLoss("the downstream reported success before it had the whole artifact", says=_SAYS)

    def close(self) -> None:
        """Close the connection and the endpoint."""
        self._disconnect()
        self._endpoint.close()

    def _disconnect(self) -> None:
        """Close the connection. Calls that wait for an answer on it fail."""
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()

    def _named(self, call: Call, artifact: Artifact) -> pb.Artifact:
        self._endpoint.conceal(artifact.configuration)
        if call.hides(artifact.key):
            self._endpoint.conceal_key(artifact.key)
        return wire.artifact_to(replace(artifact, plugin=self._plugin_name) if self._plugin_name else artifact)

    def _create_only(self, call: Call) -> _Marks:
        """Return the metadata for a write that must not replace anything, if the downstream knows it."""
        if not call.only_new:
            return ()
        if self._creates is None:
            self.get_capabilities(call)
        if not self._creates and not self._warned:
            self._warned = True
            log.warning(
                LogEvent(
                    "the downstream has no create-only writes",
                    effect="overwrite: deny checks before it writes, and two Saves of one key at once may both succeed",
                )
            )
        return (CREATE_ONLY,) if self._creates else ()

    def _unary(self, call: Call, operation: Operation, request: Message, answer: type[M], own: _Marks = ()) -> M:
        with self._unary_rpc(call, operation, request, own) as rpc:
            return _accepted(_parse(answer, rpc.result()))

    @contextmanager
    def _unary_rpc(self, call: Call, operation: Operation, request: Message, own: _Marks = ()) -> Iterator[Any]:
        """Begin an RPC with one request and one answer; yield its `grpc.Future`."""
        with self._rpc(call, own) as channel:
            stub = self._instrument(channel).unary_unary(f"{METHODS}{operation}")
            yield stub.future(request.SerializeToString(), **_rpc_options(call))

    @contextmanager
    def _rpc(self, call: Call, own: tuple[tuple[str, str], ...] = ()) -> Iterator[CallChannel]:
        """Yield a channel for one RPC. At the end of the body the RPC is cancelled and its ending is reported.

        Args:
            call: the call that the RPC is for.
            own: metadata to send beside the call's.
        """
        rpc_channel: CallChannel | None = None
        ended_with: BaseException | None = None
        try:
            with self._connection(call) as channel:
                rpc_channel = CallChannel(channel, call, (*_OWN_METADATA, *own))
                yield rpc_channel
        except BaseException as error:
            ended_with = error
            raise
        finally:
            if rpc_channel is not None:
                rpc_channel.end(ended_with)

    @contextmanager
    def _connection(self, call: Call) -> Iterator[grpc.Channel]:
        """Yield a channel once the downstream serves. A gRPC error in the body becomes a `PluginError`."""
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
        except ValueError:  # gRPC's report that another call, whose connection broke, has closed the channel
            with self._lock:
                is_open = self._channel is channel
            if is_open:
                raise
            raise self._lost(channel) from None

    def _error_of(self, error: Any, call: Call, channel: grpc.Channel) -> PluginError:
        code: grpc.StatusCode = error.code()
        text: str = error.details() or ""
        if not text.startswith(_LIBRARY_TEXTS):
            if call.only_new and self._creates and code is grpc.StatusCode.ALREADY_EXISTS:
                return AlreadyStored(says=_SAYS)
            return DownstreamStatus(code.name, _cut(text))
        call.check()
        if _TOO_MUCH_METADATA in text:
            return LimitReached(
                "the downstream refused with a text that is longer than gRPC accepts", says=_SAYS, remedy="See its log"
            )
        if _TOO_LARGE in text:
            return LimitReached(f"the downstream sent more than {LARGEST_ANSWER} bytes in one message", says=_SAYS)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineExceeded("the caller's deadline passed while the downstream worked")
        return self._lost(channel)

    def _lost(self, channel: grpc.Channel) -> Unavailable:
        # The next call opens a new channel, because the old one would wait for its own backoff.
        self._endpoint.connection_lost()
        with self._lock:
            if self._channel is channel:
                self._channel = None
        channel.close()
        return self._endpoint.broken()


class _SentUpload(AbstractContextManager["_SentUpload"]):
    """The frames of a SaveStream, and whether gRPC has taken all of them.

    gRPC drops the frames some time after the call. So the generator of the chunks is closed here, at the end of the
    call. If a thread of gRPC is taking a chunk at that moment, that thread closes it afterwards.

    Args:
        first: the first frame.
        chunks: what the others contain.
        marked: whether an empty frame follows the last chunk (`rpc.edge.UPLOAD_END`).
    """

    def __init__(self, first: bytes, chunks: Iterator[Chunk], *, marked: bool) -> None:
        self._marked = marked
        self._first = first
        self._chunks = chunks
        self._taking = threading.Lock()
        self._ended = False
        self.complete = False
        """Whether gRPC has taken the last frame."""
        self.fault: BaseException | None = None
        """The exception of the chunks, if they failed."""

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._close_idle()

    def _close_idle(self) -> None:
        if isinstance(self._chunks, Generator) and self._taking.acquire(blocking=False):
            try:
                self._chunks.close()
            finally:
                self._taking.release()

    def _taken(self) -> Iterator[Chunk]:
        while True:
            with self._taking:
                chunk = next(self._chunks, None)
            if self._ended:
                self._close_idle()
            if chunk is None or self._ended:
                return
            yield chunk

    def frames(self) -> Iterator[bytes]:
        """Yield frames of at most 2 MiB of data. If the chunks fail, the stream breaks instead of ending."""
        try:
            yield self._first
            for chunk in self._taken():
                view = memoryview(chunk)
                for start in range(0, len(view), LARGEST_CHUNK):
                    yield wire.chunk_frame(view[start : start + LARGEST_CHUNK])
            if self._marked and not self._ended:
                yield b""
        except Exception as fault:
            self.fault = fault
            raise
        self.complete = not self._ended


def _rpc_options(call: Call) -> dict[str, Any]:
    return {"timeout": call.remaining(), "metadata": call.metadata}


def _parse(kind: type[M], message: bytes | None) -> M:
    with suppress(PluginError):
        if message is not None:
            return wire.parse(kind, message)
    raise Unavailable("the downstream's answer is not a message of Argo's contract", says=_SAYS)


def _accepted(answer: M) -> M:
    """Return `answer`.

    Raises:
        Refused: it says `success: false`, or has an error if its type has no field `success`.
    """
    message: Any = answer
    fields = message.DESCRIPTOR.fields_by_name
    if not message.success if "success" in fields else "error" in fields and message.error:
        raise Refused(_cut(message.error))
    return answer


def _cut(text: str) -> str:
    """Return a downstream's text as an error repeats it: at most `_LONGEST_TEXT` bytes of it."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= _LONGEST_TEXT:
        return text
    return f"{encoded[:_LONGEST_TEXT].decode(errors='ignore')}… (cut; the downstream sent {len(encoded)} bytes)"
