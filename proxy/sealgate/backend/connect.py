"""Opens the bucket that the settings name."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store

from sealgate.backend.aws_credentials import platform_provider
from sealgate.backend.bucket import Bucket
from sealgate.backend.directory import DirectoryStore
from sealgate.backend.errors import SAYS, store_errors
from sealgate.backend.precedence import Platform, az_options, gs_options, s3_options
from sealgate.backend.raw_s3 import RawS3
from sealgate.backend.s3_requests import HttpClient, S3Requests
from sealgate.backend.settings import Option, StoreLocation
from sealgate.backend.spare import SpareMemory
from sealgate.errors import LimitReached, NotConfigured, PluginError

if TYPE_CHECKING:
    from obstore.store import (
        AzureConfig,
        AzureCredential,
        ClientConfig,
        GCSConfig,
        GCSCredential,
        RetryConfig,
        S3Config,
        S3Credential,
    )

_MOST_BUCKETS = 16
_MOST_MEMORIES = 64
_WORKERS = 64
"""How many files of a directory are moved at once (docs/decisions/parallel-transfers.md)."""
_CLIENT_OPTIONS = frozenset({"allow_http", "root_certificate"})
_DEFAULT_TIMEOUTS = {"connect_timeout_seconds": 5, "read_timeout_seconds": 60, "retry_timeout_seconds": 30}


class Buckets:
    """Open buckets with their connections, one for each location. The least recently used are closed first.

    Args:
        spare: the memory that their transfers share.
    """

    def __init__(self, spare: SpareMemory) -> None:
        self._spare = spare
        self._lock = threading.Lock()
        self._buckets: OrderedDict[StoreLocation, Bucket] = OrderedDict()
        self._memories: dict[StoreLocation, Bucket] = {}

    def at(self, location: StoreLocation) -> Bucket:
        """Return the bucket at `location`.

        Raises:
            NotConfigured: it cannot be opened.
            LimitReached: there are too many stores in memory. Those cannot be closed, because their content is lost.
        """
        with self._lock:
            if location.scheme == "memory":
                if location not in self._memories and len(self._memories) == _MOST_MEMORIES:
                    raise LimitReached(f"this process already has {_MOST_MEMORIES} stores in memory")
                return self._memories.setdefault(
                    location, Bucket(MemoryStore(), prefix=location.prefix, spare=self._spare)
                )
            if location not in self._buckets:
                self._buckets[location] = _open_bucket(location, self._spare)
                if len(self._buckets) > _MOST_BUCKETS:
                    self._buckets.popitem(last=False)
            self._buckets.move_to_end(location)
            return self._buckets[location]


def _open_bucket(location: StoreLocation, spare: SpareMemory) -> Bucket:
    if location.scheme == "file" and not Path(location.name).is_dir():
        raise NotConfigured("the directory of the store does not exist", says=SAYS, remedy="Create it")
    try:
        with store_errors():
            if location.scheme == "file":
                return Bucket(LocalStore(location.name), spare=spare, directory=DirectoryStore(Path(location.name)))
            if location.scheme == "s3":
                return _s3(location, spare)
            store = _STORES[location.scheme](location.name, dict(location.options))
            return Bucket(store, prefix=location.prefix, spare=spare, workers=_WORKERS)
    except NotConfigured:
        raise
    except PluginError:
        raise NotConfigured(
            "the store cannot be opened with these options and those of the platform",
            remedy="Check which options the store requires",
        ) from None


def _s3(location: StoreLocation, spare: SpareMemory) -> Bucket:
    options = s3_options(location.name, dict(location.options))
    in_bulk = not options.pop("disable_bulk_delete", Platform("AWS_").switches_on("aws_disable_bulk_delete"))
    # It deletes each object by a request of its own, which every S3 server answers.
    store = _s3_store(location.name, options | {"disable_bulk_delete": True})
    return Bucket(
        store,
        prefix=location.prefix,
        spare=spare,
        bulk=cache(partial(_s3_in_bulk, location.name, options)) if in_bulk else None,
        raw=_raw_s3(store, location.name, options, in_bulk=in_bulk),
        workers=_WORKERS,
    )


def _s3_in_bulk(bucket: str, options: dict[str, Option]) -> S3Store:
    """Return a store that deletes up to 1,000 objects with one request.

    Not every server offers that, and the library repeats even a request that is not implemented: here, once.
    """
    retry: RetryConfig = _retry(options) | {"max_retries": 1}
    return _s3_store(bucket, options | {"disable_bulk_delete": False}, retry)


def _raw_s3(store: S3Store, bucket: str, options: dict[str, Option], *, in_bulk: bool) -> RawS3:
    """Return what reaches objects in `store` whose keys the library cannot name."""
    options = dict(options)
    unsigned = bool(options.pop("skip_signature", Platform("AWS_").switches_on("aws_skip_signature")))
    if unsigned:  # a signature is made all the same, because the address of the bucket is in its URL, and is dropped
        options |= {"access_key_id": "none", "secret_access_key": "none"}
        store = _s3_store(bucket, dict(options))

    def open_at(url: str) -> S3Store:
        return _s3_store(bucket, {**options, "aws_endpoint_url_s3": url, "virtual_hosted_style_request": True})

    client = HttpClient(
        root_certificate=str(options.get("root_certificate", "")),
        allow_http=bool(options.get("allow_http")),
        connect_timeout=_seconds(options, "connect_timeout_seconds").total_seconds(),
        read_timeout=_seconds(options, "read_timeout_seconds").total_seconds(),
        retry_timeout=_seconds(options, "retry_timeout_seconds").total_seconds(),
    )
    return RawS3(S3Requests(store, open_at, signed=not unsigned, client=client), in_bulk=in_bulk)


def _s3_store(bucket: str, options: dict[str, Option], retry: RetryConfig | None = None) -> S3Store:
    # As a provider, these credentials are complete. As options, a session token of the platform would be added.
    key, secret = (options.pop(name, None) for name in ("access_key_id", "secret_access_key"))
    credential = cast(
        "S3Credential",
        {
            "access_key_id": key or "none",
            "secret_access_key": secret or "none",
            "token": options.pop("session_token", None),
            "expires_at": None,
        },
    )
    # Without a provider, the library looks for the platform's credentials, even if it does not use them.
    has_own = bool(key) or options.get("skip_signature") is True
    provider = (lambda: credential) if has_own else platform_provider()
    return S3Store(
        bucket,
        credential_provider=provider,
        client_options=_client(options),
        retry_config=retry or _retry(options),
        config=cast("S3Config", _rest(options)),
    )


def _gs(bucket: str, options: dict[str, Option]) -> GCSStore:
    options = gs_options(options)
    # With a provider, the library does not look for credentials that it would not use.
    unsigned: GCSCredential | None = {"token": "", "expires_at": None} if options.get("skip_signature") else None
    return GCSStore(
        bucket,
        credential_provider=(lambda: unsigned) if unsigned else None,
        client_options=_client(options),
        retry_config=_retry(options),
        config=cast("GCSConfig", _rest(options)),
    )


def _az(container: str, options: dict[str, Option]) -> AzureStore:
    options = az_options(options)
    credential: AzureCredential | None = None
    if key := options.pop("account_key", None):
        credential = {"access_key": str(key), "expires_at": None}
    elif sas := options.pop("sas_key", None):
        credential = {"sas_token": str(sas), "expires_at": None}
    elif options.get("skip_signature"):  # the library then does not look for credentials that it would not use
        credential = {"token": "", "expires_at": None}
    return AzureStore(
        container,
        credential_provider=(lambda: credential) if credential else None,
        client_options=_client(options),
        retry_config=_retry(options),
        config=cast("AzureConfig", _rest(options)),
    )


_STORES: dict[str, Callable[[str, dict[str, Option]], AzureStore | GCSStore]] = {"gs": _gs, "az": _az}


def _client(options: dict[str, Option]) -> ClientConfig:
    return cast(
        "ClientConfig",
        {name: value for name, value in options.items() if name in _CLIENT_OPTIONS}
        | {
            "connect_timeout": _seconds(options, "connect_timeout_seconds"),
            # From the first byte of a request to the first of its answer, and between any two later reads.
            "read_timeout": _seconds(options, "read_timeout_seconds"),
            # The library's default for a whole request, 30 s, is too short for a part on a slow line.
            "timeout": timedelta(days=1),
        },
    )


def _retry(options: dict[str, Option]) -> RetryConfig:
    return {
        "retry_timeout": _seconds(options, "retry_timeout_seconds"),
        "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 2},
    }


def _seconds(options: dict[str, Option], name: str) -> timedelta:
    return timedelta(seconds=int(options.get(name, _DEFAULT_TIMEOUTS[name])))


def _rest(options: dict[str, Option]) -> dict[str, Option]:
    return {
        name: value for name, value in options.items() if name not in _CLIENT_OPTIONS and name not in _DEFAULT_TIMEOUTS
    }
