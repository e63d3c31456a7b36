"""A directory of as many files as a manifest may list: every operation works, and takes little memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psutil
import pytest
from harness.chain import SEALGATE, Proxy
from harness.memory import Watch
from harness.outcome import outcome
from harness.policy import document

log = logging.getLogger(__name__)
MIB = 1 << 20
MOST_GROWTH = 64
"""MiB."""
FILES = 100_000
IN_ONE_DIRECTORY = 1000


class Watched:
    """A proxy and its child: how much each of them has grown in each operation."""

    def __init__(self, proxy: Proxy) -> None:
        children = psutil.Process(proxy.process.pid).children(recursive=True)
        (backend,) = (child.pid for child in children if child.cmdline()[1:4] == [*SEALGATE[1:], "backend"])
        self._processes = {"proxy": proxy.process.pid, "backend": backend}
        self._idle = {name: psutil.Process(pid).memory_info().rss for name, pid in self._processes.items()}
        self.grown: dict[str, int] = {}

    @contextmanager
    def during(self, operation: str) -> Iterator[None]:
        began = time.monotonic()
        watches = {name: Watch(pid, self._idle[name]) for name, pid in self._processes.items()}
        with watches["proxy"], watches["backend"]:
            yield
        took = time.monotonic() - began
        for name, watch in watches.items():
            self.grown[f"{operation}, {name}"] = watch.grown // MIB
        grown = ", ".join(f"{name} {watch.grown // MIB} MiB" for name, watch in watches.items())
        log.info("%s: %.0f s; grown %s", operation, took, grown)  # pytest -rP --log-level=info shows it


@pytest.mark.large
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("transfer", ["file", "stream"])
def test_a_directory_of_100000_files_takes_little_memory(make, transfer):
    allow_all = {"settings": {"policies": [document([{"effect": "allow"}])], "spool": {"transfer": transfer}}}
    proxy = make(downstream=[*SEALGATE, "backend"], **allow_all).start()
    tree, loaded = proxy.work / "tree", proxy.work / "loaded"
    for number in range(FILES):
        file = tree / f"{number // IN_ONE_DIRECTORY:03}" / f"{number:06}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"%d" % number)
    with closing(proxy.argo(timeout=3000)) as argo:
        argo.save("warm", tree / "000")
        argo.load("warm", proxy.work / "warm")
        watched = Watched(proxy)
        with watched.during("Save"):
            argo.save("ns/many", tree)
        with watched.during("ListObjects"):
            listing = outcome(lambda: argo.list_objects("ns/many"))
        assert listing.code == "OK" or "Argo's client accepts less than" in listing.text
        with watched.during("Load"):
            argo.load("ns/many", loaded)
        assert (
            sum(path.read_bytes() == (tree / path.relative_to(loaded)).read_bytes() for path in loaded.glob("*/*"))
            == FILES
        )
        with watched.during("second Save"):
            argo.save("ns/many", tree)
        with watched.during("Delete"):
            argo.delete("ns/many")
        assert argo.is_directory("ns/many") is False
    assert max(watched.grown.values()) <= MOST_GROWTH, watched.grown
