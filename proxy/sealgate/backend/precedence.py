"""Decides between a store's options and the variables of the platform, which the store library reads by itself.

The library gives some variables precedence over an option: `AWS_ENDPOINT_URL_S3` over `endpoint`, for example. Here,
what is configured wins. A variable applies only to what no option decides. Where the library cannot be made to ignore a
variable, the store is refused, and the error names it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit, urlunsplit

from sealgate.backend.settings import Option
from sealgate.errors import NotConfigured

_ON = {"1", "true", "on", "yes", "y"}
_S3_ENDPOINTS = ("aws_endpoint_url_s3", "aws_endpoint_url", "aws_endpoint")
"""The first of these variables that is set names the server of S3."""
_HOST_LABEL = re.compile("[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
"""A bucket that can be the first part of a host name."""
_GOOGLE_ACCOUNTS = ("google_service_account", "google_service_account_path", "google_bearer_token")
"""Variables with which the library uses another credential than the configured one, or refuses both."""
_ZONE_OF_BUCKET = re.compile(".+--.+--x-s3")
"""The name of a directory bucket, which S3 Express has, contains its zone."""
_AZURE_ENDPOINTS = ("azure_storage_endpoint", "azure_endpoint")
_AZURE_SERVER = ("endpoint", "account_name", "account_key", "sas_key", "skip_signature")
"""Options that the library ignores for its emulator."""

Options = dict[str, Option]


class Platform:
    """The variables of the platform, by lower-case names: the library ignores the case of most of their letters.

    Args:
        prefix: how the names begin, in capital letters.
    """

    def __init__(self, prefix: str, environment: Mapping[str, str] = os.environ) -> None:
        self._values = {name.lower(): value for name, value in environment.items() if name.startswith(prefix)}

    def first(self, *names: str) -> str:
        """Return the value of the first of these variables that is set; empty if none is."""
        return next((self._values[name] for name in names if self._values.get(name)), "")

    def switches_on(self, name: str) -> bool:
        """Return whether a variable has a value that the library reads as true."""
        return self.first(name).lower() in _ON

    def which(self, *names: str) -> str:
        """Return the name of the first of these variables that is set, in capital letters; empty if none is.

        A variable with an empty value is set: the library uses it, for example as a token.
        """
        return next((name.upper() for name in names if name in self._values), "")


def s3_options(bucket: str, options: Mapping[str, Option]) -> Options:
    """Return the library's options for an S3 bucket, so that no variable overrides one of `options`.

    Raises:
        NotConfigured: the bucket cannot be part of the host name of its endpoint, or a variable requires a directory
            bucket.
    """
    platform, resolved = Platform("AWS_"), dict(options)
    endpoint, virtual = str(resolved.pop("endpoint", "")).rstrip("/"), resolved.get("virtual_hosted_style_request")
    if endpoint:
        resolved["s3_express"] = False  # its requests for sessions go to AWS, whatever the endpoint
    else:
        if platform.switches_on("aws_s3_express") and not _ZONE_OF_BUCKET.fullmatch(bucket):
            raise NotConfigured(
                "the variable AWS_S3_EXPRESS is set, and the bucket is not a directory bucket",
                remedy="Unset AWS_S3_EXPRESS in the plugin's container, or name a bucket of S3 Express",
            )
        endpoint = platform.first(*_S3_ENDPOINTS)
        virtual = platform.switches_on("aws_virtual_hosted_style_request") if virtual is None else virtual
        resolved.setdefault("allow_http", platform.switches_on("aws_allow_http"))
    resolved["virtual_hosted_style_request"] = bool(virtual)
    if endpoint:
        resolved["aws_endpoint_url_s3"] = _with_bucket(str(endpoint), bucket) if virtual else str(endpoint)
    if "access_key_id" in resolved:
        resolved.setdefault("skip_signature", False)
    return resolved


def _with_bucket(endpoint: str, bucket: str) -> str:
    """Return the URL of a bucket whose name is the first part of the host name.

    The library would send requests to `endpoint` itself, and its server would take the beginning of the key for the
    bucket.
    """
    url = urlsplit(endpoint)
    is_address = re.fullmatch(r"[0-9.]+|\[.*\]", url.netloc.rpartition(":")[0] or url.netloc) or "[" in url.netloc
    if is_address or not _HOST_LABEL.fullmatch(bucket):
        raise NotConfigured(
            "virtual_hosted_style_request puts the bucket into the endpoint's host name, which is impossible here",
            remedy="Use an endpoint with a host name and a bucket of lower-case letters, digits and hyphens,"
            " or set virtual_hosted_style_request to false",
        )
    return urlunsplit(url._replace(netloc=f"{bucket}.{url.netloc}"))


def gs_options(options: Mapping[str, Option]) -> Options:
    """Return the library's options for a bucket of Google Cloud Storage.

    Raises:
        NotConfigured: a variable would replace the configured service account.
    """
    platform, resolved = Platform("GOOGLE_"), dict(options)
    if "endpoint" in resolved:
        resolved["base_url"] = str(resolved.pop("endpoint")).rstrip("/")
    if "service_account_key" in resolved:
        variable = platform.which(*_GOOGLE_ACCOUNTS) or ("SERVICE_ACCOUNT" if "SERVICE_ACCOUNT" in os.environ else "")
        if variable:
            raise NotConfigured(
                f"service_account_key is configured, and the variable {variable} names another credential",
                remedy=f"Unset {variable} in the plugin's container, or remove service_account_key",
            )
        resolved.setdefault("skip_signature", False)
    return resolved


def az_options(options: Mapping[str, Option]) -> Options:
    """Return the library's options for a container of Azure.

    Raises:
        NotConfigured: a variable would send the configured account's requests to another server.
    """
    platform, resolved = Platform("AZURE_"), dict(options)
    has_own = any(resolved.get(name) for name in ("account_key", "sas_key", "skip_signature"))
    if has_own and "account_name" in resolved and "endpoint" not in resolved:
        fabric = "AZURE_USE_FABRIC_ENDPOINT" if platform.switches_on("azure_use_fabric_endpoint") else ""
        if variable := platform.which(*_AZURE_ENDPOINTS) or fabric:
            raise NotConfigured(
                f"account_name is configured, and the variable {variable} names another server",
                remedy=f"Unset {variable} in the plugin's container, or configure endpoint",
            )
    if not resolved.keys().isdisjoint(_AZURE_SERVER):
        resolved["use_emulator"] = False
    if not resolved.keys().isdisjoint({"account_key", "sas_key"}):
        resolved.setdefault("skip_signature", False)
    return resolved
