"""A proxy with a stored artifact, on which tests try every operation, with and without faults."""

from __future__ import annotations

from collections.abc import Callable

from harness.argo import Argo
from harness.chain import Proxy, eventually
from harness.content import blob
from harness.outcome import Outcome, outcome

LARGE = (3 << 20) + 17
OPERATIONS = ["Load", "OpenStream", "Save", "SaveStream", "Delete", "ListObjects", "IsDirectory"]


_BY_FILE = {"OpenStream": "Load", "SaveStream": "Save"}
_BY_STREAM = {"Load": "OpenStream", "Save": "SaveStream"}
_FOR_FILES = {"file": _BY_FILE, "stream": _BY_STREAM, "auto": _BY_STREAM}


def first_below(operation: str, transfer: str) -> str:
    """Return the operation of the downstream that a proxy calls first to move a file, by `spool.transfer`."""
    return _FOR_FILES[transfer].get(operation, operation)


class Stand:
    """A proxy, the key `stored` of an artifact that exists once `fill` was called, and the key `new` of one to save."""

    def __init__(self, proxy: Proxy, key: str) -> None:
        self.proxy = proxy
        self.stored = f"{key}-stored"
        self.new = f"{key}-new"
        self.target = proxy.work / key.replace("/", "-")
        self.source = proxy.work / f"{self.target.name}-source"
        self.source.write_bytes(blob(LARGE))

    def fill(self) -> None:
        self.proxy.argo().save_stream(self.stored, blob(LARGE))

    def key(self, operation: str) -> str:
        return self.new if operation.startswith("Save") else self.stored

    def downstream_operation(self, operation: str) -> str:
        """Return the operation of the downstream that the proxy calls for `operation`."""
        return first_below(operation, self.proxy.settings["spool"]["transfer"])

    def tries(self, argo: Argo) -> dict[str, Callable[[], object]]:
        return {
            "Load": lambda: argo.load(self.stored, self.target),
            "OpenStream": lambda: argo.open_stream(self.stored),
            "Save": lambda: argo.save(self.new, self.source),
            "SaveStream": lambda: argo.save_stream(self.new, blob(LARGE)),
            "Delete": lambda: argo.delete(self.stored),
            "ListObjects": lambda: argo.list_objects(self.stored),
            "IsDirectory": lambda: argo.is_directory(self.stored),
        }

    def attempt(self, operation: str, configuration: str = "{}", timeout: float = 60) -> Outcome:
        return outcome(self.tries(self.proxy.argo(configuration, timeout))[operation])

    def assert_clean(self) -> None:
        """Check that a failed call has left nothing, and that the next one works."""
        assert not self.target.exists()
        assert not (self.proxy.storage / self.new).exists()
        assert eventually(lambda: not self.proxy.spools()), self.proxy.spools()
        assert eventually(lambda: not [p for p in self.proxy.work.iterdir() if p.name.startswith(".")])
        assert self.attempt("Save").code == "OK"
        assert self.proxy.argo().open_stream(self.new) == blob(LARGE)
        (self.proxy.storage / self.new).unlink()


def filled(proxy: Proxy, key: str) -> Stand:
    stand = Stand(proxy, key)
    stand.fill()
    return stand
