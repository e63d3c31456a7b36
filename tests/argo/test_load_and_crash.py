"""Many calls at once, very many calls, and ends of the process in the middle of them."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import grpc
import psutil
import pytest
from harness.argo import Argo
from harness.chain import SEALGATE, Proxy, eventually
from harness.content import blob, read_tree, write_tree
from harness.fault_scene import OPERATIONS
from harness.outcome import Outcome, assert_own_line, outcome

log = logging.getLogger(__name__)
BACKEND = [*SEALGATE, "backend"]
CALLS = int(os.environ.get("SEALGATE_TEST_CALLS", "100000"))
KILLS = int(os.environ.get("SEALGATE_TEST_KILLS", "1000"))
CONNECTIONS = 100
OLD, NEW = blob(300_000, 1), blob(400_000, 2)
SEED = 20_261_128

pytestmark = [pytest.mark.large, pytest.mark.timeout(7200)]


class OneConnection(Argo):
    """A client that uses one connection for all its calls."""

    def channel(self) -> grpc.Channel:
        return self.channels[0] if self.channels else super().channel()


class CheckedCalls:
    """The eight operations on a proxy, each of which checks its result. `own` tells the files of callers apart."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.tree = read_tree(write_tree(proxy.work / "tree"))
        (proxy.work / "new").write_bytes(NEW)
        argo = proxy.argo()
        argo.save_stream("team/stored", OLD)
        argo.save("team/tree", proxy.work / "tree")
        argo.close()

    def call(self, operation: str, argo: Argo, own: str) -> None:
        target = self.proxy.work / f"out-{own}"
        if operation == "Load":
            argo.load("team/stored", target)
            assert target.read_bytes() == OLD
            target.unlink()
        elif operation == "OpenStream":
            assert argo.open_stream("team/stored") == OLD
        elif operation == "Save":
            argo.save(f"team/{own}", self.proxy.work / "new")
        elif operation == "SaveStream":
            argo.save_stream(f"team/{own}", NEW)
        elif operation == "Delete":
            argo.delete(f"team/{own}-absent")
        elif operation == "ListObjects":
            expected = sorted(f"team/tree/{path}" for path, data in self.tree.items() if data is not None)
            assert sorted(argo.list_objects("team/tree")) == expected
        elif operation == "IsDirectory":
            assert argo.is_directory("team/tree")
            assert not argo.is_directory("team/stored")
        else:
            assert argo.supports_save_stream()

    def require_saved(self, own: str) -> None:
        assert self.proxy.argo().open_stream(f"team/{own}") == NEW


@pytest.fixture(params=["file", "stream", "builtin"])
def work(request, start) -> CheckedCalls:
    return CheckedCalls(start(settings=settings_of(request.param)))


def settings_of(transfer: str) -> dict[str, object]:
    """Return the settings for the bundled backend: as a child by this transfer, or within the process."""
    if transfer == "builtin":
        return {"downstream": {"builtin": {}}, "spool": {}}
    return {"downstream": {"command": BACKEND}, "spool": {"transfer": transfer}}


def test_all_operations_on_a_hundred_connections_are_right(work):
    def run(number: int) -> None:
        argo = work.proxy.argo()
        operations = list(OPERATIONS) * 3
        random.Random(number).shuffle(operations)
        for operation in operations:
            work.call(operation, argo, str(number))

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        list(pool.map(run, range(CONNECTIONS)))
    for number in range(CONNECTIONS):
        work.require_saved(str(number))
    assert eventually(lambda: not work.proxy.spools())
    assert {path.name for path in work.proxy.work.iterdir()} == {"new", "tree"}
    log.info("%d calls on %d connections at once", CONNECTIONS * 3 * len(OPERATIONS), CONNECTIONS)


def test_very_many_calls_leave_the_process_as_it_was(work):
    callers = 8
    clients = [OneConnection(work.proxy.socket) for _ in range(callers)]
    process = psutil.Process(work.proxy.process.pid)

    def run(number: int, calls: int) -> None:
        for at in range(calls):
            work.call(OPERATIONS[at % len(OPERATIONS)], clients[number], str(number))

    def many(calls: int) -> tuple[int, int, int, int]:
        with ThreadPoolExecutor(callers) as pool:
            list(pool.map(lambda number: run(number, calls // callers), range(callers)))
        children = process.children(recursive=True)
        memory = sum(one.memory_info().rss for one in (process, *children))
        return process.num_fds(), process.num_threads(), len(children), memory

    with ThreadPoolExecutor(64) as pool:  # until the pools of both processes have their threads
        for operation in OPERATIONS * 2:
            list(pool.map(lambda n: work.call(operation, clients[n % callers], f"first-{n}"), range(256)))  # noqa: B023 - called at once
    readings = [many(CALLS // 10) for _ in range(10)]
    for client in clients:
        client.close()
    log.info("descriptors, threads, children, bytes after each tenth of %d calls: %s", CALLS, readings)
    before, after = readings[:5], readings[5:]  # by the first half, pools have their threads
    assert all(now <= then for now, then in zip(after[-1][:3], before[-1][:3], strict=True)), readings
    # One reading differs from the next by up to 9 MiB, without a trend.
    assert median(one[3] for one in after) - median(one[3] for one in before) < 8 << 20, readings


def test_sigterm_under_load_finishes_or_names_every_call(work):
    begun = threading.Semaphore(0)
    ended: list[tuple[str, Outcome]] = []

    def run(number: int) -> None:
        argo, shuffled = work.proxy.argo(), random.Random(number)
        while True:
            operation = shuffled.choice(OPERATIONS)
            begun.release()
            found = outcome(lambda: work.call(operation, argo, str(number)))  # noqa: B023 - called at once
            ended.append((operation, found))
            if found.code != "OK":
                return

    with ThreadPoolExecutor(30) as pool:
        for number in range(30):
            pool.submit(run, number)
        for _ in range(300):
            begun.acquire()
        work.proxy.process.send_signal(signal.SIGTERM)
        assert work.proxy.process.wait(40) == 0
    assert Counter(found.code for _, found in ended).keys() == {"OK", "UNAVAILABLE"}
    assert not work.proxy.spools()
    assert not [path for path in work.proxy.work.iterdir() if path.name.startswith(".")]
    log.info("SIGTERM among %d calls of 30 callers", len(ended))


def test_sigkill_at_random_points_leaves_old_or_new_and_the_next_start_is_clean(make):
    shuffled = random.Random(SEED)
    proxy = make(settings=settings_of("file"))
    proxy.start()
    work = CheckedCalls(proxy)
    found: Counter[str] = Counter()
    for number in range(KILLS):
        proxy.settings.update(settings_of(shuffled.choice(["file", "stream", "builtin"])))
        if number:
            proxy.start()
        assert eventually(lambda: not proxy.spools()), proxy.spools()
        proxy.argo().save_stream("team/over", OLD)
        calls = [
            lambda: proxy.argo().load("team/stored", proxy.work / "out"),
            lambda: proxy.argo().open_stream("team/stored"),
            lambda: proxy.argo().save("team/over", proxy.work / "new"),
            lambda: proxy.argo().save("team/again", proxy.work / "tree"),
            lambda: proxy.argo().save_stream("team/streamed", NEW),
            lambda: proxy.argo().delete("team/streamed"),
            lambda: proxy.argo().list_objects("team/tree"),
            lambda: proxy.argo().is_directory("team/tree"),
        ]
        with ThreadPoolExecutor(len(calls)) as pool:
            running = [pool.submit(outcome, one) for one in calls]
            threading.Event().wait(shuffled.uniform(0, 0.25))
            proxy.kill()
            found.update(f"{one.result().code}" for one in running)
        require_no_plaintext(proxy)
        out = proxy.work / "out"
        assert not out.exists() or out.read_bytes() == OLD
        proxy.start()
        check_stored(work, found)
        out.unlink(missing_ok=True)
        proxy.argo().load("team/stored", out)
        out.unlink()
        assert {path.name for path in proxy.work.iterdir()} == {"new", "tree"}
        proxy.kill()
    log.info("%d kills: %s", KILLS, dict(found))


def require_no_plaintext(proxy: Proxy) -> None:
    parts = [content[at : at + 64] for content in (OLD, NEW) for at in range(0, len(OLD) - 64, 4096)]
    for file in (one for one in proxy.socket.parent.glob(".sealgate-spool-*/**/*") if one.is_file()):
        data = file.read_bytes()
        assert not any(part in data for part in parts), file


def check_stored(work: CheckedCalls, found: Counter[str]) -> None:
    """Check that each artifact is the old one, the new one, absent, or named as unfinished."""
    argo = work.proxy.argo()
    assert argo.open_stream("team/over") in {OLD, NEW}
    results: list[bytes] = []
    streamed = outcome(lambda: results.append(argo.open_stream("team/streamed")))
    assert streamed.code != "OK" or results == [NEW]
    target = work.proxy.work / "again"
    again = outcome(lambda: argo.load("team/again", target))
    if again.code == "OK":
        assert read_tree(target) == work.tree
        shutil.rmtree(target)
    elif again.code == "DATA_LOSS":
        assert_own_line(again, "DATA_LOSS", "Load", "team/again")
    found[f"directory {again.code}"] += 1
    argo.close()
