"""Fixtures of the command line tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.doctor import Doctor, doctor_at


@pytest.fixture
def doctor(tmp_path: Path) -> Iterator[Doctor]:
    """`sealgate doctor` with its own home directory."""
    with doctor_at(tmp_path) as made:
        yield made


@pytest.fixture
def sent(tmp_path: Path) -> Callable[[str], str]:
    """Write a file with an artifact's `plugin.configuration`, and return its path."""

    def write(text: str) -> str:
        (tmp_path / "sent.yaml").write_text(text)
        return str(tmp_path / "sent.yaml")

    return write
