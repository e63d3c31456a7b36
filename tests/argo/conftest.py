"""Proxies for the tests of Argo's contract. Tests share one where they can, and start their own where they break it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.chain import SEALGATE, Proxy
from harness.otlp import Collector
from harness.stand import Stand, filled

STREAMS = {"VENDOR_STREAMS": "1"}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory) -> Iterator[Proxy]:
    """A proxy in front of a vendor's plugin with the six RPCs of Argo v4.0, with `transfer: auto`."""
    started = Proxy(tmp_path_factory.mktemp("proxy")).start()
    yield started
    assert started.stop() == 0, started.output()


@pytest.fixture(scope="module")
def by_file(tmp_path_factory) -> Iterator[Proxy]:
    """A proxy in front of a vendor's plugin with SaveStream, with `transfer: file`."""
    yield from _with_transfer("file", tmp_path_factory.mktemp("by-file"))


@pytest.fixture(scope="module")
def by_stream(tmp_path_factory) -> Iterator[Proxy]:
    """A proxy in front of a vendor's plugin with SaveStream, with `transfer: stream`."""
    yield from _with_transfer("stream", tmp_path_factory.mktemp("by-stream"))


@pytest.fixture(scope="session")
def bundled(tmp_path_factory) -> Iterator[Proxy]:
    """A proxy in front of the bundled backend, with `transfer: auto`. All modules use it, each with keys of its own."""
    started = Proxy(tmp_path_factory.mktemp("bundled"), downstream=[*SEALGATE, "backend"]).start()
    yield started
    assert started.stop() == 0, started.output()


@pytest.fixture(scope="session")
def builtin(tmp_path_factory) -> Iterator[Proxy]:
    """A proxy with the bundled backend in its own process. All modules use it, each with keys of its own."""
    started = Proxy(tmp_path_factory.mktemp("builtin"), downstream={"builtin": {}}).start()
    yield started
    assert started.stop() == 0, started.output()


@pytest.fixture(params=["by_file", "by_stream"])
def either(request) -> Proxy:
    """A proxy for each way to transfer ciphertext."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=["by_file", "by_stream", "bundled", "builtin"])
def each(request) -> Proxy:
    """A proxy for each way to transfer ciphertext, and two with the bundled backend: behind it, and within it."""
    return request.getfixturevalue(request.param)


def _with_transfer(transfer: str, home: Path) -> Iterator[Proxy]:
    started = Proxy(home, settings={"spool": {"transfer": transfer}}, environment=STREAMS).start()
    yield started
    assert started.stop() == 0, started.output()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """A collector that receives the telemetry of a module's proxies."""
    with Collector() as collector:
        yield collector


@pytest.fixture
def make(tmp_path) -> Iterator[Callable[..., Proxy]]:
    """Make a proxy for this test alone, which calls `start()` on it any number of times."""
    proxies: list[Proxy] = []

    def new_proxy(home: Path | None = None, **options) -> Proxy:
        if home is None:
            home = tmp_path / f"proxy-{len(proxies)}"
            home.mkdir()
        proxies.append(Proxy(home, **options))
        return proxies[-1]

    yield new_proxy
    for proxy in proxies:
        proxy.stop()


@pytest.fixture
def start(make) -> Callable[..., Proxy]:
    """Start a proxy for this test alone."""
    return lambda **options: make(**options).start()


@pytest.fixture
def key(request) -> str:
    """A key that no other test uses."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name.removeprefix("test_"))
    return f"tests/{name.strip('-')}"


@pytest.fixture
def public_home() -> Iterator[Path]:
    """A home directory that another user may enter."""
    with tempfile.TemporaryDirectory(prefix="sg-home-") as home:
        Path(home).chmod(0o755)
        yield Path(home)


@pytest.fixture
def stand(either, key) -> Stand:
    return filled(either, key)


@pytest.fixture
def by_files(by_file, key) -> Stand:
    return filled(by_file, key)


@pytest.fixture
def by_streams(by_stream, key) -> Stand:
    return filled(by_stream, key)
