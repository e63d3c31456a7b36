"""Facts 20 to 29 of docs/argo-contract.md: Load."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile

import pytest
from harness.chain import eventually
from harness.content import SIZES, blob, read_tree, write_tree
from harness.outcome import IN_THE_ANSWER, assert_own_line, outcome

from sealgate.rpc import artifact_pb2 as pb


@pytest.fixture
def target(each, key):
    path = each.work / key.replace("/", "-")
    yield path
    assert not [found for found in each.work.iterdir() if found.name.startswith(".")]  # no temporary file
    assert not each.spools()


@pytest.mark.parametrize("size", SIZES)
def test_20_a_file_arrives_byte_by_byte(each, key, target, size):
    argo = each.argo()
    argo.save_stream(key, blob(size))
    argo.load(key, target)
    assert target.read_bytes() == blob(size)


def test_20_a_directory_arrives_file_by_file(proxy, key):
    argo = proxy.argo()
    tree = write_tree(proxy.work / "tree")
    argo.save(key, tree)
    argo.load(key, proxy.work / "loaded")
    assert read_tree(proxy.work / "loaded") == read_tree(tree)


@pytest.mark.parametrize("place", [0, 20, 400, 1 << 20, -1])
def test_21_a_changed_byte_leaves_nothing(each, key, target, place):
    argo = each.argo()
    argo.save_stream(key, blob((2 << 20) + 9))
    stored = bytearray((each.storage / key).read_bytes())
    stored[place] ^= 1
    (each.storage / key).write_bytes(stored)
    found = outcome(lambda: argo.load(key, target))
    assert_own_line(found, "PERMISSION_DENIED" if place == 0 else "DATA_LOSS", "Load", key)
    assert not target.exists()


@pytest.mark.parametrize("length", [0, 7, 12, 100, -16, -1])
def test_21_a_cut_object_leaves_nothing(each, key, target, length):
    argo = each.argo()
    argo.save_stream(key, blob((2 << 20) + 9))
    stored = (each.storage / key).read_bytes()
    (each.storage / key).write_bytes(stored[:length])
    found = outcome(lambda: argo.load(key, target))
    assert found.code in {"DATA_LOSS", "PERMISSION_DENIED"}
    assert_own_line(found, found.code, "Load", key)
    assert not target.exists()


def test_22_an_empty_artifact_is_an_empty_file(each, key, target):
    argo = each.argo()
    argo.save_stream(key, b"")
    argo.load(key, target)
    assert target.is_file()
    assert target.read_bytes() == b""


@pytest.mark.parametrize("transfer", ["file", "stream"])
def test_23_25_loaded_files_are_readable_by_others_under_any_umask(start, key, transfer):
    options = {"settings": {"spool": {"transfer": transfer}}, "environment": {"VENDOR_STREAMS": "1"}}
    proxy = start(within=("sh", "-c", 'umask 077; exec "$@"', "sh"), **options)
    argo = proxy.argo()
    (proxy.work / "tree/deeper").mkdir(parents=True)
    (proxy.work / "tree/deeper/file").write_bytes(b"some plaintext")
    (proxy.work / "tree/deeper/file").chmod(0o600)
    argo.save(key, proxy.work / "tree")
    argo.load(key, proxy.work / "loaded")
    argo.load(f"{key}/deeper/file", proxy.work / "file")
    for path in (proxy.work / "loaded", *(proxy.work / "loaded").rglob("*"), proxy.work / "file"):
        wanted = 0o755 if path.is_dir() else 0o644
        assert stat.S_IMODE(path.stat().st_mode) & wanted == wanted, path


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_25_another_user_reads_a_loaded_file(make, public_home):
    proxy = make(public_home).start()
    argo = proxy.argo()
    argo.save_stream("a/b", b"some plaintext")
    argo.load("a/b", proxy.work / "loaded")
    read = subprocess.run(["cat", str(proxy.work / "loaded")], user=8737, group=8737, capture_output=True, check=False)
    assert read.stdout == b"some plaintext"


def test_24_a_gzipped_tar_is_unchanged(each, key, target):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo("file")
        entry.size = 300_000
        tar.addfile(entry, io.BytesIO(blob(300_000)))
    argo = each.argo()
    argo.save_stream(key, packed.getvalue())
    argo.load(key, target)
    assert target.read_bytes() == packed.getvalue()
    assert tarfile.is_tarfile(target)


@pytest.mark.parametrize("where", ["the path", "a directory on the way"])
def test_26_nothing_is_written_through_a_link(each, key, tmp_path, where):
    argo = each.argo()
    argo.save_stream(key, b"some plaintext")
    link = each.work / f"link-{tmp_path.name}"
    outside = tmp_path / "outside"
    if where == "the path":
        outside.write_bytes(b"untouched")
        link.symlink_to(outside)
        found = outcome(lambda: argo.load(key, link))
        assert outside.read_bytes() == b"untouched"
    else:
        outside.mkdir()
        link.symlink_to(outside)
        found = outcome(lambda: argo.load(key, link / "file"))
        assert not [*outside.iterdir()]
    assert_own_line(found, "INVALID_ARGUMENT", "Load", key)


@pytest.mark.parametrize("optional", [False, True])
def test_27_a_missing_object_is_reported_in_the_downstreams_words(each, key, target, optional):
    argo = each.argo()
    artifact = argo.artifact(key)
    artifact.optional = optional
    request = pb.LoadArtifactRequest(input_artifact=artifact, path=str(target))
    answer = argo.unary("Load", request, pb.LoadArtifactResponse)
    assert not answer.success
    assert "not found" in answer.error
    assert not target.exists()


def test_28_one_file_of_a_directory_is_loaded_by_its_own_key(proxy, key):
    argo = proxy.argo()
    tree = write_tree(proxy.work / "parent")
    argo.save(key, tree)
    name = "deeper/and deeper/größe-尺寸-🔒.bin"
    argo.load(f"{key}/{name}", proxy.work / "child")
    assert (proxy.work / "child").read_bytes() == (tree / name).read_bytes()
    assert argo.open_stream(f"{key}/{name}") == (tree / name).read_bytes()


@pytest.mark.parametrize(
    ("how", "fault"),
    [("by_file", "hang on Load"), ("by_stream", "hang on OpenStream"), ("by_stream", "stall on OpenStream")],
)
def test_29_a_cancelled_load_leaves_nothing_and_the_next_call_works(request, how, fault, key):
    proxy = request.getfixturevalue(how)
    target = proxy.work / key.replace("/", "-")
    proxy.argo().save_stream(key, blob(3 << 20))
    argo = proxy.argo(f"fault: {fault}\n")
    message = pb.LoadArtifactRequest(input_artifact=argo.artifact(key), path=str(target))
    call = argo.begin("Load", message, pb.LoadArtifactResponse)
    assert eventually(lambda: f"{fault} of {key}\n" in proxy.output())
    call.cancel()
    assert eventually(lambda: f"operation=Load, key={key}, status=CANCELLED" in proxy.output())
    assert eventually(lambda: not proxy.spools())
    assert not target.exists()
    assert not [found for found in proxy.work.iterdir() if found.name.startswith(".")]
    proxy.argo().save_stream(key, b"another one")
    proxy.argo().load(key, target)
    assert target.read_bytes() == b"another one"


def test_27_the_refusal_is_in_the_answer_and_not_a_status(each, key, target):
    assert outcome(lambda: each.argo().load(key, target)).code == IN_THE_ANSWER
