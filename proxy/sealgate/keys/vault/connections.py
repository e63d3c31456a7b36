"""Connections to Vault, one for each request that is on its way, and the library for them loaded late."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sealgate.keys.vault.faults import Unanswered, VaultRequest, VaultResponse

if TYPE_CHECKING:
    from sealgate.keys.vault.client import Client


class Wire:
    """Connections to one Vault server, each used by one request at a time and kept for the next.

    hvac and requests promise nothing about threads, so no client is ever shared by two.
    """

    def __init__(self, address: str, *, namespace: str = "", ca_file: Path | None = None) -> None:
        self._address = address
        self._namespace = namespace
        self._ca_file = ca_file
        self._idle: list[Client] = []
        self._lock = threading.Lock()

    def send(self, request: VaultRequest, token: str, timeout: float) -> VaultResponse | Unanswered:
        """See `Client.send`."""
        with self._client() as client:
            return client.send(request, token, timeout)

    def close(self) -> None:
        """Close every connection that is not in use."""
        with self._lock:
            clients, self._idle = self._idle, []
        for client in clients:
            client.close()

    @contextmanager
    def _client(self) -> Iterator[Client]:
        with self._lock:
            client = self._idle.pop() if self._idle else None
        client = client or load()(self._address, self._namespace, self._ca_file)
        yield client
        with self._lock:
            self._idle.append(client)


def load() -> type[Client]:
    """What speaks to Vault, which takes 0.6 s the first time."""
    from sealgate.keys.vault.client import Client  # noqa: PLC0415 - off the path to the socket, and 31 MB

    return Client
