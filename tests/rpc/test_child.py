"""The downstream as a child process: started, restarted, logged, and ended with the proxy."""

from __future__ import annotations

import json
import os
import sys

import psutil
import pytest
from harness.chain import VENDOR, Proxy, eventually
from harness.outcome import outcome

from sealgate.call import Call
from sealgate.errors import Unavailable
from sealgate.rpc.child import ChildProcess

pytestmark = pytest.mark.process


def script(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def vendors(proxy: Proxy) -> list[psutil.Process]:
    """Return every running process of the vendor's plugin."""
    return [
        child
        for child in psutil.Process(proxy.process.pid).children(recursive=True)
        if child.cmdline()[:2] == VENDOR and child.status() != psutil.STATUS_ZOMBIE
    ]


def test_a_killed_child_is_started_again_later_each_time(start):
    proxy = start()
    for delay in ("0.1", "0.2", "0.4"):
        assert eventually(lambda: len(vendors(proxy)) == 1)
        (vendor,) = vendors(proxy)
        vendor.kill()
        assert eventually(lambda delay=delay: f"next_start_seconds={delay}" in proxy.output())
    assert proxy.output().count("ended with code 137") == 3
    assert eventually(lambda: outcome(lambda: proxy.argo().list_objects("a/b")).code == "OK")


def test_the_error_of_a_child_that_is_killed_names_the_memory(start):
    """Not every container shows how many processes the kernel has ended."""
    proxy = start(downstream=["sh", "-c", "kill -KILL $$"])
    found = outcome(lambda: proxy.argo().list_objects("a/b"))
    assert found.code == "UNAVAILABLE"
    assert "(SIGKILL)" in found.text
    assert "raise the memory limit of the container" in found.text


def test_processes_that_a_dead_child_left_behind_do_not_delay_the_next_start(start):
    proxy = start(downstream=["sh", "-c", f'sleep 1000 & exec {" ".join(VENDOR)} "$0"'])
    assert proxy.argo().list_objects("a/b") == []
    (vendor,) = vendors(proxy)
    left = [child for child in psutil.Process(proxy.process.pid).children(recursive=True) if child.name() == "sleep"]
    vendor.kill()
    assert eventually(lambda: outcome(lambda: proxy.argo().list_objects("a/b")).code == "OK")
    assert eventually(lambda: not left[0].is_running())


def test_the_output_of_the_child_is_in_the_log(start):
    words = "print('on stdout', flush=True); print('on stderr', file=sys.stderr, flush=True)"
    bytes_of_all_sorts = "sys.stdout.buffer.write(b'not UTF-8: \\xff\\n' + b'x' * 20_000 + b'\\nwithout an end')"
    proxy = start(downstream=script(f"import sys; {words}; {bytes_of_all_sorts}"))
    assert eventually(lambda: "sealgate.downstream: without an end\n" in proxy.output())
    for line in ("on stdout", "on stderr", "not UTF-8: \ufffd"):
        assert f"sealgate.downstream: {line}\n" in proxy.output()
    assert max(len(line) for line in proxy.output().splitlines()) < 8192 + 200


def facts_of_a_child(proxy: Proxy) -> dict:
    assert eventually(lambda: "facts: {" in proxy.output())
    line = next(line for line in proxy.output().splitlines() if "facts: {" in line)
    return json.loads(line.partition("facts: ")[2])


FACTS = script(
    "import json, os, sys, time; "
    "facts = {'arguments': sys.argv[1:], 'environment': dict(os.environ), 'group': os.getpgid(0)}; "
    "print('facts: ' + json.dumps(facts), flush=True); time.sleep(1000)"
)


def test_the_child_gets_its_socket_and_no_variable_that_leads_to_keys(start):
    variables = {
        "VAULT_TOKEN": "hunter2",
        "VAULT_ADDR": "https://vault",
        "SEALGATE_CONFIG_YAML_OLD": "hunter2",
        "AWS_REGION": "the vendor's own",
    }
    proxy = start(downstream=FACTS, environment=variables, arguments=("--loglevel", "debug"))
    facts = facts_of_a_child(proxy)
    (socket,) = facts["arguments"]
    assert socket == str(proxy.socket.parent / ".sealgate-downstream" / "socket")
    environment = facts["environment"]
    assert environment["AWS_REGION"] == "the vendor's own"
    assert environment["VENDOR_ROOT"] == str(proxy.storage)
    assert not [name for name in environment if name.startswith(("VAULT_", "SEALGATE_CONFIG"))]
    assert "hunter2" not in json.dumps(environment)


def test_the_child_has_a_process_group_of_its_own(start):
    proxy = start(downstream=FACTS)
    assert facts_of_a_child(proxy)["group"] not in {proxy.process.pid, os.getpgid(proxy.process.pid)}


def test_the_child_gets_sigterm_before_the_proxy_ends(start, tmp_path):
    trapped = tmp_path / "trapped"
    proxy = start(
        downstream=["sh", "-c", f'trap "touch {trapped}; exit 0" TERM; echo ready; while :; do sleep 0.05; done']
    )
    assert eventually(lambda: "sealgate.downstream: ready" in proxy.output())
    children = psutil.Process(proxy.process.pid).children(recursive=True)
    assert proxy.stop() == 0
    assert trapped.exists()
    assert not [child for child in children if child.is_running()]


def test_a_child_that_ignores_sigterm_is_killed(start):
    proxy = start(downstream=["sh", "-c", 'trap "" TERM; echo ready; while :; do sleep 0.05; done'])
    assert eventually(lambda: "sealgate.downstream: ready" in proxy.output())
    children = psutil.Process(proxy.process.pid).children(recursive=True)
    assert proxy.stop() == 0
    assert "the downstream ignored SIGTERM and is killed: seconds=5" in proxy.output()
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("command", [["/nowhere/plugin"], ["true", "x" * 200_000]], ids=["missing", "too long"])
def test_a_child_that_cannot_be_started_is_unavailable_and_raises_nothing_else(tmp_path, call: Call, command):
    child = ChildProcess(command, tmp_path / "socket", start_timeout=30)
    for _ in range(2):
        with pytest.raises(Unavailable, match="cannot be started"):
            child.await_ready(call)
    child.close()
