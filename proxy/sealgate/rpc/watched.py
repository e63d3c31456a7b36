"""What looks at every call without changing it: traces and counts. Both sides of this room show it their calls."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import grpc

from sealgate.call import Call, Operation
from sealgate.errors import DownstreamStatus, PluginError, Refused, name_of

_OF_A_TRACE = frozenset({"traceparent", "tracestate"})


class Watch(Protocol):
    """Is shown every call of the server, and the channel of the client."""

    def serving(self, handler: grpc.RpcMethodHandler[Any, Any], details: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler inside whatever looks at an RPC."""

    def began(self, call: Call) -> None:
        """The call is about to be carried out, on this thread."""

    def ended(self, call: Call, outcome: str, kind: str) -> None:
        """The call has ended with this gRPC status; `kind` names the error, and is empty after a success."""

    def flush(self) -> None:
        """The answer is about to leave."""


Watching = Callable[[Operation], Watch | None]
"""Who looks at a call of this operation, waited for where it is not known yet; None if nobody does."""


def nobody(_operation: Operation) -> Watch | None:
    """Nobody looks."""
    return None


def ending(error: BaseException | None) -> tuple[str, str]:
    """How a call ended, for whoever looks at it: the gRPC status, and the kind of error."""
    if error is None:
        return "OK", ""
    if isinstance(error, Refused):
        return "OK", "artifact_error"
    if isinstance(error, PluginError):
        return error_status(error), name_of(error)
    return ("INTERNAL", name_of(error)) if isinstance(error, Exception) else ("CANCELLED", "")


def error_status(error: PluginError) -> str:
    """The name of the gRPC status for an error."""
    return error.code if isinstance(error, DownstreamStatus) else error.status


class _Details(NamedTuple):
    """What the library tells an interceptor of a call."""

    method: str
    invocation_metadata: Any = ()


def watched(
    operation: Operation, handler: grpc.RpcMethodHandler[Any, Any], method: str, watching: Watching
) -> grpc.RpcMethodHandler[Any, Any]:
    """A handler whose calls are looked at by whoever is there when they come."""
    details = _Details(method)
    if handler.unary_stream is not None:
        stream: Any = handler.unary_stream

        def stream_out(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            watch = watching(operation)
            if watch is None:
                yield from stream(request, context)
                return
            inside: Any = watch.serving(handler, details).unary_stream
            try:
                yield from inside(request, context)
            finally:
                watch.flush()

        return grpc.unary_stream_rpc_method_handler(stream_out)

    kind = "stream_unary" if handler.request_streaming else "unary_unary"

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        watch = watching(operation)
        if watch is None:
            return getattr(handler, kind)(request, context)
        try:
            return getattr(watch.serving(handler, details), kind)(request, context)
        finally:
            watch.flush()

    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(answer)
    return grpc.unary_unary_rpc_method_handler(answer)


class Underneath:
    """A `grpc.Channel` beneath the instrumentation, for one call.

    An instrumentation hands a stream out that cannot be cancelled, and makes one of metadata that is given twice:
    here every RPC ends with its call, and the metadata is the call's own and the trace's.
    """

    def __init__(self, channel: grpc.Channel, call: Call) -> None:
        self._channel = channel
        self._call = call
        self._cancel: Callable[[], object] = lambda: None
        self._waiting: list[Callable[[], object]] = []

    def unary_unary(self, method: str, *_: object) -> _Begun:
        """Begin an RPC with one request and one answer."""
        return _Begun(self, self._channel.unary_unary(method))

    def unary_stream(self, method: str, *_: object) -> _Begun:
        """Begin an RPC with one request and a stream of answers."""
        return _Begun(self, self._channel.unary_stream(method))

    def stream_unary(self, method: str, *_: object) -> _Begun:
        """Begin an RPC with a stream of requests and one answer."""
        return _Begun(self, self._channel.stream_unary(method))

    def begun(self, rpc: Any) -> Any:
        """Have it end with its call."""
        self._cancel = rpc.cancel
        self._call.on_cancel(rpc.cancel)
        if isinstance(rpc, grpc.Future):
            # A refusal is in the answer: who waits for the end is told once the answer was looked at.
            vars(rpc)["add_done_callback"] = lambda told: self.at_end(lambda: told(rpc))
        return rpc

    def at_end(self, tell: Callable[[], object]) -> None:
        """Have `tell` run once the RPC has ended and it is known how."""
        self._waiting.append(tell)

    def ended(self, error: BaseException | None) -> None:
        """The RPC has ended, by its status or by what its answer says; whatever of it goes on is cancelled."""
        self._cancel()
        self._call.trace.downstream_ending = ending(error)
        for tell in self._waiting:
            with contextlib.suppress(Exception):  # who looks at a call never fails it
                tell()
        self._call.trace.downstream_ending = ("", "")

    def metadata(self, given: Any) -> tuple[tuple[str, str | bytes], ...]:
        """The call's own, with the trace's in place of what it came with."""
        added = tuple((name, value) for name, value in given or () if name in _OF_A_TRACE)
        replaced = {name for name, _ in added}
        return (*(item for item in self._call.metadata if item[0] not in replaced), *added)


class _Begun:
    """One method of the channel."""

    def __init__(self, channel: Underneath, stub: Any) -> None:
        self._channel = channel
        self._stub = stub

    def __call__(self, request: Any, timeout: float | None = None, metadata: Any = None, *_: object) -> Any:
        return self._channel.begun(self._stub(request, timeout=timeout, metadata=self._channel.metadata(metadata)))

    def future(self, request: Any, timeout: float | None = None, metadata: Any = None, *_: object) -> Any:
        metadata = self._channel.metadata(metadata)
        return self._channel.begun(self._stub.future(request, timeout=timeout, metadata=metadata))
