"""Wrong objects in storage and wrong requests: nothing is read, and nothing is written."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from harness.content import blob, write_tree
from harness.outcome import assert_own_line, outcome
from harness.stand import LARGE, OPERATIONS

from sealgate.rpc import artifact_pb2 as pb

# --- the stored object is wrong --------------------------------------------------------------------------

MAGIC = b"\x89SEAL\r\n\x1a"
PLANTED = {
    "nothing": (b"", "DATA_LOSS"),
    "plaintext": (b"plaintext that was planted\n" * 100, "PERMISSION_DENIED"),
    "a header of 4 GiB": (MAGIC + b"\xff\xff\xff\xff" + b"\x0a" * 4000, "DATA_LOSS"),
    "a file that ends after its magic": (MAGIC, "DATA_LOSS"),
    "an invalid header": (MAGIC + (500).to_bytes(4, "big") + b"\xff" * 4000, "DATA_LOSS"),
}


@pytest.mark.parametrize("operation", ["Load", "OpenStream"])
@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_object_is_not_read(stand, operation, planted):
    data, code = PLANTED[planted]
    (stand.proxy.storage / stand.stored).write_bytes(data)
    found = stand.attempt(operation)
    assert_own_line(found, found.code if planted == "nothing" else code, operation, stand.stored)
    assert found.code in {"DATA_LOSS", "PERMISSION_DENIED"}
    stand.assert_clean()


@pytest.mark.parametrize("operation", ["Load", "OpenStream"])
def test_an_artifact_moved_to_another_key_is_not_read(stand, operation):
    stand.proxy.argo().save_stream(f"{stand.stored}-other", blob(LARGE, 1))
    (stand.proxy.storage / f"{stand.stored}-other").replace(stand.proxy.storage / stand.stored)
    assert_own_line(stand.attempt(operation), "DATA_LOSS", operation, stand.stored)
    stand.assert_clean()


@pytest.mark.parametrize("planted", ["file", "link", "swapped"])
def test_a_planted_file_in_a_stored_directory_is_not_read(by_files, planted):
    proxy, key = by_files.proxy, f"{by_files.new}-tree"
    proxy.argo().save(key, write_tree(by_files.source.with_name(f"{by_files.source.name}-tree")))
    tree = proxy.storage / key
    if planted == "file":
        (tree / "planted").write_bytes(b"plaintext that was planted")
    elif planted == "link":
        (tree / "planted").symlink_to(tree / "file")
    else:
        (tree / "file").replace(tree / "empty")
    found = outcome(lambda: proxy.argo().load(key, by_files.target))
    if planted == "swapped":
        assert_own_line(found, "DATA_LOSS", "Load", key)
        by_files.assert_clean()
        return
    assert found.code == "OK", "what the manifest does not list is left out"
    assert not (by_files.target / "planted").exists()
    assert (by_files.target / "file").is_file()
    shutil.rmtree(by_files.target)
    by_files.assert_clean()


# --- the request is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "garbage", [b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\x0a\x01\xff"], ids=bytes.hex
)
def test_an_invalid_message_is_a_bad_request(by_files, operation, garbage):
    found = outcome(lambda: by_files.proxy.argo().raw(operation, garbage))
    assert_own_line(found, "INVALID_ARGUMENT", operation)


def _device(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may create devices")
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))


SOURCES = {
    "missing": lambda path: None,
    "a pipe": os.mkfifo,
    "a device": _device,
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("what", SOURCES)
def test_only_regular_files_and_directories_are_saved(stand, what):
    path = stand.source.with_name(f"{stand.source.name}-bad")
    SOURCES[what](path)
    found = outcome(lambda: stand.proxy.argo().save(stand.new, path))
    assert_own_line(found, "INVALID_ARGUMENT", "Save", stand.new)
    stand.assert_clean()


PATHS = ["", "relative", "/", "/etc/passwd", "{work}/../keyring.json", "{work}", "{work}/a\0b", "{work}/no/such/file"]


@pytest.mark.parametrize("path", PATHS, ids=ascii)
@pytest.mark.parametrize("operation", ["Load", "Save"])
def test_a_path_outside_the_roots_is_refused(stand, operation, path):
    path = path.replace("{work}", str(stand.proxy.work))
    argo = stand.proxy.argo()
    if operation == "Load":
        request = pb.LoadArtifactRequest(input_artifact=argo.artifact(stand.stored), path=path)
        found = outcome(lambda: argo.unary("Load", request, pb.LoadArtifactResponse))
    else:
        request = pb.SaveArtifactRequest(output_artifact=argo.artifact(stand.new), path=path)
        found = outcome(lambda: argo.unary("Save", request, pb.SaveArtifactResponse))
    assert_own_line(found, "INVALID_ARGUMENT", operation, stand.key(operation))
    stand.assert_clean()


def test_a_destination_that_is_a_non_empty_directory_is_left_alone(stand):
    stand.target.mkdir()
    (stand.target / "kept").touch()
    assert_own_line(stand.attempt("Load"), "INVALID_ARGUMENT", "Load", stand.stored)
    assert (stand.target / "kept").exists()
    (stand.target / "kept").unlink()
    stand.target.rmdir()
    stand.assert_clean()
