"""`sealgate doctor` with a home of its own for each test."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.doctor import Doctor


@pytest.fixture
def doctor(tmp_path: Path) -> Iterator[Doctor]:
    # Paths of sockets must be short, and pytest's own are not.
    with tempfile.TemporaryDirectory(prefix="sg-") as short:
        yield Doctor(tmp_path, Path(short))


@pytest.fixture
def sent(tmp_path: Path) -> Callable[[str], str]:
    """A file with what Argo would send as `artifact.plugin.configuration`."""

    def write(text: str) -> str:
        (tmp_path / "sent.yaml").write_text(text)
        return str(tmp_path / "sent.yaml")

    return write
