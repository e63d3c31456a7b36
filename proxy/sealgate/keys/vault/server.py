"""Which server, which credentials and which key the settings name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sealgate.keys.vault.login import Auth


@dataclass(frozen=True, slots=True)
class VaultServer:
    """A server, how to log in to it, and how long to wait for it."""

    address: str
    auth: Auth
    namespace: str = ""
    ca_file: Path | None = None
    """The certificates to trust instead of the public authorities; None for the public authorities."""
    patience: float = 30.0
    """How many seconds a call waits for Vault in all. One request waits for a third of it."""

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
