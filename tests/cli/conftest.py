"""`sealgate doctor` with a home of its own for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.doctor import Doctor, doctor_at


@pytest.fixture
def doctor(tmp_path: Path) -> Iterator[Doctor]:
    with doctor_at(tmp_path) as made:
        yield made


@pytest.fixture
def sent(tmp_path: Path) -> Callable[[str], str]:
    """A file with what Argo would send as `artifact.plugin.configuration`."""

    def write(text: str) -> str:
        (tmp_path / "sent.yaml").write_text(text)
        return str(tmp_path / "sent.yaml")

    return write
