"""What tests of several rooms need."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from proxy.plugin import Call, Operation

settings.register_profile("sealgate", deadline=None)  # a shared machine may pause for any time
settings.load_profile("sealgate")


@pytest.fixture
def call() -> Call:
    return Call(Operation.LOAD)


@pytest.fixture(params=[0o000, 0o022, 0o077], ids="umask-{:03o}".format)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """The test runs under each of these."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def keyring(tmp_path: Path) -> Path:
    """A keyring file with version 1 of the key `default`."""
    path = tmp_path / "keyring.json"
    path.touch(mode=0o600)
    key = base64.b64encode(bytes(range(32))).decode()
    path.write_text(json.dumps({"keys": {"default": {"latest": 1, "versions": {"1": key}}}}))
    return path
