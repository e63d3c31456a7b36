"""The edge: carries a gRPC call to the plugin and its result back, and turns every failure into a named error.

The caller gets a status and one line of text. It never gets the text of a library's exception.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import grpc

from sealgate.argo import LARGEST_MESSAGE
from sealgate.call import Call, Operation, current_call, logged_key
from sealgate.errors import DownstreamStatus, LimitReached, PluginError, Refused, out_of_descriptors
from sealgate.log_event import LogEvent, where_raised
from sealgate.plugin import Artifact, ArtifactPlugin
from sealgate.rpc.observer import CallObserver, FindObserver, call_status, error_status
from sealgate.rpc.running import RunningCalls, caller_left
from sealgate.rpc.streams import Streams
from sealgate.rpc.upload import Upload, artifact_and_chunks

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message

log = logging.getLogger("sealgate.call")

LARGEST_ANSWER = 32 << 20
"""The largest answer in bytes that a plugin may send to a caller who asks for more than Argo accepts. It holds the keys
of 100,000 objects with 330 bytes each."""
LARGEST_ANSWER_METADATA = "sealgate-largest-answer"
"""The metadata of a request that gives the number of bytes which the caller accepts in an answer. Argo sends none."""
UPLOAD_END = ("sealgate-upload-end", "1")
"""In the metadata of a SaveStream it says that the last frame is empty: a stream without that frame was cut off. In the
trailing metadata of GetCapabilities it says that the plugin knows this. Argo sends neither."""
CREATE_ONLY = ("sealgate-create-only", "1")
"""Metadata of a Save or a SaveStream that must not replace anything. If something is stored, the answer is the status
ALREADY_EXISTS."""
_LONGEST_STATUS = 1024
"""Characters of a refusal that is sent as a status. A text in the answer itself may have any length."""
_NO_DEADLINE = 10 * 365 * 86_400
"""From this many seconds on, a deadline counts as none. gRPC reports one even if the caller set none."""
_LONGEST_NUMBER = 12
"""Digits."""


class Edge:
    """Carries gRPC calls to a plugin and their results back.

    Args:
        plugin: what carries out the calls.
        find_observer: returns the observer of the calls.
        streams: the open streams of the server.
        running: the calls of the server.
    """

    def __init__(
        self,
        plugin: ArtifactPlugin,
        find_observer: FindObserver,
        streams: Streams,
        running: RunningCalls,
    ) -> None:
        self._streams = streams
        self._running = running
        self._plugin = plugin
        self._find_observer = find_observer

    def unary(self, operation: Operation) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        """Return the handler of an RPC with one request and one answer."""

        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            answer: Message | None = None
            with self._begin(operation, context) as rpc:
                answer = self._answer(rpc, request)
            if rpc.refusal is not None:
                answer = rpc.answer_type()(error=rpc.refusal)
            return answer.SerializeToString() if answer else rpc.abort()

        return handle

    def _begin(self, operation: Operation, context: grpc.ServicerContext) -> _ServedRpc:
        rpc = _ServedRpc(operation, context, self._find_observer(operation))
        self._running.begin(context, rpc.call)
        if rpc.call.only_new:  # the mark counts only for a plugin that offers such writes
            rpc.call.only_new = False
            with contextlib.suppress(PluginError):
                rpc.call.only_new = self._plugin.get_capabilities(rpc.call).creates
        return rpc

    def _answer(self, rpc: _ServedRpc, message: bytes) -> Message:
        from sealgate.rpc import artifact_pb2 as pb  # noqa: PLC0415 - off the path to the socket
        from sealgate.rpc import wire  # noqa: PLC0415 - off the path to the socket

        call, plugin = rpc.call, self._plugin
        match call.operation:
            case Operation.GET_CAPABILITIES:
                wire.parse(pb.GetCapabilitiesRequest, message)
                offered = plugin.get_capabilities(call)
                rpc.send_trailing((*wire.capabilities_metadata(offered), UPLOAD_END))
                return pb.GetCapabilitiesResponse(supports_save_stream=offered.save_stream)
            case Operation.LOAD:
                load = wire.parse(pb.LoadArtifactRequest, message)
                plugin.load(call, rpc.for_artifact(wire.artifact_from(load, "input_artifact")), _path(load.path))
                return pb.LoadArtifactResponse(success=True)
            case Operation.SAVE:
                save = wire.parse(pb.SaveArtifactRequest, message)
                plugin.save(call, rpc.for_artifact(wire.artifact_from(save, "output_artifact")), _path(save.path))
                return pb.SaveArtifactResponse(success=True)
            case Operation.DELETE:
                delete = wire.parse(pb.DeleteArtifactRequest, message)
                plugin.delete(call, rpc.for_artifact(wire.artifact_from(delete, "artifact")))
                return pb.DeleteArtifactResponse(success=True)
            case Operation.LIST_OBJECTS:
                list_ = wire.parse(pb.ListObjectsRequest, message)
                objects = plugin.list_objects(call, rpc.for_artifact(wire.artifact_from(list_, "artifact")))
                return listing(objects, rpc.largest_answer)
            case _:
                request = wire.parse(pb.IsDirectoryRequest, message)
                is_directory = plugin.is_directory(call, rpc.for_artifact(wire.artifact_from(request, "artifact")))
                return pb.IsDirectoryResponse(is_directory=is_directory)

    def open_stream(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """Handle OpenStream: yield frames that have data alone. The end of the stream is the end of the artifact."""
        from sealgate.rpc import artifact_pb2 as pb  # noqa: PLC0415 - off the path to the socket
        from sealgate.rpc import wire  # noqa: PLC0415 - off the path to the socket

        with self._begin(Operation.OPEN_STREAM, context) as rpc:
            artifact = rpc.for_artifact(wire.artifact_from(wire.parse(pb.OpenStreamRequest, request), "artifact"))
            with (
                self._streams.open(rpc.call, context.cancel) as stream,
                contextlib.closing(self._plugin.open_stream(rpc.call, artifact)) as chunks,
            ):
                for chunk in chunks:
                    if chunk:
                        stream.moves(len(chunk))
                        stream.waits()
                        yield wire.data_frame(chunk)
                        stream.progress()
        if rpc.refusal is not None:
            yield pb.OpenStreamResponse(error=rpc.refusal).SerializeToString()
        elif rpc.error:
            rpc.abort()

    def save_stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """Handle SaveStream: the first frame has the artifact, the others its chunks."""
        from sealgate.rpc import artifact_pb2 as pb  # noqa: PLC0415 - off the path to the socket

        upload = Upload(requests)
        with self._begin(Operation.SAVE_STREAM, context) as rpc:
            with self._streams.open(rpc.call, context.cancel) as stream:
                frames = upload.marked_frames(rpc.call) if rpc.marks_end else upload.frames(rpc.call)
                artifact, chunks = artifact_and_chunks(frames, stream)
                self._plugin.save_stream(rpc.call, rpc.for_artifact(artifact), chunks)
            return pb.SaveArtifactResponse(success=True).SerializeToString()
        if rpc.refusal is None:
            return rpc.abort()
        if upload.drain():
            return pb.SaveArtifactResponse(error=rpc.refusal).SerializeToString()
        # Argo's client reports an answer before the end of its upload as `EOF`, and a status with its text.
        text = rpc.refusal[:_LONGEST_STATUS] or "the downstream refused the upload without a reason"
        rpc.error = DownstreamStatus("UNKNOWN", text)
        return rpc.abort()


class _ServedRpc(contextlib.AbstractContextManager["_ServedRpc"]):
    """One RPC at the edge with its call: catches every failure of the body, logs it, and reports it to the caller."""

    def __init__(self, operation: Operation, context: grpc.ServicerContext, observer: CallObserver | None) -> None:
        remaining = context.time_remaining()
        bounded = remaining is not None and remaining < _NO_DEADLINE
        self.call = Call(
            operation,
            deadline=time.monotonic() + remaining if bounded else None,
            metadata=_forwarded_metadata(context),
        )
        received = dict(_received_metadata(context))
        self.largest_answer = _largest_answer(received)
        """In bytes."""
        self.marks_end = received.get(UPLOAD_END[0]) == UPLOAD_END[1]
        """Whether the last frame of an upload is empty."""
        self.call.only_new = received.get(CREATE_ONLY[0]) == CREATE_ONLY[1]
        self._context = context
        self._key = ""
        self.error: PluginError | None = None
        current_call.set(self.call)
        self._observer = observer
        if observer is not None:
            observer.began(self.call)
        if not context.add_callback(lambda: caller_left(self.call)):
            caller_left(self.call)

    def for_artifact(self, artifact: Artifact) -> Artifact:
        """Return `artifact`, and remember its key for the log and for the error's text."""
        self._key = artifact.key
        return artifact

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        error = error and (out_of_descriptors(error) or error)
        outcome, kind = call_status(error)
        if isinstance(error, PluginError):
            self.error = error
        elif isinstance(error, Exception):
            self.error = defect(self.call, error)
        elif error is not None and (self.call.ended_by or self.call.remaining() == 0):
            # GeneratorExit: the caller stopped reading, or this process ended the stream.
            outcome = "DEADLINE_EXCEEDED"
        self._ended(outcome, kind)
        return self.error is not None

    def _ended(self, outcome: str, kind: str) -> None:
        if self._observer is not None:
            # An answer after the deadline did not reach the caller.
            late = outcome == "OK" and self.call.remaining() == 0
            self._observer.ended(self.call, "DEADLINE_EXCEEDED" if late else outcome, kind)
        self._log("REFUSED" if kind == "artifact_error" else outcome, kind)
        current_call.set(None)

    @property
    def refusal(self) -> str | None:
        """The text of a plugin's own refusal. It is sent in the answer, not as a status."""
        return self.error.fact if isinstance(self.error, Refused) else None

    def answer_type(self) -> Callable[..., Message]:
        """Return the type of the message that answers this operation."""
        from sealgate.rpc import artifact_pb2 as pb  # noqa: PLC0415 - off the path to the socket

        return {
            Operation.LOAD: pb.LoadArtifactResponse,
            Operation.SAVE: pb.SaveArtifactResponse,
            Operation.DELETE: pb.DeleteArtifactResponse,
            Operation.LIST_OBJECTS: pb.ListObjectsResponse,
            Operation.IS_DIRECTORY: pb.IsDirectoryResponse,
        }[self.call.operation]

    def send_trailing(self, metadata: tuple[tuple[str, str], ...]) -> None:
        """Send `metadata` after the answer."""
        self._context.set_trailing_metadata(metadata)

    def abort(self) -> bytes:
        """End the RPC with the error's status and line. This never returns."""
        error = self.error or PluginError("the call ended without an answer")
        decision = self.call.decision
        reason = decision.code if decision.effective == "deny" else error.reason
        trailing = (("sealgate-code", reason), ("sealgate-decision-id", self.call.id))
        self._context.set_trailing_metadata(tuple((name, value) for name, value in trailing if value))
        self._context.abort(grpc.StatusCode[error_status(error)], error.line(self.call, self._key))
        raise AssertionError  # for the type checker; abort has raised

    def _log(self, status: str, kind: str) -> None:
        decision, sealed = self.call.decision, self.call.sealed
        denied = decision.effective == "deny"
        log.info(
            LogEvent(
                "call denied" if denied else "call ended",
                operation=self.call.operation,
                key=logged_key(self.call, self._key) if self._key else None,
                status=status,
                error=kind,
                code=decision.code,
                policy=decision.policy,
                rule=decision.rule,
                reason=decision.reason if denied else None,
                milliseconds=round((time.monotonic() - self.call.began) * 1000),
                files=sealed.files,
                plaintext_bytes=sealed.plaintext_bytes,
                stored_bytes=sealed.stored_bytes,
                decision_id=self.call.id,
            )
        )


def defect(call: Call, error: Exception) -> PluginError:
    """Log the exception `error`, which no code expects, and return the error that the caller sees."""
    # The text of a foreign exception can contain anything, even key material. Its type and the place where it was
    # raised are enough to find the defect.
    log.error(
        LogEvent(
            "unexpected error",
            operation=call.operation,
            error=type(error).__name__,
            where=where_raised(error),
            decision_id=call.id,
        )
    )
    return PluginError(
        f"an unexpected {type(error).__name__} stopped the operation",
        remedy="Report it with the log lines that contain this id",
    )


def _forwarded_metadata(context: grpc.ServicerContext) -> tuple[tuple[str, str | bytes], ...]:
    from sealgate.rpc import wire  # noqa: PLC0415 - off the path to the socket

    own = {LARGEST_ANSWER_METADATA, UPLOAD_END[0], CREATE_ONLY[0]}
    return wire.forwarded_metadata(item for item in _received_metadata(context) if item[0] not in own)


def _received_metadata(context: grpc.ServicerContext) -> Iterator[tuple[str, str | bytes]]:
    return ((item[0], item[1]) for item in context.invocation_metadata() or ())


def _largest_answer(received: dict[str, str | bytes]) -> int:
    """Return how many bytes the answer may have: as many as the caller asks for, or as many as Argo accepts."""
    asked = received.get(LARGEST_ANSWER_METADATA)
    if isinstance(asked, str) and asked.isdecimal() and len(asked) <= _LONGEST_NUMBER:
        return min(int(asked), LARGEST_ANSWER)
    return LARGEST_MESSAGE


def _path(text: str) -> Path:
    # A path that may not be used, such as an empty one, is refused below the layer that records.
    from pathlib import Path  # noqa: PLC0415 - off the path to the socket

    return Path(text)


def listing(objects: list[str], largest: int = LARGEST_MESSAGE) -> Message:
    """Return the answer to ListObjects.

    Args:
        objects: the keys to list.
        largest: how many bytes the caller accepts.

    Raises:
        LimitReached: the answer is larger.
    """
    from sealgate.rpc import artifact_pb2 as pb  # noqa: PLC0415 - off the path to the socket

    require_listable(objects, largest)
    return pb.ListObjectsResponse(objects=objects)


def require_listable(objects: list[str], largest: int = LARGEST_MESSAGE) -> None:
    """Raise `LimitReached` if an answer with the keys `objects` has more than `largest` bytes."""
    from sealgate.rpc import wire  # noqa: PLC0415 - off the path to the socket

    size = wire.size_of_texts(objects)
    if size >= largest:
        caller = "Argo's client" if largest == LARGEST_MESSAGE else "the caller"
        raise LimitReached(
            f"the listing has {size} bytes; {caller} accepts less than {largest}",
            remedy="Open the objects by their own keys, or list a directory beneath this one",
        )
