"""How a request gets a connection, and when the client library is loaded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from typing_extensions import override

from sealgate.keys.vault.formats import Unanswered, VaultRequest, VaultResponse
from sealgate.keys.vault.server import Authorities

if TYPE_CHECKING:
    from sealgate.keys.vault.client import Client


class Transport(Protocol):
    """Sends requests to one server. Tests put a scripted server in its place."""

    def send(self, request: VaultRequest, token: str, timeout: float) -> VaultResponse | Unanswered:
        """Send `request` once.

        Args:
            request: what to send.
            token: the token that it carries; empty for none.
            timeout: seconds for connecting, sending and receiving the whole answer.
        """


class Wire(Transport):
    """Keeps connections to one server. Each serves one request at a time and is reused for the next.

    hvac and requests do not promise to be thread-safe, so two requests never share a client.
    """

    def __init__(self, address: str, *, namespace: str = "", authorities: Authorities | None = None) -> None:
        """Connect to `address` when the first request is sent; the other arguments are those of `Client`."""
        self._address = address
        self._namespace = namespace
        self._authorities = authorities or Authorities()
        self._idle: list[Client] = []
        self._lock = threading.Lock()

    @override
    def send(self, request: VaultRequest, token: str, timeout: float) -> VaultResponse | Unanswered:
        with self._client() as client:
            return client.send(request, token, timeout)

    @contextmanager
    def _client(self) -> Iterator[Client]:
        with self._lock:
            client = self._idle.pop() if self._idle else None
        client = client or load()(self._address, self._namespace, self._authorities)
        yield client
        with self._lock:
            self._idle.append(client)


def load() -> type[Client]:
    """Import the client library, which takes 0.6 s the first time, and return its client."""
    from sealgate.keys.vault.client import Client  # noqa: PLC0415 - 0.6 s and 31 MB that must not delay the socket

    return Client
