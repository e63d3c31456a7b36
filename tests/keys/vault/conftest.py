"""A real server for a whole worker, and a Transit engine, keys and providers of each test's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from harness.openbao import OpenBao, Server, Transit

from proxy.keys.vault import TransitKey, VaultKeys, VaultServer
from proxy.keys.vault_auth import Auth, StaticToken


@pytest.fixture(scope="session")
def openbao(tmp_path_factory) -> Iterator[OpenBao]:
    """A process of this worker's own. Who seals or stops it undoes that."""
    server = OpenBao(tmp_path_factory.mktemp("openbao") / "home")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def vault(request) -> Server:
    """The server that is named for tests, or else `openbao`."""
    address, root = os.environ.get("SEALGATE_TEST_VAULT_ADDR"), os.environ.get("SEALGATE_TEST_VAULT_TOKEN")
    return Server(address, root) if address and root else request.getfixturevalue("openbao")


@pytest.fixture
def transit(vault) -> Transit:
    return vault.transit()


@pytest.fixture
def own_transit(openbao) -> Transit:
    """On the process that a test may stop, and whose audit log it may read."""
    return openbao.transit()


@pytest.fixture
def provider() -> Callable[..., VaultKeys]:
    """A provider for a Transit engine, by default with everything that its root may do."""

    def make(transit: Transit, auth: Auth | None = None, key="artifacts", context=b"", patience=30.0, **options):
        server = VaultServer(
            transit.server.address,
            auth or StaticToken(transit.server.root),
            namespace=transit.namespace,
            patience=patience,
        )
        return VaultKeys(server, TransitKey(transit.mount, key, context), **options)

    return make


@pytest.fixture
def keys(transit, provider) -> VaultKeys:
    return provider(transit)
