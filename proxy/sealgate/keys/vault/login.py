"""How this process proves to Vault who it is: one class for each method of `keys.vault.auth`."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from typing_extensions import override

from sealgate.errors import NotConfigured, out_of_descriptors
from sealgate.keys.vault.formats import VaultRequest, is_header

_LARGEST_SECRET = 1 << 16
"""Bytes."""


class Login(Protocol):
    """An auth method that returns a token for credentials."""

    @property
    def attests(self) -> bool:
        """Whether Vault itself verified the metadata of the login, so that they prove who logged in."""

    def request(self) -> VaultRequest:
        """Build the login request. Read its secrets from their files each time, because those may be rotated.

        Raises:
            NotConfigured: a file cannot be read.
        """


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
    """The method approle: a role id, and a secret id in a file."""

    attests: ClassVar[bool] = False
    """The creator of a secret id chooses its metadata."""
    mount: str
    role_id: str
    secret_id_file: Path

    @override
    def request(self) -> VaultRequest:
        secret_id = read_secret(self.secret_id_file, "keys.vault.auth.secretIdFile")
        return VaultRequest(f"auth/{self.mount}/login", {"role_id": self.role_id, "secret_id": secret_id})


@dataclass(frozen=True, slots=True)
class StaticToken:
    """The method token: a token from `VAULT_TOKEN` that is renewed elsewhere or not at all."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenFile:
    """The method tokenFile: a file in which another program, such as Vault Agent, keeps a valid token."""

    path: Path


Auth = JwtLogin | AppRoleLogin | StaticToken | TokenFile


def read_secret(path: Path, setting: str) -> str:
    """Return the one line in the file `path`, without the white space around it.

    Args:
        path: the file.
        setting: the setting that names the file, for the remedy of the error.

    Raises:
        NotConfigured: the file cannot be read, or its content cannot be sent to Vault.
        Busy: no further file can be opened.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            is_regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            text = file.read(_LARGEST_SECRET).decode("ascii").strip() if is_regular else ""
    except (OSError, UnicodeDecodeError) as error:
        if busy := out_of_descriptors(error):
            raise busy from None
        reason = os.strerror(error.errno or 0).lower() if isinstance(error, OSError) else "it is not ASCII text"
    else:
        empty = "it is empty" if is_regular else "it is not a regular file"
        reason = "" if text and is_header(text) else "it is not one line of text" if text else empty
    if reason:
        raise NotConfigured(f"the secret in {path} cannot be read: {reason}", says="vault", remedy=f"Check {setting}")
    return text


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # opening a pipe would wait for a writer
