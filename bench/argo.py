"""Sealgate on an S3 store, against Argo's own S3 driver on the same store, which seals nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from bench import processes
from bench.client import Client
from bench.measure import Row, Side, Target, ratio, say, take_turns
from bench.peers import Absent
from bench.setting import MIB, ROOT, Setting, random_file, remove, tree

sys.path.append(str(ROOT / "tests"))  # its harness builds programs and starts S3 servers

_ARGO, _ENCRYPTING = "Argo's S3 driver", "Argo's S3 driver, SSE-S3"
"""The second asks the store to encrypt. versitygw takes that request, and stores the object as it is."""
_SIZES = (1, 100)
"""MiB. The third size is that of the bench's file."""
ON_S3 = " on S3"
"""It is in the name of each row, before the link."""
LINKS = (("", "0ms", 0), (" at 20 ms", "20ms", 0), (" at 200 MB/s", "0ms", 200_000_000))
"""Each link as rows name it, its latency, and its rate in bytes a second; 0 for no limit."""
_FEWER, _FEWER_WITH_LATENCY = 5, 25
"""A directory has this part of the files of the bench's, because the driver moves one after the other."""
_MOST_RUNS = 3
_MORE_RUNS = 5
"""A file of 1 MiB, which takes a few milliseconds, is measured so many times as often."""
_BY_STREAM, _BY_FILE = "ours, by stream", "ours, by file"
_WAYS = {"ours": "auto", _BY_STREAM: "stream", _BY_FILE: "file"}
"""The sides that are Sealgate and another process, with the `spool.transfer` of each. `auto` moves files by stream, and
directories by file, so each is measured beside the way that it does not take."""
_STREAM_TARGETS = {True: Target(1.2, "x the time"), False: Target(1.3, "x the time")}
"""What a directory (True) and 1 MiB may take by stream, against the same by file."""
_TARGET = Target(1.1, "x the time")
_BUILTIN = "ours, builtin"
_OTHERS = "Argo's driver runs in the process that calls it; here the bytes are sealed, and pass"
_REASON, _REASONS = f"{_OTHERS} two more processes", {_BUILTIN: f"{_OTHERS} another process"}
_STREAM_REASON = "each file is a request of its own, and each byte passes another message"


class _Driver(AbstractContextManager["_Driver"]):
    """A process with Argo's driver."""

    def __init__(self, program: Path, endpoint: str, bucket: str, encryption: str = "none") -> None:
        from harness.s3 import ACCESS, SECRET  # noqa: PLC0415 - it needs the development lock

        self._process = subprocess.Popen(
            [program, endpoint.removeprefix("http://"), bucket, encryption],
            env={"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def save(self, key: str, path: Path) -> None:
        self._ask("save", key, str(path))

    def load(self, key: str, path: Path) -> None:
        self._ask("load", key, str(path))

    def _ask(self, *words: str) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        if error := self._process.stdout.readline().strip():
            raise RuntimeError(error)


def rows(setting: Setting) -> Iterator[Row]:
    """Measure Save and Load on an S3 store: files and a directory, over links of different latency and rate."""
    say("building Argo's S3 driver, if it is not built yet" if setting.install else "looking for Argo's S3 driver")
    try:
        driver, link = _program("argo", setting), _program("link", setting)
    except Absent as reason:
        yield Row(f"Save of a file{ON_S3}", _ARGO, _TARGET, reason=str(reason))
        return
    from harness.s3 import versitygw_at  # noqa: PLC0415 - it needs the development lock

    home = setting.directory("argo")
    (home / "store").mkdir()
    with versitygw_at(home / "store") as store:
        for how, latency, rate in LINKS:
            with ExitStack() as stack:
                endpoint = stack.enter_context(_Link(link, store.endpoint, latency, rate)).endpoint
                place = home / f"link{latency}{rate}"
                place.mkdir()
                sides = _sides(stack, place, driver, store, endpoint)
                if how:
                    del sides[_ENCRYPTING]  # the request alone, which is the same on each link
                yield from _compared(setting, place, sides, how)
            remove(place)
    remove(home)


def _program(name: str, setting: Setting) -> Path:
    from harness.golang import for_bench  # noqa: PLC0415 - it needs the development lock

    if shutil.which("go") is None:
        raise Absent("Go, which builds it, is not on this machine")
    if (program := for_bench(name, build=setting.install)) is None:
        raise Absent(f"{_ARGO} is not on this machine")
    return program


class _Link(AbstractContextManager["_Link"]):
    """A relay to the store that adds latency and limits the rate."""

    def __init__(self, program: Path, target: str, latency: str, rate: int) -> None:
        words = [program, target.removeprefix("http://"), latency, str(rate)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.endpoint = f"http://{self._process.stdout.readline().strip()}"

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def _sides(stack: ExitStack, place: Path, driver: Path, store: Any, endpoint: str) -> dict[str, Any]:
    """Start each side with a bucket of its own; return what saves and loads, by name, Argo's driver first."""
    sides: dict[str, Any] = {}
    for name, encryption in ((_ARGO, "none"), (_ENCRYPTING, "sse-s3")):
        sides[name] = stack.enter_context(_Driver(driver, endpoint, store.new_bucket(), encryption))
    options = store.config(endpoint=endpoint)
    backend = stack.enter_context(processes.s3_backend(place / "backend", f"s3://{store.new_bucket()}", options))
    sides["backend alone"] = stack.enter_context(Client(backend.socket))
    for name, transfer in _WAYS.items():
        server = stack.enter_context(processes.proxy(place / transfer, backend.socket, place, transfer))
        sides[name] = stack.enter_context(Client(server.socket))
    one = stack.enter_context(processes.s3_builtin(place / "builtin", f"s3://{store.new_bucket()}", options, place))
    sides[_BUILTIN] = stack.enter_context(Client(one.socket))
    return sides


def _compared(setting: Setting, place: Path, sides: dict[str, Any], how: str) -> Iterator[Row]:
    for mib in sorted({min(size, setting.size // MIB) for size in (*_SIZES, setting.size // MIB)}):
        plain = random_file(place / "plain", mib * MIB)
        compared = {name: side for name, side in sides.items() if name != _BY_STREAM}
        yield from _saved_and_loaded(setting, place, plain, compared, f"a file of {mib} MiB{ON_S3}{how}")
        remove(plain)
    files = max(1, setting.files // (_FEWER_WITH_LATENCY if "ms" in how else _FEWER))
    plain = tree(place / "plain", files, 4096)
    compared = {name: side for name, side in sides.items() if name != _BY_FILE}
    yield from _saved_and_loaded(setting, place, plain, compared, f"{files} files of 4 KiB{ON_S3}{how}")
    remove(plain)


def _saved_and_loaded(setting: Setting, place: Path, plain: Path, sides: dict[str, Any], what: str) -> Iterator[Row]:
    loaded = place / "loaded"
    for operation in ("Save", "Load"):
        say(f"{operation} of {what}")
        acts = {name: Side(*_acts(operation, side, name, plain, loaded)) for name, side in sides.items()}
        is_small = plain.is_file() and plain.stat().st_size == _SIZES[0] * MIB
        runs = min(setting.runs, _MOST_RUNS) * (_MORE_RUNS if is_small else 1)
        # What takes seconds needs no round to warm up.
        seconds = take_turns(runs, acts, warm=is_small, ready=setting.touch_memory)
        for name in (name for name in acts if name.startswith("ours")):
            title = f"{operation} of {what}{name.removeprefix('ours')}"
            yield ratio(title, (name, _ARGO), seconds, _TARGET, _REASONS.get(name, _REASON))
            if _ENCRYPTING in seconds:
                yield ratio(title, (name, _ENCRYPTING), seconds, None)
        if plain.is_dir() or (is_small and operation == "Save"):
            by_stream, by_file = (_BY_STREAM, "ours") if plain.is_dir() else ("ours", _BY_FILE)
            both = {_BY_STREAM: seconds[by_stream], _BY_FILE: seconds[by_file]}
            target = _STREAM_TARGETS[plain.is_dir()]
            yield ratio(f"{operation} of {what}, by stream", (_BY_STREAM, _BY_FILE), both, target, _STREAM_REASON)
        yield ratio(f"{operation} of {what}, backend alone", ("backend alone", _ARGO), seconds, None)


def _acts(
    operation: str, side: Any, name: str, plain: Path, loaded: Path
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return what is timed and what restores the state. A Save replaces what the run before has stored."""
    what = plain.stat().st_size if plain.is_file() else "tree"
    key = f"bench/{what}{name.replace(', ', '-').replace(' ', '-')}"
    if operation == "Save":
        return lambda: side.save(key, plain), lambda: None
    return lambda: side.load(key, loaded), lambda: remove(loaded)
