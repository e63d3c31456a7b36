"""Reads from the environment and from an artifact's configuration where the artifact is stored (docs/backend.md).

An artifact's configuration comes from a workflow's author and is not trusted:

- If the administrator names a store (`SEALGATE_BACKEND_URL`), it is the only one, and the author may not set an
  option of it. With an `endpoint`, for example, the author could send the pod's credentials to any server.
- If the administrator names no store, the author may name one, but not a `file://` one. An option that decides which
  server receives the requests requires credentials of the author's own.

A value never becomes part of an error, because it may be a credential.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote

from sealgate.backend import keys
from sealgate.documents import reader
from sealgate.errors import BadRequest, NotConfigured

URL, CONFIG = "SEALGATE_BACKEND_URL", "SEALGATE_BACKEND_CONFIG"
_FIXED_URL = f"downstream.builtin.url or {URL}"
"""Where the administrator names the store, as errors say it. `compose` passes the first on as the second."""

Option = str | bool | int

_NAME = "[A-Za-z0-9-]{1,63}"
"""The pattern of a region or an account, which becomes part of a host name."""
_SECRET = "[\\x21-\\x7e]{1,8192}"  # noqa: S105 - a pattern, not a secret
_TEXT = "[\\x20-\\x7e\\r\\n\\t]{1,65536}"
_ENDPOINT = "https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?|https?://\\[[0-9A-Fa-f:]+\\](:[0-9]{1,5})?/?"
_CLIENT: dict[str, str | type[bool] | range] = {
    "endpoint": _ENDPOINT,
    "allow_http": bool,
    "root_certificate": _TEXT,
    "connect_timeout_seconds": range(1, 61),
    "read_timeout_seconds": range(1, 3601),
    "retry_timeout_seconds": range(301),
}
_OPTIONS: dict[str, dict[str, str | type[bool] | range]] = {
    "file": {},
    "memory": {},
    "s3": _CLIENT
    | {
        "region": _NAME,
        "access_key_id": _SECRET,
        "secret_access_key": _SECRET,
        "session_token": _SECRET,
        "skip_signature": bool,
        "virtual_hosted_style_request": bool,
        "unsigned_payload": bool,
        "request_payer": bool,
        "disable_bulk_delete": bool,
        "checksum_algorithm": "SHA256|CRC64NVME",
        "server_side_encryption": "AES256|aws:kms|aws:kms:dsse",
        "sse_kms_key_id": _SECRET,
    },
    "gs": _CLIENT | {"service_account_key": _TEXT, "skip_signature": bool},
    "az": _CLIENT | {"account_name": _NAME, "account_key": _SECRET, "sas_key": _SECRET, "skip_signature": bool},
}
"""The options of each kind of store and their values: a pattern, a boolean or a range of numbers.

No option names a file, and none but `endpoint` names an address. The platform's own variables may."""
_DECIDES_THE_SERVER = ("endpoint", "allow_http", "root_certificate")
_CREDENTIALS: dict[str, list[set[str]]] = {
    "s3": [{"access_key_id", "secret_access_key"}, {"skip_signature"}],
    "az": [{"account_key"}, {"sas_key"}, {"skip_signature"}],
    # The token of a service account comes from an address in its key, so that key does not count.
    "gs": [{"skip_signature"}],
}
"""The sets of options with which obstore sends no credential of the platform."""
_CUSTOMER_KEYS = ("AWS_SSE_CUSTOMER_KEY_BASE64", "AZURE_ENCRYPTION_KEY", "AZURE_STORAGE_ENCRYPTION_KEY")
"""Variables of the platform whose keys obstore sends with each request, to any server."""
_BUCKET = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """One store, and a prefix in it."""

    scheme: str
    name: str
    """The bucket, the container, or the absolute path of a directory."""
    prefix: str
    """Precedes each key: empty, or ends in `/`."""
    options: frozenset[tuple[str, Option]] = field(repr=False)


class _OptionError(ValueError):
    """A fault in a configuration. The text contains no value of it."""


def store_location(configuration: str, environment: Mapping[str, str]) -> StoreLocation:
    """Return where an artifact with this configuration is stored.

    Raises:
        BadRequest: the artifact's configuration is wrong, or sets something that an author may not set.
        NotConfigured: the environment is wrong, or neither of them names a store.
    """
    location = _location(configuration, environment.get(CONFIG, ""), environment.get(URL, ""))
    if not (environment.get(CONFIG) or environment.get(URL)):
        for variable in _CUSTOMER_KEYS:
            if environment.get(variable) and not dict(location.options).keys().isdisjoint(_DECIDES_THE_SERVER):
                raise BadRequest(f"the artifact's configuration: it may not set an endpoint while {variable} is set")
    return location


@lru_cache(maxsize=64)
def _location(configuration: str, config: str, url: str) -> StoreLocation:
    try:
        fixed = _parsed(config, url)
    except _OptionError as flaw:
        raise NotConfigured(f"{_FIXED_URL}, or {CONFIG}: {flaw}") from None
    if fixed is None and config.strip():
        raise NotConfigured(f"{CONFIG} has no url", remedy=f"Set url in it, or set {_FIXED_URL}")
    try:
        requested = _from_author(configuration, fixed)
    except _OptionError as flaw:
        raise BadRequest(f"the artifact's configuration: {flaw}") from None
    if location := fixed or requested:
        return location
    raise NotConfigured("no store is configured", remedy=f"Set {_FIXED_URL}, or url in the artifact's configuration")


def _from_author(configuration: str, fixed: StoreLocation | None) -> StoreLocation | None:
    """Return the store that an artifact's configuration names, if it may, or None if it names none.

    Args:
        configuration: the artifact's configuration.
        fixed: the administrator's store, if there is one.
    """
    if fixed is not None and set(_mapping(configuration)) - {"url"}:
        raise _OptionError(f"{_FIXED_URL} sets the store, and its options may not be set here")
    requested = _parsed(configuration, "")
    if requested is None:
        if _mapping(configuration):
            raise _OptionError("it has options but no url")
        return None
    if fixed is not None:
        if (requested.scheme, requested.name, requested.prefix) != (fixed.scheme, fixed.name, fixed.prefix):
            raise _OptionError(f"its url is not that of {_FIXED_URL}")
    elif requested.scheme == "file":
        raise _OptionError(f"a file:// url is allowed only in {_FIXED_URL}")
    else:
        _require_own_credentials(requested.scheme, dict(requested.options))
    return requested


def _require_own_credentials(scheme: str, options: dict[str, Option]) -> None:
    """Refuse options that decide which server is reached, unless no credential of the platform is sent to it."""
    alternatives = _CREDENTIALS.get(scheme, [])
    given = {name for name, value in options.items() if value is not False}
    if any(credentials <= given for credentials in alternatives):
        return
    for name in _DECIDES_THE_SERVER:
        if name in options:
            required = " or ".join(" and ".join(sorted(credentials)) for credentials in alternatives)
            raise _OptionError(f"{name} requires {required}" if required else f"{name} is allowed only in {CONFIG}")


def _parsed(text: str, url: str) -> StoreLocation | None:
    """Return the store that the mapping in `text` describes; None if neither it nor `url` has a url."""
    options = dict(_mapping(text))
    own_url = options.pop("url", None)
    if own_url is not None and not isinstance(own_url, str):
        raise _OptionError("url must be a string")
    if own_url and url and own_url.rstrip("/") != url.rstrip("/"):
        raise _OptionError("two different urls are given")
    if not (url := url or own_url or ""):
        return None
    scheme, name, prefix = _split(url)
    for option in options:
        if option not in _OPTIONS[scheme]:
            raise _OptionError(
                f"{_printable(option)} is not known for {scheme}:// (known: {', '.join(_OPTIONS[scheme]) or 'none'})"
            )
    values = {option: _value(option, value, _OPTIONS[scheme][option]) for option, value in options.items()}
    _check_together(values)
    return StoreLocation(scheme, name, prefix, frozenset(values.items()))


def _check_together(options: dict[str, Option]) -> None:
    """Refuse options that are incomplete without others.

    The library would complete half of a credential with that of the platform.
    """
    if ("session_token" in options or "secret_access_key" in options) and "access_key_id" not in options:
        raise _OptionError("secret_access_key and session_token require access_key_id")
    if "access_key_id" in options and "secret_access_key" not in options:
        raise _OptionError("access_key_id requires secret_access_key")
    if str(options.get("endpoint", "")).startswith("http:") and not options.get("allow_http"):
        raise _OptionError("endpoint is an http:// url, and allow_http is not true")
    if "service_account_key" in options:
        _check_account(str(options["service_account_key"]))


def _check_account(text: str) -> None:
    try:
        account = json.loads(text)
    except (ValueError, RecursionError):
        raise _OptionError("service_account_key is not JSON") from None
    if not isinstance(account, dict) or "gcs_base_url" in account:
        raise _OptionError("service_account_key must be a JSON object without gcs_base_url, which would be an endpoint")


def _mapping(text: str) -> dict[str, object]:
    try:
        read = reader.read(text, reader.LONGEST_OF_AUTHORS).value
    except reader.Unreadable as flaw:
        raise _OptionError(str(flaw)) from None
    if read is None:
        return {}
    if not isinstance(read, dict) or not all(isinstance(option, str) for option in read):
        raise _OptionError("it is not a mapping of names to values")
    return read


def _value(option: str, value: object, rule: str | type[bool] | range) -> Option:
    if isinstance(rule, range):
        if isinstance(value, int) and not isinstance(value, bool) and value in rule:
            return value
        raise _OptionError(f"{option} must be a number from {rule[0]} to {rule[-1]}")
    if rule is bool:
        if isinstance(value, bool):
            return value
        raise _OptionError(f"{option} must be true or false")
    if isinstance(value, str) and isinstance(rule, str) and re.fullmatch(rule, value):
        return value
    raise _OptionError(f"{option} must be a string of the required form")


def _split(url: str) -> tuple[str, str, str]:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _OPTIONS:
        raise _OptionError(f"url must begin with one of {', '.join(f'{known}://' for known in _OPTIONS)}")
    rest = unquote(rest).rstrip("/")
    if scheme == "file":
        if not rest.startswith("/") or keys.flaw(rest[1:]):
            raise _OptionError("url must be file:// and an absolute path")
        return scheme, rest, ""
    name, _, prefix = rest.partition("/")
    if not _BUCKET.fullmatch(name):
        raise _OptionError("url does not name a bucket")
    if prefix and keys.flaw(prefix):
        raise _OptionError("the prefix in url cannot be part of a key")
    return scheme, name, f"{prefix}/" if prefix else ""


def _printable(option: str) -> str:
    """Return an option's name for an error, if it can be a name. Otherwise it may be a value in the wrong place."""
    return option if re.fullmatch("[A-Za-z_]{1,40}", option) else "an option"
