"""Which Vault, as whom, and which key of it: what the provider and a look at it both begin with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sealgate.keys.vault.login import Auth


@dataclass(frozen=True, slots=True)
class VaultServer:
    """Which server, and as whom."""

    address: str
    auth: Auth
    namespace: str = ""
    ca_file: Path | None = None
    patience: float = 30.0
    """Seconds that a call waits for Vault in all; one request waits a third of it."""

    @property
    def shown(self) -> str:
        """Host and port, as an error may name them: an address could hold a password."""
        try:
            parts = urlsplit(self.address)
            host, port = parts.hostname or "?", parts.port
        except ValueError:
            return "?"
        return f"{host}:{port}" if port else host


@dataclass(frozen=True, slots=True)
class TransitKey:
    """Which key wraps new data keys."""

    mount: str
    key: str
    context: bytes = b""
    """For derived keys: the same key name gives another key for each context."""
