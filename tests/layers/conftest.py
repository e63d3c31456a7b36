"""The fixture that builds stacks of layers, as many as a test needs."""

from __future__ import annotations

import pytest
from harness.layer_bench import Bench


@pytest.fixture
def make(tmp_path):
    made = []

    def begin(*written, **options):
        made.append(Bench(tmp_path / str(len(made)), *written, **options))
        return made[-1]

    return begin
