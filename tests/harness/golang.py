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

CHARTS = Path(__file__).parents[1] / "charts" / "go"
_HELM = "helm.sh/helm/v3/cmd/helm"


def installed(package: str, version: str) -> Path:
    """Return the path of the program of a public module, and install it at the first call."""
    with _place() as (go, place):
        program = place / f"{package.rsplit('/', 1)[-1]}-{version}"
        if not program.exists():
            subprocess.run([go, "install", f"{package}@{version}"], env=os.environ | {"GOBIN": str(place)}, check=True)
            (place / package.rsplit("/", 1)[-1]).rename(program)
        return program


def judge(name: str) -> Path:
    """Return the path of `helm`, `argo` or `admission`, which validate the chart and are built from one module."""
    sources = (CHARTS / "go.mod", CHARTS / "go.sum", *sorted(CHARTS.glob("*/*.go")))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    with _place() as (go, place):
        made = place / f"charts-{digest[:16]}"
        if not made.exists():
            building = place / "building"
            command = [go, "build", "-o", f"{building}/", "./admission", "./argo", _HELM]
            subprocess.run(command, cwd=CHARTS, check=True)
            building.rename(made)
        return made / name


@contextmanager
def _place() -> Iterator[tuple[str, Path]]:
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed, and it builds the programs that validate the chart")
    place = TOOLS / "go"
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield go, place
