"""Proxies for the tests of gRPC on both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from harness.chain import Proxy


@pytest.fixture(scope="module")
def proxy(tmp_path_factory) -> Iterator[Proxy]:
    started = Proxy(tmp_path_factory.mktemp("proxy")).start()
    yield started
    assert started.stop() == 0, started.output()


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Proxy]]:
    """Return a function that starts a proxy for this test alone, which may break it."""
    started: list[Proxy] = []

    def begin(**options) -> Proxy:
        started.append(Proxy(tmp_path, **options))
        return started[-1].start()

    yield begin
    for proxy in started:
        proxy.stop()
