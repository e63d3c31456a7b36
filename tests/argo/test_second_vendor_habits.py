"""The second vendor's plugin has the habits of the published one, and each can be switched off."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.argo import Argo
from harness.chain import SECOND_VENDOR, TESTS, eventually
from harness.content import read_tree
from harness.outcome import IN_THE_ANSWER, Outcome, outcome

ALL = "absent-text,delete-one,keep-old,temporary-name,end-after-error,print-request"
MISSING = "The specified key does not exist."


class Vendor:
    def __init__(self, home: Path, socket: Path) -> None:
        self.work, self.log, self.socket = home / "work", home / "log", socket
        self.work.mkdir()

    def argo(self, configuration: str = "{}") -> Argo:
        return Argo(self.socket, configuration)

    def file(self, name: str, data: bytes = b"x") -> Path:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[[str], Vendor]]:
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory(prefix="sg-") as short:

        def run(without: str = "") -> Vendor:
            vendor = Vendor(tmp_path, Path(short) / "socket")
            (tmp_path / "bucket").mkdir()
            environment = {
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(TESTS.parent / "proxy"),
                "VENDOR_ROOT": str(tmp_path / "bucket"),
                "VENDOR_WITHOUT": without,
            }
            with vendor.log.open("wb") as log:
                processes.append(subprocess.Popen([*SECOND_VENDOR, str(vendor.socket)], env=environment, stdout=log))
            assert eventually(vendor.socket.exists)
            return vendor

        yield run
        for process in processes:
            process.kill()
            process.wait()


def test_it_has_every_habit(start):
    vendor = start()
    argo = vendor.argo("password: hunter22\n")
    assert outcome(lambda: argo.list_objects("ns/f")) == Outcome(IN_THE_ANSWER, "no key found of name ns/f")
    assert outcome(lambda: argo.open_stream("ns/f")) == Outcome("INTERNAL", MISSING)
    assert outcome(lambda: argo.load("ns/f", vendor.work / "none")) == Outcome(IN_THE_ANSWER, MISSING)
    argo.delete("ns/f")

    vendor.file("one/a")
    vendor.file("one/b")
    (vendor.work / "one" / "empty").mkdir()
    vendor.file("two/a", b"y")
    for tree in ("one", "two"):
        argo.save("ns/t", vendor.work / tree)
    argo.save("ns/t", vendor.file("f"))
    assert argo.list_objects("ns/t") == ["ns/t/a", "ns/t/b"]
    assert (argo.is_directory("ns/t"), argo.open_stream("ns/t")) == (True, b"x")
    argo.delete("ns/t")
    assert argo.list_objects("ns/t") == ["ns/t/a", "ns/t/b"]
    assert outcome(lambda: argo.open_stream("ns/t")).text.startswith("Directory Stream capability")
    argo.load("ns/t", vendor.work / "loaded")
    assert read_tree(vendor.work / "loaded") == {"a": b"y", "b": b"x"}
    argo.delete("ns/t/")
    assert argo.is_directory("ns/t") is False

    argo.save("ns/f", vendor.file("f", bytes(300)))
    assert vendor.argo("read: fails\n").open_stream("ns/f") == bytes(200), "a clean end"
    argo.load("ns/f", vendor.work / "in" / "f")
    assert len([*(vendor.work / "in").iterdir()]) == 2
    assert "hunter22" in vendor.log.read_text()


def test_each_habit_can_be_switched_off(start):
    vendor = start(ALL)
    argo = vendor.argo("password: hunter22\n")
    assert argo.list_objects("ns/f") == []
    assert outcome(lambda: argo.open_stream("ns/f")) == Outcome(IN_THE_ANSWER, "object not found")
    vendor.file("one/a")
    argo.save("ns/t", vendor.work / "one")
    argo.save("ns/t", vendor.file("f"))
    assert argo.list_objects("ns/t") == []
    argo.save("ns/t", vendor.work / "one")
    argo.delete("ns/t")
    assert argo.is_directory("ns/t") is False
    argo.save("ns/f", vendor.file("f", bytes(300)))
    assert outcome(lambda: vendor.argo("read: fails\n").open_stream("ns/f")).code == "INTERNAL"
    argo.load("ns/f", vendor.work / "in" / "f")
    assert [path.name for path in (vendor.work / "in").iterdir()] == ["f"]
    assert "hunter22" not in vendor.log.read_text()
