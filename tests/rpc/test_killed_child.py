"""A call whose downstream is killed midway names the memory limit: mostly the kernel did it, for want of memory."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.chain import Proxy, eventually, vendor
from harness.outcome import Outcome, assert_own_line, outcome
from harness.stand import filled

pytestmark = pytest.mark.process

BROKE = "the connection to the downstream broke before its answer was complete"
KILLED = (
    "the downstream was ended by SIGKILL during the call; the memory limit of this container is 2048 MiB (sealgate)."
)
REMEDY = "The kernel does that where memory runs out: raise that limit (docs/operations.md says what a pod needs)."
LIMITED = ("sh", "-c", 'ulimit -d 2097152; exec "$@"', "sh")
"""The beginning of a command that gives it 2 GiB."""


@pytest.fixture(params=["Save by file", "OpenStream by stream"])
def operation(request) -> str:
    return request.param


def begun(start, operation: str) -> tuple[Proxy, str]:
    """Start a proxy in which memory is limited; return it, and the name of the operation."""
    name, _, way = operation.split()
    settings = {"spool": {"transfer": way}}
    return start(within=LIMITED, settings=settings, environment={"VENDOR_STREAMS": "1"}), name


def ended_midway(proxy: Proxy, name: str, number: signal.Signals) -> Outcome:
    """Return the outcome of a call whose downstream gets the signal once half of the data has gone."""
    stand = filled(proxy, "ns/stored")
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(stand.attempt, name, f"fault: hang-midway on {name}\n")
        assert eventually(lambda: f"stopped in {name} of" in proxy.output())
        vendor(proxy).send_signal(number)
        found = call.result()
    assert_own_line(found, "UNAVAILABLE", name, stand.key(name))
    return found


def test_a_call_whose_downstream_is_killed_names_the_memory_limit(start, operation):
    proxy, name = begun(start, operation)
    found = ended_midway(proxy, name, signal.SIGKILL)
    assert f"{KILLED} {REMEDY} (connect: connection refused)" in found.text
    assert eventually(lambda: "the downstream has ended" in proxy.output())
    (line,) = [line for line in proxy.output().splitlines() if "the downstream has ended" in line]
    assert "ended with code 137 (SIGKILL)" in line
    assert "the memory limit of this container is 2048 MiB" in line
    assert REMEDY.rstrip(".") in line
    assert eventually(lambda: outcome(lambda: proxy.argo().list_objects("a/b")).code == "OK")


def test_a_call_whose_downstream_ends_otherwise_says_that_the_connection_broke(start, operation):
    proxy, name = begun(start, operation)
    found = ended_midway(proxy, name, signal.SIGTERM)
    assert BROKE in found.text
    assert "memory" not in found.text
