"""When a request is tried again (429, 5xx, no answer), how long a call waits, and what happens during an outage."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sealgate.call import Call
from sealgate.errors import PluginError, TimedOut
from sealgate.keys.vault import faults
from sealgate.keys.vault.connections import Transport
from sealgate.keys.vault.formats import Unanswered, VaultRequest, VaultResponse
from sealgate.log_event import LogEvent

log = logging.getLogger("sealgate.vault")

AT_ONCE = 16
"""The most requests at a time. If the server goes down, at most this many wait for it."""
_SHARE = 3
"""One request waits for at most this fraction (1/3) of a call's patience, so that there is time for another one."""
_LONGEST_PAUSE = 5.0
_FIRST_PROBE, _LAST_PROBE = 0.25, 5.0

Clock = Callable[[], float]
Jitter = Callable[[float, float], float]
uniform: Jitter = secrets.SystemRandom().uniform


class Outage:
    """Tracks whether the server is down, so that one caller probes it while the others wait."""

    def __init__(self, clock: Clock, jitter: Jitter, last_probe: float = _LAST_PROBE) -> None:
        """Begin without an outage. `last_probe` is the longest time between two probes, in seconds."""
        self._clock = clock
        self._jitter = jitter
        self._last_probe = last_probe
        self._lock = threading.Lock()
        self._fault: PluginError | None = None
        self._since = 0.0
        self._sent = 0
        self._last_failed = 0
        self._pause = _FIRST_PROBE
        self._next_probe = 0.0
        self._probing = False

    def fault_or_probe(self, probe_takes: float) -> PluginError | None:
        """Return the current fault, or None if the caller may send its request.

        During an outage the caller may send when a probe is due. No other caller may do so for the next `probe_takes`
        seconds, unless `began` or `ended` is called before.
        """
        with self._lock:
            if self._fault is None:
                return None
            if self._clock() >= self._next_probe:
                self._next_probe = self._clock() + probe_takes
                self._probing = True
                return None
            return type(self._fault)(self._fault.fact, says=self._fault.says, remedy=self._fault.remedy)

    def sent(self) -> int:
        """Return how many requests have been sent so far."""
        with self._lock:
            return self._sent

    def count(self) -> int:
        """Count a request that is about to be sent, and return its number."""
        with self._lock:
            self._sent += 1
            return self._sent

    def began(self, fault: PluginError, request: int) -> None:
        """Record that the request with this number found the server down, with `fault`."""
        with self._lock:
            self._last_failed = max(self._last_failed, request)
            if self._fault is None:
                self._since, self._pause = self._clock(), _FIRST_PROBE
                log.warning(LogEvent("the key service does not answer", reason=fault.fact, component=fault.says))
            elif self._probing:
                self._pause = min(self._pause * 2, self._last_probe)
            self._probing = False
            self._fault = fault
            self._next_probe = self._clock() + self._jitter(self._pause / 2, self._pause)

    def ended(self) -> None:
        """Record that the server answers."""
        with self._lock:
            if self._fault is not None:
                log.info(LogEvent("the key service answers again", seconds=round(self._clock() - self._since, 1)))
            self._fault = None
            self._probing = False

    def has_lasted(self, seconds: float, since_request: int) -> bool:
        """Return whether a call need not wait longer.

        That is so if the outage has lasted for `seconds`, and a request after number `since_request` failed because of
        it. Without the second condition a call could fail because of an outage that has already ended.
        """
        with self._lock:
            lasts = self._fault is not None and self._clock() - self._since >= seconds
            return lasts and self._last_failed > since_request


def pause(call: Call, seconds: float) -> None:
    """Wait for `seconds`, or until `call` is cancelled, which raises."""
    woken = threading.Event()
    call.on_cancel(woken.set)
    woken.wait(seconds)
    call.check()


class Requests:
    """Sends requests for calls, and tries them again as the table in `faults` says."""

    def __init__(
        self,
        transport: Transport,
        patience: float,
        *,
        clock: Clock = time.monotonic,
        jitter: Jitter = uniform,
        wait: Callable[[Call, float], None] = pause,
    ) -> None:
        """Send requests through `transport`.

        Args:
            transport: sends one request once.
            patience: how many seconds a call waits for Vault, all tries included.
            clock: the time in seconds, from any origin.
            jitter: returns a random number between its two arguments.
            wait: waits for some seconds on behalf of a call.
        """
        self._transport = transport
        self._patience = patience
        self._clock = clock
        self._jitter = jitter
        self._wait = wait
        self._outage = Outage(clock, jitter, min(_LAST_PROBE, patience / _SHARE))
        self._slots = threading.BoundedSemaphore(AT_ONCE)

    def send(self, call: Call, request: VaultRequest, token: str = "") -> VaultResponse:
        """Send `request` with `token` until the server carries it out, and return the answer.

        Raises:
            TokenRefused: the server answered 403 to a request with a token.
            PluginError: the request failed, as the table in `faults` says.
        """
        remaining = call.remaining()
        give_up = self._clock() + (self._patience if remaining is None else min(self._patience, remaining))
        since_request = self._outage.sent()
        tried = 0
        while True:
            call.check()
            outcome = self._send_once(request, token, give_up)
            if isinstance(outcome, PluginError):
                fault, longest = outcome, _FIRST_PROBE
                again = not self._outage.has_lasted(self._patience, since_request)
            else:
                row = faults.rule(outcome, request)
                if row is None:
                    assert isinstance(outcome, VaultResponse)  # noqa: S101 - for the type checker: only an answer has no row
                    return outcome
                tried += 1
                fault = row.fault(request, outcome)
                again = not self._outage.has_lasted(self._patience, since_request) if row.outage else tried < row.tries
                longest = min(row.pause * 2 ** (tried - 1), _LONGEST_PAUSE)
            least = outcome.retry_after if isinstance(outcome, VaultResponse) else 0.0
            seconds = max(least, self._jitter(longest / 2, longest))
            if not again or self._clock() + seconds >= give_up:
                call.check()
                raise fault
            self._wait(call, seconds)

    def _send_once(self, request: VaultRequest, token: str, give_up: float) -> VaultResponse | Unanswered | PluginError:
        """Send `request` unless the server is known to be down; then return that fault instead."""
        full = self._patience / _SHARE
        with self._slot(give_up):
            if fault := self._outage.fault_or_probe(full):
                return fault
            timeout = max(0.001, min(full, give_up - self._clock()))
            number = self._outage.count()
            outcome = self._transport.send(request, token, timeout)
            row = faults.rule(outcome, request)
            if row is None or not row.outage:
                self._outage.ended()
            elif outcome is not Unanswered.TIMEOUT or timeout >= full:
                # A request that waited for less than a full share proves nothing about the server.
                self._outage.began(row.fault(request, outcome), number)
        return outcome

    @contextmanager
    def _slot(self, give_up: float) -> Iterator[None]:
        if not self._slots.acquire(timeout=max(0.0, give_up - self._clock())):
            raise TimedOut("too many requests of this process wait for Vault", remedy="Try again")
        try:
            yield
        finally:
            self._slots.release()
