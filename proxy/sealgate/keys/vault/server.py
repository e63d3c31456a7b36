"""Which server, which credentials and which key the settings name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sealgate.keys.vault.formats import VaultRequest
from sealgate.keys.vault.login import Auth


@dataclass(frozen=True, slots=True)
class Authorities:
    """The certificates that Vault's own certificate is checked against; by default those of the public authorities."""

    source: str = ""
    """Where they are configured, for error texts; empty for the public authorities."""
    file: Path | None = None
    """A PEM file with the certificates."""
    pem: str = ""
    """The certificates themselves, in PEM, instead of a file."""


@dataclass(frozen=True, slots=True)
class VaultServer:
    """A server, how to log in to it, and how long to wait for it."""

    address: str
    auth: Auth
    namespace: str = ""
    authorities: Authorities = Authorities()
    patience: float = 30.0
    """How many seconds a call waits for Vault in all. One request waits for a third of it."""

    def request(self, path: str, body: Mapping[str, Any] | None = None, **named: Any) -> VaultRequest:
        """Return a request to this server; `named` are more fields of `VaultRequest`."""
        return VaultRequest(path, body, self.shown, self.authorities.source, **named)

    @property
    def shown(self) -> str:
        """Host and port for error texts. The whole address could contain a password."""
        try:
            parts = urlsplit(self.address)
            host, port = parts.hostname or "?", parts.port
        except ValueError:
            return "?"
        return f"{host}:{port}" if port else host


@dataclass(frozen=True, slots=True)
class TransitKey:
    """The key that wraps new data keys."""

    mount: str
    key: str
    context: bytes = b""
    """The context of a derived key, from which Vault derives another key for each value; empty for none."""

    wraps_local: bool = False
    """Whether this process makes the data keys and Vault encrypts them, instead of making them itself."""
