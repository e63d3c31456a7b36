"""The memory and the time that each package adds to a starting server, in the order in which they are loaded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import median

from bench import processes
from bench.measure import Row, say
from bench.setting import Setting, remove

SERVERS = {"bare": "all of a bare grpcio server", "sealgate": "all of Sealgate"}
MEMORY, TIME = "memory", "time"
_MOST_RUNS = 5


def rows(setting: Setting) -> Iterator[Row]:
    """Measure each package in new processes. Each row compares it with its whole process, and has no target."""
    say("what each package adds to a start")
    home = setting.directory("packages")
    samples: dict[str, dict[tuple[str, str], list[tuple[float, float]]]] = {kind: defaultdict(list) for kind in SERVERS}
    for number in range(-1, min(setting.runs, _MOST_RUNS)):
        for kind in SERVERS:
            place = home / kind
            for phase, package, memory, seconds in processes.imports(place, kind):
                if number >= 0:
                    samples[kind][phase, package].append((memory / 1024, seconds * 1000))
            remove(place)
    for kind, server in SERVERS.items():
        for what, unit, which in ((MEMORY, "MiB", 0), (TIME, "ms", 1)):
            found = {key: [sample[which] for sample in each] for key, each in samples[kind].items()}
            whole = sum(median(values) for values in found.values())
            for (phase, package), values in found.items():
                yield _row(f"{what} of {package}, {phase}", server, values, whole, unit)
    remove(home)


def _row(name: str, server: str, values: list[float], whole: float, unit: str) -> Row:
    ours = median(values)
    return Row(name, server, None, ours, whole, unit, ours / whole, samples={"ours": values})
