"""What `sealgate doctor` asks about a server, a login, its rights and a key (docs/doctor.md).

No Save and no Load uses this file.
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
from sealgate.errors import NotConfigured, PluginError, Tampered
from sealgate.keys.vault.connections import Transport
from sealgate.keys.vault.fault_rule import TokenRefused
from sealgate.keys.vault.formats import Unanswered, VaultRequest, context_field, version_of
from sealgate.keys.vault.no_answer import rule_without_answer
from sealgate.keys.vault.server import TransitKey, VaultServer
from sealgate.keys.vault.session import Authenticated
from sealgate.keys.vault.transit import DATAKEY, DECRYPT, ENCRYPT, NO_UPSERT
from sealgate.keys.vault.usable_keys import ListedRight, UsableKey, UsableKeys

_VERSION = re.compile(r"[\w.+-]{1,40}", re.ASCII)
_TYPE = re.compile(r"[\w-]{1,40}", re.ASCII)
_WRAP_SIZE = 12 + 32 + 16
"""The bytes of a wrapped data key in Vault: nonce, data key, tag."""


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server says without a token."""

    version: str
    """Empty if the server does not say it."""
    sealed: bool
    in_clear: bool
    """Whether requests leave this machine without TLS, so that the network can read the token and the data keys."""


@dataclass(frozen=True, slots=True)
class Right:
    """One path of the mount on which the policies of an identity grant something."""

    path: str
    is_prefix: bool
    """Whether the right covers every path that begins with `path`. With an empty `path`: the whole mount, or more."""
    capabilities: frozenset[str]
    """As Vault names them, for example `update`."""

    def covers(self, path: str) -> bool:
        """Return whether the right covers this path of the mount."""
        return path.startswith(self.path) if self.is_prefix else path == self.path


@dataclass(frozen=True, slots=True)
class TransitKeyInfo:
    """A Transit key as Vault describes it."""

    type: str
    derived: bool
    latest_version: int
    made_at: float | None
    """When the latest version was created, in seconds since 1970; None if Vault does not say it."""
    min_decryption_version: int
    auto_rotate_seconds: int
    """The period of automatic rotation; 0 if it is off."""
    deletion_allowed: bool
    exportable: bool
    allow_plaintext_backup: bool


class Inspection:
    """Asks about the server, the token and the key that one `VaultKeys` uses."""

    def __init__(
        self, transport: Transport, vault: Authenticated, server: VaultServer, key: TransitKey, usable: UsableKeys
    ) -> None:
        self._transport = transport
        self._vault = vault
        self._server = server
        self._usable = usable
        self._mount = key.mount
        self._key = key.key
        self.context = key.context
        """The context that the provider derives its key with; empty for none."""

    def reach(self, seconds: float) -> ServerFacts:
        """Ask the server once what it says without a token. Accept an answer with any status.

        Raises:
            PluginError: no server answers within `seconds`, or its certificate is not trusted.
        """
        request = self._request("sys/seal-status")
        outcome = self._transport.send(request, "", seconds)
        if isinstance(outcome, Unanswered):
            raise rule_without_answer(outcome, request).fault(request, outcome)
        version = outcome.body.get("version")
        shown = version if isinstance(version, str) and _VERSION.fullmatch(version) else ""
        return ServerFacts(shown, outcome.body.get("sealed") is True, _in_clear(self._server.address))

    def log_in(self, call: Call) -> float | None:
        """Log in, and return for how many seconds the token is valid: infinity, or None if that is unknown."""
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
        """Read the key's description from Vault.

        Raises:
            TokenRefused: this identity may not read it.
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
        """Return what this identity may do at each of the `paths` of the mount, as Vault names it (`update`, `root`).

        Raises:
            TokenRefused: this identity may not ask, because it does not have the policy `default`.
        """
        found = self._usable.capabilities(call, [f"{self._mount}/{path}" for path in paths])
        return {path: found[f"{self._mount}/{path}"] for path in paths}

    def usable_keys(self, call: Call) -> list[UsableKey] | None:
        """Return the keys of any mount that this identity may use; None if Vault does not list them."""
        return self._usable.keys(call)

    def listed(self, call: Call) -> list[Right] | None:
        """Return what this identity may do in the mount, as Vault lists it; None if Vault does not list it.

        Vault makes the list for its own web pages. It does not contain paths with a `+`.
        """
        rights = self._usable.rights(call)
        return None if rights is None else [right for listed in rights for right in self._in_mount(listed)]

    def _in_mount(self, listed: ListedRight) -> Iterator[Right]:
        namespace = self._server.namespace.strip("/")
        mount = f"{self._mount}/"
        if listed.path.startswith(mount):
            yield Right(listed.path.removeprefix(mount), listed.is_prefix, listed.capabilities)
        elif listed.is_prefix and (mount.startswith(listed.path) or f"{namespace}/{mount}".startswith(listed.path)):
            yield Right("", is_prefix=True, capabilities=listed.capabilities)

    def allows(self, call: Call, operation: str, key: str, context: bytes) -> bool:
        """Return whether policies let this identity make or open data keys in `context`.

        Args:
            call: the call that waits for the answer.
            operation: `DATAKEY` or `ENCRYPT`, which make a data key that is not kept, or `DECRYPT`, which gets one
                that no server made.
            key: the key to try.
            context: the context to try.
        """
        fields: dict[str, Mapping[str, Any]] = {
            DATAKEY: {"bits": 256},
            ENCRYPT: {"plaintext": base64.b64encode(os.urandom(32)).decode(), **NO_UPSERT},
            DECRYPT: {"ciphertext": self.made_up(key).wrapped_key},
        }
        body = {**fields[operation], "context": base64.b64encode(context).decode()}
        try:
            self._vault.send(call, self._request(f"{self._mount}/{operation}/{key}", body, key), log_in_again=False)
        except TokenRefused:
            return False
        except (Tampered, NotConfigured):
            pass  # the policy allowed the request, which then failed for another reason
        return True

    def encrypts(self, call: Call) -> bool:
        """Return whether this identity can have data keys wrapped that are made here. It tries it with random bytes."""
        body = {"plaintext": base64.b64encode(os.urandom(32)).decode(), **NO_UPSERT} | context_field(self.context)
        try:
            answer = self._vault.send(
                call, self._request(f"{self._mount}/{ENCRYPT}/{self._key}", body), log_in_again=False
            )
        except PluginError:
            return False
        return version_of(answer.data.get("ciphertext")) > 0

    def made_up(self, key: str, *, in_context: bool = False) -> WrappedKey:
        """Return a random wrapped data key of `key`, with the context of this provider or without one.

        It cannot be unwrapped. The error says whether a policy forbids that (`TokenRefused`) or only the content does.
        """
        text = f"vault:v1:{base64.b64encode(os.urandom(_WRAP_SIZE)).decode()}"
        return WrappedKey("vault", self._mount, key, text, 1, self.context if in_context else b"")

    def _request(self, path: str, body: Mapping[str, Any] | None = None, key: str = "") -> VaultRequest:
        return self._server.request(path, body, mount=self._mount, key=key or self._key)


def _count(data: Mapping[str, Any], name: str) -> int:
    number = data.get(name)
    return number if isinstance(number, int) and number >= 0 else 0


def _in_clear(address: str) -> bool:
    """Return whether requests to `address`, a valid URL, leave this machine without TLS."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return parts.scheme == "http" and not loopback
