"""Names come back exactly as they were given. A name for which that is impossible is refused first."""

from __future__ import annotations

import itertools
import json
from functools import partial

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from sealgate.backend import ObjectStoreBackend
from sealgate.errors import BadRequest, DataLoss

CHARACTERS = st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\ufffe\uffff")
ODD = st.sampled_from(
    ["C:", "|", "%", "%2F", "%20", " ", "#1", "#", "+", "?", "*", "~", "\\", "&amp;", "'", '"', "e\u0301", "😀"]
)
NAMES = st.lists(CHARACTERS | ODD, min_size=1, max_size=12).map("".join).filter(lambda name: name not in {".", ".."})
KEYS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
TREES = st.recursive(
    st.binary(max_size=40), lambda children: st.dictionaries(NAMES, children, min_size=1, max_size=4), max_leaves=8
).filter(lambda tree: isinstance(tree, dict))
numbers = itertools.count()
once_a_store = settings(
    max_examples=30,
    deadline=None,  # some of the stores are servers
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


def flattened(tree, above=""):
    for name, content in tree.items():
        if isinstance(content, bytes):
            yield f"{above}{name}", content
        else:
            yield from flattened(content, f"{above}{name}/")


@once_a_store
@given(key=KEYS)
@example(key="x#1/x#1+/x#12++")
@example(key=" / / ")
@example(key="A:/bC:/C|/d:+/e:")
@example(key="…/..a/a../...")
def test_a_key_is_listed_as_it_was_given(store, backend, call, at, key):
    assume("\\" not in key or not store.environment["SEALGATE_BACKEND_URL"].startswith("az:"))
    key = f"{next(numbers)}/{key}"
    backend.save_stream(call, at(key), iter([key.encode()]))
    top = key.partition("/")[0]
    assert backend.list_objects(call, at(top)) == [key]
    assert b"".join(map(bytes, backend.open_stream(call, at(key)))) == key.encode()
    backend.delete(call, at(key))
    assert not backend.is_directory(call, at(top))


@once_a_store
@given(tree=TREES)
def test_any_tree_comes_back(store, backend, call, at, plant, seen, fresh, tree):
    is_azure = store.environment["SEALGATE_BACKEND_URL"].startswith("az:")
    assume(not is_azure or not any("\\" in path for path, _ in flattened(tree)))
    files, key = dict(flattened(tree)), f"trees/{next(numbers)}"
    backend.save(call, at(key), plant(files))
    backend.load(call, at(key), path := fresh())
    assert seen(path) == files
    assert backend.list_objects(call, at(key)) == sorted(f"{key}/{file}" for file in files)


def operations(backend, call, artifact, path, source):
    yield lambda: backend.load(call, artifact, path)
    yield lambda: list(backend.open_stream(call, artifact))
    yield lambda: backend.save(call, artifact, source)
    yield lambda: backend.save_stream(call, artifact, iter([]))
    yield lambda: backend.delete(call, artifact)
    yield lambda: backend.is_directory(call, artifact)


def test_an_empty_key_is_refused_by_every_operation_but_a_listing(call, at, plant, fresh):
    backend = ObjectStoreBackend({"SEALGATE_BACKEND_URL": "memory://m"})
    for operation in operations(backend, call, at(""), fresh(), plant(b"")):
        with pytest.raises(BadRequest, match="empty"):
            operation()
    assert backend.list_objects(call, at("")) == []


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("/", "segment"),
        ("/a", "segment"),
        ("a/", "segment"),
        ("a//b", "segment"),
        (".", "segment"),
        ("../a", "segment"),
        ("a/../b", "segment"),
        ("a/./b", "segment"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("a\x7f", "control"),
        ("a\ud800", "unpaired surrogate"),
        ("a\uffff", "character"),
        ("ü" * 513, "1026 bytes"),
    ],
)
def test_a_key_that_cannot_be_stored_is_refused_by_every_operation(call, at, plant, fresh, key, says):
    backend = ObjectStoreBackend({"SEALGATE_BACKEND_URL": "memory://m"})
    listing = partial(backend.list_objects, call, at(key))
    for operation in (listing, *operations(backend, call, at(key), fresh(), plant(b""))):
        with pytest.raises(BadRequest, match=says):
            operation()


def test_a_key_may_have_1024_bytes_with_the_prefix_and_no_more(moto, call, at, backend_at):
    backend = backend_at(moto, moto.new_bucket(), prefix="p" * 23)
    backend.save_stream(call, at("k" * 1000), iter([b"x"]))
    with pytest.raises(BadRequest, match="1025 bytes"):
        backend.save_stream(call, at("k" * 1001), iter([b"x"]))


# --- objects of other programs ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../../evil", "a/../../evil", "a//evil", "./evil", "/evil", "evil\x01"])
def test_a_hostile_name_in_the_store_creates_nothing_anywhere(moto, call, at, seen, fresh, backend_at, name):
    bucket = moto.new_bucket()
    moto.client.put_object(Bucket=bucket, Key=f"tree/{name}", Body=b"evil")
    moto.client.put_object(Bucket=bucket, Key="tree/good", Body=b"good")
    backend, path = backend_at(moto, bucket), fresh()
    backend.load(call, at("tree"), path)
    assert seen(path) == {"good": b"good"}
    assert list(path.parent.iterdir()) == [path]
    assert not list(path.parent.parent.rglob("*evil*"))


def test_empty_objects_for_directories_become_directories(moto, call, at, seen, fresh, backend_at):
    bucket = moto.new_bucket()
    for key, body in {"tree/": b"", "tree/a/": b"", "tree/a/b": b"x"}.items():
        moto.client.put_object(Bucket=bucket, Key=key, Body=body)
    backend = backend_at(moto, bucket)
    backend.load(call, at("tree"), path := fresh())
    assert seen(path) == {"a/b": b"x"}


def test_a_path_that_is_both_a_file_and_a_directory_is_not_loaded(moto, call, at, fresh, backend_at):
    bucket = moto.new_bucket()
    for key in ("tree/a", "tree/a/b"):
        moto.client.put_object(Bucket=bucket, Key=key, Body=b"x")
    with pytest.raises(DataLoss, match='"tree/a" in the store is both'):
        backend_at(moto, bucket).load(call, at("tree"), path := fresh())
    assert list(path.parent.iterdir()) == []


def test_a_backslash_is_refused_on_azure_which_would_read_it_as_a_slash(azurite, call, at):
    environment = {
        "SEALGATE_BACKEND_URL": f"az://{azurite.new_container()}",
        "SEALGATE_BACKEND_CONFIG": json.dumps(azurite.config()),
    }
    with pytest.raises(BadRequest, match="Azure reads a backslash as a slash"):
        ObjectStoreBackend(environment).save_stream(call, at("a\\b"), iter([b"x"]))
