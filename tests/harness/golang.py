"""Programs built from Go modules, once for each user.

`python -m harness.golang` builds those of this repository before the tests, whose time limits are too short for a build
on a machine that has never built them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from harness.tools import TOOLS

TESTS = Path(__file__).parents[1] / "go"
BENCH = Path(__file__).parents[2] / "bench" / "go"
_ARGO = "github.com/argoproj/argo-workflows/v4"
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
        made = _place_of_module(place, "charts", TESTS, "admission", "argo")
        _build(go, TESTS, made, "./admission", "./argo", _HELM)
        return made / name


def driver() -> Path:
    """Return the path of `driver`, which calls plugins by Argo's own driver."""
    with _place_for("driver") as (go, place):
        made = _place_of_module(place, "driver", TESTS, "driver")
        if not made.exists():
            fetched = subprocess.run([go, "mod", "download", _ARGO], cwd=TESTS, capture_output=True, check=False)
            if fetched.returncode != 0:
                pytest.skip(f"Go cannot download {_ARGO}, whose driver the test runs")
            _build(go, TESTS, made, "./driver")
        return made / "driver"


def for_bench(name: str, *, build: bool = True) -> Path | None:
    """Return the path of `argo` or `link`, which the bench uses; None if it is neither built nor to be built."""
    with _place_for("bench") as (go, place):
        made = _place_of_module(place, "bench", BENCH, "argo", "link")
        if build:
            _build(go, BENCH, made, "./argo", "./link")
        return made / name if made.exists() else None


def _place_of_module(place: Path, name: str, module: Path, *packages: str) -> Path:
    sources = (path for package in packages for path in sorted((module / package).glob("*.go")))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in (module / "go.mod", module / "go.sum", *sources)))
    return place / f"{name}-{digest.hexdigest()[:16]}"


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
        pytest.skip("Go is not installed, and it builds the programs that the test runs")
    place = TOOLS / "go"
    place.mkdir(parents=True, exist_ok=True)
    with (place / f".{product}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield go, place


def build_all() -> None:
    """Build the programs of this repository. Where one cannot be built, its tests try again, and say why."""
    for build in (driver, partial(judge, "argo"), partial(for_bench, "argo")):
        try:
            build()
        except (pytest.skip.Exception, subprocess.CalledProcessError) as reason:
            print(f"A program that tests need is not built: {reason}")  # noqa: T201 - `make` shows it


if __name__ == "__main__":
    build_all()
