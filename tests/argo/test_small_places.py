"""Little memory, few descriptors, full logs and a clock that jumps. docs/operations.md has the results as a table."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.chain import SEALGATE, TESTS, Proxy, eventually
from harness.outcome import TRANSIENT, Outcome, outcome
from harness.s3 import versitygw_at
from harness.small_places import memory_group
from harness.trails import read

MIB = 1 << 20
BACKEND = [*SEALGATE, "backend"]
OK = Outcome("OK")


def source(proxy: Proxy, size: int) -> Path:
    path = proxy.work / "source"
    path.write_bytes(os.urandom(size))
    return path


def chunks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            yield chunk


def call(proxy: Proxy, number: int, kind: str) -> Outcome:
    argo = proxy.argo()
    return outcome(
        {
            "Save": lambda: argo.save(f"team/{number}", proxy.work / "source"),
            "Load": lambda: argo.load("team/stored", proxy.work / f"out-{number}"),
            "OpenStream": lambda: argo.open_stream("team/stored"),
            "SaveStream": lambda: argo.save_stream(f"team/{number}", chunks_of(proxy.work / "source")),
        }[kind]
    )


def at_once(proxy: Proxy, calls: int, *kinds: str) -> Counter[str]:
    """Run calls of these kinds at the same time, and return how often each status came."""
    with ThreadPoolExecutor(calls) as pool:
        ended = list(pool.map(lambda n: call(proxy, n, kinds[n % len(kinds)]), range(calls)))
    for found in ended:
        assert found == OK or (found.code == "RESOURCE_EXHAUSTED" and any(t in found.text for t in TRANSIENT)), found
    return Counter(found.code for found in ended)


# --- memory: the whole of a container, so Sealgate, its guardian and the bundled backend ---------------------


@pytest.mark.parametrize(
    ("limit", "transfer", "kinds", "calls"),
    [
        (128, "file", ("Save", "Load", "OpenStream"), 12),
        pytest.param(160, "file", ("Save", "Load", "OpenStream"), 12, marks=pytest.mark.large),
        pytest.param(96, "file", ("Save", "Load"), 12, marks=pytest.mark.large),
        pytest.param(128, "stream", ("Save", "Load"), 12, marks=pytest.mark.large),
        pytest.param(128, "auto", ("Save", "Load"), 12, marks=pytest.mark.large),
        pytest.param(512, "auto", ("Save", "Load", "OpenStream"), 64, marks=pytest.mark.large),
        pytest.param(512, "file", ("Save", "Load", "OpenStream"), 64, marks=pytest.mark.large),
        pytest.param(512, "stream", ("OpenStream",), 40, marks=pytest.mark.large),
        pytest.param(512, "stream", ("Save", "Load", "OpenStream"), 64, marks=pytest.mark.large),
        pytest.param(768, "stream", ("Save", "Load", "OpenStream"), 64, marks=pytest.mark.large),
        pytest.param(768, "stream", ("OpenStream",), 64, marks=pytest.mark.large),
    ],
)
def test_calls_stay_within_the_memory_of_the_container(make, limit, transfer, kinds, calls):
    with memory_group(limit * MIB) as group:
        proxy = make(downstream=BACKEND, settings={"spool": {"transfer": transfer}}, within=group.within()).start()
        proxy.argo().save("team/stored", source(proxy, 24 * MIB))
        ended = at_once(proxy, calls, *kinds)
        assert group.kills() == 0
        assert ended["OK"] >= calls / 4
        if "OpenStream" not in kinds:
            assert ended["OK"] == calls  # what finds no thread waits, and only streams are refused
        assert proxy.stop() == 0, proxy.output()


@pytest.mark.large
@pytest.mark.parametrize(
    ("limit", "kinds", "calls"),
    [
        (512, ("OpenStream",), 40),
        (512, ("SaveStream",), 20),
        (512, ("Save", "Load", "OpenStream", "SaveStream"), 64),
        (768, ("OpenStream",), 64),
        (768, ("Save", "SaveStream"), 64),
        (768, ("Save", "Load", "OpenStream", "SaveStream"), 64),
    ],
)
def test_with_the_backend_in_the_process_calls_on_s3_stay_within_the_memory(make, tmp_path, limit, kinds, calls):
    (tmp_path / "buckets").mkdir()
    with versitygw_at(tmp_path / "buckets") as server, memory_group(limit * MIB) as group:
        store = {
            "SEALGATE_BACKEND_URL": f"s3://{server.new_bucket()}",
            "SEALGATE_BACKEND_CONFIG": json.dumps(server.config()),
        }
        proxy = make(
            downstream={"builtin": {}},
            settings={"spool": {"transfer": "stream"}},
            environment=store,
            within=group.within(),
        ).start()
        proxy.argo().save("team/stored", source(proxy, 48 * MIB))
        ended = at_once(proxy, calls, *kinds)
        assert group.kills() == 0
        assert ended["OK"] >= calls / 4
        assert proxy.stop() == 0, proxy.output()


def test_with_too_little_memory_the_kernel_ends_the_process_and_nothing_is_left(make):
    with memory_group(48 * MIB) as group:
        proxy = make(downstream=BACKEND, within=group.within()).start()
        argo, path = proxy.argo(timeout=60), source(proxy, MIB)
        assert outcome(lambda: argo.save("team/a", path)).code == "UNAVAILABLE"
        assert eventually(lambda: group.kills() > 0)
        assert not (proxy.storage / "team/a").exists()
        proxy.kill()


def test_a_call_whose_downstream_the_kernel_ended_names_the_memory_limit(make):
    with memory_group(256 * MIB) as group:
        proxy = make(within=group.within()).start()
        answer = outcome(lambda: proxy.argo("fault: eat").save("team/a", source(proxy, MIB)))
        assert group.kills() > 0
        assert answer.code == "UNAVAILABLE"
        assert (
            "the kernel ended the downstream because the container reached its memory limit of 256 MiB" in answer.text
        )
        assert "Raise the memory limit of the container" in answer.text
        assert any(text in answer.text for text in TRANSIENT)
        assert proxy.stop() == 0, proxy.output()


# --- descriptors -----------------------------------------------------------------------------------------


def with_descriptors(number: int) -> tuple[str, ...]:
    return ("sh", "-c", f'ulimit -n {number}; exec "$@"', "sh")


@pytest.mark.parametrize("transfer", ["auto", "file", "stream"])
def test_with_64_descriptors_calls_in_turn_succeed_and_too_many_at_once_are_named_errors(make, transfer):
    settings = {"spool": {"transfer": transfer}}
    proxy = make(downstream=BACKEND, settings=settings, within=with_descriptors(64)).start()
    proxy.argo().save("team/stored", source(proxy, MIB))
    for number, kind in enumerate(["Save", "Load", "OpenStream"] * 2):
        assert call(proxy, number, kind) == OK
    assert set(at_once(proxy, 40, "Save", "Load", "OpenStream")) == {"OK", "RESOURCE_EXHAUSTED"}
    for client in proxy.clients:
        client.close()
    assert eventually(lambda: call(proxy, 99, "Load") == OK)
    assert eventually(lambda: not proxy.spools())
    assert {path.name.split("-")[0] for path in proxy.work.iterdir()} == {"source", "out"}
    assert proxy.stop() == 0, proxy.output()


# --- the log and the audit trail on a full disk --------------------------------------------------------------


def test_a_log_that_cannot_be_written_stops_no_call(make):
    proxy = make(downstream=BACKEND)
    proxy.log_to = os.open("/dev/full", os.O_WRONLY)
    proxy.start()
    os.close(proxy.log_to)
    proxy.argo().save("team/stored", source(proxy, MIB))
    assert [call(proxy, 0, kind) for kind in ("Save", "Load", "OpenStream")] == [OK] * 3
    assert sum(record["unmapped"]["phase"] == "outcome" for record in read(proxy.trail)) == 4
    assert proxy.stop() == 0


def test_an_audit_trail_that_cannot_be_written_stops_every_access(make):
    proxy = make(downstream=BACKEND)
    proxy.output_to = os.open("/dev/full", os.O_WRONLY)
    proxy.start()
    os.close(proxy.output_to)
    path = source(proxy, MIB)
    assert outcome(lambda: proxy.argo().save("team/stored", path)).code == "UNAVAILABLE"
    assert not (proxy.storage / "team").exists()
    assert proxy.argo().supports_save_stream()
    assert proxy.stop() == 0


# --- the clock ---------------------------------------------------------------------------------------------

CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*next)(clockid_t, struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "clock_gettime");
    int result = next(clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) {
        long seconds = 0;
        FILE *file = fopen(getenv("CLOCK_OFFSET"), "r");
        if (file) {
            if (fscanf(file, "%ld", &seconds) != 1) seconds = 0;
            fclose(file);
        }
        now->tv_sec += seconds;
    }
    return result;
}
"""
"""A library that adds the seconds in a file to the clock of the calendar. The monotonic clock cannot jump."""


@pytest.fixture
def jumping(tmp_path) -> tuple[dict[str, str], Path]:
    """The environment of a process whose clock jumps, and the file with the seconds that it is off."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    (tmp_path / "clock.c").write_text(CLOCK)
    library, offset = tmp_path / "clock.so", tmp_path / "offset"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "clock.c", "-ldl"], check=True)
    offset.write_text("0")
    return {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(offset)}, offset


def test_calls_succeed_and_the_trail_verifies_while_the_clock_jumps(make, jumping):
    environment, offset = jumping
    proxy = make(downstream=BACKEND, environment=environment).start()
    source(proxy, MIB)
    for number, seconds in enumerate((0, 40 * 365 * 86_400, -10 * 365 * 86_400, -3600)):
        offset.write_text(str(seconds))
        proxy.argo().save("team/stored", proxy.work / "source")
        assert [call(proxy, 10 * number + at, kind) for at, kind in enumerate(("Save", "Load", "OpenStream"))] == [
            OK
        ] * 3
    years = {time.gmtime(record["time"] / 1000).tm_year for record in read(proxy.trail)}
    assert len(years) == 3
    command = [*SEALGATE, "audit", "verify", str(proxy.trail)]
    settings = json.dumps(proxy.settings)
    checked = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": f"{TESTS.parent}/proxy", "SEALGATE_CONFIG_YAML": settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert proxy.stop() == 0, proxy.output()
