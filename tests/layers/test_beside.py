"""Small files of a directory by stream, several of which are on their way at once: how many, and which error counts."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest
from harness.layer_bench import ALLOW, denied
from harness.memory_plugin import MemoryPlugin
from harness.policy import document

from sealgate.envelope import MANIFEST
from sealgate.errors import DataLoss, DirectoryIncomplete, PluginError, Refused
from sealgate.layers.beside import MOST, SMALL, SmallTransfers
from sealgate.storage.stored_objects import Transfer

NAMES = [f"{number:03}" for number in range(3 * MOST)]
DEADLINE = 60
"""Seconds. More than any machine needs, and less than pytest waits."""


class Watching(MemoryPlugin):
    """Counts the streams that are open at once.

    The first streams stay open until `awaited` of them are. Those of the keys in `slow` end later than others. Uploads
    to the keys in `refused` are refused. An upload to a key in `after` begins once that of another key has ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self.awaited = 1
        self.open = self.most = 0
        self.slow: set[str] = set()
        self.refused: set[str] = set()
        self.after: dict[str, str] = {}
        self.began: list[str] = []
        self.ended: list[str] = []
        self.local = False
        self.threads: set[int] = set()

    def is_local(self):
        return self.local

    def save_stream(self, call, artifact, chunks):
        self._begin(artifact.key)
        try:
            if artifact.key in self.refused:
                raise Refused(f"no place for {artifact.key}")
            super().save_stream(call, artifact, chunks)
        finally:
            self._end(artifact.key)

    def open_stream(self, call, artifact):
        if not artifact.key.startswith("t/") or artifact.key.endswith(MANIFEST):
            yield from super().open_stream(call, artifact)
            return
        self._begin(artifact.key)
        try:
            yield from super().open_stream(call, artifact)
        finally:
            self._end(artifact.key)

    def _begin(self, key: str) -> None:
        with self._changed:
            self.open += 1
            self.most = max(self.most, self.open)
            self.began.append(key)
            self.threads.add(threading.get_ident())
            self._changed.notify_all()
            if key in self.after:
                assert self._changed.wait_for(lambda: self.after[key] in self.ended, DEADLINE)
            if not key.endswith(MANIFEST):
                assert self._changed.wait_for(lambda: self.most >= self.awaited, DEADLINE)
        if key in self.slow:
            time.sleep(0.05)

    def _end(self, key: str) -> None:
        with self._changed:
            self.open -= 1
            self.ended.append(key)
            self._changed.notify_all()


@pytest.fixture
def bench(make):
    made = make(transfer=Transfer.STREAM, below=Watching())
    for name in NAMES:
        made.file(name.encode(), f"tree/{name}")
    return made


def test_a_save_has_as_many_files_on_their_way_as_there_are_places(bench):
    bench.below.awaited = MOST
    bench.save("t", bench.work / "tree")
    assert bench.below.most == MOST
    assert len(bench.below.objects) == len(NAMES) + 1


def test_the_manifest_is_stored_after_all_files(bench):
    bench.below.slow = {"t/000", f"t/{NAMES[-1]}"}
    bench.save("t", bench.work / "tree")
    assert bench.below.ended[-1] == f"t/{MANIFEST}"


def test_a_load_has_as_many_files_on_their_way_as_there_are_places(bench):
    bench.save("t", bench.work / "tree")
    bench.below.most, bench.below.awaited = 0, MOST
    loaded = bench.load("t")
    assert bench.below.most == MOST
    assert {path.name: path.read_bytes() for path in loaded.iterdir()} == {name: name.encode() for name in NAMES}


@pytest.mark.parametrize("operation", ["save", "load"])
def test_two_calls_share_the_places_and_each_has_one_of_its_own(bench, operation):
    if operation == "load":
        bench.save("t/0", bench.work / "tree")
        bench.save("t/1", bench.work / "tree")
    bench.below.most = 0
    failures = []

    def run(number: int) -> None:
        try:
            if operation == "save":
                bench.save(f"t/{number}", bench.work / "tree")
            else:
                bench.load(f"t/{number}", f"loaded-{number}")
        except PluginError as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert bench.below.most <= MOST + len(threads)


def test_a_large_file_is_stored_by_the_call_itself(bench):
    bench.file(bytes(SMALL), "tree/001")
    bench.save("t", bench.work / "tree")
    loaded = bench.load("t")
    assert (loaded / "001").read_bytes() == bytes(SMALL)
    assert len([*loaded.iterdir()]) == len(NAMES)


@pytest.mark.parametrize("_", range(5))
def test_the_error_of_a_save_is_that_of_the_first_file_in_order(bench, _):
    bench.below.awaited = 8
    bench.below.slow, bench.below.refused = {"t/003"}, {"t/003", "t/005", "t/006"}
    with pytest.raises(Refused, match="no place for t/003"):
        bench.save("t", bench.work / "tree")
    assert bench.below.open == 0, "an upload went on after the call had ended"
    assert f"t/{MANIFEST}" not in bench.below.objects


@pytest.mark.parametrize("refused", ["t/000", "t/001"])
def test_nothing_begins_once_a_small_file_is_refused(make, refused):
    bench = make(transfer=Transfer.STREAM, below=Watching())
    for number in range(20):
        bench.file(b"small" if number < 2 else bytes(SMALL), f"tree/{number:03}")
    bench.below.refused, bench.below.after = {refused}, {"t/002": refused}
    bench.below.slow = {f"t/{number:03}" for number in range(2, 20)}
    with pytest.raises(Refused, match=f"no place for {refused}"):
        bench.save("t", bench.work / "tree")
    assert len(bench.below.began) < 10, "large files were stored after the refusal"


def test_what_is_done_gives_its_place_back_while_a_large_file_is_stored():
    places, own = SmallTransfers(2), threading.get_ident()

    def has_free_place():
        ((_, future),) = places.in_order(lambda _: threading.get_ident(), iter(["another call's"]), is_local=False)
        return future.result() != own

    def items():
        yield from ("small", "small")
        assert not has_free_place()
        until = time.monotonic() + DEADLINE
        while not has_free_place():
            assert time.monotonic() < until
            yield None  # a large file was stored

    assert len(list(places.in_order(lambda item: item, items(), is_local=False))) == 2


def test_a_call_moves_the_files_of_a_local_store_itself(bench):
    bench.below.local = True
    bench.save("t", bench.work / "tree")
    loaded = bench.load("t")
    assert {path.name: path.read_bytes() for path in loaded.iterdir()} == {name: name.encode() for name in NAMES}
    assert (bench.below.most, bench.below.threads) == (1, {threading.get_ident()})


def test_a_local_directory_is_worked_on_in_the_thread_of_the_call():
    outcomes = SmallTransfers().in_order(lambda _: threading.get_ident(), iter(NAMES), is_local=True)
    assert [(name, outcome.result()) for name, outcome in outcomes] == [(name, threading.get_ident()) for name in NAMES]


def test_a_local_directory_that_has_to_be_waited_for_is_worked_on_by_threads():
    now = most = 0
    changed = threading.Condition()

    def move(name):
        nonlocal now, most
        time.sleep(0.01)
        if name < "010":  # by then it is clear
            return name
        with changed:
            now += 1
            most = max(most, now)
            changed.notify_all()
            assert changed.wait_for(lambda: most == MOST, DEADLINE)
            now -= 1
        return name

    outcomes = SmallTransfers().in_order(move, iter(NAMES), is_local=True)
    assert [(name, outcome.result()) for name, outcome in outcomes] == [(name, name) for name in NAMES]
    assert most == MOST


@pytest.mark.parametrize("is_local", [False, True])
def test_an_error_is_raised_by_the_outcome_and_those_before_it_have_come(is_local):
    def move(name):
        if name == "003":
            raise Refused("no place")
        return name

    with closing(SmallTransfers().in_order(move, iter(NAMES), is_local=is_local)) as outcomes:
        assert [next(outcomes)[1].result() for _ in range(3)] == ["000", "001", "002"]
        _, outcome = next(outcomes)
        with pytest.raises(Refused):
            outcome.result()


@pytest.mark.parametrize("_", range(5))
def test_the_error_of_a_load_is_that_of_the_first_file_in_order(bench, _):
    bench.save("t", bench.work / "tree")
    for name in ("003", "005", "006"):
        del bench.below.objects[f"t/{name}"]
    bench.below.slow = {"t/003"}
    with pytest.raises(DirectoryIncomplete, match='"003" in the directory is missing'):
        bench.load("t")
    assert bench.below.open == 0, "a stream was open after the call had ended"
    assert not (bench.work / "loaded").exists()


def test_a_file_that_a_policy_refuses_midway_undoes_those_that_are_on_their_way(make):
    limits = {"maxBytes": "1MiB"}
    bench = make(document([{**ALLOW, "limits": limits}]), transfer=Transfer.STREAM, below=Watching())
    for name in NAMES[:8]:
        path = bench.file(b"plain", f"tree/{name}")
    bench.below.slow = {f"t/{name}" for name in NAMES[:4]}
    grows = path.open("ab")
    survey = bench.below.list_objects

    def list_and_grow(call, artifact):  # the survey of the Save is over by then
        grows.truncate(2 << 20)
        return survey(call, artifact)

    bench.below.list_objects = list_and_grow
    denied(lambda: bench.save("t", bench.work / "tree"), "LIMIT_BYTES")
    assert bench.below.objects == {}


def test_an_object_that_is_larger_than_its_manifest_says_is_read_by_the_call_itself(bench):
    bench.save("t", bench.work / "tree")
    bench.below.objects["t/003"] += bytes(4 * SMALL)
    bench.below.artifacts.clear()
    with pytest.raises(DataLoss):
        bench.load("t")
    assert [artifact.key for artifact in bench.below.artifacts].count("t/003") == 2
    assert not (bench.work / "loaded").exists()
