"""Turns any `ArtifactPlugin` into Argo's gRPC service on a Unix socket.

Argo's messages, health and reflection are loaded by the first request for them, so that the socket accepts connections
as early as possible.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
from typing_extensions import override

from sealgate.argo import LARGEST_MESSAGE, SERVICE, TRANSIENT
from sealgate.call import Operation
from sealgate.errors import Unavailable
from sealgate.plugin import ArtifactPlugin
from sealgate.rpc.edge import Edge
from sealgate.rpc.memory import memory_limit
from sealgate.rpc.observer import FindObserver, no_observer, observed
from sealgate.rpc.running import RunningCalls
from sealgate.rpc.streams import (
    MOST_SMALL,
    MOST_WAITING,
    MOST_WORK,
    WINDOW,
    Streams,
    stream_limit,
    upload_places,
)

if TYPE_CHECKING:
    from pathlib import Path

LONGEST_SOCKET = 107
"""The longest path of a Unix socket that the kernel accepts, in bytes."""
_OWN_THREADS, _QUESTION_THREADS = 16, 32
"""Threads for what this process answers alone (health, capabilities), and for questions to the downstream.

Streams have threads of their own (`rpc.streams`): a slow reader in Argo's UI occupies one for as long as it reads.
Where memory is limited, calls that move or delete artifacts have a quarter as many: by stream, each needs as much."""
_STREAMS = (Operation.OPEN_STREAM, Operation.SAVE_STREAM)
_QUESTIONS = (Operation.LIST_OBJECTS, Operation.IS_DIRECTORY)
_WORK = (Operation.LOAD, Operation.SAVE, Operation.DELETE)
_MOST_CALLS = 1024
"""Calls for which no thread is free wait. Above this number of calls they are refused."""
_ENDING = 1.0
"""Seconds before the end of the server when calls that still run are ended: for their errors to reach the callers."""
_OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", -1),
    # Argo's server opens a new connection for each request and does not close it.
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.so_reuseport", 0),
    # A fixed window: by default gRPC grows it to megabytes for each stream whose reader is slow.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", WINDOW),
    # Without this, a caller that pings during a long call, to learn whether the connection still works, is cut off
    # after the third ping: by default a ping every five minutes is allowed while no data is sent.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
)


class ArtifactServer:
    """Serves one plugin on one socket.

    Args:
        plugin: what carries out the calls.
        find_observer: returns the observer of its calls.
    """

    def __init__(self, plugin: ArtifactPlugin, find_observer: FindObserver = no_observer) -> None:
        self._lock = threading.Lock()
        self._ready = False
        self._health: Any = None
        self._running = RunningCalls()
        self._artifacts = _ArtifactService(plugin, find_observer, self._running)
        services: list[grpc.GenericRpcHandler] = [
            self._artifacts,
            _LazyService("grpc.health.v1.Health", self._load_health),
            _LazyService("grpc.reflection.v1alpha.ServerReflection", _load_reflection),
        ]
        self._server = grpc.server(
            futures.ThreadPoolExecutor(_OWN_THREADS, "sealgate-call"),
            handlers=services,
            options=_OPTIONS,
            maximum_concurrent_rpcs=_MOST_CALLS,
        )
        self._socket: Path | str | None = None

    def start(self, socket: Path | str) -> None:
        """Bind `socket`, to which every user may connect, and serve.

        The socket's directory is created. A socket that an earlier process left behind is replaced.

        Raises:
            OSError: the socket cannot be bound.
        """
        os.makedirs(os.path.dirname(socket), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(socket)
        # Callers run as other users, whom a umask of 022 would exclude. No other thread creates files yet.
        umask = os.umask(0)
        try:
            self._server.add_insecure_port(f"unix:{socket}")
        except RuntimeError:
            raise OSError(f"cannot listen on {socket}") from None
        finally:
            os.umask(umask)
        self._server.start()
        self._socket = socket

    def set_ready(self, *, ready: bool) -> None:
        """Set the health of the artifact service. The health of the server itself is always `SERVING`."""
        with self._lock:
            self._ready = ready
            self._publish()

    def _publish(self) -> None:
        if self._health is None:
            return
        from grpc_health.v1 import health_pb2  # noqa: PLC0415 - off the path to the socket

        state = health_pb2.HealthCheckResponse
        self._health.set(SERVICE, state.SERVING if self._ready else state.NOT_SERVING)

    def _load_health(self, registry: Any) -> None:
        from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # noqa: PLC0415 - off the path to the socket

        with self._lock:
            self._health = health.HealthServicer()
            self._health.set("", health_pb2.HealthCheckResponse.SERVING)
            self._publish()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registry)

    def stop(self, grace: float) -> None:
        """Remove the socket, refuse new calls, and wait `grace` seconds for the others to end.

        Those that have not ended shortly before that fail with an error that Argo retries; what then remains is
        cancelled.
        """
        until = time.monotonic() + grace
        if self._socket:
            with contextlib.suppress(OSError):
                os.unlink(self._socket)
        self._artifacts.refuse_calls()
        self._running.wait_until_read(grace - min(_ENDING, grace / 2))
        self._running.end_all(Unavailable("the plugin is ending, and this call did not end in time"))
        self._running.wait_until_read(until - time.monotonic())
        self._server.stop(max(0.0, until - time.monotonic())).wait()


class _ArtifactService(grpc.GenericRpcHandler):
    """The eight RPCs of Argo's contract."""

    def __init__(
        self,
        plugin: ArtifactPlugin,
        find_observer: FindObserver,
        running: RunningCalls,
    ) -> None:
        self._refuses = False
        memory = memory_limit()
        most_large = stream_limit(memory)
        edge = Edge(plugin, find_observer, Streams(most_large, upload_places=upload_places(memory)), running)
        handlers: dict[Operation, grpc.RpcMethodHandler[Any, Any]] = {
            Operation.OPEN_STREAM: grpc.unary_stream_rpc_method_handler(edge.open_stream),
            Operation.SAVE_STREAM: grpc.stream_unary_rpc_method_handler(edge.save_stream),
        }
        for operation in (*_WORK, *_QUESTIONS, Operation.GET_CAPABILITIES):
            handlers[operation] = grpc.unary_unary_rpc_method_handler(edge.unary(operation))
        self._handlers = {
            str(operation): observed(operation, handler, f"/{SERVICE}/{operation}", find_observer)
            for operation, handler in handlers.items()
        }
        self._stream_threads = _CountingPool(most_large + MOST_SMALL, "sealgate-stream")
        question_threads = futures.ThreadPoolExecutor(_QUESTION_THREADS, "sealgate-question")
        work_threads = futures.ThreadPoolExecutor(
            MOST_WORK if memory is None else max(1, most_large // 4), "sealgate-work"
        )
        pools = ((_STREAMS, self._stream_threads), (_QUESTIONS, question_threads), (_WORK, work_threads))
        for operations, pool in pools:
            for operation in operations:
                _run_in(pool, self._handlers[str(operation)])

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        service, _, method = details.method.removeprefix("/").partition("/")
        if service != SERVICE:
            return None
        if self._refuses:
            return _IS_ENDING
        if method in _STREAMS and self._stream_threads.waiting >= MOST_WAITING:
            return _IS_FULL
        return self._handlers.get(method)

    def refuse_calls(self) -> None:
        """From now on, answer each new call with `UNAVAILABLE`."""
        self._refuses = True


class _CountingPool(futures.ThreadPoolExecutor):
    """Threads for streams. It counts the streams that wait for one."""

    def __init__(self, size: int, name: str) -> None:
        super().__init__(size, name)
        self._lock = threading.Lock()
        self.waiting = 0

    @override
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        def run() -> Any:
            with self._lock:
                self.waiting -= 1
            return fn(*args, **kwargs)

        with self._lock:
            self.waiting += 1
        return super().submit(run)


def _refuser(code: grpc.StatusCode, text: str) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a handler that ends each call with a status which Argo takes for a passing fault.

    It does not wait for a request: the callers of an upload may be silent.
    """

    def refuse(_requests: object, context: grpc.ServicerContext) -> None:
        context.abort(code, text)

    handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_unary_rpc_method_handler(refuse)
    return handler


_IS_ENDING = _refuser(grpc.StatusCode.UNAVAILABLE, f"the plugin is ending and takes no new call ({TRANSIENT[1]})")
_IS_FULL = _refuser(
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    f"too many streams are open or wait for their turn (sealgate). Try again later. ({TRANSIENT[0]})",
)


def _run_in(pool: futures.ThreadPoolExecutor, handler: grpc.RpcMethodHandler[Any, Any]) -> None:
    """Have gRPC run `handler` in `pool` instead of in the threads of the server."""
    behavior: Any = handler.unary_unary or handler.unary_stream or handler.stream_unary
    behavior.experimental_thread_pool = pool  # gRPC's own name for it


class _LazyService(grpc.GenericRpcHandler):
    """A standard gRPC service that the first request for it loads.

    Args:
        name: the name of the service.
        load: adds the service to this object, as to a server.
    """

    def __init__(self, name: str, load: Callable[[_LazyService], None]) -> None:
        self._prefix = f"/{name}/"
        self._load = load
        self._lock = threading.Lock()
        self._handlers: Sequence[grpc.GenericRpcHandler] = ()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        if not details.method.startswith(self._prefix):
            return None
        with self._lock:
            if not self._handlers:
                self._load(self)
        return self._handlers[0].service(details)

    # The methods of a server that a generated `add_…_to_server` calls:

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._handlers = handlers

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """Do nothing: these are the handlers of `add_generic_rpc_handlers` by name."""


def _load_reflection(registry: Any) -> None:
    from grpc_health.v1 import health_pb2  # noqa: F401, PLC0415 - registers its descriptors
    from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc  # noqa: PLC0415 - off the path to the socket

    from sealgate.rpc import artifact_pb2  # noqa: F401, PLC0415 - registers its descriptors

    names = (SERVICE, "grpc.health.v1.Health", reflection.SERVICE_NAME)
    servicer = reflection.ReflectionServicer(names)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, registry)  # type: ignore[no-untyped-call]  # its stubs leave it out
