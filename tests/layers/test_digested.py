"""The recorded digest is the SHA-256 of what is stored."""

from __future__ import annotations

import hashlib
from contextlib import closing

import pytest
from harness.memory_plugin import MemoryPlugin

from sealgate.call import Call, Operation
from sealgate.layers.digested import Digested
from sealgate.plugin import Artifact

DATA = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def below():
    below = MemoryPlugin()
    below.objects["ns/a"] = DATA
    return below


def run(below, operation, tmp_path):
    call, digested, artifact = Call(operation), Digested(below), Artifact("ns/a")
    if operation is Operation.LOAD:
        digested.load(call, artifact, tmp_path / "loaded")
    elif operation is Operation.OPEN_STREAM:
        with closing(digested.open_stream(call, artifact)) as chunks:
            assert b"".join(map(bytes, chunks)) == DATA
    elif operation is Operation.SAVE:
        (tmp_path / "saved").write_bytes(DATA)
        digested.save(call, artifact, tmp_path / "saved")
    else:
        digested.save_stream(call, artifact, iter([DATA[:1000], DATA[1000:]]))
    return call


@pytest.mark.parametrize("operation", [Operation.LOAD, Operation.OPEN_STREAM, Operation.SAVE, Operation.SAVE_STREAM])
def test_every_operation_on_a_file_records_its_digest(below, tmp_path, operation):
    assert run(below, operation, tmp_path).stored.sha256 == DIGEST


def test_a_directory_has_no_digest(below, tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_bytes(DATA)
    call = Call(Operation.SAVE)
    Digested(below).save(call, Artifact("ns/tree"), tmp_path / "tree")
    assert call.stored.sha256 == ""


def test_several_streams_have_no_digest(below):
    call = Call(Operation.SAVE)
    for name in ("one", "two"):
        Digested(below).save_stream(call, Artifact(f"ns/{name}"), iter([DATA]))
    assert call.stored.sha256 == ""


def test_an_incomplete_stream_has_no_digest(below):
    call = Call(Operation.OPEN_STREAM)
    with closing(Digested(below).open_stream(call, Artifact("ns/a"))) as chunks:
        next(chunks)
    assert call.stored.sha256 == ""


def test_a_link_in_the_place_of_a_file_is_not_read(below, tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    call = Call(Operation.LOAD)
    below.load = lambda call, artifact, path: None
    Digested(below).load(call, Artifact("ns/a"), tmp_path / "link")
    assert call.stored.sha256 == ""
