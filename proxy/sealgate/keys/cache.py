"""The unwrap cache: a data key that was opened a moment ago is not asked for again.

It trades instant revocation for fewer requests: whoever could open an artifact can open it again for at most
`ttl` seconds, in the same process. Python leaves copies that nobody can wipe: the `bytes` that callers get, and
those that the client library parsed. What the cache itself holds is overwritten when it goes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sealgate.call import Call, Operation, WrappedKey
from sealgate.errors import PluginError, Unavailable
from sealgate.keys.provider import DataKey, KeyProvider, SignedBy
from sealgate.keys.single_flight import SingleFlight

log = logging.getLogger("sealgate.keys")

_REFRESHED_AFTER = 0.8
"""The part of its life after which an entry that is still used is asked for anew."""
_REFRESH_AGAIN = 0.05
"""The part of its life that lies between two such attempts while the provider cannot be reached."""

Later = Callable[[float, Callable[[], None]], None]


def on_a_thread(seconds: float, work: Callable[[], None]) -> None:
    """Do `work` in so many seconds, on a thread that holds nothing up."""
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


class CachedKeys:
    """Remembers what another provider unwrapped: at most `entries` data keys, none for longer than `ttl` seconds.

    Off, and nothing remembered, when either is 0. Whatever else the provider does goes through unchanged.
    """

    def __init__(
        self,
        inner: KeyProvider,
        ttl: float,
        entries: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        later: Later = on_a_thread,
    ) -> None:
        self._inner = inner
        self._ttl = ttl
        self._most = entries
        self._clock = clock
        self._later = later
        self._entries: OrderedDict[WrappedKey, _CachedKey] = OrderedDict()
        """The one that was used last is the last."""
        self._lock = threading.Lock()
        self._sweep_is_due = False
        self._flights: SingleFlight[WrappedKey, bytes] = SingleFlight()

    def new_data_key(self, call: Call, key: str = "") -> DataKey:
        """Of the provider: a data key is new for each Save, and not remembered."""
        return self._inner.new_data_key(call, key)

    def unwrap(self, call: Call, wrapped: WrappedKey) -> bytes:
        """The data key that `wrapped` stands for, remembered or asked for; see `KeyProvider.unwrap`."""
        if self._ttl <= 0 or self._most <= 0:
            return self._inner.unwrap(call, wrapped)
        known = self._remembered(wrapped)
        if known:
            call.keys.remembered += 1
        return known or self._flights.run(call, wrapped, lambda: self._ask(call, wrapped))

    def rewrap(self, call: Call, wrapped: WrappedKey) -> WrappedKey:
        """Of the provider."""
        return self._inner.rewrap(call, wrapped)

    def attested(self, call: Call) -> Mapping[str, str]:
        """Of the provider."""
        return self._inner.attested(call)

    def sign(self, call: Call, data: bytes) -> SignedBy:
        """Of the provider."""
        return self._inner.sign(call, data)

    def public_keys(self, call: Call) -> dict[int, bytes]:
        """Of the provider."""
        return self._inner.public_keys(call)

    def check(self, call: Call) -> str:
        """Of the provider: what is remembered proves nothing."""
        return self._inner.check(call)

    def clear(self) -> None:
        """Forget and wipe everything."""
        with self._lock:
            for wrapped in tuple(self._entries):
                self._drop(wrapped)

    def _remembered(self, wrapped: WrappedKey) -> bytes | None:
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

    def _ask(self, call: Call, wrapped: WrappedKey) -> bytes:
        # Between the look at the cache and this flight another one may have landed.
        if known := self._remembered(wrapped):
            return known
        return self._fetch(call, wrapped)

    def _fetch(self, call: Call, wrapped: WrappedKey) -> bytes:
        # The life of an entry begins before the question: an answer may be long on its way.
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
        """Ask anew before the entry ends. Where the provider refuses, the entry ends now."""
        call = Call(Operation.LOAD)
        try:
            self._flights.run(call, wrapped, lambda: self._fetch(call, wrapped))
        except Unavailable:
            return  # it lives to its end, and no longer
        except PluginError as fault:
            log.warning("a remembered data key is forgotten: %s", fault.fact)
            with self._lock:
                self._drop(wrapped)

    def _sweep(self) -> None:
        """Wipe what has ended, used or not, and come back for the rest."""
        with self._lock:
            now = self._clock()
            for wrapped in [wrapped for wrapped, entry in self._entries.items() if now >= entry.ends_at]:
                self._drop(wrapped)
            next_end = min((entry.ends_at for entry in self._entries.values()), default=None)
            self._sweep_is_due = next_end is not None
        if next_end is not None:
            self._later(max(0.0, next_end - now), self._sweep)

    def _drop(self, wrapped: WrappedKey) -> None:
        """Forget one, with the lock held."""
        entry = self._entries.pop(wrapped, None)
        if entry is not None:
            entry.wipe()
