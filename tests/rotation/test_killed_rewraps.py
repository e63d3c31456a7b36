"""`sealgate rewrap` is killed over and over, and the directory that it moves loads whole after each kill."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path

import pytest
from harness.chain import SEALGATE, TESTS, Proxy, eventually
from harness.content import blob, read_tree
from harness.kills import Storage

from sealgate import envelope

pytestmark = pytest.mark.process
FILES = 12
MOVED_BEFORE_A_KILL = 4
RATE = "40"
"""Objects a second: slow enough that a kill comes before the next four are moved."""


def write_keyring(path, latest):
    versions = {str(n): base64.b64encode(bytes([n]) * 32).decode() for n in range(1, latest + 1)}
    path.write_text(json.dumps({"keys": {"default": {"latest": latest, "versions": versions}}}))
    path.chmod(0o600)


def test_sigkill_during_rewraps_leaves_a_directory_that_loads_whole(tmp_path):
    write_keyring(tmp_path / "keyring.json", latest=1)
    proxy = Proxy(tmp_path, downstream=[*SEALGATE, "backend"])
    storage = Storage({}, proxy.storage, many=1)
    command = [*SEALGATE, "rewrap", "ns", "--rate", RATE]
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(TESTS.parent / "proxy"),
        "SEALGATE_BACKEND_URL": proxy.storage.as_uri(),
        "SEALGATE_CONFIG_YAML": json.dumps(proxy.settings),
    }
    source = proxy.work / "source"
    for number in range(FILES):
        path = source / f"{number % 3}" / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(blob(5000, number))
    proxy.start()

    def is_whole(run):
        target = proxy.work / f"loaded-{run}"
        proxy.argo().load("ns/tree", target)
        return read_tree(target) == read_tree(source)

    def versions():
        objects = [Path(path).read_bytes() for path in storage.files_of("ns/tree")]
        return sorted(envelope.split_stream(iter([sealed]))[0].key.key_version for sealed in objects)

    try:
        proxy.argo().save("ns/tree", source)
        assert versions() == [1] * (FILES + 1)
        write_keyring(tmp_path / "keyring.json", latest=2)
        kills = 0
        while True:
            before = storage.files_of("ns/tree")
            running = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            assert eventually(
                lambda before=before, running=running: (
                    running.poll() is not None or storage.changes("ns/tree", before) >= MOVED_BEFORE_A_KILL
                )
            )
            running.kill()
            code = running.wait()
            assert is_whole(kills)
            if code == 0:
                break
            kills += 1
            assert versions().count(2) >= kills * MOVED_BEFORE_A_KILL
        assert kills >= 2
        assert versions() == [2] * (FILES + 1)
    finally:
        assert proxy.stop() == 0
