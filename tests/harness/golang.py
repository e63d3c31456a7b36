"""Programs that are built from Go modules, once for this virtual environment."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

HELM = ("helm.sh/helm/v3/cmd/helm", "v3.19.0")


def installed(package: str, version: str) -> Path:
    """The program of a public module."""
    with _place() as (go, place):
        program = place / f"{package.rsplit('/', 1)[-1]}-{version}"
        if not program.exists():
            subprocess.run([go, "install", f"{package}@{version}"], env=os.environ | {"GOBIN": str(place)}, check=True)
            (place / package.rsplit("/", 1)[-1]).rename(program)
        return program


def built(source: Path, *options: str) -> Path:
    """The program whose module lies in `source`; anew if it was changed."""
    with _place() as (go, place):
        texts = b"".join(path.read_bytes() for path in sorted(source.iterdir()) if path.is_file())
        program = place / f"{source.name}-{hashlib.sha256(texts).hexdigest()[:16]}"
        if not program.exists():
            subprocess.run([go, "build", *options, "-o", program, "."], cwd=source, check=True)
        return program


@contextmanager
def _place() -> Iterator[tuple[str, Path]]:
    go = shutil.which("go")
    if go is None:
        pytest.skip("there is no Go to build with")
    place = Path(sys.prefix, "go", "bin")
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield go, place
