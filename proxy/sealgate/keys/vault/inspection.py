"""What an administrator wants to know of a server, a login and a key. Nothing here is on the way of a Save or a Load.

`sealgate doctor` asks it; docs/doctor.md says what follows from the answers.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from sealgate.call import Call, WrappedKey
from sealgate.errors import NotConfigured, Tampered
from sealgate.keys.vault import faults
from sealgate.keys.vault.faults import TokenRefused, Unanswered, VaultRequest
from sealgate.keys.vault.requests import Transport
from sealgate.keys.vault.server import TransitKey, VaultServer
from sealgate.keys.vault.session import Authenticated

_VERSION = re.compile(r"[\w.+-]{1,40}", re.ASCII)
_TYPE = re.compile(r"[\w-]{1,40}", re.ASCII)
DATAKEY, DECRYPT = "datakey/plaintext", "decrypt"
"""Operations that a policy can hold to a context."""
_WRAP_SIZE = 12 + 32 + 16
"""What Vault makes of a data key: a nonce, the key, a tag."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server tells everybody."""

    version: str
    """Empty where it keeps that to itself, or something before it does."""
    sealed: bool
    in_clear: bool
    """Whether whoever stands between here and there can read the token and the data keys."""


@dataclass(frozen=True, slots=True)
class Right:
    """One path of the mount that the policies of an identity name."""

    path: str
    is_prefix: bool
    """Whether everything that begins with it is meant; without a path, the whole mount and perhaps more."""
    capabilities: frozenset[str]
    """In Vault's own words (`update`)."""

    def covers(self, path: str) -> bool:
        """Whether it is about this path of the mount."""
        return path.startswith(self.path) if self.is_prefix else path == self.path


@dataclass(frozen=True, slots=True)
class TransitKeyInfo:
    """A Transit key as Vault describes it."""

    type: str
    derived: bool
    latest_version: int
    made_at: float | None
    """When the latest version was made, in seconds since 1970; None where Vault does not say so."""
    min_decryption_version: int
    auto_rotate_seconds: int
    """0: nobody rotates it by itself."""
    deletion_allowed: bool
    exportable: bool
    allow_plaintext_backup: bool


class Inspection:
    """Looks at what one `VaultKeys` works with: the same server, the same token, the same key."""

    def __init__(self, transport: Transport, vault: Authenticated, server: VaultServer, key: TransitKey) -> None:
        self._transport = transport
        self._vault = vault
        self._server = server
        self._mount = key.mount
        self._key = key.key
        self.context = key.context
        """What the provider derives its key with; empty without one."""

    def reach(self, seconds: float) -> ServerFacts:
        """Ask the server once for what it tells everybody. An answer of any kind will do.

        Raises:
            PluginError: nothing answers within `seconds`, or what does is not trusted.
        """
        request = self._request("sys/seal-status")
        outcome = self._transport.send(request, "", seconds)
        if isinstance(outcome, Unanswered):
            raise faults.UNANSWERED[outcome].fault(request, outcome)
        version = outcome.body.get("version")
        shown = version if isinstance(version, str) and _VERSION.fullmatch(version) else ""
        return ServerFacts(shown, outcome.body.get("sealed") is True, _in_clear(self._server.address))

    def log_in(self, call: Call) -> float | None:
        """Have a token, and tell for how many seconds it lives: infinity, or None if nobody may say."""
        self._vault.ready(call)
        seconds = self._vault.lives_for()
        if seconds is not None:
            return seconds
        try:
            left = self._vault.send(call, self._request("auth/token/lookup-self")).data.get("ttl")
        except TokenRefused:
            return None
        return None if not isinstance(left, int) else float(left or "inf")

    def look(self, call: Call) -> TransitKeyInfo:
        """What Vault says of the key.

        Raises:
            TokenRefused: this identity may not look.
        """
        data = self._vault.send(call, self._request(f"{self._mount}/keys/{self._key}")).data
        kind, versions, latest = data.get("type"), data.get("keys"), _count(data, "latest_version")
        made = versions.get(str(latest)) if isinstance(versions, dict) else None
        return TransitKeyInfo(
            type=kind if isinstance(kind, str) and _TYPE.fullmatch(kind) else "unknown",
            derived=data.get("derived") is True,
            latest_version=latest,
            made_at=float(made) if isinstance(made, int) else None,
            min_decryption_version=_count(data, "min_decryption_version"),
            auto_rotate_seconds=_count(data, "auto_rotate_period"),
            deletion_allowed=data.get("deletion_allowed") is True,
            exportable=data.get("exportable") is True,
            allow_plaintext_backup=data.get("allow_plaintext_backup") is True,
        )

    def capabilities(self, call: Call, paths: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """What this identity may do at each of the `paths` of the mount, in Vault's own words (`update`, `root`).

        Raises:
            TokenRefused: it may not ask, for want of the policy `default`.
        """
        asked = {path: f"{self._mount}/{path}" for path in paths}
        data = self._vault.send(call, self._request("sys/capabilities-self", {"paths": list(asked.values())})).data
        found = {path: data.get(full) for path, full in asked.items()}
        if not all(isinstance(capabilities, list) for capabilities in found.values()):
            raise NotConfigured(
                f"what answers at {self._server.shown} does not tell capabilities as Vault does",
                says="vault",
                remedy="Check keys.vault.address, and what stands before it",
            )
        return {path: frozenset(map(str, capabilities or ())) for path, capabilities in found.items()}

    def listed(self, call: Call) -> list[Right] | None:
        """What this identity may do in the mount, as Vault lists it; None where it does not say.

        The list is made for Vault's own pages. Paths with a `+` are missing in it.
        """
        try:
            data = self._vault.send(call, self._request("sys/internal/ui/resultant-acl")).data
        except (TokenRefused, NotConfigured):
            return None
        listed: list[Right] = []
        for name, is_prefix in (("exact_paths", False), ("glob_paths", True)):
            paths = data.get(name)
            if not isinstance(paths, dict):
                return None
            for path, facts in paths.items():
                listed += self._in_mount(path, facts, is_prefix=is_prefix)
        return listed

    def _in_mount(self, path: str, facts: Any, *, is_prefix: bool) -> Iterator[Right]:
        capabilities = facts.get("capabilities") if isinstance(facts, dict) else None
        allowed = frozenset(map(str, capabilities)) if isinstance(capabilities, list) else frozenset[str]()
        namespace = self._server.namespace.strip("/")
        inside = path.removeprefix(f"{namespace}/") if namespace else path
        mount = f"{self._mount}/"
        if inside.startswith(mount):
            yield Right(inside.removeprefix(mount), is_prefix, allowed)
        elif is_prefix and (mount.startswith(inside) or f"{namespace}/{mount}".startswith(path)):
            yield Right("", is_prefix, allowed)

    def allows(self, call: Call, operation: str, context: bytes) -> bool:
        """Whether policies let this identity make (`datakey/plaintext`) or open (`decrypt`) data keys in a context.

        What is opened is made up, and what is made is not kept.
        """
        what = {"bits": 256} if operation == DATAKEY else {"ciphertext": self.made_up().wrapped_key}
        body = {**what, "context": base64.b64encode(context).decode()}
        try:
            self._vault.send(call, self._request(f"{self._mount}/{operation}/{self._key}", body), log_in_again=False)
        except TokenRefused:
            return False
        except (Tampered, NotConfigured):
            pass  # it was let through, and failed for what it is
        return True

    def made_up(self, *, in_context: bool = False) -> WrappedKey:
        """A wrapped data key that no server made, with the context of this provider or without one.

        It does not open: by policy (`TokenRefused`) for who may open none, else because of what it is.
        """
        text = f"vault:v1:{base64.b64encode(os.urandom(_WRAP_SIZE)).decode()}"
        return WrappedKey("vault", self._mount, self._key, text, 1, self.context if in_context else b"")

    def _request(self, path: str, body: Mapping[str, Any] | None = None) -> VaultRequest:
        return VaultRequest(path, body, self._server.shown, self._mount, self._key)


def _count(data: Mapping[str, Any], name: str) -> int:
    number = data.get(name)
    return number if isinstance(number, int) and number >= 0 else 0


def _in_clear(address: str) -> bool:
    """Whether requests leave this machine without TLS. The address has been asked already, and so is one."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return parts.scheme == "http" and not loopback
