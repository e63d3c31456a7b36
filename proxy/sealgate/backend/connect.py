"""From a place in the settings to a bucket that can be spoken to."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store

from sealgate.backend.bucket import Bucket
from sealgate.backend.directory import DirectoryStore
from sealgate.backend.errors import SAYS, store_errors
from sealgate.backend.settings import Option, StoreLocation
from sealgate.errors import LimitReached, NotConfigured, PluginError

if TYPE_CHECKING:
    from obstore.store import (
        AzureConfig,
        AzureCredential,
        ClientConfig,
        GCSConfig,
        RetryConfig,
        S3Config,
        S3Credential,
    )

_MOST_BUCKETS = 16
_MOST_MEMORIES = 64
_WORKERS = 16
"""Threads that move small files. Measured with 4 KiB objects on S3: 8 are slower, 32 no faster."""
_CLIENT_OPTIONS = frozenset({"allow_http", "root_certificate"})
_TIMES = {"connect_timeout_seconds": 5, "read_timeout_seconds": 60, "retry_timeout_seconds": 30}


class Buckets:
    """The buckets in use, each with its connections: one for every distinct place."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets: OrderedDict[StoreLocation, Bucket] = OrderedDict()
        self._memories: dict[StoreLocation, Bucket] = {}

    def at(self, place: StoreLocation) -> Bucket:
        """The bucket of `place`.

        Raises:
            NotConfigured: it cannot be used.
            LimitReached: there are too many stores in memory, which cannot be forgotten as others are.
        """
        with self._lock:
            if place.scheme == "memory":
                if place not in self._memories and len(self._memories) == _MOST_MEMORIES:
                    raise LimitReached(f"this process holds {_MOST_MEMORIES} stores in memory already")
                return self._memories.setdefault(place, Bucket(MemoryStore(), prefix=place.prefix))
            if place not in self._buckets:
                self._buckets[place] = _connected(place)
                if len(self._buckets) > _MOST_BUCKETS:
                    self._buckets.popitem(last=False)
            self._buckets.move_to_end(place)
            return self._buckets[place]


def _connected(place: StoreLocation) -> Bucket:
    if place.scheme == "file" and not Path(place.name).is_dir():
        raise NotConfigured("the directory of the store does not exist", says=SAYS, remedy="Create it")
    try:
        with store_errors():
            if place.scheme == "file":
                return Bucket(LocalStore(place.name), directory=DirectoryStore(Path(place.name)))
            store = _STORES[place.scheme](place.name, dict(place.options))
    except PluginError:
        raise NotConfigured(
            "these options, with those of the platform, lead to no store", remedy="Check what the store needs"
        ) from None
    return Bucket(store, prefix=place.prefix, workers=_WORKERS)


def _s3(bucket: str, options: dict[str, Option]) -> S3Store:
    # Given as a provider, credentials stand alone: as options, a session token of the platform would join them.
    key, secret = (options.pop(name, None) for name in ("access_key_id", "secret_access_key"))
    credential = cast(
        "S3Credential",
        {
            "access_key_id": key,
            "secret_access_key": secret,
            "token": options.pop("session_token", None),
            "expires_at": None,
        },
    )
    return S3Store(
        bucket,
        credential_provider=(lambda: credential) if key else None,
        client_options=_client(options),
        retry_config=_retry(options),
        config=cast("S3Config", _rest(options)),
    )


def _gs(bucket: str, options: dict[str, Option]) -> GCSStore:
    if "endpoint" in options:
        options["base_url"] = options.pop("endpoint")
    return GCSStore(
        bucket,
        client_options=_client(options),
        retry_config=_retry(options),
        config=cast("GCSConfig", _rest(options)),
    )


def _az(container: str, options: dict[str, Option]) -> AzureStore:
    credential: AzureCredential | None = None
    if key := options.pop("account_key", None):
        credential = {"access_key": str(key), "expires_at": None}
    elif sas := options.pop("sas_key", None):
        credential = {"sas_token": str(sas), "expires_at": None}
    return AzureStore(
        container,
        credential_provider=(lambda: credential) if credential else None,
        client_options=_client(options),
        retry_config=_retry(options),
        config=cast("AzureConfig", _rest(options)),
    )


_STORES: dict[str, Callable[[str, dict[str, Option]], AzureStore | GCSStore | S3Store]] = {
    "s3": _s3,
    "gs": _gs,
    "az": _az,
}


def _client(options: dict[str, Option]) -> ClientConfig:
    return cast(
        "ClientConfig",
        {name: value for name, value in options.items() if name in _CLIENT_OPTIONS}
        | {
            "connect_timeout": _seconds(options, "connect_timeout_seconds"),
            # From a request's first byte to its answer's first, and between any two reads after that.
            "read_timeout": _seconds(options, "read_timeout_seconds"),
            # The library's 30 s for a whole request would cut off a part on a slow line.
            "timeout": timedelta(days=1),
        },
    )


def _retry(options: dict[str, Option]) -> RetryConfig:
    return {
        "retry_timeout": _seconds(options, "retry_timeout_seconds"),
        "backoff": {"init_backoff": timedelta(seconds=0.1), "max_backoff": timedelta(seconds=5), "base": 2},
    }


def _seconds(options: dict[str, Option], name: str) -> timedelta:
    return timedelta(seconds=int(options.get(name, _TIMES[name])))


def _rest(options: dict[str, Option]) -> dict[str, Option]:
    return {name: value for name, value in options.items() if name not in _CLIENT_OPTIONS and name not in _TIMES}
