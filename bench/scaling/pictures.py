"""The plots of docs/scaling.md."""

from __future__ import annotations

from dataclasses import replace

from bench.scaling.key_service import REQUESTS_OF_A_CLIENT
from bench.scaling.measured import Measured
from bench.scaling.model import (
    Cost,
    Limits,
    Load,
    Pod,
    cost_of_pod,
    demands,
    first_to_break,
    processor_time,
    seconds_of_burst,
)
from bench.scaling.plots import Axis, Line, Mark, drawn
from bench.scaling.service import LONGEST_WAIT

_PODS = [10.0**power for power in (3, 4, 5, 6, 7)]
_ARTIFACTS = (1, 2, 4, 8, 16, 32, 64)


def pictures(measured: Measured) -> dict[str, str]:
    """Return each picture by the name of its file."""
    return {
        "shares.svg": _shares(measured),
        "artifacts.svg": _artifacts(measured),
        "bursts.svg": _bursts(measured),
    }


def _shares(measured: Measured) -> str:
    limits = Limits()
    at = {pods: demands(Load(pods), measured.costs, measured.milliseconds, limits) for pods in _PODS}
    names = [demand.name for demand in first_to_break(at[_PODS[0]])]
    shares = {
        name: [
            (pods, 100 * demand.share) for pods in _PODS for demand in at[pods] if demand.name == name and demand.share
        ]
        for name in names
    }
    return drawn(
        "What breaks first",
        Axis("pods an hour", _PODS[0], _PODS[-1]),
        Axis("part of the limit", 0.01, 100_000, unit=" %"),
        [Line(name, points) for name, points in shares.items()],
        [Mark(100, "the limit")],
    )


def _artifacts(measured: Measured) -> str:
    ways = {
        "two processes, signed trail": (2, True),
        "one process, signed trail": (1, True),
        "one process, no signature": (1, False),
    }
    lines = []
    for name, (processes, is_signed) in ways.items():
        points = []
        for artifacts in _ARTIFACTS:
            pod = Pod(loads=artifacts // 2, saves=artifacts - artifacts // 2, processes=processes)
            cost = cost_of_pod(measured.costs, pod)
            cost = cost if is_signed else replace(cost, signatures=0)
            points.append((float(artifacts), 60 * Limits().processors / processor_time(cost, measured.milliseconds)))
        lines.append(Line(name, points))
    return drawn(
        "Pods that two processors of the key service carry",
        Axis("artifacts a pod", _ARTIFACTS[0], _ARTIFACTS[-1], ticks=_ARTIFACTS),
        Axis("pods a minute", 1000, 100_000),
        lines,
    )


def _bursts(measured: Measured) -> str:
    client = Cost(logins=1, signatures=1, data_keys=1)
    assert client.keys == REQUESTS_OF_A_CLIENT
    counts = (10.0, 100.0, 1000.0, 10_000.0)
    least = [
        (count, seconds_of_burst(count, client, measured.milliseconds, measured.machine.processors)) for count in counts
    ]
    seen = [(float(each.clients), each.seconds) for each in measured.bursts]
    return drawn(
        "Processes that start at the same moment",
        Axis("processes: each logs in, signs and makes a data key", counts[0], counts[-1]),
        Axis("seconds until the last one is done", 0.01, 100),
        [Line("measured, with the clients on it", seen, dots=True), Line("the key service's processor time", least)],
        [Mark(LONGEST_WAIT, "a third of keys.vault.timeout")],
    )
