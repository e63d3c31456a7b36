"""What tests of several rooms need."""

from __future__ import annotations

import base64
import gc
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.openbao import OpenBao, Server, Transit
from hypothesis import settings
from sweeps import is_sweep

from sealgate.call import Call, Operation

# A shared machine may pause for any time. CI tries the same examples each time; every other run tries new ones.
settings.register_profile("sealgate", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("sealgate")


QUICK_ROOMS = {"audit", "documents", "envelope", "keys", "layers", "policy", "rotation", "rpc", "storage", "telemetry"}
"""Rooms whose tests run in this process, but for those that are marked `process`. So do the files beside the rooms."""
_PROCESS_EVENTS = {"subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec"}
_running = {"quick": False}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `quick` every test that needs no server, no child process and no chart."""
    for item in items:
        file = item.path.relative_to(Path(__file__).parent)
        room = file.parts[:-1]
        if is_sweep(str(file), item.name):
            item.add_marker(pytest.mark.large)
        in_process = not room or (room[0] in QUICK_ROOMS and "vault" not in room)
        slow = any(item.get_closest_marker(name) for name in ("process", "large"))
        if in_process and not slow:
            item.add_marker(pytest.mark.quick)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    _running["quick"] = item.get_closest_marker("quick") is not None
    try:
        return (yield)
    finally:
        _running["quick"] = False


def _refuse_processes(event: str, _: object) -> None:
    """Keep the promise of `make quick`: a test that starts a process says so by its marker."""
    if event in _PROCESS_EVENTS and _running["quick"]:
        raise AssertionError("this test starts a process: mark it with @pytest.mark.process")


sys.addaudithook(_refuse_processes)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-docs", action="store_true", help="put what the tests see into the documents")


@pytest.fixture(autouse=True, scope="module")
def _left_alone() -> Iterator[None]:
    """What a module left behind, and lives on, is not gone through again by each collection of garbage after it."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture
def call() -> Call:
    return Call(Operation.LOAD)


@pytest.fixture(params=[0o000, 0o022, 0o077], ids="umask-{:03o}".format)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """The test runs under each of these."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def keyring(tmp_path: Path) -> Path:
    """A keyring file with version 1 of the key `default`."""
    path = tmp_path / "keyring.json"
    path.touch(mode=0o600)
    key = base64.b64encode(bytes(range(32))).decode()
    path.write_text(json.dumps({"keys": {"default": {"latest": 1, "versions": {"1": key}}}}))
    return path


# --- Vault ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def openbao(tmp_path_factory) -> Iterator[OpenBao]:
    """A process of this worker's own. Who seals or stops it undoes that."""
    server = OpenBao(tmp_path_factory.mktemp("openbao") / "home")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def vault(request) -> Server:
    """The server that is named for tests, or else `openbao`."""
    address, root = os.environ.get("SEALGATE_TEST_VAULT_ADDR"), os.environ.get("SEALGATE_TEST_VAULT_TOKEN")
    return Server(address, root) if address and root else request.getfixturevalue("openbao")


@pytest.fixture
def transit(vault) -> Transit:
    return vault.transit()


@pytest.fixture
def own_transit(openbao) -> Transit:
    """On the process that a test may stop, and whose audit log it may read."""
    return openbao.transit()
