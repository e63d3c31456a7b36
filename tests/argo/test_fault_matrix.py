"""Each fault on each operation, with every way of transfer. docs/faults.md is written from this test."""

from __future__ import annotations

import os
import re
from dataclasses import astuple, replace
from pathlib import Path

import pytest
from harness.chain import eventually
from harness.fault_causes import FAULTS, Cause, KeyServer
from harness.fault_scene import OPERATIONS, Cell, FaultScene, Resources
from harness.outcome import IN_THE_ANSWER, assert_own_line
from harness.page import Table

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
TABLE = Table(PAGE, list(FAULTS))
WAYS = ("auto", "file", "stream")
OF_THE_DOWNSTREAM = {"the vendor's own words", "no such thing here"}
"""Texts of statuses that pass unchanged."""

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("name", FAULTS)
def test_each_operation_reports_the_fault_leaves_nothing_and_works_again(name, tmp_path, request):
    fault = FAULTS[name]
    if fault.disks and os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    server = KeyServer(request.getfixturevalue("openbao")) if fault.key_server else None
    try:
        found = {way: under_the_fault(fault, way, tmp_path / way, server) for way in WAYS}
    finally:
        if server:
            server.relay.close()
    rows = table_rows(found)
    assert_no_empty_cell(found, rows)
    TABLE.hold(name, rows, write=request.config.getoption("write_docs"))


def test_the_page_has_these_faults_and_no_others(request):
    if request.config.getoption("write_docs"):
        pytest.skip("the page is being written")
    assert TABLE.names() == list(FAULTS)


def test_no_cell_of_the_page_is_empty():
    for name in FAULTS:
        rows = TABLE.rows(name)
        covered = [(way, operation) for row in rows for way in row[0].split(", ") for operation in row[1].split(", ")]
        assert sorted(covered) == sorted((way, operation) for way in WAYS for operation in OPERATIONS), name
        assert all(all(cell for cell in row) for row in rows), name


# --- one fault by one way --------------------------------------------------------------------------------


def under_the_fault(fault: Cause, way: str, home: Path, server: KeyServer | None) -> dict[str, Cell]:
    """Run all operations under the fault, repair it, run them again, and return what happened."""
    home.mkdir()
    settings = server.settings(home) if server else {}
    scene = FaultScene(home, way, settings=settings, disks=fault.disks, separate=fault.separate)
    try:
        scene.start()
        scene.prepare()
        before = scene.resting()
        with fault.around(scene, server):
            if fault.restarts:
                before = after_a_first_round(fault, scene)
            pool, calls = scene.begin(lambda operation: fault.configuration(scene, operation), fault.timeout)
            with pool:
                fault.during(scene, calls)
            ended = {operation: call.result() for operation, call in calls.items()}
            process = end_of_process(scene) if fault.ends else ""
            spool = spool_after(scene, fault)
            cells = scene.examine(ended)
            if not fault.ends:
                assert scene.settled(before), f"{before} before the calls, {scene.resources()} after them"
                process = "as before"
        scene.repaired()
        scene.next_calls()
    finally:
        scene.stop()
    for operation, cell in cells.items():
        assert_text(fault, operation, scene.key(operation), cell)
    return {
        operation: replace(
            cell, text=plain_text(fault, scene, operation, cell), spool=spool, process=process, next_call="right"
        )
        for operation, cell in cells.items()
    }


def after_a_first_round(fault: Cause, scene: FaultScene) -> Resources:
    """Let the pools of a process that has just been started grow by the same calls, and return what it holds then."""
    for _ in range(3):
        pool, calls = scene.begin(lambda operation: fault.configuration(scene, operation), fault.timeout)
        with pool:
            assert all(call.result() for call in calls.values())
        scene.repaired()
    return scene.resting()


def spool_after(scene: FaultScene, fault: Cause) -> str:
    if fault.ends:
        return "empty after the next start"
    assert eventually(lambda: not scene.spooled()), scene.spooled()
    assert eventually(lambda: not scene.at_destination()), scene.at_destination()
    return "empty"


def end_of_process(scene: FaultScene) -> str:
    """Wait for the end of the process, start it again, and return how it ended."""
    code = scene.await_end()
    scene.require_no_plaintext_in(scene.spooled())
    scene.proxy.start()
    assert eventually(lambda: not scene.spooled()), scene.spooled()
    return "ended by SIGKILL, its children too" if code == -9 else f"ended with code {code}, its children too"


def assert_text(fault: Cause, operation: str, key: str, cell: Cell) -> None:
    """Check that an error is Sealgate's own line, if it is neither the downstream's nor of the caller's library."""
    if cell.code in {"OK", IN_THE_ANSWER} or fault.unread or cell.text in OF_THE_DOWNSTREAM:
        assert len(cell.text) <= 1 << 16
        return
    assert_own_line(replace(cell), cell.code, operation, key)


# --- the page --------------------------------------------------------------------------------------------


def plain_text(fault: Cause, scene: FaultScene, operation: str, cell: Cell) -> str:
    """Return the text without the parts that differ from run to run."""
    if cell.code == "OK":
        return "none"
    if fault.unread:
        return "of the caller's gRPC library"
    text = re.sub(rf'^(?:denied )?{operation} "{re.escape(scene.key(operation))}": ', "", cell.text)
    text = re.sub(r" \[d=[0-9a-f]+\]$", "", text)
    text = re.sub(r"\.sealgate-spool-[0-9a-f]+(?:/[0-9a-f]{16})?", ".sealgate-spool", text)
    text = re.sub(r"/tmp/sg-[^/ ]+/", "/", text)
    text = text.replace(str(scene.proxy.home), "").replace(str(scene.proxy.socket.parent), "/socket")
    text = re.sub(r"code (\d+)(.*?) after \d+\.\d s", r"code \1\2 after 1.0 s", text)
    text = re.sub(*fault.alike, text)
    text = re.sub(r"127\.0\.0\.1:\d+", "vault:8200", text)
    text = re.sub(r"transit-[0-9a-f]+", "transit", text)
    text = re.sub(r"(h{20})h+", r"\1…", text)
    return text.replace("|", "\\|")


def table_rows(found: dict[str, dict[str, Cell]]) -> list[list[str]]:
    """Return one row for all operations with the same result: ways, operations, and the cells."""
    alike: dict[Cell, dict[str, list[str]]] = {}
    for operation in OPERATIONS:
        for way in WAYS:
            alike.setdefault(found[way][operation], {}).setdefault(operation, []).append(way)
    rows = []
    for cell, by_operation in alike.items():
        by_ways: dict[str, list[str]] = {}
        for operation, ways in by_operation.items():
            by_ways.setdefault(", ".join(ways), []).append(operation)
        code, *facts = astuple(cell)
        rows += [[ways, ", ".join(operations), f"`{code}`", *facts] for ways, operations in by_ways.items()]
    return rows


def assert_no_empty_cell(found: dict[str, dict[str, Cell]], rows: list[list[str]]) -> None:
    assert all(set(found[way]) == set(OPERATIONS) for way in WAYS)
    assert all(all(cell for cell in row) for row in rows), rows
