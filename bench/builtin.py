"""The bundled backend in Sealgate's own process, against that backend alone and against two processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench import processes
from bench.client import Client
from bench.measure import Row, Side, Target, medians, ratio, say, take_turns
from bench.processes import Server
from bench.setting import Setting, random_file, remove, tree

_ALONE, _TWO, _ONE = "backend alone", "two processes", "ours"
ONE_PROCESS = ", one process"
"""Ends the name of each row."""
_REASON = "to seal or to open takes processor time, of which client and store leave little on two processors in memory"
_SLOW_REASON = "client, layers and store share the processors"


def rows(setting: Setting) -> Iterator[Row]:
    """Measure memory when idle, and Save and Load of a file and of a directory."""
    home = setting.directory("builtin")
    with ExitStack() as stack:
        backend = stack.enter_context(processes.backend(home / "backend"))
        two = stack.enter_context(processes.proxy(home / "two", backend.socket, home))
        one = stack.enter_context(processes.builtin(home / "one", home / "backend", home))
        servers = {_ALONE: backend, _TWO: two, _ONE: one}
        clients = {name: stack.enter_context(Client(server.socket)) for name, server in servers.items()}
        yield _memory(setting, servers, clients)
        plain, loaded = random_file(home / "plain", setting.size), home / "loaded"
        target = Target(1.15, "x the time")
        yield from _compared(setting, clients, plain, loaded, "a file", (target, _REASON))
        remove(plain)
        files = tree(home / "tree", setting.files, 4096)
        yield from _compared(setting, clients, files, loaded, "a directory", (None, ""))
        yield from _slow(setting, home)
    remove(home)


def _memory(setting: Setting, servers: Mapping[str, Server], clients: Mapping[str, Client]) -> Row:
    """Compare the memory of one process with that of two, each after a first call."""
    say("memory of one process")
    for client in clients.values():
        client.is_directory("bench")
    samples: dict[str, list[float]] = {_TWO: [], _ONE: []}
    for _ in range(setting.runs):
        samples[_TWO].append(servers[_TWO].settled_memory() + servers[_ALONE].settled_memory())
        samples[_ONE].append(servers[_ONE].settled_memory())
    middle = medians(samples)
    target, reason = Target(75, "MiB"), "see the memory of an idle Sealgate"
    return Row(f"memory{ONE_PROCESS}", _TWO, target, middle[_ONE], middle[_TWO], "MiB", middle[_ONE], reason, samples)


def _compared(
    setting: Setting,
    clients: Mapping[str, Client],
    plain: Path,
    loaded: Path,
    what: str,
    goal: tuple[Target | None, str],
) -> Iterator[Row]:
    """Compare Save and Load of `plain` with each of the other sides."""
    for operation in ("Save", "Load"):
        title = f"{operation} of {what}{ONE_PROCESS}"
        say(title)
        sides = {}
        for name, client in clients.items():
            key = f"bench/{plain.name}-{name.replace(' ', '-')}"
            if operation == "Save":
                sides[name] = Side(partial(client.save, key, plain), partial(client.delete, key))
            else:
                client.save(key, plain)
                sides[name] = Side(partial(client.load, key, loaded), partial(remove, loaded))
        in_memory = setting.touch_memory if plain.is_file() else int
        seconds = take_turns(setting.runs, sides, ready=in_memory)
        yield ratio(title, (_ONE, _ALONE), seconds, *goal)
        if _TWO in clients:
            yield ratio(title, (_ONE, _TWO), seconds, None)


def _slow(setting: Setting, home: Path) -> Iterator[Row]:
    """Compare Save and Load of a file with a storage that is limited to `setting.slow` bytes a second."""
    plain = random_file(home / "plain", setting.size)
    with (
        processes.slow_backend(home / "slow", setting.slow) as backend,
        processes.builtin(home / "slow-one", home / "slow", home, setting.slow) as one,
        Client(backend.socket) as alone,
        Client(one.socket) as ours,
    ):
        what, target = f"a file at {setting.slow // 1_000_000} MB/s", Target(1.03, "x the time")
        yield from _compared(setting, {_ALONE: alone, _ONE: ours}, plain, home / "loaded", what, (target, _SLOW_REASON))
