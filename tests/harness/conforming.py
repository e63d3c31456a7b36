"""Runs the checks of `sealgate conformance` in this process, small enough for `make test`."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from sealgate.conformance.catalogue import CHECKS
from sealgate.conformance.checks import ContractResult, ContractState, run_checks, with_needs
from sealgate.conformance.client import ArgoClient
from sealgate.conformance.program import Program
from sealgate.conformance.workspace import Extent, Workspace

LARGEST = (1 << 16) + 1
NAMES = tuple(check.name for check in CHECKS)
WITH_PROCESS = frozenset(check.name for check in CHECKS if check.asks_process)
SLOW = frozenset(
    {
        "concurrency",
        "connection-timeout",
        "connections",
        "directory-many",
        "load-cancel",
        "stream-cancel",
        "upload-cut-old",
        "upload-sizes",
    }
)
"""Checks that move more or wait longer than the others."""


class Run:
    """The results of one run by the names of the checks, and what it left."""

    def __init__(self, results: list[ContractResult], left: list[str]) -> None:
        self.results = {result.check.name: result for result in results}
        self.left = left

    def named(self, state: ContractState) -> set[str]:
        return {name for name, result in self.results.items() if result.state is state}

    @property
    def failed(self) -> set[str]:
        return self.named(ContractState.FAIL)

    def found(self) -> str:
        return "\n".join(f"{result.state} {name}: {result.found}" for name, result in self.results.items())


def run_on(
    directory: Path,
    names: Iterable[str],
    *,
    socket: Path | str | None = None,
    command: list[str] | None = None,
    seconds: float = 20,
    files: int = 40,
    settle: float = 0.05,
) -> Run:
    """Run the checks `names`, and those that they need, on the plugin at `socket` or the one that `command` starts."""
    logging.getLogger("grpc").addHandler(logging.NullHandler())
    extent = Extent(LARGEST, files, seconds, settle)
    workspace = Workspace(extent, directory, "tests/conformance", lambda at: ArgoClient(at, "{}", "vendor", seconds))
    workspace.program = Program(command, seconds) if command else None
    left: list[str] = []
    try:
        if socket is not None:
            workspace.use(str(socket))
        results = list(run_checks(with_needs(CHECKS, names), workspace))
    finally:
        left.extend(workspace.close())
    return Run(results, left)
