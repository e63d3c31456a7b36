"""Processes that a downstream leaves behind: they are ended with it, or delay nothing."""

from __future__ import annotations

import contextlib
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from harness.chain import TESTS, VENDOR, Proxy, eventually
from harness.outcome import outcome
from harness.users import without_signals_to_others

from sealgate.call import Call, Operation
from sealgate.errors import PluginError, Unavailable
from sealgate.plugin import Artifact
from sealgate.rpc.child import ChildProcess
from sealgate.rpc.client import Downstream

pytestmark = pytest.mark.process

LEFT = "survivor-of-a-test"
"""An argument by which a test finds the processes that a downstream has left behind."""
IN_A_SESSION = f"setsid sh -c 'while :; do sleep 1; done' {LEFT} &"
TWICE_FORKED = f"(setsid sh -c 'trap \"\" TERM HUP; (while :; do sleep 1; done) & wait' {LEFT} &) &"
REAPED_BY_ANOTHER = f"{sys.executable} -c '{{}}' {LEFT} &".format(
    "import ctypes, os, time; os.setsid(); ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.fork(); time.sleep(1000)"
)
OF_ANOTHER_USER = f"setpriv --reuid=1 --regid=1 --clear-groups sh -c 'while :; do sleep 1; done' {LEFT} &"
WAYS = {"in a session": IN_A_SESSION, "forked twice": TWICE_FORKED, "with a subreaper": REAPED_BY_ANOTHER}


def leaving(way: str) -> list[str]:
    """Return the command of a downstream that starts another process, which shares its output, and then serves."""
    return ["sh", "-c", f'{way} exec {" ".join(VENDOR)} "$0"']


def survivors(proxy: Proxy) -> list[psutil.Process]:
    """Return the processes that the downstreams of `proxy` have left behind, wherever they are in the tree."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if LEFT in process.cmdline() and process.environ().get("VENDOR_ROOT") == str(proxy.storage):
                found.append(process)
    return found


def vendor(proxy: Proxy) -> psutil.Process:
    found = []
    for child in psutil.Process(proxy.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if child.cmdline()[:2] == VENDOR:
                found.append(child)
    assert len(found) == 1, found
    return found[0]


def serves(proxy: Proxy) -> bool:
    return outcome(lambda: proxy.argo().list_objects("a/b")).code == "OK"


@pytest.fixture(params=WAYS)
def left(request, start) -> Iterator[Proxy]:
    """A proxy whose downstream serves and has left a process behind."""
    proxy = start(downstream=leaving(WAYS[request.param]))
    assert serves(proxy)
    assert eventually(lambda: survivors(proxy))
    yield proxy
    for process in survivors(proxy):
        process.kill()


def test_a_process_that_a_crashed_downstream_left_behind_is_ended_before_the_restart(left):
    before = survivors(left)
    vendor(left).kill()
    assert eventually(lambda: "next_start_seconds=0.1" in left.output(), seconds=5)
    assert eventually(lambda: serves(left))
    assert not [process for process in before if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_a_process_that_a_downstream_left_behind_ends_with_the_proxy(left, number):
    before = survivors(left)
    left.process.send_signal(number)
    left.process.wait(40)
    assert eventually(lambda: not survivors(left), seconds=5), before


def test_a_process_that_outlives_the_guardian_delays_nothing(start):
    """The guardian is killed, as for want of memory, and so cannot end the process that holds the output open."""
    proxy = start(downstream=leaving(IN_A_SESSION))
    assert serves(proxy)
    (guardian,) = psutil.Process(proxy.process.pid).children()
    before = survivors(proxy)
    guardian.kill()
    began = time.monotonic()
    assert eventually(lambda: "ended with code 137" in proxy.output())
    assert eventually(lambda: serves(proxy))
    assert time.monotonic() - began < 10
    assert len(psutil.Process(proxy.process.pid).children()) == 1
    for process in before:
        process.kill()


def test_a_process_of_another_user_in_its_group_keeps_the_downstream_from_no_restart(start):
    """As a program with a set-user-ID bit is one: the proxy may not send it a signal."""
    proxy = start(downstream=leaving(OF_ANOTHER_USER), within=without_signals_to_others())
    try:
        assert serves(proxy)
        assert eventually(lambda: survivors(proxy))
        vendor(proxy).kill()
        assert eventually(lambda: "next_start_seconds=0.1" in proxy.output(), seconds=5)
        assert eventually(lambda: serves(proxy))
        assert proxy.stop() == 0, proxy.output()
        assert "Traceback" not in proxy.output()
    finally:
        for process in survivors(proxy):
            process.kill()


def test_a_call_ends_with_the_child_even_if_another_process_holds_its_connection_open(tmp_path, monkeypatch):
    monkeypatch.setenv("VENDOR_ROOT", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(TESTS.parent / "proxy"))
    with tempfile.TemporaryDirectory(prefix="sg-") as short:
        child = ChildProcess(VENDOR, Path(short) / "socket", 60)
        downstream = Downstream(child)
        failed: list[PluginError] = []

        def hang() -> None:
            with pytest.raises(PluginError) as raised:
                downstream.delete(Call(Operation.DELETE), Artifact("ns/a", configuration="fault: hang"))
            failed.append(raised.value)

        call = threading.Thread(target=hang)
        call.start()
        assert eventually((tmp_path / "hang-began").exists)
        child.ended()  # as when the process has ended; it still runs here, and would never answer
        call.join(10)
        downstream.close()
    assert [type(error) for error in failed] == [Unavailable]
