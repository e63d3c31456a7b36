"""A connection to the downstream that breaks anywhere in an answer is a passing fault, and never a changed object."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.chain import VENDOR, Proxy, eventually
from harness.content import write_tree
from harness.outcome import assert_own_line, outcome
from harness.relay import Relay
from harness.stand import Stand

from sealgate.rpc.child import ChildProcess

pytestmark = pytest.mark.process

OVERHEAD = 300
"""More bytes than a new connection and the end of an answer take, without which an answer can be complete."""
READS = ("Load", "OpenStream", "ListObjects", "IsDirectory")


@dataclass
class Cut:
    """A proxy with stored artifacts, and the relay between it and its downstream."""

    stand: Stand
    relay: Relay
    directory: str

    def size(self, do) -> int:
        """Return how many bytes of the downstream's answers the operation `do` needs, with a connection that is new."""
        self.relay.most, self.relay.passed = 0, 0
        assert outcome(do).code == "UNAVAILABLE"
        self.relay.most, self.relay.passed = None, 0
        assert outcome(do).code == "OK"
        return self.relay.passed

    def broken(self, do, most: int):
        """Return the outcome of `do` if the connection breaks after `most` bytes."""
        self.relay.most, self.relay.passed = most, 0
        try:
            return outcome(do)
        finally:
            self.relay.most = None


@pytest.fixture(scope="module")
def cut(tmp_path_factory) -> Iterator[Cut]:
    home = tmp_path_factory.mktemp("cut")
    with tempfile.TemporaryDirectory(prefix="sg-") as short, pytest.MonkeyPatch.context() as patch:
        sockets = Path(short)
        patch.setenv("VENDOR_ROOT", str(home / "storage"))
        patch.setenv("VENDOR_STREAMS", "1")
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "proxy"))
        vendor = ChildProcess(VENDOR, sockets / "vendor", 60)
        assert eventually((sockets / "vendor").exists)
        relay = Relay(sockets / "relay", sockets / "vendor")
        proxy = Proxy(
            home, downstream={"socket": str(sockets / "relay")}, settings={"spool": {"transfer": "stream"}}
        ).start()
        stand = Stand(proxy, "ns/one")
        stand.fill()
        tree = write_tree(proxy.work / "tree")
        (tree / "nothing in it").rmdir()  # a stream cannot carry an empty directory
        proxy.argo().save("ns/tree", tree)
        yield Cut(stand, relay, "ns/tree")
        assert proxy.stop() == 0, proxy.output()
        relay.close()
        vendor.close()


def places(size: int) -> list[int]:
    """Return numbers of bytes: the first ones, some in every part, and the last ones."""
    return sorted({*range(0, 120, 7), *range(0, size, max(1, size // 15)), *range(size - 30, size, 7)})


@pytest.mark.parametrize("operation", READS)
def test_an_answer_that_breaks_off_is_unavailable(cut, operation):
    argo = cut.stand.proxy.argo()
    do = cut.stand.tries(argo)[operation]
    size = cut.size(do)
    cut.stand.target.unlink(missing_ok=True)
    for most in places(size):
        found = cut.broken(do, most)
        if found.code == "OK":
            assert size - most < OVERHEAD
            cut.stand.target.unlink(missing_ok=True)
            continue
        assert_own_line(found, "UNAVAILABLE", operation, cut.stand.stored)
        assert "the connection to the downstream broke before its answer was complete" in found.text
        assert "Restore" not in found.text
        assert not cut.stand.target.exists()


def test_a_directory_whose_load_breaks_off_is_unavailable(cut):
    argo, target = cut.stand.proxy.argo(), cut.stand.proxy.work / "out"
    target.mkdir()

    def do() -> None:
        argo.load(cut.directory, target / str(len(list(target.iterdir()))))

    size = cut.size(do)
    before = len(list(target.iterdir()))
    for most in places(size):
        found = cut.broken(do, most)
        if found.code != "OK":
            assert_own_line(found, "UNAVAILABLE", "Load", cut.directory)
            assert "the connection to the downstream broke before its answer was complete" in found.text
        else:
            assert size - most < OVERHEAD
            before += 1
    assert len(list(target.iterdir())) == before
