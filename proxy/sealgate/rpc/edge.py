"""The edge: from a gRPC call to the plugin and back, with every way of failing named.

Whatever goes wrong behind it, a caller gets a status and one line of ours, never the text of a library's
exception.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import traceback
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import grpc

from sealgate.call import Call, Operation, current_call, logged_key
from sealgate.errors import BadRequest, LimitReached, PluginError, Refused
from sealgate.plugin import Artifact, ArtifactPlugin, Chunk
from sealgate.rpc.watched import Watch, Watching, ending, error_status

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message

log = logging.getLogger("sealgate.call")

LARGEST_MESSAGE = 4 << 20
"""What Argo's client accepts, and so the most that any plugin may send or expect."""
_FOR_EVER = 10 * 365 * 86_400
_ROUNDED_UP, _ON_ITS_WAY = 0.01, 0.01
"""By how much a deadline that arrives can be longer than its caller's: a part of it, and seconds."""


class Edge:
    """From a gRPC call to the plugin and back, with every way of failing named.

    Args:
        plugin: what the calls are for.
        settle: returns once a cancellation that has already happened has reached the call.
        watching: tells who is shown the calls.
    """

    def __init__(self, plugin: ArtifactPlugin, settle: Callable[[Call], None], watching: Watching) -> None:
        self._plugin = plugin
        self._settle = settle
        self._watching = watching

    def unary(self, operation: Operation) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        """The behaviour of one RPC that takes one message and answers one."""

        def behave(request: bytes, context: grpc.ServicerContext) -> bytes:
            answer: Message | None = None
            with self._attempt(operation, context) as attempt:
                answer = self._answer(attempt, request)
            if attempt.refused is not None:
                answer = attempt.answer_type()(error=attempt.refused)
            return answer.SerializeToString() if answer else attempt.abort()

        return behave

    def _attempt(self, operation: Operation, context: grpc.ServicerContext) -> _Attempt:
        return _Attempt(operation, context, self._watching(operation))

    def _answer(self, attempt: _Attempt, message: bytes) -> Message:
        from sealgate.rpc import artifact_pb2 as pb  # noqa: PLC0415 - off the path to the socket
        from sealgate.rpc import wire  # noqa: PLC0415 - off the path to the socket

        call, plugin = attempt.call, self._plugin
        match call.operation:
            case Operation.GET_CAPABILITIES:
                wire.parse(pb.GetCapabilitiesRequest, message)
                return pb.GetCapabilitiesResponse(supports_save_stream=plugin.get_capabilities(call).save_stream)
            case Operation.LOAD:
                load = wire.parse(pb.LoadArtifactRequest, message)
                plugin.load(call, attempt.on(wire.artifact_from(load, "input_artifact")), _path(load.path))
                return pb.LoadArtifactResponse(success=True)
            case Operation.SAVE:
                save = wire.parse(pb.SaveArtifactRequest, message)
                plugin.save(call, attempt.on(wire.artifact_from(save, "output_artifact")), _path(save.path))
                return pb.SaveArtifactResponse(success=True)
            case Operation.DELETE:
                delete = wire.parse(pb.DeleteArtifactRequest, message)
                plugin.delete(call, attempt.on(wire.artifact_from(delete, "artifact")))
                return pb.DeleteArtifactResponse(success=True)
            case Operation.LIST_OBJECTS:
                asked = wire.parse(pb.ListObjectsRequest, message)
                return listing(plugin.list_objects(call, attempt.on(wire.artifact_from(asked, "artifact"))))
            case _:
                question = wire.parse(pb.IsDirectoryRequest, message)
                found = plugin.is_directory(call, attempt.on(wire.artifact_from(question, "artifact")))
                return pb.IsDirectoryResponse(is_directory=found)

    def open_stream(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        """The behaviour of OpenStream: frames of data alone, then the end of the stream."""
        from sealgate.rpc import artifact_pb2 as pb  # noqa: PLC0415 - off the path to the socket
        from sealgate.rpc import wire  # noqa: PLC0415 - off the path to the socket

        with self._attempt(Operation.OPEN_STREAM, context) as attempt:
            artifact = attempt.on(wire.artifact_from(wire.parse(pb.OpenStreamRequest, request), "artifact"))
            with contextlib.closing(self._plugin.open_stream(attempt.call, artifact)) as chunks:
                for chunk in chunks:
                    if chunk:
                        yield wire.data_frame(chunk)
        if attempt.refused is not None:
            yield pb.OpenStreamResponse(error=attempt.refused).SerializeToString()
        elif attempt.error:
            attempt.abort()

    def save_stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """The behaviour of SaveStream: the artifact first, then its chunks; stored only at a clean end."""
        from sealgate.rpc import artifact_pb2 as pb  # noqa: PLC0415 - off the path to the socket

        with self._attempt(Operation.SAVE_STREAM, context) as attempt:
            first, chunks = _first_frame(requests, attempt.call, self._settle)
            self._plugin.save_stream(attempt.call, attempt.on(first), chunks)
            return pb.SaveArtifactResponse(success=True).SerializeToString()
        if attempt.refused is not None:
            return pb.SaveArtifactResponse(error=attempt.refused).SerializeToString()
        return attempt.abort()


class _Attempt(contextlib.AbstractContextManager["_Attempt"]):
    """One call at the edge: what it works on, and how it ended."""

    def __init__(self, operation: Operation, context: grpc.ServicerContext, watch: Watch | None) -> None:
        remaining = context.time_remaining()
        bounded = remaining is not None and remaining < _FOR_EVER
        self.call = Call(
            operation,
            deadline=time.monotonic() + remaining if bounded else None,
            metadata=_passed_on(context),
        )
        self._context = context
        self._key = ""
        self.error: PluginError | None = None
        current_call.set(self.call)
        self._watch = watch
        if watch is not None:
            watch.began(self.call)
        if not context.add_callback(lambda: _gone(self.call)):
            _gone(self.call)

    def on(self, artifact: Artifact) -> Artifact:
        """Remember the artifact for the texts and the log."""
        self._key = artifact.key
        return artifact

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        outcome, kind = ending(error)
        if isinstance(error, PluginError):
            self.error = error
        elif isinstance(error, Exception):
            self.error = self._defect(error)
        elif error is not None and self.call.remaining() == 0:  # GeneratorExit: the caller went away
            outcome = "DEADLINE_EXCEEDED"
        self._ended(outcome, kind)
        return self.error is not None

    def _ended(self, outcome: str, kind: str) -> None:
        if self._watch is not None:
            # An answer after the deadline is one that nobody saw.
            late = outcome == "OK" and self.call.remaining() == 0
            self._watch.ended(self.call, "DEADLINE_EXCEEDED" if late else outcome, kind)
        self._log("refused" if kind == "artifact_error" else "done" if outcome == "OK" else outcome)
        current_call.set(None)

    @property
    def refused(self) -> str | None:
        """The text of a plugin's own refusal, which belongs into the answer and not into a status."""
        return self.error.fact if isinstance(self.error, Refused) else None

    def answer_type(self) -> Callable[..., Message]:
        """The message that answers this operation."""
        from sealgate.rpc import artifact_pb2 as pb  # noqa: PLC0415 - off the path to the socket

        return {
            Operation.LOAD: pb.LoadArtifactResponse,
            Operation.SAVE: pb.SaveArtifactResponse,
            Operation.DELETE: pb.DeleteArtifactResponse,
            Operation.LIST_OBJECTS: pb.ListObjectsResponse,
            Operation.IS_DIRECTORY: pb.IsDirectoryResponse,
        }[self.call.operation]

    def abort(self) -> bytes:
        """End the call with the error's status and line. Does not return."""
        error = self.error or PluginError("the call ended without an answer")
        decision = self.call.decision
        reason = decision.code if decision.effective == "deny" else error.reason
        known = (("sealgate-code", reason), ("sealgate-decision-id", self.call.id))
        self._context.set_trailing_metadata(tuple((name, value) for name, value in known if value))
        self._context.abort(grpc.StatusCode[error_status(error)], error.line(self.call, self._key))
        raise AssertionError  # abort has raised; this tells the type checker

    def _defect(self, error: Exception) -> PluginError:
        # The text of a foreign exception can carry anything, key material too: its type and where it was
        # raised are enough to find the defect.
        frames = traceback.extract_tb(error.__traceback__)[-6:]
        where = " < ".join(f"{os.path.basename(f.filename)}:{f.lineno} {f.name}" for f in reversed(frames))
        log.error("unexpected %s in %s [d=%s]: %s", type(error).__name__, self.call.operation, self.call.id, where)
        return PluginError(
            f"an unexpected {type(error).__name__} stopped the operation",
            remedy="Report it with the log lines that carry this id",
        )

    def _log(self, outcome: str) -> None:
        facts = self.call.sealed
        log.info(
            "%s %s %s in %.0f ms, %d files, %d plaintext bytes, %d stored bytes [d=%s]",
            self.call.operation,
            logged_key(self.call, self._key),
            outcome,
            (time.monotonic() - self.call.began) * 1000,
            facts.files,
            facts.plaintext_bytes,
            facts.stored_bytes,
            self.call.id,
        )


def _gone(call: Call) -> None:
    """Nobody waits for the answer any more; where that is because of the deadline, have it be one that has passed.

    The library tells of both in the same way, and of a deadline when the caller's clock says so: a little before this
    one's, because a caller rounds up what it sends.
    """
    if call.deadline is not None:
        now = time.monotonic()
        if call.deadline - now <= _ROUNDED_UP * (call.deadline - call.began) + _ON_ITS_WAY:
            call.deadline = min(call.deadline, now)
    call.cancel()


def _passed_on(context: grpc.ServicerContext) -> tuple[tuple[str, str | bytes], ...]:
    from sealgate.rpc import wire  # noqa: PLC0415 - off the path to the socket

    return wire.passed_on((item[0], item[1]) for item in context.invocation_metadata() or ())


def _path(text: str) -> Path:
    # Whether it is one that may be used, an empty one too, is for whoever works with it: below the layer that records.
    from pathlib import Path  # noqa: PLC0415 - off the path to the socket

    return Path(text)


def listing(objects: list[str]) -> Message:
    """The answer to ListObjects.

    Raises:
        LimitReached: Argo's client would not take it.
    """
    from sealgate.rpc import artifact_pb2 as pb  # noqa: PLC0415 - off the path to the socket

    answer = pb.ListObjectsResponse(objects=objects)
    size = answer.ByteSize()
    if size >= LARGEST_MESSAGE:
        raise LimitReached(
            f"the listing has {size} bytes, and Argo's client takes {LARGEST_MESSAGE}",
            remedy="Open the objects by their own keys, or list a directory further down",
        )
    return answer


def _first_frame(
    requests: Iterator[bytes], call: Call, settle: Callable[[Call], None]
) -> tuple[Artifact, Iterator[Chunk]]:
    from sealgate.rpc import artifact_pb2 as pb  # noqa: PLC0415 - off the path to the socket
    from sealgate.rpc import wire  # noqa: PLC0415 - off the path to the socket

    frames = _uncancelled(requests, call, settle)
    first = next(frames, None)
    if first is None:
        raise BadRequest("the stream ended before its first frame, which names the artifact")
    request = wire.parse(pb.SaveStreamArtifactRequest, first)
    artifact = wire.artifact_from(request, "output_artifact")

    def chunks() -> Iterator[Chunk]:
        if request.chunk:
            yield request.chunk
        for frame in frames:
            chunk = wire.chunk_of(frame)
            if chunk is None:
                chunk = wire.parse(pb.SaveStreamArtifactRequest, frame).chunk
            if chunk:
                yield chunk

    return artifact, chunks()


def _uncancelled(requests: Iterator[bytes], call: Call, settle: Callable[[Call], None]) -> Iterator[bytes]:
    """The frames of a stream, ending normally only if the caller closed it.

    The library ends a cancelled stream as it ends a whole one, and tells a moment later that it was
    cancelled: an end counts only once that moment has passed.
    """
    while True:
        try:
            frame = next(requests, None)
        except grpc.RpcError:
            _gone(call)
            frame = None
        if frame is None:
            settle(call)
        call.check()
        if frame is None:
            return
        yield frame
