"""The walk-through of docs/recovery.md, on artifacts of `sealgate serve`, with its own code, curl, OpenBao, Tink."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness.chain import SEALGATE, Proxy
from harness.content import blob

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "recovery.md"
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MODEL, SCORES = blob((3 << 20) + 17), b"name,score\n" * 1000


@pytest.fixture
def transit(openbao):
    """A mount and keys with the names of the page."""
    yield openbao.transit(mount="transit")
    openbao.api("DELETE", "sys/mounts/transit")


@pytest.fixture(params=["", "team-a"], ids=["plain key", "derived key"])
def stored(request, transit, tmp_path):
    """A directory with two stored objects and the definition of the messages."""
    if request.param:
        transit.delete_key()
        transit.create_key("artifacts", derived=True)
    vault = {"address": transit.server.address, "auth": {"method": "token"}, "context": request.param}
    proxy = Proxy(
        tmp_path,
        downstream=[*SEALGATE, "backend"],
        settings={"keys": {"provider": "vault", "vault": vault}},
        environment={"VAULT_TOKEN": transit.server.root},
    ).start()
    results = proxy.work / "results"
    (results / "2026").mkdir(parents=True)
    (results / "2026" / "scores.csv").write_bytes(SCORES)
    (results / "notes").write_bytes(b"")
    (proxy.work / "model.bin").write_bytes(MODEL)
    proxy.argo().save("ns/train/model.bin", proxy.work / "model.bin")
    proxy.argo().save("ns/train/results", results)
    proxy.stop()
    place = tmp_path / "recovery"
    place.mkdir()
    shutil.copy(proxy.storage / "ns/train/model.bin", place / "model.sealed")
    shutil.copy(proxy.storage / "ns/train/results/2026/scores.csv", place / "scores.sealed")
    shutil.copy(ROOT / "proto" / "envelope.proto", place)
    return place


@pytest.fixture
def run(transit, stored):
    """Run a command of the page with a token that may only open data keys."""
    assert shutil.which("curl"), "curl is missing, and the walk-through needs it: apt-get install curl"
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "VAULT_ADDR": transit.server.address,
        "VAULT_TOKEN": transit.token(*transit.shipped_policies("loader")),
    }
    return lambda command: subprocess.run(
        command, shell=True, cwd=stored, env=environment, capture_output=True, text=True, check=False
    )


def test_the_walk_through_opens_a_file_and_a_file_of_a_directory(stored, run):
    commands = walk_through(stored)
    for command in commands:
        result = run(command)
        assert result.returncode == 0, (command, result.stderr)
    assert (stored / "model.bin").read_bytes() == MODEL
    assert (stored / "scores.csv").read_bytes() == SCORES
    left = {path.name for path in stored.iterdir() if path.name != "__pycache__"}
    assert left == {
        "envelope.proto", "envelope_pb2.py", "header.py", "body.py",
        "model.sealed", "scores.sealed", "model.bin", "scores.csv",
    }  # fmt: skip

    # The programs of the page refuse what Sealgate refuses.
    last = (stored / "model.sealed").read_bytes()
    (stored / "model.sealed").write_bytes(last[:-1] + bytes([last[-1] ^ 1]))
    (stored / "model.bin").unlink()
    by_name = {name: command for name in ("model", "scores") for command in commands if f"body.py {name}" in command}
    run(commands[commands.index(by_name["model"]) - 1])
    assert run(by_name["model"]).returncode != 0
    assert run(by_name["scores"]).returncode == 0
    assert run(by_name["scores"].replace("scores.csv >", "other.csv >")).returncode != 0


def walk_through(place: Path) -> list[str]:
    """Write the programs of the page to `place`, and return its commands in order."""
    commands: list[str] = []
    for language, text in BLOCK.findall(PAGE.read_text().partition("\n## Without Sealgate\n")[2]):
        if language == "python":
            name, _, program = text.partition("\n")
            assert re.search(r"^(import|from) (proxy|policies|backend)", program, re.MULTILINE) is None
            (place / name.removeprefix("# ")).write_text(program)
        else:
            commands += [line.removeprefix("$ ") for line in text.splitlines()]
    return commands
