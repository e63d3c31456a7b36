"""The cache of unwrapped data keys: repeated reads of an artifact cost one request to the key provider.

The cache trades instant revocation for fewer requests: a process that could open an artifact can open it again for at
most `ttl` seconds. The cache overwrites its own copy of a data key when it removes the entry. Other copies cannot be
overwritten in Python: the `bytes` that callers receive, and those that the client library parsed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from typing_extensions import override

from sealgate.call import Call, Operation, WrappedKey
from sealgate.errors import PluginError, Unavailable
from sealgate.keys.provider import DataKey, KeyProvider, SignedBy
from sealgate.keys.single_flight import SingleFlight
from sealgate.log_event import LogEvent

log = logging.getLogger("sealgate.keys")

_REFRESHED_AFTER = 0.8
"""The fraction of its lifetime after which an entry that is still used is refreshed."""
_REFRESH_AGAIN = 0.05
"""The fraction of its lifetime between two attempts to refresh it while the provider cannot be reached."""

Later = Callable[[float, Callable[[], None]], None]


def on_a_thread(seconds: float, work: Callable[[], None]) -> None:
    """Do `work` after `seconds`, on a daemon thread."""
    timer = threading.Timer(seconds, work)
    timer.daemon = True
    timer.start()


@dataclass(slots=True)
class _CachedKey:
    data_key: bytearray = field(repr=False)
    refreshed_at: float
    ends_at: float

    def wipe(self) -> None:
        self.data_key[:] = bytes(len(self.data_key))


class CachedKeys(KeyProvider):
    """A key provider that caches what another one unwrapped, and forwards every other operation to it."""

    def __init__(
        self,
        inner: KeyProvider,
        ttl: float,
        entries: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        later: Later = on_a_thread,
    ) -> None:
        """Cache the data keys that `inner` unwraps.

        Args:
            inner: the provider that is asked on a miss.
            ttl: the longest lifetime of an entry in seconds; 0 turns the cache off.
            entries: the largest number of entries; 0 turns the cache off.
            clock: the time in seconds, from any origin.
            later: runs work after some seconds.
        """
        self._inner = inner
        self._ttl = ttl
        self._most = entries
        self._clock = clock
        self._later = later
        self._entries: OrderedDict[WrappedKey, _CachedKey] = OrderedDict()
        """Ordered by last use, most recent last."""
        self._lock = threading.Lock()
        self._sweep_is_due = False
        self._flights: SingleFlight[WrappedKey, bytes] = SingleFlight()

    @override
    def new_data_key(self, call: Call, key: str = "") -> DataKey:
        return self._inner.new_data_key(call, key)  # each Save needs a new one

    @override
    def unwrap(self, call: Call, wrapped: WrappedKey) -> bytes:
        if self._ttl <= 0 or self._most <= 0:
            return self._inner.unwrap(call, wrapped)
        cached = self._cached(wrapped)
        if cached:
            call.keys.remembered += 1
        return cached or self._flights.run(call, wrapped, lambda: self._cached_or_fetched(call, wrapped))

    @override
    def attested(self, call: Call) -> Mapping[str, str]:
        return self._inner.attested(call)

    @override
    def attested_already(self) -> Mapping[str, str]:
        return self._inner.attested_already()

    @override
    def sign(self, call: Call, data: bytes) -> SignedBy:
        return self._inner.sign(call, data)

    @override
    def public_keys(self, call: Call) -> dict[int, bytes]:
        return self._inner.public_keys(call)

    def _cached(self, wrapped: WrappedKey) -> bytes | None:
        with self._lock:
            now = self._clock()
            entry = self._entries.get(wrapped)
            if entry is None:
                return None
            if now >= entry.ends_at:
                self._drop(wrapped)
                return None
            self._entries.move_to_end(wrapped)
            data_key = bytes(entry.data_key)
            refresh = now >= entry.refreshed_at
            if refresh:
                entry.refreshed_at = now + self._ttl * _REFRESH_AGAIN
        if refresh:
            self._later(0, lambda: self._refresh(wrapped))
        return data_key

    def _cached_or_fetched(self, call: Call, wrapped: WrappedKey) -> bytes:
        # Another caller may have added the entry since `unwrap` missed it.
        return self._cached(wrapped) or self._fetch(call, wrapped)

    def _fetch(self, call: Call, wrapped: WrappedKey) -> bytes:
        # The lifetime begins before the request, because the answer may take long.
        asked_at = self._clock()
        data_key = self._inner.unwrap(call, wrapped)
        with self._lock:
            self._drop(wrapped)
            ends_at = asked_at + self._ttl
            self._entries[wrapped] = _CachedKey(bytearray(data_key), asked_at + self._ttl * _REFRESHED_AFTER, ends_at)
            while len(self._entries) > self._most:
                self._drop(next(iter(self._entries)))
            sweep, self._sweep_is_due = not self._sweep_is_due, True
        if sweep:
            self._later(self._ttl, self._sweep)
        return data_key

    def _refresh(self, wrapped: WrappedKey) -> None:
        """Fetch the data key again before the entry ends. If the provider refuses, remove the entry now."""
        call = Call(Operation.LOAD)
        try:
            self._flights.run(call, wrapped, lambda: self._fetch(call, wrapped))
        except Unavailable:
            return  # the entry stays until its lifetime ends
        except PluginError as fault:
            log.warning(LogEvent("a data key was removed from the cache", reason=fault.fact))
            with self._lock:
                self._drop(wrapped)

    def _sweep(self) -> None:
        """Remove the entries whose lifetime has ended, and schedule the next sweep if any are left."""
        with self._lock:
            now = self._clock()
            for wrapped in [wrapped for wrapped, entry in self._entries.items() if now >= entry.ends_at]:
                self._drop(wrapped)
            next_end = min((entry.ends_at for entry in self._entries.values()), default=None)
            self._sweep_is_due = next_end is not None
        if next_end is not None:
            self._later(max(0.0, next_end - now), self._sweep)

    def _drop(self, wrapped: WrappedKey) -> None:
        """Remove and overwrite one entry. The caller holds the lock."""
        entry = self._entries.pop(wrapped, None)
        if entry is not None:
            entry.wipe()
