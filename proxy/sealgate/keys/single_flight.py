"""Single flight: callers that need the same result at the same time share one piece of work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import inf
from typing import Generic, TypeVar

from sealgate.call import Call
from sealgate.errors import Cancelled, DeadlineExceeded, PluginError, Unavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class _Flight(Generic[V]):
    seconds: float
    """How many seconds its leader, the caller that does the work, had left at the start."""
    landing: Future[V] = field(default_factory=Future)


class SingleFlight(Generic[K, V]):
    """Runs one piece of work for a key at a time. Keeps neither results nor errors once the work has ended."""

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}
        self._lock = threading.Lock()

    def run(self, call: Call, key: K, work: Callable[[], V]) -> V:
        """Do `work` for `key`, or wait for the caller that is already doing it and return its result.

        If that caller gives up (`Cancelled`, `DeadlineExceeded`), the others do the work themselves. If it failed with
        `Unavailable`, so do those that have more time left than it had at its start. Every other error is raised to
        all, each time as a new exception.
        """
        while True:
            with self._lock:
                flight = self._flights.get(key)
                mine = None if flight else self._flights.setdefault(key, _Flight(_seconds_left(call)))
            if mine is not None:
                return self._lead(key, mine.landing, work)
            assert flight is not None  # noqa: S101 - for the type checker: either `flight` or `mine` is set
            _await(call, flight.landing)
            fault = flight.landing.exception()
            if fault is None:
                return flight.landing.result()
            if isinstance(fault, Cancelled | DeadlineExceeded):
                continue  # the leader gave up; this caller has not
            if isinstance(fault, Unavailable) and flight.seconds < _seconds_left(call):
                continue  # the service may answer within the time that the leader did not have
            if isinstance(fault, PluginError):
                raise type(fault)(fault.fact, says=fault.says, remedy=fault.remedy)
            raise fault

    def _lead(self, key: K, landing: Future[V], work: Callable[[], V]) -> V:
        try:
            result = work()
        except BaseException as fault:
            self._land(key)
            landing.set_exception(fault)
            raise
        self._land(key)
        landing.set_result(result)
        return result

    def _land(self, key: K) -> None:
        with self._lock:
            del self._flights[key]


def _seconds_left(call: Call) -> float:
    remaining = call.remaining()
    return inf if remaining is None else remaining


def _await(call: Call, landing: Future[V]) -> None:
    woken = threading.Event()
    call.on_cancel(woken.set)
    landing.add_done_callback(lambda _: woken.set())
    woken.wait(call.remaining())
    call.check()
    if not landing.done():
        raise DeadlineExceeded("the caller's deadline passed")
