"""Moving an artifact of any size takes little memory."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

MIB = 1 << 20
PROGRAM = """
import sys
from pathlib import Path
from sealgate.backend import ObjectStoreBackend
from sealgate.call import Call, Operation
from sealgate.plugin import Artifact

def memory(field):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(field)) // 1024

operation, path, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
backend, call, artifact = ObjectStoreBackend(), Call(Operation.SAVE), Artifact("key")
backend.is_directory(call, artifact)
idle = memory("VmRSS")
if operation == "save":
    backend.save(call, artifact, path)
elif operation == "load":
    backend.load(call, artifact, path)
elif operation == "open_stream":
    assert sum(map(len, backend.open_stream(call, artifact))) == size
else:
    chunk = bytearray(1 << 20)
    backend.save_stream(call, artifact, (memoryview(chunk) for _ in range(size >> 20)))
print(memory("VmHWM") - idle)
"""


def grown(operation, store, path, size):
    """Return by how many MiB one operation makes a process grow."""
    command = [sys.executable, "-c", PROGRAM, operation, str(path), str(size)]
    environment = os.environ | store.environment
    return int(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def check(store, tmp_path, size):
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(size)
    for operation, path in (
        ("save", source),
        ("load", tmp_path / "loaded"),
        ("open_stream", ""),
        ("save_stream", ""),
    ):
        assert grown(operation, store, path, size) <= 64, operation
    assert (tmp_path / "loaded").stat().st_size == size


@pytest.mark.parametrize("store", ["file", "versitygw"], indirect=True)
def test_a_large_file_takes_little_memory(store, tmp_path):
    check(store, tmp_path, 512 * MIB)


@pytest.mark.large
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("store", ["file", "versitygw"], indirect=True)
def test_a_file_of_gigabytes_takes_little_memory(store, tmp_path):
    check(store, tmp_path, 5000 * MIB)


@pytest.mark.parametrize("store", ["file", "versitygw"], indirect=True)
def test_a_directory_of_large_files_takes_little_memory(store, tmp_path):
    top = tmp_path / "top"
    top.mkdir()
    for number in range(60):
        with (top / f"{number}").open("wb") as file:
            file.truncate((number % 20) * MIB)
    assert grown("save", store, top, 0) <= 64
    assert grown("load", store, tmp_path / "loaded", 0) <= 64
    assert len(os.listdir(tmp_path / "loaded")) == 60
