"""Saves of a directory over an older one that SIGKILL ends, and what fresh proxies load afterwards.

The moment of each kill is chosen by progress: by how many stored objects the Save has added, replaced or removed.
"""

from __future__ import annotations

import itertools
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil
from harness import kill_midway
from harness.chain import SEALGATE, Proxy, eventually, write_keyring
from harness.content import blob, read_tree
from harness.kill_midway import count_changes, stored_files
from harness.outcome import Outcome, outcome

from sealgate.envelope import MANIFEST

BACKEND = [*SEALGATE, "backend"]
_LONGEST_DELAY = {"file": 0.0002, "stream": 0.01, "builtin": 0.0005}
"""Seconds between a change and a kill: as long as an object takes."""
_UNTIL_THE_FIRST = 0.1
"""Seconds from the beginning of a Save to the first change, roughly."""
_CHILDREN = 3
"""Children of one proxy that are killed."""
_AT_ONCE = 4
"""Points that are tried at the same time: each waits for processes to start most of the time."""


class Victim(StrEnum):
    """The process that is killed. The child of a killed proxy is killed as well, by its guardian."""

    PROXY = "proxy"
    CHILD = "child"


class State(StrEnum):
    """What a Load finds. Everything else fails the test."""

    OLD = "old"
    NEW = "new"
    DATA_LOSS = "DATA_LOSS"


@dataclass(frozen=True)
class Storage:
    """A store whose objects are the files beneath `objects`, and the bundled backend's environment for it."""

    environment: dict[str, str]
    objects: Path
    many: int
    """How many files the backend stores in a tenth of a second. It is stopped some milliseconds too late at times."""

    def files_of(self, key: str) -> dict[str, int]:
        """Return each stored object beneath `key` with its inode."""
        return stored_files(str(self.objects / key))

    def changes(self, key: str, before: dict[str, int]) -> int:
        """Return how many objects beneath `key` were added, replaced or removed since `before`."""
        return count_changes(before, self.files_of(key))


@dataclass(frozen=True)
class Point:
    """When to kill: `delay` seconds after `changes` objects have changed."""

    key: str
    transfer: str
    victim: Victim
    changes: int
    delay: float
    all_changes: int
    """How many objects a Save changes that is not killed."""


@dataclass(frozen=True)
class Kill:
    """What one kill did: how many objects have changed, how the Save ended, and what Loads find."""

    point: Point
    changes: int
    save: Outcome
    state: State

    @property
    def in_the_middle(self) -> bool:
        return 0 < self.changes < self.point.all_changes


def write_old_and_new(place: Path, files: int) -> dict[State, Path]:
    """Write two directories of `files` files each; one name in five differs."""
    old, new = place / "old", place / "new"
    for number in range(files):
        size = (number * 977) % 9000 if number else (1 << 20) + 5
        name = f"{number % 3}/deeper/{number}" if number % 4 else f"{number}"
        for tree, seed in ((old, 1), (new, 2)):
            named = name if number % 5 else f"{name}-{tree.name}"
            (tree / named).parent.mkdir(parents=True, exist_ok=True)
            (tree / named).write_bytes(blob(size, seed * files + number))
    (old / "empty in the old one").mkdir()
    (new / "empty/in/the new one").mkdir(parents=True)
    return {State.OLD: old, State.NEW: new}


class Range:
    """Where Saves are killed: a store, and an old and a new directory for each way in which ciphertext travels.

    `files` is how many files the directories have, by that way: `file`, `stream`, or `builtin`: by stream, in one
    process.
    """

    def __init__(self, home: Path, storage: Storage, files: Mapping[str, int]) -> None:
        self._home = home
        self._storage = storage
        self._homes = itertools.count()
        self.work = home / "work"
        self.work.mkdir()
        self._keyring = write_keyring(home / "keyring.json")
        self._trees = {transfer: write_old_and_new(self.work / transfer, files[transfer]) for transfer in files}
        self._contents = {
            transfer: {state: read_tree(tree) for state, tree in trees.items()}
            for transfer, trees in self._trees.items()
        }

    @contextmanager
    def proxy(self, transfer: str) -> Iterator[Proxy]:
        home = self._home / f"proxy-{next(self._homes)}"
        home.mkdir()
        is_builtin = transfer == "builtin"
        proxy = Proxy(
            home,
            downstream={"builtin": {}} if is_builtin else BACKEND,
            settings={
                "keys": {"provider": "local", "local": {"keyring": str(self._keyring)}},
                "paths": {"roots": [str(self.work)]},
                "spool": {"transfer": "stream" if is_builtin else transfer},
            },
            environment=self._storage.environment,
        )
        try:
            yield proxy.start()
        finally:
            proxy.stop()

    # --- the points ---------------------------------------------------------------------------------------

    def points(self, count: int, seed: int) -> list[Point]:
        """Save an old directory once for each point, and spread `count` points evenly over a Save of each kind."""
        chance = random.Random(seed)
        points: list[Point] = []
        with self.proxy("file") as proxy:
            argo = proxy.argo()
            for transfer, trees in self._trees.items():
                for number in range(count):
                    key = f"{transfer}/{number}"
                    argo.save(key, trees[State.OLD])
                    changes = self._changes_of(key, transfer)
                    place = (number + chance.random()) / count * (changes + 1)
                    victim = Victim.PROXY if number % 2 or transfer == "builtin" else Victim.CHILD
                    delay = chance.random() * (_LONGEST_DELAY[transfer] if int(place) else _UNTIL_THE_FIRST)
                    points.append(Point(key, transfer, victim, int(place), delay, changes))
        return points

    def _changes_of(self, key: str, transfer: str) -> int:
        """Return how many objects a Save of the new directory changes at `key` if nothing kills it."""
        new = {path for path, content in self._contents[transfer][State.NEW].items() if content is not None}
        replaced = {path.removeprefix(f"{self._storage.objects}/{key}/") for path in self._storage.files_of(key)}
        removed = replaced - new - {MANIFEST} if transfer == "file" else set()
        return len(new) + 1 + len(removed)

    # --- the kills ----------------------------------------------------------------------------------------

    def kill_all(self, points: Sequence[Point]) -> list[Kill]:
        """Kill a Save at each point, and then load every directory by fresh proxies, by file and by stream."""
        before = {point: self._storage.files_of(point.key) for point in points}
        saves: dict[Point, Outcome] = {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda those: saves.update(self._kill(those)), _for_one_proxy(points)))
            changes = [self._storage.changes(point.key, before[point]) for point in points]
            by_file, by_stream = pool.map(lambda transfer: self._states(transfer, points), ("file", "stream"))
        assert by_file == by_stream
        assert not [path for path in self.work.iterdir() if path.name.startswith(".sealgate-")]
        return [
            Kill(point, count, saves[point], state)
            for point, count, state in zip(points, changes, by_file, strict=True)
        ]

    def _kill(self, points: Sequence[Point]) -> dict[Point, Outcome]:
        saves: dict[Point, Outcome] = {}
        with self.proxy(points[0].transfer) as proxy:
            process = psutil.Process(proxy.process.pid)
            for point in points:
                proxy.argo().is_directory(point.key)  # waits until the child serves
                children = process.children(recursive=True)
                backend = process if point.transfer == "builtin" else _backend(children)
                saves[point] = self._save_until_killed(proxy, point, process, backend)
                assert eventually(lambda children=children: not any(map(_is_alive, children)))
            proxy.kill()
        return saves

    def _save_until_killed(
        self, proxy: Proxy, point: Point, process: psutil.Process, backend: psutil.Process
    ) -> Outcome:
        # The child is stopped when it is killed. When only the proxy is killed, its guardian kills the child some
        # milliseconds later, and a child that runs would store more objects. Here all processes end at once, as in a
        # container.
        victim = process if point.victim is Victim.PROXY else backend
        place = (str(self._storage.objects / point.key), str(point.changes), str(point.delay))
        with subprocess.Popen(
            [sys.executable, "-I", "-S", kill_midway.__file__, str(backend.pid), str(victim.pid), *place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as killer:
            killer.stdout.readline()  # the backend is stopped
            return outcome(lambda: proxy.argo().save(point.key, self._trees[point.transfer][State.NEW]))

    def _states(self, transfer: str, points: Sequence[Point]) -> list[State]:
        with self.proxy(transfer) as proxy:
            return [self._state(proxy, point) for point in points]

    def _state(self, proxy: Proxy, point: Point) -> State:
        target = self.work / f"{point.key.replace('/', '-')}-by-{proxy.settings['spool']['transfer']}"
        found = outcome(lambda: proxy.argo().load(point.key, target))
        if found.code == State.DATA_LOSS:
            assert not target.exists(), point
            return State.DATA_LOSS
        assert found == Outcome("OK"), (point, found)
        loaded = read_tree(target)
        shutil.rmtree(target)
        states = [state for state, content in self._contents[point.transfer].items() if content == loaded]
        assert states, f"a part or a mixture at {point}: {len(loaded)} paths"
        return states[0]

    def save_again(self, point: Point) -> None:
        """Do what the error of a lost directory advises, and load the directory."""
        target = self.work / "saved-again"
        with self.proxy(point.transfer) as proxy:
            proxy.argo().save(point.key, self._trees[point.transfer][State.NEW])
            proxy.argo().load(point.key, target)
        assert read_tree(target) == self._contents[point.transfer][State.NEW]


def _for_one_proxy(points: Sequence[Point]) -> list[list[Point]]:
    """Group points: a proxy outlives its child, but starts the next one later each time."""
    grouped = [[point] for point in points if point.victim is Victim.PROXY]
    for transfer in {point.transfer: None for point in points}:
        of_children = [point for point in points if point.victim is Victim.CHILD and point.transfer == transfer]
        grouped += [of_children[at : at + _CHILDREN] for at in range(0, len(of_children), _CHILDREN)]
    return grouped


def _backend(children: Sequence[psutil.Process]) -> psutil.Process:
    """Return the process of the bundled backend itself, without its guardian."""
    (found,) = [child for child in children if child.cmdline()[1:4] == BACKEND[1:]]
    return found


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def counted(kills: Sequence[Kill]) -> str:
    """Return a line with the number of kills in each state, and how many hit the middle of a Save."""
    states = Counter(kill.state for kill in kills)
    counts = ", ".join(f"{state} {states[state]}" for state in State)
    return f"{len(kills)} kills: {counts}; {sum(kill.in_the_middle for kill in kills)} in the middle of the Save"
