"""Operations through the proxy and the bundled backend, against that backend alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import processes
from bench.client import Client, median_seconds
from bench.decisions import policy_for
from bench.measure import Row, Side, Target, ratio, say, take_turns
from bench.peers import command
from bench.setting import Setting, random_file, remove, tree

_WAYS = {"ours": "auto", "ours, by file": "file"}
"""The sides that are Sealgate, with the `spool.transfer` of each. `auto` moves a file by stream."""
_REASONS = {
    "ours": "each byte passes a second socket, on processors that client, proxy and backend share",
    "ours, by file": "sealing and storing, or storing and opening, follow each other, and each byte is written twice",
}


def save_and_load(setting: Setting) -> Iterator[Row]:
    """Measure Save, Load and OpenStream of one file with storage as fast as memory."""
    home = setting.directory("chain")
    with ExitStack() as stack:
        downstream = stack.enter_context(processes.backend(home / "backend"))
        alone = stack.enter_context(Client(downstream.socket))
        ours = _each_way(stack, home, downstream)
        yield from _compared(setting, home, alone, ours, Target(1.6, "x the time"), "")
        yield from _streams(setting, home, downstream, ours["ours"])
    remove(home)


def slow_storage(setting: Setting) -> Iterator[Row]:
    """Measure Save and Load of one file with storage that is limited to `setting.slow` bytes a second."""
    home = setting.directory("slow")
    with ExitStack() as stack:
        downstream = stack.enter_context(processes.slow_backend(home / "backend", setting.slow))
        alone = stack.enter_context(Client(downstream.socket))
        ours = _each_way(stack, home, downstream)
        rate = f" at {setting.slow // 1_000_000} MB/s"
        yield from _compared(setting, home, alone, ours, Target(1.05, "x the time"), rate)
    remove(home)


def _each_way(stack: ExitStack, home: Path, downstream: processes.Server) -> dict[str, Client]:
    """Start a proxy for each way; return their clients by the name of the side."""
    ours = {}
    for name, transfer in _WAYS.items():
        server = stack.enter_context(processes.proxy(home / transfer, downstream.socket, home, transfer))
        ours[name] = stack.enter_context(Client(server.socket))
    return ours


def _compared(
    setting: Setting, home: Path, alone: Client, ours: dict[str, Client], target: Target, how: str
) -> Iterator[Row]:
    plain, loaded, peer = random_file(home / "plain", setting.size), home / "loaded", f"backend alone{how}"
    for operation in ("Save", "Load"):
        say(f"{operation} of a file{how}")
        sides = {}
        for name, client in {peer: alone, **ours}.items():
            key = f"bench/{name}"
            if operation == "Save":
                sides[name] = Side(*_saving(client, alone, key, plain))
            else:
                client.save(key, plain)
                sides[name] = Side(*_loading(client, key, loaded))
        seconds = take_turns(setting.runs, sides, warm=not how, ready=setting.touch_memory)
        for name in ours:
            title = f"{operation} of a file{how}{name.removeprefix('ours')}"
            yield ratio(title, (name, peer), seconds, target, _REASONS[name])
    for key in (peer, *ours):
        alone.delete(f"bench/{key}")
    remove(plain)


def _saving(client: Client, alone: Client, key: str, path: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    return lambda: client.save(key, path), lambda: alone.delete(key)


def _loading(client: Client, key: str, path: Path) -> tuple[Callable[[], None], Callable[[], None]]:
    return lambda: client.load(key, path), lambda: remove(path)


def _streams(setting: Setting, home: Path, downstream: processes.Server, ours: Client) -> Iterator[Row]:
    say("OpenStream of a file")
    plain, key, peer = random_file(home / "plain", setting.size), "bench/stream", "a relay of the same frames"
    ours.save(key, plain)
    remove(plain)
    with (
        processes.relay(home / "relay", downstream.socket) as server,
        Client(server.socket) as relayed,
    ):
        # Both move the stored bytes, and the proxy also decrypts them.
        sides = {peer: Side(lambda: relayed.read_stream(key)), "ours": Side(lambda: ours.read_stream(key))}
        seconds = take_turns(setting.runs, sides)
    ours.delete(key)
    reason = "every frame is copied once more and opened, and client, proxy and backend share the processors"
    yield ratio(
        "OpenStream of a file", ("ours", peer), seconds, Target(0.9, "x the rate", at_least=True), reason, speed=True
    )


def directory(setting: Setting) -> Iterator[Row]:
    """Measure Save of a directory of many small files, with and without policies."""
    say(f"Save of a directory of {setting.files} files")
    home = setting.directory("tree")
    plain, copied, key = tree(home / "plain", setting.files, 4096), home / "copied", "bench/tree"
    with (
        processes.backend(home / "backend") as downstream,
        Client(downstream.socket) as alone,
        processes.proxy(home / "proxy", downstream.socket, home) as server,
        Client(server.socket) as ours,
        processes.proxy(home / "ruled", downstream.socket, home, policy=policy_for("bench", 20)) as governed,
        Client(governed.socket) as ruled,
    ):
        sides = {
            "cp -r": Side(lambda: command("cp", "-r", plain, copied), lambda: remove(copied)),
            "ours": Side(*_saving(ours, alone, key, plain)),
            "ours, 20 rules": Side(*_saving(ruled, alone, f"{key}-ruled", plain)),
            "backend alone": Side(*_saving(alone, alone, f"{key}-alone", plain)),
        }
        seconds = take_turns(setting.runs, sides)
    remove(home)
    title, reason = "Save of a directory", "each file is created twice: in the spool, and by the backend"
    yield ratio(title, ("ours", "cp -r"), seconds, Target(5, "x the time"), reason)
    for name in ("ours", "ours, 20 rules"):
        how = name.removeprefix("ours")
        yield ratio(f"{title}{how}", (name, "backend alone"), seconds, Target(1.6, "x the time"), reason)
    yield ratio(f"{title}, backend alone", ("backend alone", "cp -r"), seconds, None)


def small_calls(setting: Setting) -> Iterator[Row]:
    """Measure the time that the proxy adds to operations that move no data."""
    home = setting.directory("calls")
    one = random_file(home / "one", 4096)
    target = Target(1.2, "ms more")
    with (
        processes.backend(home / "backend") as downstream,
        Client(downstream.socket) as alone,
        processes.proxy(home / "proxy", downstream.socket, home) as server,
        Client(server.socket) as ours,
    ):
        alone.save("bench/one/file", one)
        for operation in ("Delete", "IsDirectory", "ListObjects"):
            say(f"{operation}, {setting.calls} calls at a time")
            seconds: dict[str, list[float]] = {"backend alone": [], "ours": []}
            for number in range(-1, setting.runs):
                for name, client in {"backend alone": alone, "ours": ours}.items():
                    middle = _median_of(operation, client, alone, one, setting.calls)
                    if number >= 0:
                        seconds[name].append(middle * 1000)
            yield _more(operation, seconds, target)
    remove(home)


def _median_of(operation: str, client: Client, alone: Client, one: Path, calls: int) -> float:
    if operation == "IsDirectory":
        return median_seconds(calls, lambda: client.is_directory("bench/one"))
    if operation == "ListObjects":
        return median_seconds(calls, lambda: client.list_objects("bench/one"))
    keys = [f"bench/delete/{number}" for number in range(calls)]
    for key in keys:
        alone.save(key, one)
    left = iter(keys)
    return median_seconds(calls, lambda: client.delete(next(left)))


def _more(operation: str, samples: dict[str, list[float]], target: Target) -> Row:
    theirs, ours = (sorted(values)[len(values) // 2] for values in samples.values())
    reason = "a second call on a second socket, in an interpreter on a busy machine"
    return Row(operation, "backend alone", target, ours, theirs, "ms", ours - theirs, reason, samples)
