"""The stores on which every test of the backend runs, and other clients that show their content."""

from __future__ import annotations

import functools
import itertools
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.azurite import Azurite, azurite_at
from harness.gcs import Gcs, gcs_server
from harness.s3 import Server, versitygw_at
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

from sealgate.backend import ObjectStoreBackend
from sealgate.call import Call, Operation
from sealgate.plugin import Artifact


@dataclass
class Store:
    """A store for one test."""

    environment: dict[str, str]
    keys: Callable[[], set[str]] | None = None
    """Returns the raw keys in the store without the backend; None for a store where that is impossible."""
    uploads: Callable[[], list[str]] = list

    def backend(self) -> ObjectStoreBackend:
        return ObjectStoreBackend(self.environment)


@pytest.fixture(scope="session")
def moto() -> Iterator[Server]:
    """An S3 server in this process. It compares `If-None-Match` and stores in one step, as S3 does.

    moto itself does the two one after the other, so that of writes at the same time more than one may be stored.
    """
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        one_at_a_time = threading.RLock()
        for name in ("put_object", "_key_response_post"):
            patch.setattr(S3Response, name, _holding(one_at_a_time, getattr(S3Response, name)))
        server.start()
        host, port = server.get_host_and_port()
        yield Server(f"http://{host}:{port}")
        server.stop()


def _holding(lock: threading.RLock, method: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(method)
    def held(*arguments: object, **named: object) -> object:
        with lock:
            return method(*arguments, **named)

    return held


@pytest.fixture(scope="session")
def versitygw(tmp_path_factory) -> Iterator[Server]:
    with versitygw_at(tmp_path_factory.mktemp("versitygw")) as server:
        yield server


def _s3_store(server: Server) -> Store:
    bucket = server.new_bucket()
    environment = {
        "SEALGATE_BACKEND_URL": f"s3://{bucket}/a/prefix",
        "SEALGATE_BACKEND_CONFIG": json.dumps(server.config()),
    }
    return Store(
        environment,
        lambda: {key.removeprefix("a/prefix/") for key in server.keys(bucket)},
        lambda: server.uploads(bucket),
    )


@pytest.fixture(scope="session")
def gcs() -> Iterator[Gcs]:
    with gcs_server() as server:
        yield server


@pytest.fixture(scope="session")
def azurite(tmp_path_factory) -> Iterator[Azurite]:
    with azurite_at(tmp_path_factory.mktemp("azurite")) as server:
        yield server


def _gcs_store(server: Gcs) -> Store:
    bucket = server.new_bucket()
    return Store(
        {"SEALGATE_BACKEND_URL": f"gs://{bucket}/a/prefix", "SEALGATE_BACKEND_CONFIG": json.dumps(server.config())},
        lambda: {key.removeprefix("a/prefix/") for key in server.keys(bucket)},
        lambda: server.uploads(bucket),
    )


def _azure_store(server: Azurite) -> Store:
    container = server.new_container()
    return Store(
        {"SEALGATE_BACKEND_URL": f"az://{container}/a/prefix", "SEALGATE_BACKEND_CONFIG": json.dumps(server.config())},
        lambda: {key.removeprefix("a/prefix/") for key in server.keys(container)},
    )


_first_takes_long = pytest.mark.timeout(900, func_only=False)  # it is installed


@pytest.fixture(
    params=[
        "memory",
        "file",
        "moto",
        pytest.param("versitygw", marks=_first_takes_long),
        "gcs",
        pytest.param("azurite", marks=_first_takes_long),
    ]
)
def store(request, tmp_path_factory) -> Store:
    if request.param == "gcs":
        return _gcs_store(request.getfixturevalue("gcs"))
    if request.param == "azurite":
        return _azure_store(request.getfixturevalue("azurite"))
    if request.param in {"moto", "versitygw"}:
        return _s3_store(request.getfixturevalue(request.param))
    if request.param == "memory":
        return Store({"SEALGATE_BACKEND_URL": "memory://a-store"})
    root = tmp_path_factory.mktemp("a store")
    return Store(
        {"SEALGATE_BACKEND_URL": root.as_uri()},
        lambda: {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()},
    )


@pytest.fixture
def backend(store) -> ObjectStoreBackend:
    return store.backend()


@pytest.fixture
def backend_at() -> Callable[..., ObjectStoreBackend]:
    """Return a function that makes a backend on a bucket of an S3 server, with some options changed."""

    def backend_at(server: Server, bucket: str, prefix: str = "", **options) -> ObjectStoreBackend:
        return ObjectStoreBackend(
            {
                "SEALGATE_BACKEND_URL": f"s3://{bucket}/{prefix}",
                "SEALGATE_BACKEND_CONFIG": json.dumps(server.config(**options)),
            }
        )

    return backend_at


class Fault:
    """A TCP proxy that breaks connections.

    It ends each connection whose request contains `poison`, and each that has returned `limit` bytes of answers. The
    first `mercy` connections are not limited.
    """

    def __init__(self, target: str):
        host, port = target.removeprefix("http://").split(":")
        self.target = (host, int(port))
        self.poison, self.limit, self.mercy, self.accepted = b"", sys.maxsize, 0, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.open = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.accepted += 1
                spared, self.mercy = self.mercy > 0, self.mercy - 1
                server = socket.create_connection(self.target)
                self.open += 1
                both = (client, server)
                threading.Thread(target=self._requests, args=both, daemon=True).start()
                threading.Thread(target=self._answers, args=(*both, spared), daemon=True).start()

    def _requests(self, client, server):
        with suppress(OSError):
            while (data := client.recv(1 << 16)) and not (self.poison and self.poison in data):
                server.sendall(data)
        self._end(client, server)

    def _answers(self, client, server, spared):
        passed = 0
        with suppress(OSError):
            while (data := server.recv(1 << 16)) and (spared or passed < self.limit):
                client.sendall(data)
                passed += len(data)
        self.open -= 1
        self._end(client, server)

    def _end(self, *both):
        for one in both:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.fixture
def fault(versitygw) -> Iterator[Fault]:
    """A `Fault` in front of versitygw."""
    fault = Fault(versitygw.endpoint)
    yield fault
    fault.listener.close()


@pytest.fixture
def call() -> Call:
    return Call(Operation.LOAD)


@pytest.fixture
def at() -> Callable[..., Artifact]:
    """Return a function that makes an artifact of a key."""
    return lambda key, configuration="{}": Artifact(key=key, configuration=configuration)


@pytest.fixture
def plant(tmp_path) -> Callable[..., Path]:
    """Return a function that writes a local tree: bytes are a file, None is an empty directory."""
    names = itertools.count()

    def plant(tree: dict[str, bytes | None] | bytes) -> Path:
        top = tmp_path / f"planted-{next(names)}"
        if isinstance(tree, bytes):
            top.write_bytes(tree)
            return top
        top.mkdir()
        for path, content in tree.items():
            if content is None:
                (top / path).mkdir(parents=True)
            else:
                (top / path).parent.mkdir(parents=True, exist_ok=True)
                (top / path).write_bytes(content)
        return top

    return plant


@pytest.fixture
def seen() -> Callable[[Path], object]:
    """Return the inverse of `plant`."""

    def seen(top: Path) -> dict[str, bytes | None] | bytes:
        if not top.is_dir():
            return top.read_bytes()
        return {
            str(path.relative_to(top)): path.read_bytes() if path.is_file() else None
            for path in top.rglob("*")
            if path.is_file() or not any(path.iterdir())
        }

    return seen


@pytest.fixture
def fresh(tmp_path) -> Callable[[], Path]:
    """Return a function that makes a path to load to, in an empty directory."""
    names = itertools.count()

    def fresh() -> Path:
        place = tmp_path / f"fresh-{next(names)}"
        place.mkdir()
        return place / "loaded"

    return fresh
