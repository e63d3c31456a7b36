"""The cost of the audit trail and of traces, each against the same proxy without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from bench import processes
from bench.client import Client, median_seconds
from bench.measure import Row, Side, ratio, say, take_turns
from bench.setting import Setting, random_file, remove

_NOTHING, _TRAIL, _FILE, _TRACES = (
    "no trail",
    "a trail on standard output",
    "a trail in a file",
    "a trail and traces",
)


def rows(setting: Setting) -> Iterator[Row]:
    """Measure two small calls, and Save and Load of a file, with and without a trail and traces."""
    home = setting.directory("observability")
    with ExitStack() as stack:
        downstream = stack.enter_context(processes.backend(home / "backend"))
        alone = stack.enter_context(Client(downstream.socket))
        collector = stack.enter_context(processes.collector(home / "collector"))
        clients = {}
        for name, server in {
            _NOTHING: processes.silent_proxy(home / "silent", downstream.socket, home),
            _TRAIL: processes.proxy(home / "trail", downstream.socket, home),
            _FILE: processes.proxy(home / "file", downstream.socket, home, trail=home / "audit.jsonl"),
            _TRACES: processes.proxy(home / "traces", downstream.socket, home, collector=collector.socket),
        }.items():
            clients[name] = stack.enter_context(Client(stack.enter_context(server).socket))
        yield from _small_calls(setting, home, alone, clients)
        yield from _large_calls(setting, home, alone, clients)
    remove(home)


def _small_calls(setting: Setting, home: Path, alone: Client, clients: dict[str, Client]) -> Iterator[Row]:
    alone.save("bench/one/file", random_file(home / "one", 4096))
    calls: dict[str, Callable[[Client], object]] = {
        "IsDirectory": lambda client: client.is_directory("bench/one"),
        "Delete of a missing artifact": lambda client: client.delete("bench/absent"),
    }
    """IsDirectory leaves one record, and Delete, which has effects, two."""
    for operation, ask in calls.items():
        say(f"{operation} with a trail and traces, {setting.calls} calls at a time")
        seconds: dict[str, list[float]] = {name: [] for name in clients}
        for number in range(-1, setting.runs):
            for name, client in clients.items():
                middle = median_seconds(setting.calls, lambda client=client, ask=ask: ask(client))
                if number >= 0:
                    seconds[name].append(middle * 1000)
        yield from _compared(operation, seconds, unit="ms")


def _large_calls(setting: Setting, home: Path, alone: Client, clients: dict[str, Client]) -> Iterator[Row]:
    plain, loaded = random_file(home / "plain", setting.size), home / "loaded"
    for operation in ("Save", "Load"):
        say(f"{operation} of a file with a trail and traces")
        sides = {}
        for name, client in clients.items():
            key = f"bench/{len(sides)}"
            if operation == "Save":
                sides[name] = Side(
                    lambda client=client, key=key: client.save(key, plain), lambda key=key: alone.delete(key)
                )
            else:
                client.save(key, plain)
                sides[name] = Side(lambda client=client, key=key: client.load(key, loaded), lambda: remove(loaded))
        seconds = take_turns(setting.runs, sides, ready=setting.touch_memory)
        yield from _compared(f"{operation} of a file", seconds)
    for number in range(len(clients)):
        alone.delete(f"bench/{number}")


def _compared(what: str, seconds: Mapping[str, list[float]], unit: str = "s") -> Iterator[Row]:
    """Compare each proxy with the one without a trail, and traces with the trail alone."""
    for name, other in ((_TRAIL, _NOTHING), (_FILE, _NOTHING), (_TRACES, _NOTHING), (_TRACES, _TRAIL)):
        yield ratio(f"{what}, {name}", (name, other), seconds, None, unit=unit)
