"""The programs that judge the chart, and its renderings."""

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
    """The rendering of one file of charts/sealgate/ci, once."""
    return cache(helm.of)


@pytest.fixture(scope="session")
def decide() -> Callable[..., list[list[str]]]:
    """What an API server's own packages say to objects under a ValidatingAdmissionPolicy."""
    program = judge("admission")

    def decide(policy: dict[str, Any], *cases: dict[str, Any]) -> list[list[str]]:
        asked = json.dumps({"policy": policy, "cases": cases})
        done = subprocess.run([program], input=asked, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return decide
