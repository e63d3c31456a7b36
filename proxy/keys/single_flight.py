"""Single flight: of those who want the same at the same time, one asks, and all get its answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

from proxy.plugin import Call, Cancelled, DeadlineExceeded, PluginError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """Runs one piece of work for a key at a time. Nothing is kept once it has ended, failure or not."""

    def __init__(self) -> None:
        self._flights: dict[K, Future[V]] = {}
        self._lock = threading.Lock()

    def run(self, call: Call, key: K, work: Callable[[], V]) -> V:
        """Do `work`, or wait for who is at it. A caller that gives up does not fail the others."""
        while True:
            with self._lock:
                flight = self._flights.get(key)
                mine = None if flight else self._flights.setdefault(key, Future())
            if mine is not None:
                return self._lead(key, mine, work)
            assert flight is not None  # noqa: S101 - for the type checker: one of the two is there
            _await(call, flight)
            fault = flight.exception()
            if fault is None:
                return flight.result()
            if isinstance(fault, Cancelled | DeadlineExceeded):
                continue  # that was the leader's own end
            if isinstance(fault, PluginError):
                raise type(fault)(fault.fact, says=fault.says, remedy=fault.remedy)
            raise fault

    def _lead(self, key: K, flight: Future[V], work: Callable[[], V]) -> V:
        try:
            result = work()
        except BaseException as fault:
            self._land(key)
            flight.set_exception(fault)
            raise
        self._land(key)
        flight.set_result(result)
        return result

    def _land(self, key: K) -> None:
        with self._lock:
            del self._flights[key]


def _await(call: Call, flight: Future[V]) -> None:
    woken = threading.Event()
    call.on_cancel(woken.set)
    flight.add_done_callback(lambda _: woken.set())
    woken.wait(call.remaining())
    call.check()
    if not flight.done():
        raise DeadlineExceeded("the caller's deadline passed")
