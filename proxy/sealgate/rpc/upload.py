"""The frames of an upload: taken by one thread at a time, believed to be whole or not, and drained after a refusal."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import grpc

from sealgate.errors import BadRequest
from sealgate.rpc.running import caller_left

if TYPE_CHECKING:
    from sealgate.call import Call
    from sealgate.plugin import Artifact, Chunk
    from sealgate.rpc.streams import OpenStream

_MOST_DRAINED = 16 << 20
"""Bytes."""
_DRAIN_TIMEOUT = 1.0
"""Seconds."""


class Upload:
    """The frames that a caller sends. A client library may still take one while the call ends on another thread.

    Args:
        requests: gRPC's iterator, which raises `grpc.RpcError` if the caller has gone away.
    """

    def __init__(self, requests: Iterator[bytes]) -> None:
        self._requests = requests
        self._taking = threading.Lock()
        self._ended = False

    def frames(self, call: Call) -> Iterator[bytes]:
        """Yield the frames. This ends normally only if the caller closed the stream, and raises if it was cancelled."""
        while True:
            try:
                frame = self._next_frame()
                if frame is None:
                    self._await_cancellation()
            except grpc.RpcError:
                caller_left(call)
                frame = None
            call.check()
            if frame is None:
                return
            yield frame

    def marked_frames(self, call: Call) -> Iterator[bytes]:
        """Yield the frames of a stream whose last one is empty. This raises if the stream ends without that frame."""
        at_end = False
        with contextlib.suppress(grpc.RpcError):
            while (frame := self._next_frame()) is not None:
                call.check()
                at_end = not frame
                yield frame
        if not at_end:
            caller_left(call)
        call.check()

    def drain(self) -> bool:
        """Drop the frames that still come, within bounds; return whether the caller has ended the stream."""
        thread = threading.Thread(target=self._drain, name="sealgate-drain", daemon=True)
        thread.start()
        thread.join(_DRAIN_TIMEOUT)
        return self._ended

    def _next_frame(self) -> bytes | None:
        """Wait for the next frame and return it; None at the end of the stream."""
        with self._taking:
            frame = None if self._ended else next(self._requests, None)
            self._ended = frame is None
            return frame

    def _await_cancellation(self) -> None:
        """After the last frame, wait until gRPC has reported a cancellation that ended the stream, if one did.

        gRPC ends a cancelled stream as it ends a complete one, and reports the cancellation a moment later. A second
        request for a frame passes through the same queues of gRPC as both reports, so that its answer comes after them
        (docs/decisions/end-of-upload.md).

        Raises:
            grpc.RpcError: the stream was cancelled.
        """
        with self._taking:
            next(self._requests, None)

    def _drain(self) -> None:
        # A frame that never comes ends this thread, too: the end of the RPC ends the wait for it.
        drained = 0
        with contextlib.suppress(grpc.RpcError):
            while drained < _MOST_DRAINED and (frame := self._next_frame()) is not None:
                drained += len(frame)


def artifact_and_chunks(frames: Iterator[bytes], stream: OpenStream) -> tuple[Artifact, Iterator[Chunk]]:
    """Return the artifact in the first frame of a SaveStream, and the chunks of all frames.

    Raises:
        BadRequest: there is no frame, or the first has no artifact.
    """
    from sealgate.rpc import artifact_pb2 as pb  # noqa: PLC0415 - off the path to the socket
    from sealgate.rpc import wire  # noqa: PLC0415 - off the path to the socket

    first = _next_of(frames, stream)
    if first is None:
        raise BadRequest("the stream ended before its first frame, which has the artifact")
    request = wire.parse(pb.SaveStreamArtifactRequest, first)
    artifact = wire.artifact_from(request, "output_artifact")

    def chunks() -> Iterator[Chunk]:
        if request.chunk:
            yield request.chunk
        while (frame := _next_of(frames, stream)) is not None:
            stream.moves(len(frame))
            chunk = wire.chunk_of(frame)
            if chunk is None:
                chunk = wire.parse(pb.SaveStreamArtifactRequest, frame).chunk
            if chunk:
                yield chunk

    return artifact, chunks()


def _next_of(frames: Iterator[bytes], stream: OpenStream) -> bytes | None:
    """Return the next frame, for which only the caller lets this process wait; None at the end."""
    stream.waits()
    frame = next(frames, None)
    stream.progress()
    return frame
