"""Requests to Vault that hold out: tried again where that helps, within the call's time, and not by everybody."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from sealgate.call import Call
from sealgate.errors import PluginError, TimedOut
from sealgate.keys.vault import faults
from sealgate.keys.vault.faults import Unanswered, VaultRequest, VaultResponse

log = logging.getLogger("sealgate.vault")

AT_ONCE = 16
"""Requests on the wire at a time. While the server is down, so many learn it by themselves at most."""
_SHARE = 3
"""One request waits for this part of the time that a call has: enough is left for another one."""
_LONGEST_PAUSE = 5.0
_FIRST_PROBE, _LAST_PROBE = 0.25, 5.0

Clock = Callable[[], float]
Jitter = Callable[[float, float], float]
uniform: Jitter = secrets.SystemRandom().uniform


class Transport(Protocol):
    """What sends one request."""

    def send(self, request: VaultRequest, token: str, timeout: float) -> VaultResponse | Unanswered:
        """Send it once."""


class Outage:
    """What this process knows of the server being down: since when, why, and who may look again."""

    def __init__(self, clock: Clock, jitter: Jitter, last_probe: float = _LAST_PROBE) -> None:
        self._clock = clock
        self._jitter = jitter
        self._last_probe = last_probe
        self._lock = threading.Lock()
        self._fault: PluginError | None = None
        self._since = 0.0
        self._looks = 0
        self._last_in_vain = 0
        self._pause = _FIRST_PROBE
        self._next_probe = 0.0
        self._probing = False

    def known(self, probe_takes: float) -> PluginError | None:
        """Why nobody need ask now; None if the server may be up, or it is this caller's turn to look.

        Its turn lasts for `probe_takes` seconds, unless `began` or `ended` is called before.
        """
        with self._lock:
            if self._fault is None:
                return None
            if self._clock() >= self._next_probe:
                self._next_probe = self._clock() + probe_takes
                self._probing = True
                return None
            return type(self._fault)(self._fault.fact, says=self._fault.says, remedy=self._fault.remedy)

    def looks(self) -> int:
        """How many requests have been sent so far."""
        with self._lock:
            return self._looks

    def look(self) -> int:
        """Count a request that is about to be sent."""
        with self._lock:
            self._looks += 1
            return self._looks

    def began(self, fault: PluginError, look: int) -> None:
        """Note that the server is down, or still is, and which request found it so."""
        with self._lock:
            self._last_in_vain = max(self._last_in_vain, look)
            if self._fault is None:
                self._since, self._pause = self._clock(), _FIRST_PROBE
                log.warning("%s (%s)", fault.fact, fault.says)
            elif self._probing:
                self._pause = min(self._pause * 2, self._last_probe)
            self._probing = False
            self._fault = fault
            self._next_probe = self._clock() + self._jitter(self._pause / 2, self._pause)

    def ended(self) -> None:
        """Note that the server answers."""
        with self._lock:
            if self._fault is not None:
                log.info("vault answers again after %.1f s", self._clock() - self._since)
            self._fault = None
            self._probing = False

    def is_known_after(self, looks: int, seconds: float) -> bool:
        """Whether the server has been down for so long that waiting is no use, and a request after those found it so.

        Without the second half a call could be told of an outage that is over.
        """
        with self._lock:
            lasts = self._fault is not None and self._clock() - self._since >= seconds
            return lasts and self._last_in_vain > looks


def pause(call: Call, seconds: float) -> None:
    """Wait, but not for a caller that has gone away."""
    woken = threading.Event()
    call.on_cancel(woken.set)
    woken.wait(seconds)
    call.check()


class Requests:
    """Sends requests for calls. `patience` is how many seconds a call waits for Vault, all tries included."""

    def __init__(
        self,
        transport: Transport,
        patience: float,
        *,
        clock: Clock = time.monotonic,
        jitter: Jitter = uniform,
        wait: Callable[[Call, float], None] = pause,
    ) -> None:
        self._transport = transport
        self._patience = patience
        self._clock = clock
        self._jitter = jitter
        self._wait = wait
        self._outage = Outage(clock, jitter, min(_LAST_PROBE, patience / _SHARE))
        self._slots = threading.BoundedSemaphore(AT_ONCE)

    def send(self, call: Call, request: VaultRequest, token: str = "") -> VaultResponse:
        """The answer to `request`, carried out.

        Raises:
            TokenRefused: status 403, with a token.
            PluginError: as the table in `vault_faults` says.
        """
        remaining = call.remaining()
        give_up = self._clock() + (self._patience if remaining is None else min(self._patience, remaining))
        looks = self._outage.looks()
        tried = 0
        while True:
            call.check()
            outcome = self._once(request, token, give_up)
            if isinstance(outcome, PluginError):
                fault, longest = outcome, _FIRST_PROBE
                again = not self._outage.is_known_after(looks, self._patience)
            else:
                row = faults.rule(outcome, request)
                if row is None:
                    assert isinstance(outcome, VaultResponse)  # noqa: S101 - for the type checker: it was carried out
                    return outcome
                tried += 1
                fault = row.fault(request, outcome)
                again = not self._outage.is_known_after(looks, self._patience) if row.outage else tried < row.tries
                longest = min(row.pause * 2 ** (tried - 1), _LONGEST_PAUSE)
            least = outcome.retry_after if isinstance(outcome, VaultResponse) else 0.0
            seconds = max(least, self._jitter(longest / 2, longest))
            if not again or self._clock() + seconds >= give_up:
                call.check()
                raise fault
            self._wait(call, seconds)

    def _once(self, request: VaultRequest, token: str, give_up: float) -> VaultResponse | Unanswered | PluginError:
        """Send it if the server may be up, and note whether it was. An error is what is known already."""
        full = self._patience / _SHARE
        with self._slot(give_up):
            if known := self._outage.known(full):
                return known
            timeout = max(0.001, min(full, give_up - self._clock()))
            look = self._outage.look()
            outcome = self._transport.send(request, token, timeout)
            row = faults.rule(outcome, request)
            if row is None or not row.outage:
                self._outage.ended()
            elif outcome is not Unanswered.TIMEOUT or timeout >= full:
                # A caller in a hurry proves nothing about the server.
                self._outage.began(row.fault(request, outcome), look)
        return outcome

    @contextmanager
    def _slot(self, give_up: float) -> Iterator[None]:
        if not self._slots.acquire(timeout=max(0.0, give_up - self._clock())):
            raise TimedOut("more requests wait for Vault than it answers in time", remedy="Try again")
        try:
            yield
        finally:
            self._slots.release()
