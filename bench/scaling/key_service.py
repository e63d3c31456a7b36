"""Measures what a key service does for many processes: processor time of a request, many at once, and too many."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
from harness.openbao import ApiError

from bench.client import Client
from bench.measure import say
from bench.processes import SEALGATE, Server
from bench.scaling.counts import Counter as CostCounter
from bench.scaling.queueing import one_at_a_time
from bench.scaling.service import PATIENCE, KeyService
from sealgate.call import Call, Operation
from sealgate.errors import PluginError
from sealgate.keys.vault.provider import VaultKeys

_THREADS = 8
"""Clients at a time while a request is measured."""
_STARTED_WITHIN = 300.0
"""Seconds. Many interpreters start at the same moment on few processors."""
_TOO_MANY = 429
_TICK = 0.01
"""Seconds. The kernel counts processor time in these."""
REQUESTS_OF_A_CLIENT = 3
"""That `_as_a_pod` sends: a login, a signature and a data key."""
_WHERE = re.compile(r"Vault at \S+")
"""The port is another one in each run."""


@dataclass(frozen=True)
class Rate:
    """What one kind of request costs the key service."""

    requests: int
    processor_ms: float
    """Processor time of the server for one request, in milliseconds."""
    a_second: float
    """Requests a second, with the clients on the same processors."""


@dataclass(frozen=True)
class Burst:
    """What happened to clients that began at the same moment."""

    clients: int
    seconds: float
    """Until the last one had its answer."""
    succeeded: int
    refused: dict[str, int]
    """How many got which error."""
    requests: int
    """That the key service carried out."""
    patience: float = PATIENCE


def rates(service: KeyService, requests: int) -> dict[str, Rate]:
    """Return what each kind of request costs, each from `requests` requests."""
    client = service.client()
    wrapped = client.new_data_key(_call()).wrapped
    kinds: dict[str, Callable[[], object]] = {
        "login, token not stored": lambda: service.client().attested(_call()),
        "login, token stored": lambda: service.client(stores=True).attested(_call()),
        "signature": lambda: client.sign(_call(), b"a certificate"),
        "data key": lambda: client.new_data_key(_call()),
        "unwrapped data key": lambda: client.unwrap(_call(), wrapped),
    }
    return {name: _rate(service, name, ask, requests) for name, ask in kinds.items()}


def _rate(service: KeyService, name: str, ask: Callable[[], object], requests: int) -> Rate:
    say(f"{name}, {requests} times")
    ask()
    used, began = service.server.processor_time(), time.perf_counter()
    with ThreadPoolExecutor(_THREADS) as pool:
        for each in [pool.submit(ask) for _ in range(requests)]:
            each.result()
    seconds = time.perf_counter() - began
    spent = max(service.server.processor_time() - used, _TICK)
    return Rate(requests, spent / requests * 1000, requests / seconds)


def burst(service: KeyService, clients: int, *, address: str = "", patience: float = PATIENCE) -> Burst:
    """Let `clients` clients at the same moment do what a pod that saves does: log in, sign, and make a data key."""
    say(f"{clients} clients at once")
    made = [service.client(address=address, patience=patience) for _ in range(clients)]
    return _at_once(service, [lambda keys=keys: _as_a_pod(keys) for keys in made], patience)


def _as_a_pod(keys: VaultKeys) -> None:
    keys.sign(_call(), b"a certificate")  # the login comes first
    keys.new_data_key(_call())


def _at_once(service: KeyService, works: Sequence[Callable[[], object]], patience: float) -> Burst:
    ready = threading.Barrier(len(works) + 1)

    def act(work: Callable[[], object]) -> str:
        ready.wait()
        try:
            work()
        except PluginError as fault:
            return _WHERE.sub("Vault", fault.fact)
        return ""

    before = sum(service.requests().values())
    with ThreadPoolExecutor(len(works)) as pool:
        ends = [pool.submit(act, work) for work in works]
        ready.wait()
        began = time.perf_counter()
        faults = Counter(end.result() for end in ends)
        seconds = time.perf_counter() - began
    succeeded = faults.pop("", 0)
    return Burst(len(works), seconds, succeeded, dict(faults), sum(service.requests().values()) - before, patience)


def overloaded(service: KeyService, clients: int, patiences: Sequence[float], delay: float) -> list[Burst]:
    """Return what happens behind a server that takes `delay` seconds for each request and carries out one at a time.

    It carries out what it has accepted also if the client has left meanwhile, as a server with a full queue does.
    """
    found = []
    for patience in patiences:
        before = sum(service.requests().values())
        with one_at_a_time(service.server.address, delay) as address:
            seen = burst(service, clients, address=address, patience=patience)
        found.append(replace(seen, requests=sum(service.requests().values()) - before))
    return found


def limited(service: KeyService, clients: int, a_second: float) -> Burst:
    """Return what happens behind a rate-limit quota of the key service (status 429)."""
    service.server.post("sys/quotas/rate-limit/bench", {"rate": a_second})
    try:
        return burst(service, clients)
    finally:
        _without_quota(service)


def _without_quota(service: KeyService) -> None:
    """Remove the quota, which counts this request, too: so it may be refused until a part of the second is over."""
    for last in (False,) * 20 + (True,):
        try:
            service.server.api("DELETE", "sys/quotas/rate-limit/bench")
        except ApiError as refused:
            if refused.status != _TOO_MANY or last:
                raise
            time.sleep(0.2)
        else:
            return


@dataclass(frozen=True)
class Processes:
    """What happened to real processes, each of which saved one artifact."""

    processes: int
    succeeded: int
    at_once: int
    seconds: float
    """Until the last one is done."""
    requests: dict[str, int]
    """To the key service, by the names of the fields of `Cost`."""
    slowest: float
    """Seconds from the start of a process to the end of its Save."""
    processor_seconds: float
    """Of one process, the start of the interpreter included."""


def processes(service: KeyService, count: CostCounter, home: Path, number: int, at_once: int) -> Processes:
    """Start `number` processes of `sealgate serve`, `at_once` of them at the same moment, and save with each."""
    say(f"{number} processes, {at_once} at once")
    home.mkdir()
    plain = home / "plain"
    plain.write_bytes(os.urandom(4096))
    before, children, began = service.requests(), os.times(), time.perf_counter()

    def one(which: int) -> float:
        """Return the seconds until the artifact is saved; 0 if it is not."""
        started = time.perf_counter()
        try:
            with Server(home / str(which), [SEALGATE, "serve"], count.environment("both"), _STARTED_WITHIN) as server:
                with Client(server.socket) as client:
                    client.save(f"team-a/burst/{which}", plain)
                return time.perf_counter() - started
        except (RuntimeError, grpc.RpcError) as fault:
            say(str(fault))
            return 0.0

    seconds: list[float] = []
    with ThreadPoolExecutor(at_once) as pool:
        for first in range(0, number, at_once):
            seconds += pool.map(one, range(first, min(first + at_once, number)))
    now, ended = service.requests(), os.times()
    used = ended.children_user + ended.children_system - children.children_user - children.children_system
    asked = {name: now[name] - before[name] for name in now}
    saved = sum(each > 0 for each in seconds)
    return Processes(number, saved, at_once, time.perf_counter() - began, asked, max(seconds), used / number)


def _call() -> Call:
    return Call(Operation.SAVE)
