"""Turns any `ArtifactPlugin` into Argo's gRPC service on a Unix socket.

Argo's messages, health and reflection are loaded by the first request for them, so that the socket accepts connections
as early as possible.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc

from sealgate.call import Call, Operation
from sealgate.plugin import ArtifactPlugin
from sealgate.rpc.edge import LARGEST_MESSAGE, Edge
from sealgate.rpc.observer import FindObserver, no_observer, observed
from sealgate.rpc.streams import THREADS as STREAM_THREADS
from sealgate.rpc.streams import WINDOW, Streams, memory_limit, stream_limit

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = "artifact.ArtifactService"
_SHORT_THREADS, _WORK_THREADS = 32, 64
"""Threads for calls that only ask a question, health among them, and for calls that move or delete artifacts.

Streams have threads of their own (`rpc.streams`): a slow reader in Argo's UI occupies one for as long as it reads."""
_WORK = (Operation.LOAD, Operation.SAVE, Operation.DELETE)
_MOST_CALLS = 1024
"""Calls for which no thread is free wait. Above this number of calls they are refused."""
_UNKNOWN_METHOD = "/sealgate/settled"
_SETTLE_WAIT, _SETTLE_TIMEOUT = 0.1, 5.0
"""Seconds that an upload waits at its end: at least, and for the answer of `_UNKNOWN_METHOD` at most."""
_OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", -1),
    # Argo's server opens a new connection for each request and does not close it.
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.so_reuseport", 0),
    # A fixed window: by default gRPC grows it to megabytes for each stream whose reader is slow.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", WINDOW),
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
        services: list[grpc.GenericRpcHandler] = [
            _ArtifactService(plugin, self._settle, find_observer, Streams(stream_limit(memory_limit()))),
            _LazyService("grpc.health.v1.Health", self._load_health),
            _LazyService("grpc.reflection.v1alpha.ServerReflection", _load_reflection),
        ]
        self._server = grpc.server(
            futures.ThreadPoolExecutor(_SHORT_THREADS, "sealgate-call"),
            handlers=services,
            options=_OPTIONS,
            maximum_concurrent_rpcs=_MOST_CALLS,
        )
        self._socket: Path | str | None = None
        self._own_channel: grpc.Channel | None = None

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

    def _settle(self, call: Call) -> None:
        """Return once a cancellation that has already happened has reached `call`.

        gRPC does not say whether one is still on its way. One of its threads delivers all events of a server in their
        order. So a request to a method that does not exist is answered after all events that this thread had before.
        The wait before it gives gRPC's other threads time to pass their events to this thread.
        """
        if call.cancelled_within(_SETTLE_WAIT):
            return
        with self._lock:
            if self._own_channel is None:
                options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
                self._own_channel = grpc.insecure_channel(f"unix:{self._socket}", options=options)
            request: Any = self._own_channel.unary_unary(_UNKNOWN_METHOD)
        # A server that is stopping accepts no request; then the wait alone has to suffice.
        with contextlib.suppress(grpc.RpcError):
            request(b"", timeout=_SETTLE_TIMEOUT)

    def stop(self, grace: float) -> None:
        """Wait up to `grace` seconds for calls to end, cancel the others, and remove the socket."""
        self._server.stop(grace).wait()
        if self._socket:
            with contextlib.suppress(OSError):
                os.unlink(self._socket)


class _ArtifactService(grpc.GenericRpcHandler):
    """The eight RPCs of Argo's contract."""

    def __init__(
        self,
        plugin: ArtifactPlugin,
        settle: Callable[[Call], None],
        find_observer: FindObserver,
        streams: Streams,
    ) -> None:
        edge = Edge(plugin, settle, find_observer, streams)
        handlers: dict[Operation, grpc.RpcMethodHandler[Any, Any]] = {
            Operation.OPEN_STREAM: grpc.unary_stream_rpc_method_handler(edge.open_stream),
            Operation.SAVE_STREAM: grpc.stream_unary_rpc_method_handler(edge.save_stream),
        }
        for operation in (Operation.LOAD, Operation.SAVE, Operation.DELETE, Operation.LIST_OBJECTS):
            handlers[operation] = grpc.unary_unary_rpc_method_handler(edge.unary(operation))
        for operation in (Operation.IS_DIRECTORY, Operation.GET_CAPABILITIES):
            handlers[operation] = grpc.unary_unary_rpc_method_handler(edge.unary(operation))
        self._handlers = {
            str(operation): observed(operation, handler, f"/{SERVICE}/{operation}", find_observer)
            for operation, handler in handlers.items()
        }
        stream_threads = futures.ThreadPoolExecutor(STREAM_THREADS, "sealgate-stream")
        work_threads = futures.ThreadPoolExecutor(_WORK_THREADS, "sealgate-work")
        for operation in (Operation.OPEN_STREAM, Operation.SAVE_STREAM):
            _run_in(stream_threads, self._handlers[str(operation)])
        for operation in _WORK:
            _run_in(work_threads, self._handlers[str(operation)])

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        service, _, method = details.method.removeprefix("/").partition("/")
        return self._handlers.get(method) if service == SERVICE else None


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
