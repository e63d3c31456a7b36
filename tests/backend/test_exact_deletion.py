"""Exactly the objects that are named are deleted: by a Save that replaces a directory, and by one that is undone.

Requests are counted. A store may be far away, and a request for each object would take minutes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

import pytest
from harness.gateways import counting, limiting_deletions
from harness.layer_bench import ALLOW, Bench
from harness.policy import document

from sealgate.backend import ObjectStoreBackend
from sealgate.call import Call, Operation
from sealgate.envelope import MANIFEST
from sealgate.errors import BadRequest, Cancelled, DataLoss, Denied, Unavailable
from sealgate.layers.beside import SMALL
from sealgate.plugin import Artifact
from sealgate.rpc.in_process import InProcess
from sealgate.storage.stored_objects import Transfer

FILES = 40
FEW = 8
"""Requests that list, ask and delete in a Save, however many objects it deletes."""


class Noting(InProcess):
    """Calls `act` once `t/y` and all small files are stored, before `t/z` is read.

    `bounds` has the seconds that were left for each deletion.
    """

    def __init__(self, backend: ObjectStoreBackend) -> None:
        super().__init__(backend)
        self.act: Callable[[], object] = lambda: None
        self.bounds: list[float | None] = []
        self._stored = threading.Semaphore(0)

    def save_stream(self, call, artifact, chunks):
        super().save_stream(call, artifact, chunks)
        if artifact.key.startswith("t/"):
            self._stored.release()
        if artifact.key == "t/y":
            for _ in range(FILES + 1):
                assert self._stored.acquire(timeout=60)
            self.act()

    def delete_objects(self, call, artifact, keys):
        self.bounds.append(call.remaining())
        return super().delete_objects(call, artifact, keys)


@pytest.fixture
def bucket(moto) -> str:
    return moto.new_bucket()


@pytest.fixture
def bench_at(moto, bucket, tmp_path) -> Callable[..., Bench]:
    """Return a function that builds the layers around the backend, which reaches the store at an endpoint."""

    def bench_at(endpoint: str, *, maximum: str = "1GiB", only_new: bool = False) -> Bench:
        config = json.dumps(moto.config() | {"endpoint": endpoint})
        backend = ObjectStoreBackend({"SEALGATE_BACKEND_URL": f"s3://{bucket}", "SEALGATE_BACKEND_CONFIG": config})
        rules = [{**ALLOW, "limits": {"maxBytes": maximum}}]
        if only_new:
            rules.append({"effect": "require", "require": {"overwrite": "deny"}})
        bench = Bench(tmp_path, document(rules), transfer=Transfer.STREAM, below=Noting(backend))
        for number in range(FILES):
            bench.file(b"plain", f"tree/{number:03}")
        bench.file(bytes(SMALL), "tree/y")  # too large to be on its way together with z
        bench.file(b"plain", "tree/z")
        return bench

    return bench_at


@pytest.fixture
def counted(moto) -> Iterator[tuple[str, list[str]]]:
    with counting(moto) as both:
        yield both


def others(requests: list[str]) -> list[str]:
    return [method for method in requests if method != "PUT"]


# --- the layers -------------------------------------------------------------------------------------------


def test_a_directory_is_replaced_with_few_requests(moto, bucket, bench_at, counted):
    endpoint, requests = counted
    bench = bench_at(endpoint)
    bench.save("t", bench.work / "tree")
    bench.file(b"new", "other/new")
    requests.clear()
    bench.save("t", bench.work / "other")
    assert moto.keys(bucket) == {"t/new", f"t/{MANIFEST}"}
    assert requests.count("POST") == 1
    assert requests.count("DELETE") == 0
    assert len(others(requests)) <= FEW, requests


@pytest.mark.parametrize("only_new", [False, True])
@pytest.mark.parametrize("fault", [Cancelled, Unavailable, Denied])
def test_a_save_that_ends_midway_is_undone_with_few_requests(moto, bucket, bench_at, counted, fault, only_new):
    endpoint, requests = counted
    bench = bench_at(endpoint, maximum="1MiB", only_new=only_new)
    bench.save_stream("before", [b"x"])  # the first create-only write tests the store
    requests.clear()
    call = Call(Operation.SAVE)

    def end() -> None:
        if fault is Cancelled:
            call.cancel()
        elif fault is Unavailable:
            call.end(Unavailable("the plugin is ending"))
        else:
            (bench.work / "tree" / "z").write_bytes(bytes(2 << 20))

    bench.below.act = end
    with pytest.raises(fault):
        bench.governed.save(call, Artifact("t"), bench.work / "tree")
    assert moto.keys(bucket) == {"before"}
    assert (requests.count("POST"), requests.count("DELETE")) == (1, 0)
    listed_by_the_save = FILES + 1 if only_new else 0
    assert len(others(requests)) <= FEW + listed_by_the_save, requests
    assert bench.below.bounds
    longest = 0.5 if fault is Unavailable else 10
    assert all(bound is not None and bound <= longest for bound in bench.below.bounds)


def test_an_object_that_may_not_be_deleted_keeps_no_other_one(moto, bucket, bench_at):
    with limiting_deletions(moto, bulk=501, denied="/007") as (endpoint, _):
        bench = bench_at(endpoint, maximum="1MiB")
        bench.below.act = lambda: (bench.work / "tree" / "z").write_bytes(bytes(2 << 20))
        with pytest.raises(Denied) as caught:
            bench.save("t", bench.work / "tree")
    assert caught.value.fact.endswith("; objects already stored and not removed: 1")
    assert moto.keys(bucket) == {"t/007"}


def test_an_object_beneath_which_another_save_has_stored_something_stays_with_it(moto, bucket, bench_at):
    bench = bench_at(moto.endpoint, maximum="1MiB", only_new=True)

    def store_beneath() -> None:
        moto.client.put_object(Bucket=bucket, Key="t/003/other", Body=b"x")
        (bench.work / "tree" / "z").write_bytes(bytes(2 << 20))

    bench.below.act = store_beneath
    with pytest.raises(Denied):
        bench.save("t", bench.work / "tree")
    assert moto.keys(bucket) == {"t/003", "t/003/other"}


def test_objects_that_a_store_keeps_although_it_reports_success_are_an_error(moto, bench_at, monkeypatch):
    bench = bench_at(moto.endpoint)
    bench.save("t", bench.work / "tree")
    bench.file(b"new", "other/new")
    monkeypatch.setattr(bench.below, "delete_objects", lambda *_: True)
    monkeypatch.setattr(bench.below, "delete", lambda *_: None)
    with pytest.raises(DataLoss, match="objects are still stored beneath the key"):
        bench.save("t", bench.work / "other")


def test_the_marker_of_a_folder_is_removed_with_the_directory_that_is_replaced(moto, bucket, bench_at):
    """Its key ends in a slash, without which it is listed: there is no object of exactly the listed key."""
    bench = bench_at(moto.endpoint)
    bench.save("t", bench.work / "tree")
    moto.client.put_object(Bucket=bucket, Key="t/folder/", Body=b"foreign")
    bench.file(b"new", "other/new")
    bench.save("t", bench.work / "other")
    assert moto.keys(bucket) == {"t/new", f"t/{MANIFEST}"}


# --- the backend ------------------------------------------------------------------------------------------


def test_exactly_the_objects_of_these_keys_are_deleted(backend, call, at):
    for key in ("exact/a", "exact/b/c", "exact/b/d", "exact/bc", "exact-not"):
        backend.save_stream(call, at(key), iter([b"x"]))
    assert backend.delete_objects(call, at("exact"), ["exact/a", "exact/b/c", "exact/absent", "exact"])
    assert backend.list_objects(call, at("exact")) == ["exact/b/d", "exact/bc"]
    assert backend.delete_objects(call, at("exact"), [])
    assert backend.delete_objects(call, at("exact"), ["exact/b/d", "exact/bc", "exact-not"])
    assert backend.list_objects(call, at("exact")) == []


def test_what_is_stored_beneath_a_key_stays(moto, bucket, call, at, backend_at):
    for key in ("a", "a/b", "a/", "c"):
        moto.client.put_object(Bucket=bucket, Key=key, Body=b"x")
    assert backend_at(moto, bucket).delete_objects(call, at("t"), ["a", "c"])
    assert moto.keys(bucket) == {"a/b", "a/"}


def test_with_a_key_that_cannot_be_stored_nothing_is_deleted(moto, bucket, call, at, backend_at):
    moto.client.put_object(Bucket=bucket, Key="a", Body=b"x")
    with pytest.raises(BadRequest):
        backend_at(moto, bucket).delete_objects(call, at("t"), ["a", "../b"])
    assert moto.keys(bucket) == {"a"}


def test_a_caller_who_has_left_deletes_nothing(moto, bucket, call, at, backend_at):
    moto.client.put_object(Bucket=bucket, Key="a", Body=b"x")
    call.cancel()
    with pytest.raises(Cancelled):
        backend_at(moto, bucket).delete_objects(call, at("t"), ["a"])
    assert moto.keys(bucket) == {"a"}
