"""Fixtures for tests on a real server: service accounts and key providers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from harness import vault_logins as logins
from harness.openbao import Transit

from sealgate.keys.vault.login import Auth, StaticToken
from sealgate.keys.vault.provider import VaultKeys
from sealgate.keys.vault.server import TransitKey, VaultServer


@pytest.fixture(scope="session")
def account() -> logins.ServiceAccount:
    return logins.ServiceAccount()


@pytest.fixture
def provider() -> Callable[..., VaultKeys]:
    """Make a provider for a Transit engine, by default with the root token."""

    def make(
        transit: Transit,
        auth: Auth | None = None,
        key="artifacts",
        context=b"",
        patience=30.0,
        wraps_local=False,
        **options,
    ):
        server = VaultServer(
            transit.server.address,
            auth or StaticToken(transit.server.root),
            namespace=transit.namespace,
            patience=patience,
        )
        return VaultKeys(server, TransitKey(transit.mount, key, context, wraps_local), **options)

    return make


@pytest.fixture
def keys(transit, provider) -> VaultKeys:
    return provider(transit)
