"""Where artifacts are stored: what an artifact's configuration and the environment say of it.

An artifact's configuration comes from a workflow's author and is not trusted:

- Where the administrator names a store (`SEALGATE_BACKEND_URL`), that is the only one, and an author may set
  no option of it. An `endpoint`, for instance, would lead the pod's credentials to a server of his choice.
- Where he names none, authors may, but no `file://`, and an option that decides whom the requests reach
  needs credentials of the author's own beside it.

No value is ever part of an error: it may be a credential.
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

Option = str | bool | int

_NAME = "[A-Za-z0-9-]{1,63}"
"""Of a region or an account, which become parts of a host's name."""
_SECRET = "[\\x21-\\x7e]{1,8192}"  # noqa: S105 - what one looks like
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
    "gs": _CLIENT | {"service_account_key": _TEXT},
    "az": _CLIENT | {"account_name": _NAME, "account_key": _SECRET, "sas_key": _SECRET, "skip_signature": bool},
}
"""What may be set for each kind of store: a pattern, a boolean or a range. Nothing here names a file or,
but for `endpoint`, an address; the platform's own variables may."""
_DECIDES_WHOM_TO_REACH = ("endpoint", "allow_http", "root_certificate")
_CREDENTIALS: dict[str, list[set[str]]] = {
    "s3": [{"access_key_id", "secret_access_key"}, {"skip_signature"}],
    "az": [{"account_key"}, {"sas_key"}, {"skip_signature"}],
    # obstore prefers a bearer token of the platform's to any key.
    "gs": [],
}
"""With which options nothing of the platform's goes along."""
_CUSTOMER_KEYS = ("AWS_SSE_CUSTOMER_KEY_BASE64", "AZURE_ENCRYPTION_KEY", "AZURE_STORAGE_ENCRYPTION_KEY")
"""Keys of the platform's that obstore sends with each request, whoever receives it."""
_BUCKET = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """One store, and where in it."""

    scheme: str
    name: str
    """The bucket, the container, or the absolute path of a directory."""
    prefix: str
    """What goes before each key: empty, or ends in `/`."""
    options: frozenset[tuple[str, Option]] = field(repr=False)


class _OptionError(ValueError):
    """What is wrong with a text, in words that show nothing of it."""


def place(configuration: str, environment: Mapping[str, str]) -> StoreLocation:
    """The store that a call is about.

    Raises:
        BadRequest: the artifact's configuration is wrong, or asks for what authors may not have.
        NotConfigured: the environment is wrong, or no store is named anywhere.
    """
    found = _place(configuration, environment.get(CONFIG, ""), environment.get(URL, ""))
    if not (environment.get(CONFIG) or environment.get(URL)):
        for sent in _CUSTOMER_KEYS:
            if environment.get(sent) and not dict(found.options).keys().isdisjoint(_DECIDES_WHOM_TO_REACH):
                raise BadRequest(f"the artifact's configuration: where {sent} is set, it may not have an endpoint")
    return found


@lru_cache(maxsize=64)
def _place(configuration: str, config: str, url: str) -> StoreLocation:
    try:
        fixed = _parsed(config, url)
    except _OptionError as flaw:
        raise NotConfigured(f"{URL} or {CONFIG}: {flaw}") from None
    if fixed is None and config.strip():
        raise NotConfigured(f"{CONFIG} names no url", remedy=f"Put one into it, or into {URL}")
    try:
        asked = _authors(configuration, fixed)
    except _OptionError as flaw:
        raise BadRequest(f"the artifact's configuration: {flaw}") from None
    if found := fixed or asked:
        return found
    raise NotConfigured("no store is configured", remedy=f"Set {URL}, or url in the artifact's configuration")


def _authors(configuration: str, fixed: StoreLocation | None) -> StoreLocation | None:
    if fixed is not None and set(_mapping(configuration)) - {"url"}:
        raise _OptionError(f"{URL} fixes the store, and no option may be set for it")
    asked = _parsed(configuration, "")
    if asked is None:
        if _mapping(configuration):
            raise _OptionError("it has options and no url")
        return None
    if fixed is not None:
        if (asked.scheme, asked.name, asked.prefix) != (fixed.scheme, fixed.name, fixed.prefix):
            raise _OptionError(f"it names another url than {URL}")
    elif asked.scheme == "file":
        raise _OptionError(f"a file:// url is taken from {URL} alone")
    else:
        _check_reach(asked.scheme, dict(asked.options))
    return asked


def _check_reach(scheme: str, options: dict[str, Option]) -> None:
    own = _CREDENTIALS.get(scheme, [])
    given = {name for name, value in options.items() if value is not False}
    if any(credentials <= given for credentials in own):
        return
    for name in _DECIDES_WHOM_TO_REACH:
        if name in options:
            needed = " or ".join(" and ".join(sorted(credentials)) for credentials in own)
            raise _OptionError(f"{name} needs {needed} beside it" if own else f"{name} is taken from {CONFIG} alone")


def _parsed(text: str, url: str) -> StoreLocation | None:
    """The store that a mapping in `text` describes, `url` coming first, or None if neither has a url."""
    options = dict(_mapping(text))
    own = options.pop("url", None)
    if own is not None and not isinstance(own, str):
        raise _OptionError("url must be a text")
    if own and url and own.rstrip("/") != url.rstrip("/"):
        raise _OptionError("two different urls are given")
    if not (url := url or own or ""):
        return None
    scheme, name, prefix = _split(url)
    for option in options:
        if option not in _OPTIONS[scheme]:
            raise _OptionError(
                f"{_shown(option)} is not known for {scheme}:// (known: {', '.join(_OPTIONS[scheme]) or 'none'})"
            )
    values = {option: _value(option, value, _OPTIONS[scheme][option]) for option, value in options.items()}
    _check_together(values)
    return StoreLocation(scheme, name, prefix, frozenset(values.items()))


def _check_together(options: dict[str, Option]) -> None:
    """Half of a credential would be completed from the platform's."""
    if ("session_token" in options or "secret_access_key" in options) and "access_key_id" not in options:
        raise _OptionError("secret_access_key and session_token need access_key_id beside them")
    if "access_key_id" in options and "secret_access_key" not in options:
        raise _OptionError("access_key_id needs secret_access_key beside it")
    if str(options.get("endpoint", "")).startswith("http:") and not options.get("allow_http"):
        raise _OptionError("endpoint is http://, for which allow_http must be true")
    if "service_account_key" in options:
        _check_account(str(options["service_account_key"]))


def _check_account(text: str) -> None:
    try:
        account = json.loads(text)
    except (ValueError, RecursionError):
        raise _OptionError("service_account_key is not JSON") from None
    if not isinstance(account, dict) or "gcs_base_url" in account:
        raise _OptionError("service_account_key must be an object without gcs_base_url, which is an endpoint")


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
    raise _OptionError(f"{option} must be a text of the right form")


def _split(url: str) -> tuple[str, str, str]:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _OPTIONS:
        raise _OptionError(f"url must begin with one of {', '.join(f'{known}://' for known in _OPTIONS)}")
    rest = unquote(rest).rstrip("/")
    if scheme == "file":
        if not rest.startswith("/") or keys.flaw(rest[1:]):
            raise _OptionError("url must be file:/// and an absolute path")
        return scheme, rest, ""
    name, _, prefix = rest.partition("/")
    if not _BUCKET.fullmatch(name):
        raise _OptionError("url does not name a bucket")
    if prefix and keys.flaw(prefix):
        raise _OptionError("the prefix in url cannot be part of a key")
    return scheme, name, f"{prefix}/" if prefix else ""


def _shown(option: str) -> str:
    """An option's name. What is none may be a value that was written in the wrong place."""
    return option if re.fullmatch("[A-Za-z_]{1,40}", option) else "an option"
