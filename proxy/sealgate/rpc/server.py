"""Turns any `ArtifactPlugin` into Argo's gRPC service on a Unix socket.

Argo's messages, health and reflection are loaded when they are first asked for, so that the socket
accepts as early as a bare server's.
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
from sealgate.rpc.watched import Watching, nobody, watched

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = "artifact.ArtifactService"
_THREADS = 128
"""One for each call at work. A UI's slow reader holds one for as long as it reads."""
_MOST_CALLS = 1024
"""Calls beyond the threads wait; beyond this they are refused rather than remembered."""
_NOBODY = "/sealgate/settled"
_QUIET, _ANSWERED_WITHIN = 0.1, 5.0
"""Seconds: what an upload waits at its end, and the most that it does."""
_OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_MESSAGE),
    ("grpc.max_send_message_length", -1),
    # Argo's server opens a connection for each request and never closes one.
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.so_reuseport", 0),
)


class ArtifactServer:
    """Serves one plugin on one socket. `watching` tells who is shown its calls."""

    def __init__(self, plugin: ArtifactPlugin, watching: Watching = nobody) -> None:
        self._lock = threading.Lock()
        self._ready = False
        self._health: Any = None
        services: list[grpc.GenericRpcHandler] = [
            _ArtifactService(plugin, self._settle, watching),
            _Late("grpc.health.v1.Health", self._load_health),
            _Late("grpc.reflection.v1alpha.ServerReflection", _load_reflection),
        ]
        self._server = grpc.server(
            futures.ThreadPoolExecutor(_THREADS, "sealgate-call"),
            handlers=services,
            options=_OPTIONS,
            maximum_concurrent_rpcs=_MOST_CALLS,
        )
        self._socket: Path | str | None = None
        self._own_channel: grpc.Channel | None = None

    def start(self, socket: Path | str) -> None:
        """Bind `socket`, which every user may connect to, and serve.

        Makes the socket's directory; replaces a socket that an earlier process left behind.

        Raises:
            OSError: the socket cannot be made there.
        """
        os.makedirs(os.path.dirname(socket), exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(socket)
        # Callers run as other users, and a umask of 022 would keep them out. Nothing else runs yet.
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
        """What the health service answers for the artifact service. The server itself is always healthy."""
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

        The library gives no sign that none is on its way. One thread of it hands out all events of a
        server in turn, so a question of our own, to a method that does not exist, is answered after all
        that it knew before; the wait in front is for what one of its other threads has yet to tell it.
        """
        if call.cancelled_within(_QUIET):
            return
        with self._lock:
            if self._own_channel is None:
                options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0))
                self._own_channel = grpc.insecure_channel(f"unix:{self._socket}", options=options)
            ask: Any = self._own_channel.unary_unary(_NOBODY)
        # A server that is ending takes no question any more: then the wait has to do.
        with contextlib.suppress(grpc.RpcError):
            ask(b"", timeout=_ANSWERED_WITHIN)

    def stop(self, grace: float) -> None:
        """Let calls end for `grace` seconds, then cancel what is left. Removes the socket."""
        self._server.stop(grace).wait()
        if self._socket:
            with contextlib.suppress(OSError):
                os.unlink(self._socket)


class _ArtifactService(grpc.GenericRpcHandler):
    """The eight RPCs, by name."""

    def __init__(self, plugin: ArtifactPlugin, settle: Callable[[Call], None], watching: Watching) -> None:
        edge = Edge(plugin, settle, watching)
        handlers: dict[Operation, grpc.RpcMethodHandler[Any, Any]] = {
            Operation.OPEN_STREAM: grpc.unary_stream_rpc_method_handler(edge.open_stream),
            Operation.SAVE_STREAM: grpc.stream_unary_rpc_method_handler(edge.save_stream),
        }
        for operation in (Operation.LOAD, Operation.SAVE, Operation.DELETE, Operation.LIST_OBJECTS):
            handlers[operation] = grpc.unary_unary_rpc_method_handler(edge.unary(operation))
        for operation in (Operation.IS_DIRECTORY, Operation.GET_CAPABILITIES):
            handlers[operation] = grpc.unary_unary_rpc_method_handler(edge.unary(operation))
        self._handlers = {
            str(operation): watched(operation, handler, f"/{SERVICE}/{operation}", watching)
            for operation, handler in handlers.items()
        }

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        service, _, method = details.method.removeprefix("/").partition("/")
        return self._handlers.get(method) if service == SERVICE else None


class _Late(grpc.GenericRpcHandler):
    """A standard service that is loaded when it is first asked for."""

    def __init__(self, name: str, load: Callable[[_Late], None]) -> None:
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

    # What a generated `add_…_to_server` asks of a server:

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._handlers = handlers

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """The same handlers once more, for a server that wants them by name."""


def _load_reflection(registry: Any) -> None:
    from grpc_health.v1 import health_pb2  # noqa: F401, PLC0415 - registers its descriptors
    from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc  # noqa: PLC0415 - off the path to the socket

    from sealgate.rpc import artifact_pb2  # noqa: F401, PLC0415 - registers its descriptors

    names = (SERVICE, "grpc.health.v1.Health", reflection.SERVICE_NAME)
    servicer = reflection.ReflectionServicer(names)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, registry)  # type: ignore[no-untyped-call]  # its stubs leave it out
