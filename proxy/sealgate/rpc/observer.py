"""Shows calls to an observer, for traces and metrics. The server and the client use it; no call is changed by it."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import grpc
from typing_extensions import override

from sealgate.call import Call, Operation, downstream_ending
from sealgate.errors import DownstreamStatus, PluginError, Refused, name_of

ON_ONE_THREAD = ("SingleThreadedUnaryStream", 1)
"""The option of a channel without which gRPC starts a thread for each RPC."""
if TYPE_CHECKING:
    _Future = grpc.Future[bytes | None]
else:  # at run time the class takes no parameter
    _Future = grpc.Future
_TRACE_METADATA = frozenset({"traceparent", "tracestate"})


class CallObserver(Protocol):
    """Observes the calls that the server carries out."""

    def serving(self, handler: grpc.RpcMethodHandler[Any, Any], details: Any) -> grpc.RpcMethodHandler[Any, Any]:
        """Return `handler`, wrapped so that the RPC is observed."""

    def began(self, call: Call) -> None:
        """The call is about to be carried out, on this thread."""

    def ended(self, call: Call, outcome: str, kind: str) -> None:
        """The call has ended with the gRPC status `outcome`; `kind` names the error and is empty after a success."""

    def flush(self) -> None:
        """The answer is about to be sent."""


FindObserver = Callable[[Operation], CallObserver | None]
"""Returns the observer for calls of an operation, or None. It may wait until the observer is composed."""


def no_observer(_operation: Operation) -> CallObserver | None:
    """Return None: no call is observed."""
    return None


def call_status(error: BaseException | None) -> tuple[str, str]:
    """Return the gRPC status and the kind of error of a call that ended with `error`; None is a success."""
    if error is None:
        return "OK", ""
    if isinstance(error, Refused):
        return "OK", "artifact_error"
    if isinstance(error, PluginError):
        return error_status(error), name_of(error)
    return ("INTERNAL", name_of(error)) if isinstance(error, Exception) else ("CANCELLED", "")


def error_status(error: PluginError) -> str:
    """Return the name of the gRPC status for `error`."""
    return error.code if isinstance(error, DownstreamStatus) else error.status


class _Details(NamedTuple):
    """The facts about a call that gRPC passes to an interceptor."""

    method: str
    invocation_metadata: Any = ()


def observed(
    operation: Operation, handler: grpc.RpcMethodHandler[Any, Any], method: str, find_observer: FindObserver
) -> grpc.RpcMethodHandler[Any, Any]:
    """Return `handler`, wrapped so that the observer sees each call, if there is one when the call comes."""
    details = _Details(method)
    if handler.unary_stream is not None:
        stream: Any = handler.unary_stream

        def stream_out(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            observer = find_observer(operation)
            if observer is None:
                yield from stream(request, context)
                return
            inner: Any = observer.serving(handler, details).unary_stream
            try:
                yield from inner(request, context)
            finally:
                observer.flush()

        return grpc.unary_stream_rpc_method_handler(stream_out)

    kind = "stream_unary" if handler.request_streaming else "unary_unary"

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        observer = find_observer(operation)
        if observer is None:
            return getattr(handler, kind)(request, context)
        try:
            return getattr(observer.serving(handler, details), kind)(request, context)
        finally:
            observer.flush()

    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(answer)
    return grpc.unary_unary_rpc_method_handler(answer)


class CallChannel:
    """The `grpc.Channel` for the one RPC of a call, beneath the OpenTelemetry instrumentation.

    The instrumentation returns a stream that cannot be cancelled, and keeps one value of a metadata name that is given
    several times. Therefore this channel cancels the RPC when its call ends, and takes the metadata from the call,
    with the trace's own in place of the caller's.

    Args:
        channel: the channel to the downstream.
        call: the call that the RPC is for.
        own: metadata that is sent beside the call's.
    """

    def __init__(self, channel: grpc.Channel, call: Call, own: tuple[tuple[str, str], ...] = ()) -> None:
        self._channel = channel
        self._call = call
        self._own = own
        self._cancel: Callable[[], object] = lambda: None
        self._on_end: list[Callable[[], object]] = []

    def unary_unary(self, method: str, *_: object) -> _Method:
        """Return a method with one request and one answer."""
        return _UnaryMethod(self, self._channel.unary_stream(method))

    def unary_stream(self, method: str, *_: object) -> _Method:
        """Return a method with one request and a stream of answers."""
        return _Method(self, self._channel.unary_stream(method))

    def stream_unary(self, method: str, *_: object) -> _Method:
        """Return a method with a stream of requests and one answer."""
        return _Method(self, self._channel.stream_unary(method))

    def bind(self, rpc: Any) -> Any:
        """Make `rpc`, which has just begun, end with the call."""
        self._cancel = rpc.cancel
        self._call.on_cancel(rpc.cancel)
        if isinstance(rpc, grpc.Future):
            # A refusal is in the answer: the instrumentation's callback has to wait until the answer was read.
            vars(rpc)["add_done_callback"] = lambda callback: self.on_end(lambda: callback(rpc))
        return rpc

    def on_end(self, callback: Callable[[], object]) -> None:
        """Run `callback` once the RPC has ended and `call.downstream_ending` says how."""
        self._on_end.append(callback)

    def end(self, error: BaseException | None) -> None:
        """Cancel what remains of the RPC, which ended with `error`, and run the callbacks."""
        self._cancel()
        self._call.forget(self._cancel)
        ending = downstream_ending.set(call_status(error))
        for callback in self._on_end:
            with contextlib.suppress(Exception):  # an observer never makes a call fail
                callback()
        downstream_ending.reset(ending)

    def metadata(self, given: Any) -> tuple[tuple[str, str | bytes], ...]:
        """Return the call's metadata, with the trace's names replaced by those in `given`, and this channel's own."""
        added = tuple((name, value) for name, value in given or () if name in _TRACE_METADATA)
        replaced = {name for name, _ in added}
        return (*(item for item in self._call.metadata if item[0] not in replaced), *added, *self._own)


class _Method:
    """One method of a `CallChannel`."""

    def __init__(self, channel: CallChannel, stub: Any) -> None:
        self._channel = channel
        self._stub = stub

    def __call__(self, request: Any, timeout: float | None = None, metadata: Any = None, *_: object) -> Any:
        return self._channel.bind(self._stub(request, timeout=timeout, metadata=self._channel.metadata(metadata)))

    def future(self, request: Any, timeout: float | None = None, metadata: Any = None, *_: object) -> Any:
        metadata = self._channel.metadata(metadata)
        return self._channel.bind(self._stub.future(request, timeout=timeout, metadata=metadata))


class _UnaryMethod(_Method):
    """A method with one request and one answer. To gRPC it is one with a stream of answers."""

    @override
    def future(self, request: Any, timeout: float | None = None, metadata: Any = None, *_: object) -> Any:
        answers = self._stub(request, timeout=timeout, metadata=self._channel.metadata(metadata))
        return self._channel.bind(_OneAnswer(answers))


class _OneAnswer(_Future):
    """The answer to one request, received by the thread that asks for the result.

    gRPC's own future starts a thread for each RPC, and a blocking RPC could not be cancelled.

    Args:
        answers: the stream that the answer comes in, of a channel with `ON_ONE_THREAD`.
    """

    def __init__(self, answers: Any) -> None:
        self._answers = answers
        self._received: list[bytes] | None = None

    def result(self, timeout: float | None = None) -> bytes | None:  # noqa: ARG002 - the RPC has a deadline
        """Wait for the answer and for the status after it. Return None unless there was exactly one answer.

        Raises:
            grpc.RpcError: the RPC failed, or was cancelled.
        """
        if self._received is None:
            self._received = [*itertools.islice(self._answers, 2)]
        return self._received[0] if len(self._received) == 1 else None

    def cancel(self) -> bool:
        return bool(self._answers.cancel())

    def cancelled(self) -> bool:
        return bool(self._answers.cancelled())

    def running(self) -> bool:
        return bool(self._answers.running())

    def done(self) -> bool:
        return bool(self._answers.done())

    def exception(self, timeout: float | None = None) -> Exception | None:
        return cast("Exception | None", self._answers.exception(timeout))

    def traceback(self, timeout: float | None = None) -> Any:
        return self._answers.traceback(timeout)

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        self._answers.add_done_callback(fn)

    def code(self) -> Any:
        """Return the status of the RPC, which has ended."""
        return self._answers.code()

    def trailing_metadata(self) -> Any:
        """Return what the server sent after the answer."""
        return self._answers.trailing_metadata()
