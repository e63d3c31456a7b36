"""A failure of a store or of its connection is a named error, leaves nothing incomplete, and takes bounded time."""

from __future__ import annotations

import os
import resource
import socket
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from harness.gate import Gate, gated
from harness.gateways import weak_etags

from sealgate.backend import ObjectStoreBackend
from sealgate.call import Call, Operation
from sealgate.errors import AlreadyStored, BadRequest, Cancelled, LimitReached, NotConfigured, TimedOut, Unavailable
from sealgate.plugin import Artifact

MIB = 1 << 20


def operations(backend, call, artifact, path, source):
    yield lambda: backend.load(call, artifact, path)
    yield lambda: list(backend.open_stream(call, artifact))
    yield lambda: backend.save(call, artifact, source)
    yield lambda: backend.save_stream(call, artifact, iter([b"x"]))
    yield lambda: backend.save_stream(call, artifact, iter([bytes(MIB)] * 20))
    yield lambda: backend.delete(call, artifact)
    yield lambda: backend.list_objects(call, artifact)
    yield lambda: backend.is_directory(call, artifact)


def check_all(backend, call, at, fresh, plant, error, says):
    """Assert that every operation fails with this error, quickly, without a text of the library and without a file."""
    path, source = fresh(), plant({"a": b"x"})
    for operation in operations(backend, call, at("key"), path, source):
        began = time.monotonic()
        with pytest.raises(error, match=says) as caught:
            operation()
        assert time.monotonic() - began < 20
        line = caught.value.line(call, "key")
        assert not any(part in line for part in ("http", "Debug", "Error", "Code", "key_id", "127.0.0.1", "secret"))
        assert list(path.parent.iterdir()) == []


def test_credentials_that_are_refused(versitygw, call, at, fresh, plant, backend_at):
    backend = backend_at(versitygw, versitygw.new_bucket(), secret_access_key="a-wrong-secret")
    check_all(backend, call, at, fresh, plant, NotConfigured, "refused the credentials")


def test_a_bucket_that_does_not_exist(versitygw, call, at, fresh, plant, backend_at):
    check_all(backend_at(versitygw, "no-such-bucket"), call, at, fresh, plant, NotConfigured, "bucket does not exist")


def test_a_region_that_is_wrong(versitygw, call, at, fresh, plant, backend_at):
    backend = backend_at(versitygw, versitygw.new_bucket(), region="eu-north-1")
    check_all(backend, call, at, fresh, plant, NotConfigured, "rejected the request")


def test_a_server_that_is_not_there(versitygw, call, at, fresh, plant, backend_at):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    backend = backend_at(versitygw, "bucket", endpoint=endpoint)
    check_all(backend, call, at, fresh, plant, Unavailable, "cannot be reached")


def test_a_server_that_never_answers(versitygw, call, at, fresh, plant, backend_at):
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
        backend = backend_at(versitygw, "bucket", endpoint=endpoint, read_timeout_seconds=1)
        check_all(backend, call, at, fresh, plant, TimedOut, "in time")


def test_a_directory_that_does_not_exist(call, at, fresh, plant, tmp_path):
    backend = ObjectStoreBackend({"SEALGATE_BACKEND_URL": (tmp_path / "nothing").as_uri()})
    check_all(backend, call, at, fresh, plant, NotConfigured, "does not exist")
    (tmp_path / "nothing").mkdir()
    backend.save(call, at("key"), plant(b"x"))
    assert (tmp_path / "nothing" / "key").read_bytes() == b"x"


def test_a_lasting_fault_is_not_reported_as_transient(versitygw, call, at, backend_at):
    backend = backend_at(versitygw, "no-such-bucket")
    with pytest.raises(NotConfigured) as caught:
        backend.list_objects(call, at("key"))
    assert not caught.value.transient


# --- reading ----------------------------------------------------------------------------------------------


def test_a_read_continues_after_its_connection_broke(fault, versitygw, call, at, plant, seen, fresh, backend_at):
    bucket, content = versitygw.new_bucket(), os.urandom(20 * MIB)
    backend_at(versitygw, bucket).save(call, at("key"), plant(content))
    fault.limit = 3 * MIB
    backend = backend_at(versitygw, bucket, endpoint=fault.endpoint, retry_timeout_seconds=30)
    assert b"".join(map(bytes, backend.open_stream(call, at("key")))) == content
    backend.load(call, at("key"), path := fresh())
    assert seen(path) == content


@pytest.mark.parametrize("size", [MIB, 20 * MIB])
def test_a_body_that_always_breaks_off_is_an_error(fault, versitygw, call, at, plant, fresh, backend_at, size):
    bucket = versitygw.new_bucket()
    backend_at(versitygw, bucket).save(call, at("key"), plant(bytes(size)))
    backend_at(versitygw, bucket).save(call, at("tree"), plant({"good": b"x", "large": bytes(size)}))
    backend = backend_at(versitygw, bucket, endpoint=fault.endpoint)
    fault.limit = 10_000
    received = bytearray()
    with pytest.raises(Unavailable):
        received.extend(chunk[0] for chunk in backend.open_stream(call, at("key")))
    assert len(received) < size
    for key in ("key", "tree"):
        with pytest.raises(Unavailable):
            backend.load(call, at(key), path := fresh())
        assert list(path.parent.iterdir()) == []
    fault.limit = 1 << 40
    assert sum(map(len, backend.open_stream(call, at("key")))) == size, "the next call works"


def test_a_closed_stream_releases_its_connections(fault, versitygw, call, at, plant, backend_at):
    bucket = versitygw.new_bucket()
    backend = backend_at(versitygw, bucket, endpoint=fault.endpoint)
    backend.save(call, at("key"), plant(bytes(60 * MIB)))
    for _ in range(10):
        stream = backend.open_stream(call, at("key"))
        next(stream)
        stream.close()
    assert fault.open <= 10, "open connections wait for the next request"


@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_an_object_that_changes_while_it_is_read_is_not_mixed(backend, call, at, plant, change):
    size = 30 * MIB
    backend.save(call, at("key"), plant(b"1" * size))
    stream = backend.open_stream(call, at("key"))
    received = bytearray(next(stream))
    if change == "replaced":
        backend.save(call, at("key"), plant(b"2" * size))
    else:
        backend.delete(call, at("key"))
    fault = ""
    try:
        for chunk in stream:
            received += chunk
    except Unavailable as error:
        fault = error.fact
    assert change in fault or len(received) == size, "a file that is open stays as it was"
    assert set(received) == set(b"1")


# --- writing ----------------------------------------------------------------------------------------------


def test_an_upload_that_breaks_leaves_neither_object_nor_parts(fault, versitygw, call, at, plant, backend_at):
    bucket = versitygw.new_bucket()
    backend = backend_at(versitygw, bucket, endpoint=fault.endpoint)
    backend.save(call, at("key"), plant(b"old"))
    fault.poison = b"partNumber=2"
    source = plant(bytes(40 * MIB))
    with pytest.raises(Unavailable):
        backend.save(call, at("key"), source)
    with pytest.raises(Unavailable):
        backend.save_stream(call, at("key"), iter([bytes(MIB)] * 40))
    assert versitygw.keys(bucket) == {"key"}
    assert versitygw.uploads(bucket) == []
    assert b"".join(map(bytes, backend.open_stream(call, at("key")))) == b"old"
    fault.poison = b""
    backend.save(call, at("key"), source)
    assert sum(map(len, backend.open_stream(call, at("key")))) == 40 * MIB


def test_objects_of_a_new_directory_that_cannot_be_completed_are_removed(fault, versitygw, call, at, plant, backend_at):
    bucket = versitygw.new_bucket()
    backend = backend_at(versitygw, bucket, endpoint=fault.endpoint)
    tree = {f"{number}": b"x" for number in range(100)} | {"poison": b"x"}
    fault.poison = f"PUT /{bucket}/tree/poison".encode()
    with pytest.raises(Unavailable):
        backend.save(call, at("tree"), plant(tree))
    assert versitygw.keys(bucket) == set()


def test_a_directory_that_cannot_be_completed_removes_nothing_of_the_old_one(
    fault, versitygw, call, at, plant, backend_at
):
    bucket = versitygw.new_bucket()
    backend = backend_at(versitygw, bucket, endpoint=fault.endpoint)
    backend.save(call, at("tree"), plant({"old": b"1", "both": b"1"}))
    fault.poison = f"PUT /{bucket}/tree/poison".encode()
    with pytest.raises(Unavailable):
        backend.save(call, at("tree"), plant({"new": b"2", "both": b"2", "poison": b"2"}))
    assert versitygw.keys(bucket) == {"tree/old", "tree/both"}


@pytest.mark.parametrize(
    ("before", "after"),
    [(b"old", {"a": b"x", "poison": b"x"}), ({"a": b"old"}, {"a/b": b"x", "poison": b"x"})],
)
def test_objects_that_were_moved_aside_are_moved_back(
    fault, versitygw, call, at, plant, seen, fresh, backend_at, before, after
):
    bucket = versitygw.new_bucket()
    backend = backend_at(versitygw, bucket, endpoint=fault.endpoint)
    backend.save(call, at("key"), plant(before))
    fault.poison = f"PUT /{bucket}/key/poison".encode()
    with pytest.raises(Unavailable):
        backend.save(call, at("key"), plant(after))
    backend.load(call, at("key"), path := fresh())
    assert seen(path) == before
    assert len(versitygw.keys(bucket)) == 1


def test_a_call_that_ends_while_the_store_is_tried_moves_nothing_aside(versitygw, call, at, plant, backend_at):
    bucket, moved = versitygw.new_bucket(), []

    def tried(method, path, _):
        if "/was" in path:
            moved.append(path)
        return method == "PUT" and ".sealgate-" in path

    gate, leaving = Gate(tried, sys.maxsize), Call(Operation.SAVE)
    backend_at(versitygw, bucket).save(call, at("key"), plant(b"old"))
    threading.Thread(target=lambda: gate.wait_for(1) and leaving.cancel(), daemon=True).start()
    with gated(versitygw.endpoint, gate) as endpoint, pytest.raises(Cancelled):
        backend_at(versitygw, bucket, endpoint=endpoint).save(leaving, at("key"), plant({"a": b"new"}))
    assert moved == []
    assert versitygw.keys(bucket) == {"key"}


def test_an_object_in_the_way_of_a_key_is_reported(versitygw, call, at, plant, tmp_path, backend_at):
    (tmp_path / "root").mkdir()
    for backend in (
        ObjectStoreBackend({"SEALGATE_BACKEND_URL": (tmp_path / "root").as_uri()}),
        backend_at(versitygw, versitygw.new_bucket()),
    ):
        backend.save(call, at("a"), plant(b"x"))
        for source in (plant(b"y"), plant({"y": b""})):
            with pytest.raises(BadRequest, match="in the way"):
                backend.save(call, at("a/b"), source)
        assert b"".join(map(bytes, backend.open_stream(call, at("a")))) == b"x"


def test_a_name_too_long_for_the_stores_directory_is_refused(call, at, plant, tmp_path):
    (tmp_path / "root").mkdir()
    backend = ObjectStoreBackend({"SEALGATE_BACKEND_URL": (tmp_path / "root").as_uri()})
    with pytest.raises(BadRequest, match="too long"):
        backend.save(call, at("n" * 256), plant(b"x"))


@pytest.mark.parametrize("size", [249, 250, 254, 255])
@pytest.mark.parametrize("character", ["n", "ü"])
def test_the_longest_names_of_a_file_system_are_stored(call, at, plant, seen, fresh, tmp_path, size, character):
    (root := tmp_path / "root").mkdir()
    backend = ObjectStoreBackend({"SEALGATE_BACKEND_URL": root.as_uri()})
    name = (character * size).encode()[:size].decode(errors="ignore").ljust(size // 2, "n")
    name += "n" * (size - len(name.encode()))
    for source in (b"1", {"a": b"2"}, {name: b"3"}, b"4"):
        backend.save(call, at(name), plant(source))
        backend.load(call, at(name), path := fresh())
        assert seen(path) == source
    with pytest.raises(AlreadyStored):
        backend.save(Call(Operation.SAVE, only_new=True), at(name), plant(b"5"))
    assert os.listdir(root) == [name]


def test_the_only_upload_of_a_key_has_number_1_in_a_new_directory_too(at, tmp_path):
    (root := tmp_path / "root").mkdir()
    unfinished = []

    def chunks():
        unfinished.extend(str(path.relative_to(root)) for path in root.rglob("*#*"))
        yield b"x"

    backend = ObjectStoreBackend({"SEALGATE_BACKEND_URL": root.as_uri()})
    backend.save_stream(Call(Operation.SAVE_STREAM), at("new/key"), chunks())
    assert unfinished == ["new/key#1"]


@pytest.mark.parametrize("changes", [False, True])
def test_a_weak_etag_is_not_taken_for_a_replaced_object(versitygw, call, at, plant, backend_at, changes):
    """Some servers and gateways mark their ETags as weak, and `If-Match` never matches these."""
    bucket, content = versitygw.new_bucket(), os.urandom(60 * MIB)
    backend_at(versitygw, bucket).save(call, at("key"), plant(content))
    with weak_etags(versitygw.endpoint) as endpoint:
        stream = backend_at(versitygw, bucket, endpoint=endpoint).open_stream(call, at("key"))
        received = bytearray(next(stream))
        if changes:
            backend_at(versitygw, bucket).save(call, at("key"), plant(bytes(60 * MIB)))
            with pytest.raises(Unavailable, match="replaced"):
                for _ in stream:
                    pass
            return
        for chunk in stream:
            received += chunk
        assert received == content


def _without_space(operation, url, path):
    """Run an operation in a process that may write at most 1 MiB to a file; return the text of the error."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))
    backend, call = ObjectStoreBackend({"SEALGATE_BACKEND_URL": url}), Call(Operation.SAVE)
    try:
        if operation == "save":
            backend.save_stream(call, Artifact("new"), iter([bytes(MIB)] * 20))
        else:
            backend.load(call, Artifact("key"), path)
    except LimitReached as error:
        return error.fact
    return ""


@pytest.mark.parametrize(
    ("operation", "says"), [("save", "the store is full"), ("load", "the local path could not be written")]
)
def test_a_full_disk_is_reported_and_nothing_incomplete_remains(call, at, plant, fresh, tmp_path, operation, says):
    (root := tmp_path / "root").mkdir()
    ObjectStoreBackend({"SEALGATE_BACKEND_URL": root.as_uri()}).save(call, at("key"), plant(bytes(3 * MIB)))
    path = fresh()
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert says in pool.submit(_without_space, operation, root.as_uri(), path).result()
    assert os.listdir(root) == ["key"]
    assert list(path.parent.iterdir()) == []
