"""Programs built from Go modules, once for each user."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness.tools import TOOLS

TESTS = Path(__file__).parents[1] / "go"
BENCH = Path(__file__).parents[2] / "bench" / "go"
_HELM = "helm.sh/helm/v3/cmd/helm"


def installed(package: str, version: str) -> Path:
    """Return the path of the program of a public module, and install it at the first call."""
    name = package.rsplit("/", 1)[-1]
    with _place_for(name) as (go, place):
        program = place / f"{name}-{version}"
        if not program.exists():
            subprocess.run([go, "install", f"{package}@{version}"], env=os.environ | {"GOBIN": str(place)}, check=True)
            (place / name).rename(program)
        return program


def judge(name: str) -> Path:
    """Return the path of `helm`, `argo` or `admission`, which validate the chart and are built from one module."""
    with _place_for("charts") as (go, place):
        made = _place_of_module(place, "charts", TESTS)
        _build(go, TESTS, made, "./admission", "./argo", _HELM)
        return made / name


def for_bench(name: str, *, build: bool = True) -> Path | None:
    """Return the path of `argo` or `link`, which the bench uses; None if it is neither built nor to be built."""
    with _place_for("bench") as (go, place):
        made = _place_of_module(place, "bench", BENCH)
        if build:
            _build(go, BENCH, made, "./argo", "./link")
        return made / name if made.exists() else None


def _place_of_module(place: Path, name: str, module: Path) -> Path:
    sources = (module / "go.mod", module / "go.sum", *sorted(module.glob("*/*.go")))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return place / f"{name}-{digest[:16]}"


def _build(go: str, module: Path, made: Path, *packages: str) -> None:
    if not made.exists():
        building = made.with_name(f"{made.name}-building")
        subprocess.run([go, "build", "-o", f"{building}/", *packages], cwd=module, check=True)
        building.rename(made)


@contextmanager
def _place_for(product: str) -> Iterator[tuple[str, Path]]:
    """Hold the lock of one product: a build may take minutes, and no test of another product waits for it."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed, and it builds the programs that validate the chart")
    place = TOOLS / "go"
    place.mkdir(parents=True, exist_ok=True)
    with (place / f".{product}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield go, place
