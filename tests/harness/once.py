"""Expensive fixtures that one process of a test run makes for all of them."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def made_once(factory: pytest.TempPathFactory, worker: str, name: str, make: Callable[[Path], Any]) -> Any:
    """Return the JSON result of `make`, which the first process calls with a directory for it."""
    base = factory.getbasetemp()
    place = (base if worker == "master" else base.parent) / name
    place.mkdir(exist_ok=True)
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer = place / "made.json"
        if not answer.exists():
            answer.write_text(json.dumps(make(place)))
    return json.loads(answer.read_text())
