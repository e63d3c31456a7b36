"""Artifacts come back from every kind of store as they were saved."""

from __future__ import annotations

import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.chain import eventually

from sealgate.backend import ObjectStoreBackend
from sealgate.call import Call, Operation
from sealgate.errors import BadRequest, Cancelled, DeadlineExceeded, LimitReached, Refused

MIB = 1 << 20
TREE = {
    "a": b"first",
    "b/c": b"",
    "b/d/e f": b"deep",
    "grüße/日本 語.txt": b"names",
    "x#1": b"a name that obstore reserves in a directory",
    "x#1+": b"the name that replaces it there",
    "100%/?*&+;=": b"signs",
}


def listing(key, tree):
    return sorted(f"{key}/{path}" for path in tree)


@pytest.mark.parametrize("size", [0, 1, 4 * MIB, 4 * MIB + 1, 8 * MIB, 20 * MIB + 7])
def test_a_file_comes_back_whatever_its_size(backend, call, at, plant, seen, fresh, size):
    content = os.urandom(size)
    backend.save(call, at("some/file"), plant(content))
    backend.load(call, at("some/file"), path := fresh())
    assert seen(path) == content
    assert b"".join(map(bytes, backend.open_stream(call, at("some/file")))) == content
    assert backend.list_objects(call, at("some/file")) == []
    assert not backend.is_directory(call, at("some/file"))
    assert os.listdir(path.parent) == ["loaded"]


def test_a_directory_comes_back_with_its_empty_files(backend, call, at, plant, seen, fresh):
    backend.save(call, at("some/tree"), plant(TREE))
    backend.load(call, at("some/tree"), path := fresh())
    assert seen(path) == TREE
    assert backend.list_objects(call, at("some/tree")) == listing("some/tree", TREE)
    assert backend.is_directory(call, at("some/tree"))
    assert os.listdir(path.parent) == ["loaded"]


@pytest.mark.parametrize("tree", [{}, {"a": b"x", "b/empty": None}, {"empty": None}, {"a/b/c": None, "z": b"x"}])
def test_an_empty_directory_is_refused_because_no_object_would_keep_it(store, call, at, plant, seen, fresh, tree):
    backend = store.backend()
    backend.save(call, at("tree"), plant({"before": b"old"}))
    name = next((path for path, content in tree.items() if content is None), ".")
    with pytest.raises(BadRequest, match=f'"{name}" is empty, and object stores have no directories') as caught:
        backend.save(call, at("tree"), plant(tree))
    assert "archive" in caught.value.remedy
    backend.load(call, at("tree"), path := fresh())
    assert seen(path) == {"before": b"old"}
    with pytest.raises(BadRequest, match="is empty"):
        backend.save(call, at("new"), plant(tree))
    assert not backend.is_directory(call, at("new"))


def test_a_directory_that_sealgate_sealed_keeps_its_empty_directories_in_its_manifest(
    store, call, at, plant, seen, fresh
):
    backend = store.backend()
    backend.save(call, at("tree"), plant({".sealgate-manifest": b"m", "a": b"x", "b/empty": None}))
    backend.load(call, at("tree"), path := fresh())
    assert seen(path) == {".sealgate-manifest": b"m", "a": b"x"}
    with pytest.raises(BadRequest, match='"c" is empty'):
        backend.save(call, at("tree"), plant({"b/.sealgate-manifest": b"m", "c": None}))


def test_a_part_of_a_directory_can_be_loaded_alone(backend, call, at, plant, seen, fresh):
    backend.save(call, at("tree"), plant(TREE))
    backend.load(call, at("tree/b/d/e f"), file := fresh())
    backend.load(call, at("tree/b"), directory := fresh())
    assert seen(file) == b"deep"
    assert seen(directory) == {"c": b"", "d/e f": b"deep"}


def test_a_directory_may_have_large_and_small_files(backend, call, at, plant, seen, fresh):
    tree = {f"{number}": os.urandom(number * MIB) for number in range(0, 12, 3)} | {"small": b"s"}
    backend.save(call, at("tree"), plant(tree))
    backend.load(call, at("tree"), path := fresh())
    assert seen(path) == tree


def test_what_is_loaded_can_be_read_by_every_user(backend, call, at, plant, fresh):
    backend.save(call, at("tree"), plant({"a/b": b"", "c/d": b""}))
    before = os.umask(0o077)
    try:
        backend.load(call, at("tree"), tree := fresh())
        backend.load(call, at("tree/a/b"), file := fresh())
    finally:
        os.umask(before)
    for path in (tree, tree / "a", tree / "c"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o755
    for path in (file, tree / "a" / "b"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("key", ["nothing", "file/beneath", "tre", "tree/a/b"])
def test_a_missing_artifact_is_not_found_and_creates_nothing(backend, call, at, plant, fresh, key):
    backend.save(call, at("file"), plant(b"x"))
    backend.save(call, at("tree"), plant({"a": b"x"}))
    path = fresh()
    with pytest.raises(Refused, match="not found"):
        backend.load(call, at(key), path)
    with pytest.raises(Refused, match="not found"):
        list(backend.open_stream(call, at(key)))
    assert backend.list_objects(call, at(key)) == []
    assert not backend.is_directory(call, at(key))
    backend.delete(call, at(key))
    assert list(path.parent.iterdir()) == []


# --- replacing --------------------------------------------------------------------------------------------

FORMS = {
    "file": b"a file",
    "large file": bytes(9 * MIB),
    "tree": {"a": b"1", "b/c": b"2", "e": b""},
    "another tree": {"a": b"3", "b/d": b"4", "f": b""},
    "other kinds": {"a/x/y": b"5", "b": b"6", "e/g": b"7"},
}


@pytest.mark.parametrize("after", FORMS)
@pytest.mark.parametrize("before", FORMS)
def test_a_save_replaces_all_that_was_there(store, call, at, plant, seen, fresh, before, after):
    backend = store.backend()
    backend.save(call, at("keys/key"), plant(FORMS[before]))
    backend.save(call, at("keys/key"), plant(FORMS[after]))
    backend.load(call, at("keys/key"), path := fresh())
    assert seen(path) == FORMS[after]
    assert backend.is_directory(call, at("keys/key")) == isinstance(FORMS[after], dict)
    everything = backend.list_objects(call, at("keys"))
    expected = listing("keys/key", FORMS[after]) if isinstance(FORMS[after], dict) else ["keys/key"]
    assert everything == expected, "neither stale nor auxiliary objects"


@pytest.mark.parametrize("before", FORMS)
def test_a_stream_replaces_all_that_was_there(backend, call, at, plant, seen, fresh, before):
    backend.save(call, at("keys/key"), plant(FORMS[before]))
    backend.save_stream(call, at("keys/key"), iter([b"streamed"]))
    backend.load(call, at("keys/key"), path := fresh())
    assert seen(path) == b"streamed"
    assert backend.list_objects(call, at("keys")) == ["keys/key"]


class Interrupted(Exception):
    pass


def interrupted(chunks):
    yield from chunks
    raise Interrupted


@pytest.mark.parametrize("count", [0, 1, 20, 40])
@pytest.mark.parametrize("before", [*FORMS, "nothing"])
def test_a_stream_that_fails_changes_nothing(store, call, at, plant, seen, fresh, before, count):
    backend = store.backend()
    if before in FORMS:
        backend.save(call, at("keys/key"), plant(FORMS[before]))
    keys = store.keys and store.keys()
    with pytest.raises(Interrupted):
        backend.save_stream(call, at("keys/key"), interrupted(bytes(MIB) for _ in range(count)))
    assert store.uploads() == []
    assert keys == (store.keys and store.keys())
    if before in FORMS:
        backend.load(call, at("keys/key"), path := fresh())
        assert seen(path) == FORMS[before]


@pytest.mark.parametrize("before", ["tree", "file"])
def test_a_directory_that_cannot_be_saved_changes_nothing(store, call, at, plant, before):
    backend = store.backend()
    backend.save(call, at("key"), plant(FORMS[before]))
    keys = store.keys and store.keys()
    top = plant({"a/b": b"new", "b": b"new"})
    (top / "link").symlink_to("b")
    with pytest.raises(BadRequest, match="link"):
        backend.save(call, at("key"), top)
    assert keys == (store.keys and store.keys())


def test_the_raw_keys_are_those_of_the_files(store, call, at, plant):
    store.backend().save(call, at("tree"), plant({"a": b"", "b/c d/%20": b"", "f#1/g": b""}))
    raw = {"tree/a", "tree/b/c d/%20", "tree/f#1/g"}
    assert store.keys is None or store.keys() == raw


# --- deleting and listing ---------------------------------------------------------------------------------


def test_a_delete_removes_the_artifact_and_none_of_its_neighbours(store, call, at, plant):
    backend = store.backend()
    neighbours = ["all/key2", "all/key.bak", "all/key 2/x", "all/ke", "all/KEY"]
    for neighbour in neighbours:
        backend.save(call, at(neighbour), plant(b"n"))
    backend.save(call, at("all/key"), plant(TREE))
    for _ in range(3):
        backend.delete(call, at("all/key"))
        assert backend.list_objects(call, at("all")) == sorted(neighbours)
    backend.delete(call, at("all/key2"))
    assert backend.list_objects(call, at("all")) == sorted(set(neighbours) - {"all/key2"})
    backend.delete(call, at("all"))
    assert not store.keys or store.keys() == set()


def test_an_empty_key_lists_the_whole_store_and_is_refused_otherwise(backend, call, at, plant):
    backend.save(call, at("one"), plant(b"1"))
    backend.save(call, at("top/tree"), plant({"a": b"", "b/c": b""}))
    assert backend.list_objects(call, at("")) == ["one", "top/tree/a", "top/tree/b/c"]
    for refused in (backend.delete, backend.is_directory):
        with pytest.raises(BadRequest):
            refused(call, at(""))
    assert len(backend.list_objects(call, at(""))) == 3


def test_a_delete_removes_more_objects_than_one_request_can(backend, call, at, plant):
    backend.save(call, at("tree"), plant({f"{number:04}": b"" for number in range(1100)}))
    assert len(backend.list_objects(call, at("tree"))) == 1100
    backend.delete(call, at("tree"))
    assert not backend.is_directory(call, at("tree"))


def test_a_listing_is_sorted_and_names_full_keys(backend, call, at, plant):
    backend.save(call, at("top/tree"), plant({"b": b"", "a/z": b"", "a b": b""}))
    assert backend.list_objects(call, at("top/tree")) == ["top/tree/a b", "top/tree/a/z", "top/tree/b"]
    assert backend.list_objects(call, at("top")) == ["top/tree/a b", "top/tree/a/z", "top/tree/b"]


# --- streams ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[], [0], [1, 2, 3], [2 * MIB] * 5, [MIB - 1] * 40, [9 * MIB]])
def test_a_stream_is_stored_as_it_came(backend, call, at, sizes):
    chunks = [os.urandom(size) for size in sizes]
    backend.save_stream(call, at("key"), iter(chunks))
    out = [bytes(chunk) for chunk in backend.open_stream(call, at("key"))]
    assert b"".join(out) == b"".join(chunks)
    assert all(0 < len(chunk) <= MIB for chunk in out)


def test_a_stream_may_use_its_buffer_again(backend, call, at):
    def chunks():
        buffer = bytearray(MIB)
        for number in range(40):
            buffer[:] = bytes([number]) * MIB
            yield memoryview(buffer)

    backend.save_stream(call, at("key"), chunks())
    content = b"".join(map(bytes, backend.open_stream(call, at("key"))))
    assert content == b"".join(bytes([number]) * MIB for number in range(40))


def test_a_stream_can_go_from_one_artifact_to_another(backend, call, at, plant, seen, fresh):
    content = os.urandom(20 * MIB)
    backend.save(call, at("from"), plant(content))
    backend.save_stream(call, at("to"), backend.open_stream(call, at("from")))
    backend.load(call, at("to"), path := fresh())
    assert seen(path) == content


def test_a_directory_is_not_streamed(backend, call, at, plant):
    backend.save(call, at("tree"), plant(TREE))
    with pytest.raises(Refused, match="a directory"):
        list(backend.open_stream(call, at("tree")))


def running() -> int:
    """Return how many threads there are, without those in which a server of the tests keeps connections."""
    return sum("process_request_thread" not in thread.name for thread in threading.enumerate())


def test_streams_that_are_not_read_to_the_end_leave_nothing_behind(backend, call, at):
    backend.save_stream(call, at("key"), iter([bytes(MIB)] * 12))
    threads, descriptors = running(), len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        stream = backend.open_stream(call, at("key"))
        next(stream)
        stream.close()
    assert eventually(lambda: running() <= threads)  # those of the store end later
    # The connections of one read stay open for the next request.
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 40


# --- what cannot be saved ---------------------------------------------------------------------------------


def spoil_with_link(top):
    (top / "sub").mkdir()
    (top / "sub" / "bad").symlink_to("/etc/passwd")


def spoil_with_pipe(top):
    os.mkfifo(top / "bad")


def spoil_with_bytes(top):
    (top / os.fsdecode(b"bad\xff")).write_bytes(b"")


def spoil_with_line_break(top):
    (top / "bad\nname").write_bytes(b"")


def spoil_with_depth(top):
    deep = top
    for _ in range(6):
        deep /= "bad" + "d" * 200
        deep.mkdir()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (spoil_with_link, '"sub/bad".*symbolic link'),
        (spoil_with_pipe, '"bad".*device, socket or pipe'),
        (spoil_with_bytes, '"bad.*not UTF-8'),
        (spoil_with_line_break, 'bad.x0aname".*control character'),
        (spoil_with_depth, "at most 1024 are allowed"),
    ],
)
def test_an_entry_that_cannot_be_stored_is_refused_by_name(store, call, at, plant, spoil, says):
    spoil(top := plant({"good": b"x"}))
    backend = store.backend()
    with pytest.raises(BadRequest, match=says):
        backend.save(call, at("tree"), top)
    assert not backend.is_directory(call, at("tree"))


def test_a_link_in_the_place_of_a_file_is_not_followed(backend, call, at, tmp_path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    for path in (tmp_path / "link", tmp_path / "nothing", Path("/dev/null")):
        with pytest.raises(BadRequest):
            backend.save(call, at("key"), path)
    assert backend.list_objects(call, at("key")) == []


@pytest.mark.parametrize("path", ["", "relative", "."])
def test_a_path_relative_to_where_the_backend_was_started_is_refused(backend, call, at, tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relative").write_bytes(b"x")
    with pytest.raises(BadRequest, match="not absolute"):
        backend.save(call, at("key"), Path(path))
    backend.save(call, at("key"), tmp_path / "relative")
    (tmp_path / "relative").unlink()
    with pytest.raises(BadRequest, match="not absolute"):
        backend.load(call, at("key"), Path(path))
    assert list(tmp_path.iterdir()) == []


# --- callers ----------------------------------------------------------------------------------------------


def operations(backend, call, at, plant, fresh):
    yield lambda: backend.load(call, at("file"), fresh())
    yield lambda: backend.load(call, at("tree"), fresh())
    yield lambda: list(backend.open_stream(call, at("file")))
    yield lambda: backend.save(call, at("new"), plant(bytes(9 * MIB)))
    yield lambda: backend.save(call, at("new"), plant(TREE))
    yield lambda: backend.delete(call, at("tree"))
    yield lambda: backend.list_objects(call, at("tree"))


@pytest.mark.parametrize("error", [Cancelled, DeadlineExceeded])
def test_nothing_is_done_for_a_caller_who_went_away(store, call, at, plant, seen, fresh, error, tmp_path):
    backend = store.backend()
    backend.save(call, at("file"), plant(bytes(9 * MIB)))
    backend.save(call, at("tree"), plant(TREE))
    late = Call(Operation.LOAD, deadline=time.monotonic() if error is DeadlineExceeded else None)
    if error is Cancelled:
        late.cancel()
    for operation in operations(backend, late, at, plant, fresh):
        with pytest.raises(error):
            operation()
    assert not list(tmp_path.rglob("loaded*")), "no part of a file or directory"
    assert not list(tmp_path.rglob(".loaded*")), "no temporary file or directory"
    assert backend.list_objects(call, at("new")) == []
    assert store.uploads() == []
    backend.load(call, at("tree"), path := fresh())
    assert seen(path) == TREE


def test_a_stream_ends_when_its_caller_goes_away(backend, call, at):
    backend.save_stream(call, at("key"), iter([bytes(MIB)] * 12))
    mine = Call(Operation.OPEN_STREAM)
    stream = backend.open_stream(mine, at("key"))
    next(stream)
    mine.cancel()
    with pytest.raises(Cancelled):
        list(stream)


def test_many_callers_at_once_do_not_disturb_each_other(backend, at, plant, seen, fresh):
    trees = [plant({"a": bytes([number]) * 1000, "b/c": b"", "d": b""}) for number in range(8)]
    large = os.urandom(9 * MIB)
    source = plant(large)
    places = [fresh() for _ in range(32)]

    def work(number):
        call, key = Call(Operation.SAVE), f"shared/{number}"
        if number % 4 == 0:
            backend.save(call, at(key), source)
            assert b"".join(map(bytes, backend.open_stream(call, at(key)))) == large
        else:
            backend.save(call, at(key), trees[number % 8])
            backend.load(call, at(key), places[number])
            assert seen(places[number]) == seen(trees[number % 8])
            assert backend.is_directory(call, at(key))
        backend.delete(call, at(key))
        assert backend.list_objects(call, at(key)) == []

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(32)))
    assert backend.list_objects(Call(Operation.LIST_OBJECTS), at("shared")) == []


def test_more_files_than_a_directory_may_have_are_refused(call, at, plant, tmp_path):
    top = plant({"few/a": b"", ".sealgate-manifest": b""})
    for number in range(99_999):
        (top / str(number)).touch()
    backend = ObjectStoreBackend({"SEALGATE_BACKEND_URL": tmp_path.as_uri()})
    assert len(backend.list_objects(call, at(top.name))) == 100_001, "the manifest is not counted"
    (top / "one-too-many").touch()
    for operation in (
        lambda: backend.save(call, at("key"), top),
        lambda: backend.load(call, at(top.name), tmp_path / "loaded"),
        lambda: backend.list_objects(call, at(top.name)),
    ):
        with pytest.raises(LimitReached, match="100000"):
            operation()
    assert backend.list_objects(call, at(f"{top.name}/few")) == [f"{top.name}/few/a"]
    assert not backend.is_directory(call, at("key"))
    backend.delete(call, at(top.name))
    assert not top.exists()
