"""Every reader gives the stated result for every test vector, and the generator writes the same vectors again."""

from __future__ import annotations

import filecmp
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from harness.sealing import Outcome, opened_by_file, opened_by_stream

from sealgate.call import Call, Operation
from sealgate.envelope import Unlock, read_header
from sealgate.keys.local import LocalKeys

VECTORS = Path(__file__).parents[1] / "vectors"
MANIFEST: dict[str, Any] = json.loads((VECTORS / "vectors.json").read_text())
BY_NAME = {vector["name"]: vector for vector in MANIFEST["vectors"]}
OPENED = [name for name, vector in BY_NAME.items() if "plaintext" in vector]
REFUSED = [name for name, vector in BY_NAME.items() if "error" in vector]


@cache
def file(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


def content(name: str) -> bytes:
    return b"".join(
        bytes.fromhex(piece["hex"])
        if "hex" in piece
        else file(piece["file"])[piece.get("at", 0) :][: piece.get("size")]
        for piece in BY_NAME[name]["pieces"]
    )


def unlock_of(name: str) -> Unlock:
    return lambda _: bytes.fromhex(BY_NAME[name]["data_key"])


def by_file(name: str) -> Outcome:
    return opened_by_file(content(name), unlock_of(name), BY_NAME[name]["artifact_key"])


def by_stream(name: str) -> Iterator[Outcome]:
    sealed = content(name)
    for chunk in (65_537, 1 << 20, 1 << 24) if len(sealed) > 100_000 else (1, 7, 65_537):
        yield opened_by_stream(sealed, unlock_of(name), BY_NAME[name]["artifact_key"], chunk)


@pytest.mark.parametrize("name", OPENED)
def test_opens_to_the_plaintext_that_was_sealed(name):
    expected = BY_NAME[name]["plaintext"]
    for outcome in (by_file(name), *by_stream(name)):
        assert outcome.error is None
        assert len(outcome.released) == expected["size"]
        assert hashlib.sha256(outcome.released).hexdigest() == expected["sha256"]


@pytest.mark.parametrize("name", OPENED)
def test_its_header_says_what_was_written(name):
    sealed, expected = content(name), BY_NAME[name]["header"]
    header, _ = read_header(lambda size, offset: sealed[offset : offset + size])
    key = header.key
    assert expected == {
        "binding": header.binding.name,
        "key_commitment": header.key_commitment.hex(),
        "sealed_at": header.sealed_at,
        "context": [list(entry) for entry in header.context],
        "audit_chain": header.audit_chain,
        "audit_sequence": header.audit_sequence,
        "key": {
            "provider": key.provider,
            "mount": key.mount,
            "key_name": key.key_name,
            "wrapped_key": key.wrapped_key,
            "key_version": key.key_version,
            "derivation_context": key.derivation_context.hex(),
        },
    }


@pytest.mark.parametrize("name", [name for name in OPENED if BY_NAME[name]["header"]["key"]["provider"] == "local"])
def test_its_data_key_comes_out_of_the_keyring(name, tmp_path):
    keyring = tmp_path / "keyring.json"
    keyring.touch(mode=0o600)
    keyring.write_text(json.dumps(MANIFEST["keyring"]))
    sealed = content(name)
    header, _ = read_header(lambda size, offset: sealed[offset : offset + size])
    data_key = LocalKeys(keyring).unwrap(Call(Operation.LOAD), header.key)
    assert data_key.hex() == BY_NAME[name]["data_key"]


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_with_the_named_error_and_releases_only_what_comes_before_the_fault(name):
    vector = BY_NAME[name]
    before = vector["released"]
    verified = by_file(before["vector"]).released[: before["size"]] if before else b""
    for outcome in by_stream(name):
        assert outcome.named in vector["error"]
        assert outcome.released == verified
    outcome = by_file(name)
    assert outcome.named in vector["error"]
    assert outcome.released in (b"", verified)  # a size that no body can have is refused before anything is opened


def test_there_are_enough_vectors():
    assert len(OPENED) >= 30
    assert len(REFUSED) >= 200
    counts = f"{len(OPENED)} that must open, {len(REFUSED)} that must be refused"
    assert counts in (VECTORS / "README.md").read_text()
    assert {error for name in REFUSED for error in BY_NAME[name]["error"]} == {
        "HeaderInvalid",
        "NotSealed",
        "Tampered",
        "Truncated",
        "UnsupportedFormat",
        "WrongDataKey",
    }


def test_no_two_vectors_are_the_same():
    seen = {(content(name), vector["artifact_key"], vector["data_key"]) for name, vector in BY_NAME.items()}
    assert len(seen) == len(BY_NAME)


@pytest.mark.process
def test_the_generator_writes_the_same_bytes_again(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "tests.vectors.generate", tmp_path], cwd=VECTORS.parents[1], check=True, timeout=60
    )
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    kept = sorted(path.relative_to(VECTORS) for path in VECTORS.rglob("*") if path.suffix in {".sealed", ".json"})
    assert written == kept
    assert filecmp.cmpfiles(VECTORS, tmp_path, written, shallow=False)[1:] == ([], [])
