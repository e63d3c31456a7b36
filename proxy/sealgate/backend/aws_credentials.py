"""Credentials of AWS that the store library does not read itself: the shared files, and EKS Pod Identity.

The library reads keys from variables, web identities (IRSA), ECS and instance metadata. It ignores `AWS_PROFILE` and
the shared files, and cannot use a token file of EKS that ends in a line break.
"""

from __future__ import annotations

import configparser
import json
import os
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from typing_extensions import override

from sealgate.backend.errors import NO_CREDENTIALS
from sealgate.errors import NotConfigured

if TYPE_CHECKING:
    from obstore.store import S3Credential

Provider = Callable[[], "S3Credential"]

_FULL_URI, _TOKEN_FILE = "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
_READ_AGAIN_AFTER = timedelta(minutes=15)
_ANSWERED_WITHIN = 10
"""Seconds."""
_LARGEST_ANSWER = 1 << 20


def platform_provider(environment: Mapping[str, str] = os.environ) -> Provider | None:
    """Return what provides the platform's credentials; None if the library does that itself.

    Raises:
        NotConfigured: `AWS_PROFILE` names a profile that has no keys.
    """
    if environment.get("AWS_ACCESS_KEY_ID") or environment.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return None
    profile = _Profile(environment)
    if profile.read() is not None:
        return profile.provide
    if environment.get("AWS_PROFILE"):
        raise NotConfigured(
            "the profile that AWS_PROFILE names has no aws_access_key_id and aws_secret_access_key",
            remedy="Add them to the shared credentials file, or unset AWS_PROFILE: roles, single sign-on and"
            " credential processes of a profile are not supported",
        )
    if environment.get(_FULL_URI) and environment.get(_TOKEN_FILE):
        return _PodIdentity(environment[_FULL_URI], environment[_TOKEN_FILE]).provide
    return None


class _Profile:
    """The keys of one profile in the shared files of AWS."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        home = Path(environment.get("HOME") or "/nonexistent", ".aws")
        self._name = environment.get("AWS_PROFILE") or "default"
        self._credentials = environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials"
        self._config = environment.get("AWS_CONFIG_FILE") or home / "config"

    def read(self) -> S3Credential | None:
        """Return the profile's keys; None if no file has them."""
        section = self._name if self._name == "default" else f"profile {self._name}"
        for path, name in ((self._credentials, self._name), (self._config, section)):
            parser = configparser.RawConfigParser()
            try:
                parser.read(path, encoding="utf-8")
            except (configparser.Error, OSError, UnicodeDecodeError):
                continue
            values = dict(parser.items(name)) if parser.has_section(name) else {}
            if values.get("aws_access_key_id") and values.get("aws_secret_access_key"):
                return {
                    "access_key_id": values["aws_access_key_id"],
                    "secret_access_key": values["aws_secret_access_key"],
                    "token": values.get("aws_session_token"),
                    "expires_at": datetime.now(UTC) + _READ_AGAIN_AFTER,
                }
        return None

    def provide(self) -> S3Credential:
        """Return the profile's keys as the files have them now."""
        keys = self.read()
        if keys is None:
            raise ValueError(NO_CREDENTIALS)
        return keys


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token in the request is for the agent alone."""

    @override
    def redirect_request(self, *_: object) -> None:
        return None


class _PodIdentity:
    """EKS Pod Identity: an agent on the node gives credentials for the token in a file."""

    def __init__(self, url: str, token_file: str) -> None:
        self._url = url
        self._token_file = token_file

    def provide(self) -> S3Credential:
        """Ask the agent for credentials."""
        try:
            token = Path(self._token_file).read_text(encoding="ascii").strip()
            request = urllib.request.Request(self._url, headers={"Authorization": token})  # noqa: S310 - from the platform
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)
            with opener.open(request, timeout=_ANSWERED_WITHIN) as answer:
                given = json.loads(answer.read(_LARGEST_ANSWER))
            return {
                "access_key_id": given["AccessKeyId"],
                "secret_access_key": given["SecretAccessKey"],
                "token": given["Token"],
                "expires_at": datetime.fromisoformat(given["Expiration"]),
            }
        except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(NO_CREDENTIALS) from None  # the cause may contain the token
