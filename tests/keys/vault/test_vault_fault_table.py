"""Each fault of Vault on each operation through the proxy's socket. docs/vault-faults.md is written from this test."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.chain import eventually
from harness.content import blob, read_tree, write_tree
from harness.outcome import Outcome, assert_own_line, outcome
from harness.page import Table
from harness.stand import LARGE, OPERATIONS
from harness.vault_causes import FAULTS, WRITING, Fault, Scene

PAGE = Path(__file__).parents[3] / "docs" / "vault-faults.md"
TABLE = Table(PAGE, list(FAULTS))
TREE = "team-a/tree"
DATA = blob(LARGE)


@pytest.fixture
def scene(openbao, account, tmp_path):
    scene = Scene(openbao, account, tmp_path)
    yield scene
    scene.proxy.stop()


@pytest.mark.parametrize("name", FAULTS)
def test_each_operation_reports_the_fault_leaves_nothing_and_works_once_it_is_repaired(name, scene, request):
    fault = FAULTS[name]
    scene.begin(fault)
    scene.stand.fill()
    tree = store_tree(scene)
    if fault.remembered:
        for key in (scene.stand.stored, TREE + "/file"):
            scene.proxy.argo().open_stream(key)
    with fault.cause(scene):
        assert_lists_tree(scene, tree)
        found = fail_together(scene, fault) | {
            operation: succeed(scene, operation) for operation in OPERATIONS if fault.status(operation) == "OK"
        }
    for operation in OPERATIONS:
        succeed(scene, operation)
    scene.proxy.argo().load(TREE, scene.proxy.work / "loaded")
    assert read_tree(scene.proxy.work / "loaded") == tree
    rows = table_rows(scene, found)
    TABLE.hold(name, rows, write=request.config.getoption("write_docs"))


def test_the_page_has_these_faults_and_no_others(request):
    if request.config.getoption("write_docs"):
        pytest.skip("the page is being written")
    assert TABLE.names() == list(FAULTS)


# --- operations ------------------------------------------------------------------------------------------


def tries(scene: Scene, streamed: list[bytes]) -> dict[str, Callable[[], object]]:
    stand = scene.stand
    collect = {"OpenStream": lambda: streamed.extend(scene.proxy.argo().stream(stand.stored))}
    return stand.tries(scene.proxy.argo()) | collect


def fail_together(scene: Scene, fault: Fault) -> dict[str, Outcome]:
    """Try all operations that must fail, at the same time. Each returns its error and leaves nothing behind."""
    proxy, stand = scene.proxy, scene.stand
    work, storage = read_tree(proxy.work), read_tree(proxy.storage)
    streamed: list[bytes] = []
    failing = {name: do for name, do in tries(scene, streamed).items() if fault.status(name) != "OK"}
    more: dict[str, Callable[[], object]] = {}
    if fault.reading != "OK" and not fault.of_one_artifact:
        more["Load of a directory"] = lambda: proxy.argo().load(TREE, proxy.work / "loaded")
    if fault.writing != "OK":
        more["SaveStream over an artifact"] = lambda: proxy.argo().save_stream(stand.stored, DATA)
    with ThreadPoolExecutor() as pool:
        ended = dict(zip(failing | more, pool.map(outcome, (failing | more).values()), strict=True))
    for name, found in ended.items():
        operation = name.partition(" ")[0]
        key = TREE if "directory" in name else stand.stored if "over" in name else stand.key(operation)
        assert_own_line(found, fault.status(operation), operation, key)
    assert streamed == []
    assert eventually(lambda: not proxy.spools()), proxy.spools()
    assert read_tree(proxy.work) == work
    assert read_tree(proxy.storage) == storage
    return {name: ended[name] for name in failing}


def succeed(scene: Scene, operation: str) -> Outcome:
    """Carry out the operation, check its result, and undo it."""
    proxy, stand = scene.proxy, scene.stand
    work, storage = read_tree(proxy.work), read_tree(proxy.storage)
    streamed: list[bytes] = []
    found = outcome(tries(scene, streamed)[operation])
    assert found == Outcome("OK")
    if operation == "Load":
        assert stand.target.read_bytes() == DATA
        stand.target.unlink()
    elif operation == "OpenStream":
        assert b"".join(streamed) == DATA
    elif operation in WRITING:
        new = proxy.storage / stand.new
        assert new.stat().st_size > LARGE
        new.unlink()
    elif operation == "Delete":
        assert not scene.stored.exists()
        scene.stored.write_bytes(storage[stand.stored] or b"")
    assert eventually(lambda: not proxy.spools()), proxy.spools()
    assert read_tree(proxy.work) == work
    assert read_tree(proxy.storage) == storage
    return found


def store_tree(scene: Scene) -> dict[str, bytes | None]:
    source = write_tree(scene.proxy.work / "tree")
    scene.proxy.argo().save(TREE, source)
    return read_tree(source)


def assert_lists_tree(scene: Scene, tree: dict[str, bytes | None]) -> None:
    argo = scene.proxy.argo()
    assert sorted(argo.list_objects(TREE)) == sorted(
        f"{TREE}/{path}" for path, data in tree.items() if data is not None
    )
    assert argo.is_directory(TREE)


# --- the page --------------------------------------------------------------------------------------------


def table_rows(scene: Scene, found: dict[str, Outcome]) -> list[list[str]]:
    """Return one row for all operations with the same outcome: their names, the status, the text."""
    alike: dict[tuple[str, str], list[str]] = {}
    for operation in OPERATIONS:
        ended = found[operation]
        alike.setdefault((ended.code, plain_text(scene, operation, ended.text)), []).append(operation)
    return [[", ".join(operations), f"`{code}`", text] for (code, text), operations in alike.items()]


def plain_text(scene: Scene, operation: str, text: str) -> str:
    """Return the text without the parts that differ from run to run."""
    text = text.removeprefix(f'{operation} "{scene.stand.key(operation)}": ')
    text = re.sub(r" \[d=[0-9a-f]+\]$", "", text)
    return text.replace(scene.openbao.address.partition("//")[2], "vault:8200").replace(scene.transit.mount, "transit")
