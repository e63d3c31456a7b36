"""The time that a process takes to start, its memory, and the disk space that it uses."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import processes
from bench.client import Client
from bench.measure import Row, Target, ratio, say
from bench.processes import Server, Start
from bench.setting import MIB, Setting, remove, sparse_file

_BARE = "a bare grpcio server"
_SAMPLED_EVERY = 0.002


def start(setting: Setting) -> Iterator[Row]:
    """Measure the time from start to first connection, and idle memory, against a bare server."""
    say(f"{setting.starts} starts")
    home = setting.directory("start")
    starts = _starts(home)
    seconds: dict[str, list[float]] = {name: [] for name in starts}
    for number in range(-1, setting.starts):
        for name, begin in starts.items():
            with begin(home / name.replace(" ", "-")) as server:
                if number >= 0:
                    seconds[name].append(server.seconds_to_accept)
    title, reason = "start to first connection", "the proxy loads its own modules, and sets every option of its server"
    yield ratio(title, ("ours", _BARE), seconds, Target(1.3, "x the time"), reason)
    reason = (
        "cryptography, Sealgate's own modules and those of the standard library, which the first call needs: see below"
    )
    for kind, title in (("Rss", "memory when idle"), ("Pss", "the same, shared pages in part (PSS)")):
        memory = _idle(setting, home, starts, kind)
        yield ratio(title, ("ours", _BARE), memory, Target(1.3, "x the memory"), reason, unit="MiB")
    remove(home)


def _starts(home: Path) -> dict[str, Start]:
    absent = home / "absent"
    return {_BARE: processes.bare, "ours": lambda place: processes.proxy(place, absent, home)}


def _idle(setting: Setting, home: Path, starts: dict[str, Start], kind: str) -> dict[str, list[float]]:
    memory: dict[str, list[float]] = {name: [] for name in starts}
    for _ in range(min(setting.runs, 5)):
        for name, begin in starts.items():
            with begin(home / name.replace(" ", "-")) as server:
                memory[name].append(server.settled_memory(kind))
    return memory


def large_calls(setting: Setting) -> Iterator[Row]:
    """Measure memory and disk space during one call with a large file."""
    say("memory and disk space during one call with a large file")
    home = setting.directory("large")
    plain, size = sparse_file(home / "plain", setting.large), setting.large
    memory: dict[str, list[float]] = {}
    with ExitStack() as stack:
        downstream = stack.enter_context(processes.backend(home / "backend"))
        sides = {
            transfer: stack.enter_context(processes.proxy(home / transfer, downstream.socket, home, transfer))
            for transfer in ("file", "auto")
        }
        for transfer, server in sides.items():
            room = _calls(server, home, transfer, plain, memory)
            saved = f"peak spool of a Save, spool.transfer: {transfer}"
            limit = Target(1.001, "x the file") if transfer == "file" else Target(0, "x the file")
            yield _room(saved, room["Save"], size, limit)
            loaded = f"peak disk of a Load, spool.transfer: {transfer}"
            yield _room(loaded, room["Load"], size, Target(1.1, "x the file"))
    remove(home)
    peak, call = max((max(values) - values[0], name) for name, values in memory.items())
    values = memory[call]
    title, reason = "peak memory of one call", f"in {call}"
    yield Row(title, "idle", Target(64, "MiB more"), values[1], values[0], "MiB", peak, reason, memory)


def _calls(
    server: Server, home: Path, transfer: str, plain: Path, memory: dict[str, list[float]]
) -> dict[str, list[float]]:
    loaded, key, spool = home / "loaded", "bench/large", home / transfer
    room: dict[str, list[float]] = {"Save": [], "Load": []}
    idle = server.settled_memory()
    with Client(server.socket) as ours:
        calls: dict[str, Callable[[], object]] = {
            "Save": lambda: ours.save(key, plain),
            "Load": lambda: ours.load(key, loaded),
            "OpenStream": lambda: ours.read_stream(key),
            "SaveStream": lambda: ours.save_stream(key, plain),
        }
        for operation, ask in calls.items():
            server.forget_peak()
            with _peak_room(spool, *([home] if operation == "Load" else []), but=plain) as taken:
                ask()
            memory[f"{operation}, spool.transfer: {transfer}"] = [idle, server.peak()]
            if operation in room:
                room[operation] = [max(taken)]
            remove(loaded)
        ours.delete(key)
    return room


@contextmanager
def _peak_room(spool: Path, *destinations: Path, but: Path) -> Iterator[Sequence[int]]:
    """Sample the bytes on disk of the spools beneath `spool` and of the files in `destinations`, except for `but`."""
    taken, ended = [0], threading.Event()

    def sample() -> None:
        while not ended.wait(_SAMPLED_EVERY):
            files = [path for path in spool.glob(".sealgate-spool-*/*/*") if path.name != "lock"]
            files += [path for place in destinations for path in place.iterdir() if path != but]
            taken.append(sum(_blocks(path) for path in files))

    watcher = threading.Thread(target=sample, daemon=True)
    watcher.start()
    try:
        yield taken
    finally:
        ended.set()
        watcher.join()


def _blocks(path: Path) -> int:
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return 0
    return facts.st_blocks * 512 if path.is_file() else 0


def _room(name: str, samples: list[float], size: int, target: Target) -> Row:
    taken = statistics.median(samples)
    reason = "at one moment more than the file was on disk"
    figure = round(taken / size, 4)
    return Row(name, "the file", target, taken / MIB, size / MIB, "MiB", figure, reason, {"ours": samples})
