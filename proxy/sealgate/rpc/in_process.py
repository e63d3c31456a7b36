"""The source `InProcess`: a plugin of this program as the downstream, in this process and without a socket.

The layers above it find what a connection would give them. Failures are answers of a downstream, a listing is bounded,
and each operation is a step of the call's trace. Cancellation and deadline need no transport: the plugin checks the
call itself.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from typing_extensions import override

from sealgate.call import Call, Operation
from sealgate.errors import (
    AlreadyStored,
    Cancelled,
    DeadlineExceeded,
    DownstreamStatus,
    PluginError,
    Refused,
    out_of_descriptors,
)
from sealgate.plugin import Artifact, ArtifactPlugin, Capabilities, Chunk
from sealgate.rpc.edge import LARGEST_ANSWER, defect, require_listable
from sealgate.rpc.observer import error_status


class InProcess(ArtifactPlugin):
    """The downstream `inner`, whose calls are function calls."""

    def __init__(self, inner: ArtifactPlugin) -> None:
        self._inner = inner

    @override
    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        with _answering(call, Operation.LOAD, artifact):
            self._inner.load(call, artifact, path)

    @override
    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        with (
            _answering(call, Operation.OPEN_STREAM, artifact),
            closing(self._inner.open_stream(call, artifact)) as chunks,
        ):
            yield from chunks

    @override
    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        with _answering(call, Operation.SAVE, artifact):
            self._inner.save(call, artifact, path)

    @override
    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        """Store the chunks. If they fail, that failure is raised as it is: it is none of the downstream."""
        upload = _WatchedChunks(chunks)
        with _answering(call, Operation.SAVE_STREAM, artifact, upload), closing(upload.taken()) as taken:
            self._inner.save_stream(call, artifact, taken)

    @override
    def delete(self, call: Call, artifact: Artifact) -> None:
        with _answering(call, Operation.DELETE, artifact):
            self._inner.delete(call, artifact)

    @override
    def delete_objects(self, call: Call, artifact: Artifact, keys: Collection[str]) -> bool:
        with _answering(call, Operation.DELETE, artifact):
            return self._inner.delete_objects(call, artifact, keys)

    @override
    def is_local(self) -> bool:
        return self._inner.is_local()

    @override
    def list_objects(self, call: Call, artifact: Artifact) -> list[str]:
        with _answering(call, Operation.LIST_OBJECTS, artifact):
            listed = self._inner.list_objects(call, artifact)
            require_listable(listed, LARGEST_ANSWER)
            return listed

    @override
    def is_directory(self, call: Call, artifact: Artifact) -> bool:
        with _answering(call, Operation.IS_DIRECTORY, artifact):
            return self._inner.is_directory(call, artifact)

    @override
    def get_capabilities(self, call: Call) -> Capabilities:
        return self._inner.get_capabilities(call)

    def close(self) -> None:
        """Release nothing: the process is not another one, and the connections to the store end with it."""


class _WatchedChunks:
    """The chunks of a SaveStream, and the exception with which they failed, if they did."""

    def __init__(self, chunks: Iterator[Chunk]) -> None:
        self._chunks = chunks
        self.fault: BaseException | None = None

    def taken(self) -> Generator[Chunk]:
        """Yield the chunks. Closing this generator closes them, too, once one was taken."""
        try:
            yield from self._chunks
        except Exception as fault:
            self.fault = fault
            raise


@contextmanager
def _answering(
    call: Call, operation: Operation, artifact: Artifact, upload: _WatchedChunks | None = None
) -> Iterator[None]:
    """Carry out one operation of the downstream in the body, as a step of the trace.

    Raises:
        Refused: the plugin refused in its answer.
        AlreadyStored: something is stored where this write must not replace anything.
        DownstreamStatus: the plugin failed in another way.
        PluginError: the call has ended, or the chunks of the upload have failed.
    """
    try:
        with call.trace.step(f"store {operation}"):
            call.check()
            yield
    except Exception as error:  # noqa: BLE001 - none of the plugin's exceptions may pass as one of a layer above
        if upload is not None and upload.fault is not None:
            raise upload.fault from None
        raise _as_answer(call, artifact, error) from None


def _as_answer(call: Call, artifact: Artifact, error: Exception) -> PluginError:
    """Return `error` as the answer of a downstream; unchanged if the call itself has ended."""
    named = out_of_descriptors(error) or error
    if not isinstance(named, PluginError):
        named = defect(call, error)
    if isinstance(named, Cancelled | DeadlineExceeded) or named is call.ended_by:
        return named
    if isinstance(named, Refused):
        return Refused(named.fact)
    if isinstance(named, AlreadyStored) and call.only_new:
        return AlreadyStored(says="downstream")
    return DownstreamStatus(error_status(named), named.line(call, artifact.key))
