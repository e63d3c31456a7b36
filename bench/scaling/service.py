"""A real key service with TLS, its logins, and Sealgate's settings for it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import pki, vault_logins
from harness.openbao import OpenBao, Transit

from sealgate.keys.vault.login import JwtLogin
from sealgate.keys.vault.provider import VaultKeys
from sealgate.keys.vault.server import Authorities, TransitKey, VaultServer

_DAY = 86_400
"""Seconds. A cluster replaces the tokens of its pods; here they are valid for the whole run."""
MOUNT, KEY, SIGNING_KEY = "transit", "artifacts", "audit"
LOG = "calls"
"""The audit log that an installation has. The harness adds one with secrets in plaintext, which is turned off here."""
PATIENCE = 30.0
"""The default of `keys.vault.timeout`, in seconds."""
LONGEST_WAIT = PATIENCE / 3
"""How long one request waits for its answer, in seconds, before it is tried again (docs/vault.md)."""


@dataclass(frozen=True)
class KeyService:
    """A running server, where it listens with TLS, and the logins that it accepts."""

    server: OpenBao
    address: str
    authorities: Path
    login: JwtLogin
    """Its tokens are not stored (`token_type=batch`)."""
    storing_login: JwtLogin
    """Its tokens are stored until they expire (`token_type=service`, the default of a role)."""

    def client(self, *, stores: bool = False, address: str = "", patience: float = PATIENCE) -> VaultKeys:
        """Return a new client, as each process has one: it logs in and connects by its first request.

        Args:
            stores: whether its token is one that the server stores.
            address: another way to the server.
            patience: how long a call waits, in seconds.
        """
        server = VaultServer(
            address or self.address,
            self.storing_login if stores else self.login,
            authorities=Authorities("VAULT_CACERT", file=self.authorities),
            patience=patience,
        )
        return VaultKeys(server, TransitKey(MOUNT, KEY), signing_key=SIGNING_KEY)

    def settings(self) -> dict[str, Any]:
        """Return the sections `keys` and `audit` of a configuration, without the trail's sinks."""
        auth = {
            "method": "jwt",
            "role": self.login.role,
            "mount": self.login.mount,
            "jwtPath": str(self.login.jwt_path),
        }
        vault = {"address": self.address, "mount": MOUNT, "key": KEY, "auth": auth}
        return {"keys": {"provider": "vault", "vault": vault}, "audit": {"signingKey": SIGNING_KEY}}

    def log_size(self) -> int:
        """Return the bytes of the server's audit log."""
        return (self.server.home / f"{LOG}.log").stat().st_size

    def requests(self) -> dict[str, int]:
        """Return how many requests the server has carried out, by the names of the fields of `Cost`."""
        calls = self.server.calls()
        logins = sum(count for path, count in calls.items() if path.startswith("auth/") and path.endswith("/login"))
        return {
            "logins": logins,
            "signatures": calls[f"{MOUNT}/sign/{SIGNING_KEY}"],
            "data_keys": calls[f"{MOUNT}/datakey/plaintext/{KEY}"],
            "unwraps": calls[f"{MOUNT}/decrypt/{KEY}"],
        }


@contextmanager
def key_service(home: Path) -> Iterator[KeyService]:
    """Run OpenBao with the keys, the policies and the roles that docs/vault.md describes."""
    home.mkdir()
    root = pki.authority()
    authorities, _ = root.write(home, "authority")
    server = OpenBao(home / "server")
    address = server.add_tls_listener(*pki.server(root).write(home, "server"))
    server.start()
    try:
        server.api("DELETE", "sys/audit/raw")
        transit = Transit(server, mount=MOUNT)
        transit.create_key(SIGNING_KEY, type="ed25519")
        policies = transit.shipped_policies("saver", "loader", "certifier")
        account = vault_logins.ServiceAccount()
        logins = [
            vault_logins.jwt(transit, account, home / f"{kind}.jwt", policies, token_type=kind, token_ttl="1h")
            for kind in ("batch", "service")
        ]
        for login in logins:
            login.jwt_path.write_text(account.token(exp=int(time.time()) + _DAY))
        yield KeyService(server, address, authorities, *logins)
    finally:
        server.stop()
