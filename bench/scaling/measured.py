"""Everything that a run measures, and the file that keeps it."""

from __future__ import annotations

import json
import logging
import os
import platform
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from bench.scaling import counts, key_service
from bench.scaling.key_service import Burst, Processes, Rate
from bench.scaling.model import Cost, Pod, UnitCosts
from bench.scaling.service import KeyService
from bench.scaling.service import key_service as started
from sealgate.rpc.streams import stream_limit

RATE_OF = {
    "logins": "login, token not stored",
    "signatures": "signature",
    "data_keys": "data key",
    "unwraps": "unwrapped data key",
}
"""The measured kind of request, by the name of its field in `Cost`."""
_MIB = 1 << 20
_CONTAINERS = (256, 512, 768, 1024, 1536)
"""Memory limits of the container beside Argo's server, in MiB."""


@dataclass(frozen=True)
class Sizes:
    """How much a run does."""

    requests: int
    """Of each kind."""
    bursts: tuple[int, ...]
    """Clients that begin at the same moment."""
    overload: int
    """Clients of a server that is too slow."""
    patiences: tuple[float, ...]
    """How long their calls wait, in seconds."""
    delay: float
    """Seconds that this server needs for a request."""
    processes: int
    at_once: int


FULL = Sizes(200, (25, 50, 100, 200), 60, (30, 6, 2), 0.025, 200, 20)
QUICK = Sizes(20, (2, 4), 4, (9,), 0.01, 2, 2)


@dataclass(frozen=True)
class Machine:
    """What the times depend on."""

    processors: int
    model: str
    python: str
    server: str
    load: tuple[float, float]
    """The load average before and after the run."""


@dataclass(frozen=True)
class Measured:
    """The result of a run."""

    machine: Machine
    costs: UnitCosts
    """With `audit.phases: both`."""
    costs_of_outcomes: UnitCosts
    """With `audit.phases: outcome`."""
    pod: Pod
    counted: Cost
    """What that pod cost."""
    computed: Cost
    """What the model says that it costs."""
    rates: dict[str, Rate]
    bursts: list[Burst]
    overloaded: list[Burst]
    delay: float
    """Seconds for a request of the server behind `overloaded`."""
    limited: Burst
    """Behind a quota of `quota` requests a second."""
    quota: float
    processes: Processes
    streams: dict[int, int]
    """Large streams at once, by the memory limit in MiB."""

    @property
    def milliseconds(self) -> dict[str, float]:
        """Processor time of the key service for a request, by the name of its field in `Cost`."""
        return {name: self.rates[kind].processor_ms for name, kind in RATE_OF.items()}


def measure(home: Path, sizes: Sizes) -> Measured:
    """Measure everything, with servers beneath `home`."""
    logging.getLogger("sealgate").setLevel(logging.ERROR)  # each client would report a slow server
    load, quota = os.getloadavg()[0], sizes.overload
    with started(home / "service") as service, counts.counter(service, home / "counts") as count:
        counted = _counted(service, count, home / "counts")
        rates = key_service.rates(service, sizes.requests)
        bursts = [key_service.burst(service, clients) for clients in sizes.bursts]
        overloaded = key_service.overloaded(service, sizes.overload, sizes.patiences, sizes.delay)
        limited = key_service.limited(service, sizes.overload, quota)
        processes = key_service.processes(service, count, home / "counts" / "processes", sizes.processes, sizes.at_once)
        version = service.server.api("GET", "sys/seal-status")["version"]
    return Measured(
        machine=Machine(
            len(os.sched_getaffinity(0)), _model(), platform.python_version(), version, (load, os.getloadavg()[0])
        ),
        **counted,
        rates=rates,
        bursts=bursts,
        overloaded=overloaded,
        delay=sizes.delay,
        limited=limited,
        quota=quota,
        processes=processes,
        streams={mib: stream_limit(mib * _MIB) for mib in _CONTAINERS},
    )


def count_again(home: Path, measured: Measured) -> Measured:
    """Return `measured` with new counts and its times as they are."""
    with started(home / "service") as service, counts.counter(service, home / "counts") as count:
        return replace(measured, **_counted(service, count, home / "counts"))


def _counted(service: KeyService, count: counts.Counter, home: Path) -> dict[str, Any]:
    """Return the fields of `Measured` that are counts."""
    pod = Pod(loads=2, saves=3)
    costs = counts.unit_costs(service, count, home / "both")
    of_outcomes = counts.unit_costs(service, count, home / "outcome", "outcome")
    counted, computed = counts.counted_and_computed(count, home / "pod", pod, costs)
    return {
        "costs": costs,
        "costs_of_outcomes": of_outcomes,
        "pod": pod,
        "counted": counted,
        "computed": computed,
    }


def kept(measured: Measured) -> str:
    """Return the JSON that `read` reads."""
    return json.dumps(asdict(measured), indent=1) + "\n"


def read(path: Path) -> Measured:
    """Return what `kept` has written to `path`."""
    return msgspec.json.decode(path.read_bytes(), type=Measured)


def _model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if "model name" in line), platform.machine())
