"""The programs that validate the chart, and its renderings."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from harness.golang import judge
from harness.rendering import Helm, Rendered


@pytest.fixture(scope="session")
def helm() -> Helm:
    return Helm(judge("helm"))


@pytest.fixture(scope="session")
def of(helm) -> Callable[[str], Rendered]:
    """Return the rendering of a file in charts/sealgate/ci, and render each file once."""
    return cache(helm.of)


@pytest.fixture(scope="session")
def decide() -> Callable[..., list[list[str]]]:
    """Return the messages with which an API server's packages refuse each object under an admission policy."""
    program = judge("admission")

    def decide(policy: dict[str, Any], *cases: dict[str, Any]) -> list[list[str]]:
        asked = json.dumps({"policy": policy, "cases": cases})
        done = subprocess.run([program], input=asked, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return decide
