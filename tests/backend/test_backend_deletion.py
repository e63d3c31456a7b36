"""Delete on stores that answer a bulk deletion with an error, or that allow only some deletions."""

from __future__ import annotations

import pytest
from harness.gateways import limiting_deletions

from sealgate.errors import NotConfigured


@pytest.fixture
def bucket(moto) -> str:
    return moto.new_bucket()


def test_one_object_is_deleted_by_one_delete(moto, bucket, call, at, plant, backend_at):
    with limiting_deletions(moto) as (endpoint, deletions):
        backend = backend_at(moto, bucket, endpoint=endpoint)
        backend.save(call, at("file"), plant(b"x"))
        backend.delete(call, at("file"))
        assert deletions == [f"/{bucket}/file"]
        backend.save(call, at("tree"), plant({"a": b"1", "b": b"2", "c": b"3"}))
        deletions.clear()
        backend.save(call, at("tree"), plant({"a": b"1", "b": b"2"}))
        assert deletions == [f"/{bucket}/tree/c"]
        deletions.clear()
        backend.delete(call, at("tree"))
        assert deletions[0] == "bulk"
    assert moto.keys(bucket) == set()


@pytest.mark.parametrize("status", [400, 403, 405, 500, 501, 503])
def test_a_store_without_bulk_deletion_deletes_one_by_one(moto, bucket, call, at, plant, backend_at, status):
    names = [f"tree/{number}" for number in range(20)]
    with limiting_deletions(moto, bulk=status) as (endpoint, deletions):
        backend = backend_at(moto, bucket, endpoint=endpoint)
        for _ in range(2):
            asked = deletions.count("bulk")
            backend.save(call, at("tree"), plant({name.removeprefix("tree/"): b"x" for name in names}))
            backend.save(call, at("other"), plant(b"x"))
            backend.delete(call, at("tree"))
            assert moto.keys(bucket) == {"other"}
        lasting = status not in {500, 503}
        assert (deletions.count("bulk") == asked) is lasting, "a lasting answer is remembered"
        assert {path for path in deletions if path != "bulk"} >= {f"/{bucket}/{name}" for name in names}


@pytest.mark.parametrize("status", [400, 501])
def test_odd_keys_are_deleted_one_by_one_too(moto, bucket, call, at, backend_at, status):
    for key in ("tree//a", "tree/folder/", "tree//b", "tree/c"):
        moto.client.put_object(Bucket=bucket, Key=key, Body=b"x")
    with limiting_deletions(moto, bulk=status) as (endpoint, _):
        backend_at(moto, bucket, endpoint=endpoint).delete(call, at("tree"))
    assert moto.keys(bucket) == set()


@pytest.mark.parametrize("odd", [False, True])
def test_a_right_to_delete_that_is_missing_is_named_with_a_remedy(moto, bucket, call, at, backend_at, odd):
    for key in ("tree/a", "tree/b", "tree//kept" if odd else "tree/kept"):
        moto.client.put_object(Bucket=bucket, Key=key, Body=b"x")
    with limiting_deletions(moto, denied="kept") as (endpoint, _):
        backend = backend_at(moto, bucket, endpoint=endpoint)
        with pytest.raises(NotConfigured, match="refused the credentials, or they lack a right") as caught:
            backend.delete(call, at("tree"))
    assert "rights to list, read, write and delete" in caught.value.remedy
    assert not caught.value.transient
    assert {key for key in moto.keys(bucket) if key.endswith("kept")}


def test_an_operation_that_is_not_implemented_is_not_called_transient(moto, bucket, call, at, plant, backend_at):
    with limiting_deletions(moto, bulk=501, denied="x") as (endpoint, _):
        backend = backend_at(moto, bucket, endpoint=endpoint)
        backend.save(call, at("tree"), plant({"ax": b"", "bx": b""}))
        with pytest.raises(NotConfigured) as caught:
            backend.delete(call, at("tree"))
        assert not caught.value.transient
