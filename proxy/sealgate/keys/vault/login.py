"""The ways to log in to Vault: one class for each method of `keys.vault.auth`."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from typing_extensions import override

from sealgate.errors import NotConfigured
from sealgate.keys.vault.faults import VaultRequest

_LARGEST_SECRET = 1 << 16
"""Bytes."""


class Login(Protocol):
    """A method that Vault gives a token for."""

    @property
    def attests(self) -> bool:
        """Whether the login's metadata says who logged in, and not whatever its owner wrote there."""

    def request(self) -> VaultRequest:
        """The login, with its secrets read anew: what rotates a file expects that."""


@dataclass(frozen=True, slots=True)
class JwtLogin(Login):
    """The methods kubernetes and jwt: a role, and the token of a service account."""

    attests: ClassVar[bool] = True
    mount: str
    role: str
    jwt_path: Path

    @override
    def request(self) -> VaultRequest:
        jwt = read_secret(self.jwt_path, "keys.vault.auth.jwtPath")
        return VaultRequest(f"auth/{self.mount}/login", {"role": self.role, "jwt": jwt})


@dataclass(frozen=True, slots=True)
class AppRoleLogin(Login):
    """The method approle: a role id, and a secret id that lies in a file."""

    attests: ClassVar[bool] = False
    """Whoever makes a secret id writes its metadata."""
    mount: str
    role_id: str
    secret_id_file: Path

    @override
    def request(self) -> VaultRequest:
        secret_id = read_secret(self.secret_id_file, "keys.vault.auth.secretIdFile")
        return VaultRequest(f"auth/{self.mount}/login", {"role_id": self.role_id, "secret_id": secret_id})


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A token that somebody else looks after, as `VAULT_TOKEN` holds it."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A file that somebody else, such as Vault Agent, keeps a good token in."""

    path: Path


Auth = JwtLogin | AppRoleLogin | StaticToken | TokenFile


def read_secret(path: Path, setting: str) -> str:
    """What a file of one secret holds, without the space around it.

    Raises:
        NotConfigured: there is no such file, or nothing in it that could be sent.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            text = file.read(_LARGEST_SECRET).decode("ascii").strip() if is_regular else ""
    except (OSError, UnicodeDecodeError) as error:
        reason = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else "it is not text"
    else:
        empty = "it is empty" if is_regular else "it is no regular file"
        reason = "" if text and is_header(text) else "it is not one line of text" if text else empty
    if reason:
        raise NotConfigured(f"the secret in {path} cannot be read: {reason}", says="vault", remedy=f"Check {setting}")
    return text


def is_header(text: str) -> bool:
    """Whether a request can carry it as it is."""
    return text.isascii() and text.isprintable() and text == text.strip()


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe would wait for its writer
