"""Servers to measure against, made of the product's code: `python -m bench.servers KIND ARGUMENT SOCKET`.

`relay DOWNSTREAM` passes everything on unchanged. `silent -` is the proxy without its audit trail. `collector -`
drops the spans that it receives. `slow RATE` is the bundled backend on storage that is limited to RATE bytes a
second, for files and for streams. `slow-builtin RATE` is the proxy without its audit trail, and that in its process.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Generator, Iterator
from concurrent import futures
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import grpc

from sealgate import config
from sealgate.backend import ObjectStoreBackend
from sealgate.call import Call
from sealgate.cli.process import run
from sealgate.compose.keys import key_provider
from sealgate.compose.starting import Composed
from sealgate.layers.governed import Governed
from sealgate.layers.sealed import Sealed
from sealgate.plugin import Artifact, Capabilities, Chunk
from sealgate.rpc.client import Downstream
from sealgate.rpc.endpoint import Endpoint
from sealgate.rpc.in_process import InProcess
from sealgate.storage.local_paths import Roots
from sealgate.storage.spool import Spool
from sealgate.storage.stored_objects import Transfer

STREAMS = Capabilities(save_stream=True)
"""What each of these plugins offers."""


class Slow:
    """A plugin whose storage is limited to `rate` bytes a second."""

    def __init__(self, plugin: Any, rate: int) -> None:
        self._plugin = plugin
        self._rate = rate

    def __getattr__(self, operation: str) -> Any:
        return getattr(self._plugin, operation)

    def load(self, call: Call, artifact: Artifact, path: Path) -> None:
        """Load, and wait as long as the storage would have taken to read the file."""
        with self._delayed(path):
            self._plugin.load(call, artifact, path)

    def save(self, call: Call, artifact: Artifact, path: Path) -> None:
        """Save, and wait as long as the storage would have taken to write the file."""
        with self._delayed(path):
            self._plugin.save(call, artifact, path)

    def open_stream(self, call: Call, artifact: Artifact) -> Generator[Chunk]:
        """Yield each chunk no earlier than the storage would have read it."""
        with closing(self._plugin.open_stream(call, artifact)) as chunks:
            yield from self._paced(chunks)

    def save_stream(self, call: Call, artifact: Artifact, chunks: Iterator[Chunk]) -> None:
        """Pass each chunk on no earlier than the storage would have written the one before."""
        self._plugin.save_stream(call, artifact, self._paced(chunks))

    def _paced(self, chunks: Iterator[Chunk]) -> Generator[Chunk]:
        began, size = time.monotonic(), 0
        for chunk in chunks:
            size += len(chunk)
            self._wait(began, size)
            yield chunk

    @contextmanager
    def _delayed(self, path: Path) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._wait(began, path.stat().st_size)

    def _wait(self, began: float, size: int) -> None:
        time.sleep(max(0.0, began + size / self._rate - time.monotonic()))


def silent() -> Composed:
    """Compose the layers of `sealgate serve` without the one that records accesses."""
    settings = config.load()
    endpoint = Endpoint(settings.required_downstream().socket or Path(), 30)
    downstream, spool = Downstream(endpoint), Spool(settings.spool.directory or Path())
    sealed = Sealed(downstream, key_provider(settings), roots=Roots(settings.paths.roots), spool=spool)
    return Composed(Governed(sealed), closing=(downstream.close, spool.close))


def slow_builtin(rate: int) -> Composed:
    """Compose the same layers with a slow backend in this process."""
    settings = config.load()
    roots, spool = Roots(settings.paths.roots), Spool(Path())
    backend = InProcess(Slow(ObjectStoreBackend(), rate))
    return Composed(
        Governed(Sealed(backend, key_provider(settings), roots=roots, spool=spool, transfer=Transfer.STREAM))
    )


def collector(socket: str) -> int:
    """Serve every method of every service with an empty answer."""
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[_AnswersNothing()])
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(0))
    server.wait_for_termination()
    return 0


class _AnswersNothing(grpc.GenericRpcHandler):
    def service(self, _details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        return grpc.unary_unary_rpc_method_handler(lambda _message, _context: b"")


def main(kind: str, which: str, socket: str) -> int:
    if kind == "collector":
        return collector(socket)
    if kind == "silent":
        return run(silent, socket, STREAMS)
    if kind == "slow-builtin":
        return run(lambda: slow_builtin(int(which)), socket, STREAMS)
    if kind == "relay":
        downstream = Downstream(Endpoint(Path(which), 30))
        return run(lambda: Composed(downstream, closing=(downstream.close,)), Path(socket), STREAMS)
    return run(lambda: Composed(Governed(Slow(ObjectStoreBackend(), int(which)))), Path(socket), STREAMS)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
