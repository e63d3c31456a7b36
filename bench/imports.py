"""What each package adds to a starting server: `python -m bench.imports bare|sealgate SOCKET` prints it as JSON.

The process starts as the real one does, and notes its resident memory and the time around each module that it loads.
A module that loads another one is not charged for it.
"""

from __future__ import annotations

import importlib.abc
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent import futures
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERPRETER, STANDARD, OTHER = "interpreter", "standard library", "all but imports"
BEFORE, AFTER = "before the socket", "after the socket"
_ROLLUP = Path("/proc/self/smaps_rollup")


def _resident() -> float:
    """Return the resident memory in KiB. Unlike private memory, it does not depend on what else runs."""
    (found,) = (line for line in _ROLLUP.read_text().splitlines() if line.startswith("Rss:"))
    return float(found.split()[1])


_PARTS = {
    "google": "protobuf",
    "_cffi_backend": "cffi",
    "grpc_tools": "grpc",
    "grpc_health": "grpc",
    "grpc_reflection": "grpc",
}
"""Names of modules that belong to another package."""


def _package(module: str) -> str:
    first = module.partition(".")[0]
    return STANDARD if first in sys.stdlib_module_names else _PARTS.get(first, first)


class Ledger(importlib.abc.MetaPathFinder):
    """A finder that charges each package for the memory and the time between two notes."""

    def __init__(self) -> None:
        self.phase = BEFORE
        self.found: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
        """KiB and seconds, by phase and package, in the order of the first import that ended."""
        self._charged = [OTHER]
        self._memory = _resident()
        self.found[BEFORE, INTERPRETER] = [self._memory, 0.0]
        self._began = time.perf_counter()

    def note(self) -> None:
        """Charge the package at work with all since the last note. Reading the memory is charged to none."""
        seconds, memory = time.perf_counter() - self._began, _resident()
        entry = self.found[self.phase, self._charged[-1]]
        entry[0] += memory - self._memory
        entry[1] += seconds
        self._memory, self._began = memory, time.perf_counter()

    @contextmanager
    def charging(self, module: str) -> Iterator[None]:
        """Charge the package of `module`."""
        package = _package(module)
        if package == self._charged[-1]:
            yield
            return
        self.note()
        self._charged.append(package)
        try:
            yield
        finally:
            self.note()
            self._charged.pop()

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find the module as the other finders do, and watch its loader."""
        with self.charging(name):
            for finder in (each for each in sys.meta_path if each is not self):
                if (spec := finder.find_spec(name, path, target)) is not None:
                    if spec.loader is not None:
                        spec.loader = _Watched(spec.loader, self)
                    return spec
        return None


class _Watched(importlib.abc.Loader):
    """A loader whose work is charged."""

    def __init__(self, loader: Any, ledger: Ledger) -> None:
        self._loader = loader
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module. This loads the library of an extension."""
        with self._ledger.charging(spec.name):
            made: ModuleType | None = self._loader.create_module(spec)
            return made

    def exec_module(self, module: ModuleType) -> None:
        """Run the module."""
        with self._ledger.charging(module.__name__):
            self._loader.exec_module(module)


def _bare(socket: str, _ledger: Ledger) -> None:
    import grpc  # noqa: PLC0415 - what is imported is measured

    server = grpc.server(futures.ThreadPoolExecutor(128))
    server.add_insecure_port(f"unix:{socket}")
    server.start()


def _sealgate(socket: str, ledger: Ledger) -> None:
    """Do what `sealgate serve` does until it can answer calls, in one thread."""
    import sealgate.cli  # noqa: PLC0415 - what is imported is measured
    import sealgate.cli.serve  # noqa: F401, PLC0415 - what is imported is measured
    from sealgate.compose.starting import Composed, Starting  # noqa: PLC0415 - what is imported is measured
    from sealgate.plugin import Capabilities  # noqa: PLC0415 - what is imported is measured
    from sealgate.rpc.server import ArtifactServer  # noqa: PLC0415 - what is imported is measured
    from sealgate.telemetry.log import configure  # noqa: PLC0415 - what is imported is measured

    def never() -> Composed:
        raise NotImplementedError  # the stack is composed below, in this thread

    configure()
    ArtifactServer(Starting(never, Capabilities(save_stream=True))).start(socket)
    ledger.note()
    ledger.phase = AFTER
    from sealgate.compose.stack import proxy  # noqa: PLC0415 - what is imported is measured

    proxy(socket)


def main(kind: str, socket: str) -> None:
    ledger = Ledger()
    sys.meta_path.insert(0, ledger)
    {"bare": _bare, "sealgate": _sealgate}[kind](socket, ledger)
    ledger.note()
    # Some packages are looked for and not installed.
    loaded = {INTERPRETER, STANDARD, OTHER, *map(_package, sys.modules)}
    found = [[*key, *amounts] for key, amounts in ledger.found.items() if key[1] in loaded]
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    os._exit(0)  # a normal exit would wait for the threads of the server


if __name__ == "__main__":
    main(*sys.argv[1:])
