"""Facts 30 to 38 of docs/argo-contract.md: Save. Fact 12: the memory that an artifact costs."""

from __future__ import annotations

import hashlib
import json
import os
import threading

import pytest
from harness.content import SIZES, blob, read_tree, write_tree
from harness.memory import Watch
from harness.outcome import IN_THE_ANSWER, assert_own_line, outcome

from sealgate.envelope import MANIFEST
from sealgate.rpc import artifact_pb2 as pb

MOST_GROWTH = 64 << 20


@pytest.fixture
def source(each, key):
    return each.work / key.replace("/", "-")


@pytest.mark.parametrize("size", SIZES)
def test_30_a_file_is_sealed_and_comes_back(each, key, source, size):
    argo = each.argo()
    source.write_bytes(blob(size))
    source.chmod(0o600)
    argo.save(key, source)
    assert (each.storage / key).read_bytes()[:8] == b"\x89SEAL\r\n\x1a"
    assert argo.open_stream(key) == blob(size)
    assert not each.spools()


def test_30_a_directory_is_sealed_and_comes_back(proxy, key):
    argo = proxy.argo()
    tree = write_tree(proxy.work / "a directory")
    argo.save(key, tree)
    stored = read_tree(proxy.storage / key)
    files = {path for path, data in read_tree(tree).items() if data is not None}
    assert {path for path, data in stored.items() if data is not None} == files | {MANIFEST}
    assert {data[:8] for data in stored.values() if data is not None} == {b"\x89SEAL\r\n\x1a"}
    argo.load(key, proxy.work / "the directory")
    assert read_tree(proxy.work / "the directory") == read_tree(tree)
    assert not proxy.spools()


def test_30_a_directory_is_saved_with_transfer_stream(by_stream, key):
    argo = by_stream.argo()
    tree = write_tree(by_stream.work / "a directory")
    argo.save(key, tree)
    argo.load(key, by_stream.work / "the directory")
    assert read_tree(by_stream.work / "the directory") == read_tree(tree)


def test_30_an_empty_directory_is_kept_with_transfer_stream(by_stream, key):
    tree = by_stream.work / "an empty one"
    tree.mkdir()
    argo = by_stream.argo()
    argo.save(key, tree)
    argo.load(key, by_stream.work / "the empty one")
    assert list((by_stream.work / "the empty one").iterdir()) == []


SECRETS = ["/proc/self/environ", "/etc/passwd", "../../keyring.json"]


@pytest.mark.parametrize("secret", SECRETS)
def test_31_a_symbolic_link_out_of_the_roots_is_not_read(each, key, source, secret):
    source.symlink_to(secret)
    found = outcome(lambda: each.argo().save(key, source))
    assert_own_line(found, "INVALID_ARGUMENT", "Save", key)
    assert not (each.storage / key).exists()


def test_31_a_directory_link_out_of_the_roots_is_not_followed(each, key, source):
    source.symlink_to("/proc/self")
    found = outcome(lambda: each.argo().save(key, source / "environ"))
    assert_own_line(found, "INVALID_ARGUMENT", "Save", key)
    assert not (each.storage / key).exists()


def test_31_a_link_that_stays_inside_is_followed(each, key, source):
    source.with_name(f"{source.name}-real").write_bytes(b"some plaintext")
    source.symlink_to(f"{source.name}-real")
    each.argo().save(key, source)
    assert each.argo().open_stream(key) == b"some plaintext"


@pytest.mark.parametrize("to", ["file", "/etc/passwd", "nowhere"])
def test_32_a_directory_with_a_link_is_refused_and_the_link_named(each, key, source, to):
    source.mkdir()
    (source / "file").write_bytes(b"some plaintext")
    (source / "link-in-it").symlink_to(to)
    found = outcome(lambda: each.argo().save(key, source))
    assert_own_line(found, "INVALID_ARGUMENT", "Save", key)
    assert '"link-in-it" is a symbolic link' in found.text
    assert not (each.storage / key).exists()


def test_33_the_source_is_unchanged(each, key, source):
    source.write_bytes(blob(5000))
    source.chmod(0o640)
    os.utime(source, ns=(1, 2))
    before = source.stat()
    each.argo().save(key, source)
    after = source.stat()
    assert source.read_bytes() == blob(5000)
    assert (after.st_mode, after.st_mtime_ns, after.st_ino) == (before.st_mode, before.st_mtime_ns, before.st_ino)


def test_34_a_second_save_replaces_an_artifact_atomically(each, key, source):
    versions = [blob(700_000, seed) for seed in range(4)]
    sources = [source.with_name(f"{source.name}-{number}") for number in range(4)]
    for path, data in zip(sources, versions, strict=True):
        path.write_bytes(data)
    each.argo().save(key, sources[0])
    done = threading.Event()
    found: list[bytes] = []

    def read() -> None:
        while not done.is_set():
            found.append(each.argo().open_stream(key))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(12):
        each.argo().save(key, sources[number % 4])
    done.set()
    reader.join()
    assert set(found) <= set(versions)
    assert each.argo().open_stream(key) == versions[3]


@pytest.mark.parametrize(("how", "fault"), [("by_file", "refuse on Save"), ("by_stream", "refuse-early")])
def test_35_a_refusal_of_the_downstream_is_a_failure(request, how, fault, key):
    proxy = request.getfixturevalue(how)
    path = proxy.work / "refused"
    path.write_bytes(blob(3 << 20))
    found = outcome(lambda: proxy.argo(f"fault: {fault}\n").save(key, path))
    assert (found.code, found.text) == (IN_THE_ANSWER, "quota of the vendor exceeded")
    assert not (proxy.storage / key).exists()
    assert not proxy.spools()


def test_36_a_log_has_a_name_and_no_path(either, key):
    source = either.work / key.replace("/", "-")
    source.write_bytes(b"")
    argo = either.argo("fault: record\n")
    artifact = argo.artifact(key, name="main-logs")
    request = pb.SaveArtifactRequest(output_artifact=artifact, path=str(source))
    assert argo.unary("Save", request, pb.SaveArtifactResponse).success
    assert json.loads((either.storage / "record.json").read_text())["artifact"] == "main-logs"


def test_37_each_save_has_a_connection_of_its_own_that_stays_open(each, key, source):
    argo = each.argo()
    source.write_bytes(b"some plaintext")
    for number in range(15):
        argo.save(f"{key}/{number}", source)
    assert len(argo.channels) == 15
    assert argo.list_objects(key) == sorted(f"{key}/{number}" for number in range(15))


def test_38_no_deadline_is_added_to_a_call_without_one(either, key):
    source = either.work / key.replace("/", "-")
    source.write_bytes(b"some plaintext")
    either.argo("fault: record\n", timeout=None).save(key, source)
    remaining = json.loads((either.storage / "record.json").read_text())["remaining"]
    assert remaining is None or remaining > 10 * 365 * 86_400  # what grpcio has for no deadline


# --- memory ---------------------------------------------------------------------------------------------


def assert_memory_is_bounded(proxy, size: int) -> None:
    argo = proxy.argo(timeout=None)
    small, large, out = proxy.work / "small", proxy.work / "large", proxy.work / "out"
    small.write_bytes(b"some plaintext")
    argo.save("warm", small)
    argo.load("warm", out)
    with large.open("wb") as file:
        file.truncate(size)
    wanted = digest(chunk_of_zeros(size))
    with Watch(proxy.process.pid) as save:
        argo.save("large", large)
    large.unlink()
    with Watch(proxy.process.pid) as load:
        argo.load("large", out)
    with out.open("rb") as file:
        assert digest(iter(lambda: file.read(1 << 20), b"")) == wanted
    out.unlink()
    with Watch(proxy.process.pid) as open_stream:
        assert digest(argo.stream("large")) == wanted
    grown = {"Save": save.grown, "Load": load.grown, "OpenStream": open_stream.grown}
    assert max(grown.values()) <= MOST_GROWTH, grown


def chunk_of_zeros(size: int):
    zeros = bytes(1 << 20)
    for start in range(0, size, len(zeros)):
        yield zeros[: size - start]


def digest(chunks) -> str:
    running = hashlib.sha256()
    for chunk in chunks:
        running.update(chunk)
    return running.hexdigest()


@pytest.mark.parametrize("transfer", ["file", "stream"])
def test_12_memory_does_not_grow_with_the_artifact(start, transfer):
    options = {"settings": {"spool": {"transfer": transfer}}, "environment": {"VENDOR_STREAMS": "1"}}
    assert_memory_is_bounded(start(**options), 300 << 20)


@pytest.mark.parametrize("how", ["proxy", "by_file", "by_stream"])
def test_12_memory_does_not_grow_with_an_upload(request, how, key):
    proxy = request.getfixturevalue(how)
    argo = proxy.argo()
    argo.save_stream(key, b"warm")
    with Watch(proxy.process.pid) as watch:
        argo.save_stream(key, chunk_of_zeros(300 << 20))
    assert (proxy.storage / key).stat().st_size > 300 << 20
    (proxy.storage / key).unlink()
    assert watch.grown <= MOST_GROWTH


@pytest.mark.large
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("transfer", ["file", "stream"])
def test_30_more_than_4_gib_in_bounded_memory(start, transfer):
    options = {"settings": {"spool": {"transfer": transfer}}, "environment": {"VENDOR_STREAMS": "1"}}
    assert_memory_is_bounded(start(**options), (5 << 30) + 1)
