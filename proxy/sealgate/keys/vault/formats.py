"""How a request to Vault and its answer look, and which names, mounts and texts are valid in them."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sealgate.errors import NotConfigured, shown_key

_IGNORED_PARAMETER = "ignored"
"""Vault drops a parameter that it does not know and adds a warning that contains this word."""
_NAME = re.compile(r"\w(?:[\w.-]*\w)?", re.ASCII)
"""A name that Vault accepts for a key. It cannot contain a separator of the request's path."""
_MOUNT = re.compile(r"\w[\w-]*(?:/\w[\w-]*)*", re.ASCII)
_WRAPPED = re.compile(r"vault:v([1-9][0-9]{0,9}):([A-Za-z0-9+/]+={0,2})", re.ASCII)


# --- a request and its outcome ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VaultRequest:
    """One request, with the names that an error about it shows."""

    path: str
    """Without `/v1/`."""
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    """The fields of a POST; None for a GET."""
    server: str = ""
    authorities: str = ""
    """Where the certificates to trust are configured; empty for the public authorities."""
    mount: str = ""
    key: str = ""
    version: int = 0
    """The key version of the wrapped data key in the request; 0 if there is none."""
    traceparent: str = ""
    """The W3C trace context to send; empty for none."""

    @property
    def is_login(self) -> bool:
        """Whether this request asks for a token."""
        return self.path.startswith("auth/") and self.path.endswith("/login")


@dataclass(frozen=True, slots=True)
class VaultResponse:
    """The server's answer to one request."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """May contain data keys and tokens."""
    retry_after: float = 0.0
    """The seconds in the header `Retry-After`; 0 without it."""

    @property
    def text(self) -> str:
        """The server's errors in lower case. They select a row of the table of faults and are never shown."""
        errors = self.body.get("errors")
        return " ".join(str(error) for error in errors).lower() if isinstance(errors, list) else ""

    @property
    def data(self) -> Mapping[str, Any]:
        """The part of the answer that a secrets engine fills."""
        data = self.body.get("data")
        return data if isinstance(data, dict) else {}

    @property
    def ignored_a_parameter(self) -> bool:
        """Whether the server warns that it ignored a parameter of the request."""
        warnings = self.body.get("warnings")
        return isinstance(warnings, list) and any(_IGNORED_PARAMETER in str(text).lower() for text in warnings)


class Unanswered(Enum):
    """Why a request has no answer."""

    NO_CONNECTION = "no connection"
    TIMEOUT = "timeout"
    ADDRESS = "address"
    NOT_VAULT = "not Vault's"
    # The server's certificate:
    AUTHORITIES = "trusted certificates that cannot be loaded"
    UNKNOWN_AUTHORITY = "unknown authority"
    HOST_NAME = "host name"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    WRONG_USE = "wrong use"
    WEAK = "weak"
    BAD_CERTIFICATE = "bad certificate"
    # TLS itself:
    PLAIN_HTTP = "http where TLS is expected"
    NOT_TLS = "not TLS"
    NEEDS_TLS = "TLS where http is expected"
    CLIENT_CERTIFICATE = "client certificate"
    HANDSHAKE = "handshake"


# --- names -----------------------------------------------------------------------------------------------


def check_name(name: str) -> None:
    """Check that `name` can be the name of a key.

    Raises:
        NotConfigured: it cannot.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise NotConfigured(
            f'"{shown_key(name)}" is not a valid name for a key in Vault',
            remedy="Use letters, digits and underscores, with hyphens and single dots only between them",
        )


def check_mount(mount: str) -> None:
    """Check that `mount` can be the path of a mount.

    Raises:
        NotConfigured: it cannot.
    """
    if not _MOUNT.fullmatch(mount):
        raise NotConfigured(f'"{shown_key(mount)}" is not a valid mount path in Vault', remedy="Check keys.vault.mount")


def is_header(text: str) -> bool:
    """Return whether `text` can be sent unchanged as the value of a request header."""
    return text.isascii() and text.isprintable() and text == text.strip()


# --- fields ----------------------------------------------------------------------------------------------


def version_of(text: object) -> int:
    """Return the key version in `text`, a wrapped data key or a signature of Vault; 0 if `text` is neither."""
    match = _WRAPPED.fullmatch(text) if isinstance(text, str) else None
    return int(match[1]) if match and int(match[1]) < 1 << 32 else 0


def context_field(context: bytes) -> dict[str, str]:
    """Return the field of a request that carries `context`; no field for an empty context."""
    return {"context": base64.b64encode(context).decode()} if context else {}


def decoded(text: object) -> bytes:
    """Return the bytes that `text` encodes in base64; empty if `text` is not base64."""
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        return b""
