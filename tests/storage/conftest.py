"""File systems of their own for tests of local files."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest


@pytest.fixture
def mounted(tmp_path) -> Iterator[Callable[[str], Path]]:
    """Mount a separate tmpfs with the given options."""
    path = tmp_path / "mounted"
    path.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path]
        with suppress(FileNotFoundError):
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return path
        pytest.skip("a tmpfs cannot be mounted here: that requires root in a separate mount namespace")

    yield mount
    if path.is_mount():
        subprocess.run(["umount", path], check=True)
