"""The walk-through of docs/recovery.md, on artifacts of `sealgate serve`, with its own code, curl, OpenBao, Tink."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness.chain import SEALGATE, Proxy
from harness.content import blob
from harness.sealing import Tree, build, tree_at

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "recovery.md"
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MODEL, SCORES = blob((3 << 20) + 17), b"name,score\n" * 1000
RESULTS: Tree = {"2026": {"scores.csv": SCORES}, "empty": {}, "notes": b""}
VECTORS = ROOT / "tests" / "vectors"


@pytest.fixture
def transit(openbao):
    """A mount and keys with the names of the page."""
    yield openbao.transit(mount="transit")
    openbao.api("DELETE", "sys/mounts/transit")


@pytest.fixture(params=["", "team-a"], ids=["plain key", "derived key"])
def stored(request, transit, tmp_path):
    """A directory with a stored file, a stored directory and the definition of the messages."""
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
    results = build(proxy.work / "results", RESULTS)
    (proxy.work / "model.bin").write_bytes(MODEL)
    proxy.argo().save("ns/train/model.bin", proxy.work / "model.bin")
    proxy.argo().save("ns/train/results", results)
    proxy.stop()
    place = tmp_path / "recovery"
    place.mkdir()
    shutil.copy(proxy.storage / "ns/train/model.bin", place / "model.sealed")
    shutil.copytree(proxy.storage / "ns/train/results", place / "results.sealed")
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


def test_the_walk_through_opens_a_file_a_file_of_a_directory_and_a_directory(stored, run):
    commands = walk_through(stored)
    for command in commands:
        result = run(command)
        assert result.returncode == 0, (command, result.stderr)
    assert (stored / "model.bin").read_bytes() == MODEL
    assert (stored / "scores.csv").read_bytes() == SCORES
    assert tree_at(stored / "results") == RESULTS
    left = {path.name for path in stored.iterdir() if path.name != "__pycache__"}
    assert left == {
        "envelope.proto", "envelope_pb2.py", "header.py", "body.py", "directory.py",
        "model.sealed", "results.sealed", "model.bin", "scores.csv", "results",
    }  # fmt: skip

    # The programs of the page refuse what Sealgate refuses.
    token, model, scores, directory, _ = commands[commands.index("python header.py model.sealed") + 1 :]
    assert run(token).returncode == 0
    assert run(scores.replace("scores.csv >", "other.csv >")).returncode != 0
    last = (stored / "model.sealed").read_bytes()
    (stored / "model.sealed").write_bytes(last[:-1] + bytes([last[-1] ^ 1]))
    assert run(model).returncode != 0
    shutil.rmtree(stored / "results")
    (stored / "results.sealed" / "planted").write_bytes(b"not sealed")
    opened = run(directory)
    assert opened.returncode == 0
    left_out = sum(path.is_file() for path in (stored / "results.sealed").rglob("*")) - 3
    assert f"opened 2 files, left out {left_out}" in opened.stderr.splitlines()
    assert tree_at(stored / "results") == RESULTS
    shutil.rmtree(stored / "results")
    (stored / "results.sealed" / "notes").unlink()
    refused = run(directory)
    assert refused.returncode != 0
    assert "refused: notes is missing" in refused.stderr


EACH = """
import io, json, sys
import directory

outcomes = {}
for name, case in json.load(open("cases.json")).items():
    sys.stdin = io.StringIO(json.dumps({"data": {"plaintext": case["data_key"]}}))
    try:
        directory.main(name, case["artifact_key"], name + ".opened")
    except BaseException as fault:
        outcomes[name] = repr(fault)
    else:
        outcomes[name] = ""
print(json.dumps(outcomes))
"""


def test_the_program_of_the_page_gives_the_result_of_every_vector_of_a_directory(tmp_path):
    walk_through(tmp_path)
    shutil.copy(ROOT / "proto" / "envelope.proto", tmp_path)
    python = [sys.executable, "-m", "grpc_tools.protoc", "--proto_path=.", "--python_out=.", "envelope.proto"]
    subprocess.run(python, cwd=tmp_path, check=True)
    vectors = json.loads((VECTORS / "vectors.json").read_text())["directories"]
    cases = {}
    for vector in vectors:
        place = tmp_path / vector["name"]
        for path, file in vector["objects"].items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(VECTORS / file, place / path)
        manifest = place / ".sealgate-manifest"
        known = (
            key
            for text, key in vector["data_keys"].items()
            if manifest.exists() and text.encode() in manifest.read_bytes()
        )
        data_key = base64.b64encode(bytes.fromhex(next(known, ""))).decode()
        cases[vector["name"]] = {"data_key": data_key, "artifact_key": vector["artifact_key"]}
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    answer = subprocess.run([sys.executable, "-c", EACH], cwd=tmp_path, capture_output=True, check=True)
    outcomes = json.loads(answer.stdout)
    # The page uses the data key of the manifest for every file, so an exchanged key envelope of a file has no effect.
    opened = {vector["name"] for vector in vectors if "files" in vector} | {"directory-file-key-exchanged"}
    assert {name for name, fault in outcomes.items() if not fault} == opened
    for vector in vectors:
        if "files" in vector:
            facts = {path: (facts["size"], facts["sha256"]) for path, facts in vector["files"].items()}
            assert facts_at(tmp_path / f"{vector['name']}.opened") == facts


def facts_at(place: Path) -> dict[str, tuple[int, str]]:
    """Return size and SHA-256 of every file beneath `place`."""
    files = {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()}
    return {path: (len(content), hashlib.sha256(content).hexdigest()) for path, content in files.items()}


def walk_through(place: Path) -> list[str]:
    """Write the programs of the page to `place`, and return its commands in order."""
    commands: list[str] = []
    for language, text in BLOCK.findall(PAGE.read_text().partition("\n## Without Sealgate\n")[2]):
        if language == "python":
            name, _, program = text.partition("\n")
            assert re.search(r"^(import|from) (sealgate|proxy|policies|backend)", program, re.MULTILINE) is None
            (place / name.removeprefix("# ")).write_text(program)
        else:
            commands += [line.removeprefix("$ ") for line in text.splitlines()]
    return commands
