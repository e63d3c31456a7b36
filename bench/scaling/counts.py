"""Counts what each call of a real `sealgate serve` costs: requests to key service and store, and bytes of audit."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from harness.gateways import counting
from harness.s3 import Server as Store
from moto.server import ThreadedMotoServer

from bench.client import Client
from bench.measure import say
from bench.processes import SEALGATE, Server
from bench.scaling.model import Cost, Pod, UnitCosts, cost_of_pod
from bench.scaling.service import KeyService

_PATIENCE = 60.0
_PREFIX = "team-a/train-model-7kq2x/train-model-7kq2x-trainer-3401237561"
"""An artifact key as Argo makes it, because its length is in each record."""
_IDENTITY = {
    "ARGO_CONTAINER_NAME": "artifact-plugin-crypt",
    "ARGO_NODE_ID": "train-model-7kq2x-3401237561",
    "ARGO_WORKFLOW_NAME": "train-model-7kq2x",
    "ARGO_WORKFLOW_UID": "5b3f6c1e-6f0e-4f0e-9d53-2f6f3a0c7f11",
    "ARGO_POD_NAME": "train-model-7kq2x-trainer-3401237561",
    "ARGO_POD_UID": "0d9c2a55-7a54-4f0b-8a37-9c5b2d7e1f02",
    "SEALGATE_NAMESPACE": "team-a",
    "SEALGATE_SERVICE_ACCOUNT": "argo",
}


class Counter:
    """Reads how much has been spent so far by all processes that `environment` starts."""

    def __init__(self, service: KeyService, endpoint: str, requests: Sequence[str], store: Store, home: Path) -> None:
        self._service = service
        self._requests = requests
        self._trail = home / "trail.jsonl"
        url = f"s3://{store.new_bucket()}"
        self._settings = service.settings() | {
            "apiVersion": "sealgate/v1alpha1",
            "kind": "Sealgate",
            "downstream": {"builtin": {"url": url}},
            "paths": {"roots": [str(home)]},
            "spool": {"directory": str(home)},
        }
        self._settings["audit"]["sinks"] = [{"type": "file", "path": str(self._trail)}]
        self._store = json.dumps(store.config(endpoint=endpoint))

    def environment(self, phases: str) -> dict[str, str]:
        """Return the environment of a process, with `audit.phases`."""
        settings = self._settings | {"audit": self._settings["audit"] | {"phases": phases}}
        return {
            "SEALGATE_CONFIG_YAML": json.dumps(settings),
            "SEALGATE_BACKEND_CONFIG": self._store,
            "VAULT_CACERT": str(self._service.authorities),
            **_IDENTITY,
        }

    def spent(self) -> Cost:
        """Return the sum of everything until now."""
        listings = self._requests.count("LIST")
        reads = self._requests.count("GET") + self._requests.count("HEAD")
        return Cost(
            **self._service.requests(),
            key_service_log=self._service.log_size(),
            trail=self._trail.stat().st_size if self._trail.exists() else 0,
            store_reads=reads,
            store_writes=len(self._requests) - listings - reads,
            store_listings=listings,
        )

    def of(self, work: Callable[[], object]) -> Cost:
        """Return what `work` costs."""
        before = self.spent()
        work()
        return self.spent() - before


@contextmanager
def counter(service: KeyService, home: Path) -> Iterator[Counter]:
    """Run an S3 server whose requests are counted."""
    home.mkdir()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would print each request
    moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        store = Store(f"http://{host}:{port}")
        with counting(store) as (endpoint, requests):
            yield Counter(service, endpoint, requests, store, home)
    finally:
        moto.stop()


def unit_costs(service: KeyService, count: Counter, home: Path, phases: str = "both") -> UnitCosts:
    """Return what each part of a pod's work costs. Artifacts are files of 4 KiB; `phases` is `audit.phases`."""
    say(f"what each call costs, audit.phases: {phases}")
    home.mkdir()
    plain = _plain(home)
    start = count.of(lambda: _only_started(service, count, home / "idle", phases))
    with _running(count, home / "calls", phases) as client:
        for name in ("model-0", "model-1", "model-2"):
            client.save(_key(name), plain)
        client.delete(_key("model-2"))  # the first one learns how the downstream deletes
        save = count.of(lambda: client.save(_key("model-2"), plain))
        load = count.of(lambda: client.load(_key("model-0"), home / "loaded"))
        read = count.of(lambda: client.read_stream(_key("model-1")))
        again = count.of(lambda: client.read_stream(_key("model-1")))
        delete = count.of(lambda: client.delete(_key("model-2")))
    whole = count.of(lambda: _run(count, home / "one", phases, lambda client: client.load(_key("model-0"), home / "l")))
    return UnitCosts(start, whole - start - load, load, save, delete, read, again)


def counted_and_computed(count: Counter, home: Path, pod: Pod, costs: UnitCosts) -> tuple[Cost, Cost]:
    """Run the processes of a pod whose init container loads and whose sidecar saves.

    Returns:
        What it cost, and what it costs according to the model.
    """
    say(f"a pod with {pod.loads} Loads and {pod.saves} Saves")
    home.mkdir()
    plain = _plain(home)

    def load(client: Client) -> None:
        for number in range(pod.loads):
            client.load(_key(f"input-{number}"), home / f"loaded-{number}")

    def save(client: Client) -> None:
        for number in range(pod.saves):
            client.save(_key(f"model-{number}"), plain)

    _run(
        count,
        home / "before",
        "both",
        lambda client: [client.save(_key(f"input-{n}"), plain) for n in range(pod.loads)],
    )
    work = (load, save)

    def whole() -> None:
        for number, calls in enumerate(work):
            _run(count, home / f"process-{number}", "both", calls)

    return count.of(whole), cost_of_pod(costs, replace(pod, processes=len(work)))


def _only_started(service: KeyService, count: Counter, home: Path, phases: str) -> None:
    """Run a process without a call until it has logged in."""
    logins = service.requests()["logins"]
    until = time.monotonic() + _PATIENCE
    with Server(home, [SEALGATE, "serve"], count.environment(phases)):
        while service.requests()["logins"] == logins:
            if time.monotonic() > until:
                raise RuntimeError("a process without a call did not log in")
            time.sleep(0.02)


def _run(count: Counter, home: Path, phases: str, calls: Callable[[Client], object]) -> None:
    with _running(count, home, phases) as client:
        calls(client)


@contextmanager
def _running(count: Counter, home: Path, phases: str) -> Iterator[Client]:
    with Server(home, [SEALGATE, "serve"], count.environment(phases)) as server, Client(server.socket) as client:
        yield client


def _plain(home: Path) -> Path:
    path = home / "plain"
    path.write_bytes(os.urandom(4096))
    return path


def _key(name: str) -> str:
    return f"{_PREFIX}/{name}.bin"
