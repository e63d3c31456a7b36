"""A directory is one artifact: a Load gives exactly what one Save stored, or an error and nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.chain import write_keyring
from harness.counting_keys import CountingKeys
from harness.memory_plugin import WAYS, MemoryPlugin
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealgate.call import Call, Operation, SealingInstructions
from sealgate.envelope import MANIFEST, listing
from sealgate.errors import (
    BadRequest,
    DataLoss,
    DirectoryIncomplete,
    DownstreamStatus,
    LimitReached,
    NotSealed,
    PluginError,
    Refused,
)
from sealgate.layers.sealed import Sealed
from sealgate.plugin import Artifact
from sealgate.storage.local_paths import Roots
from sealgate.storage.spool import Spool
from sealgate.storage.stored_objects import Transfer

READS_PLAINTEXT = SealingInstructions(reads_plaintext=True)
PASSTHROUGH = SealingInstructions(passthrough=True)

Tree = dict[str, "Tree | bytes"]


class Bench:
    """The layer that seals, around `below`. Each Load has a destination of its own."""

    def __init__(self, home: Path, transfer: Transfer, below: MemoryPlugin) -> None:
        self.work = home / "work"
        self.work.mkdir()
        self.below = below
        keys = CountingKeys(write_keyring(home / "keyring.json"))
        self.keys = keys
        self.sealed = Sealed(below, keys, roots=Roots([self.work]), spool=Spool(home / "spool"), transfer=transfer)
        self._numbers = itertools.count()
        self.call = Call(Operation.LOAD)

    def save(self, key: str, content: Tree | bytes, instructions: SealingInstructions = SealingInstructions()):  # noqa: B008 - the default is frozen
        path = self.work / f"source-{next(self._numbers)}"
        grow(path, content)
        self.call = Call(Operation.SAVE, instructions=instructions)
        self.sealed.save(self.call, Artifact(key), path)

    def load(self, key: str, instructions: SealingInstructions = SealingInstructions()) -> Tree | bytes:  # noqa: B008 - the default is frozen
        path = self.work / f"loaded-{next(self._numbers)}"
        self.call = Call(Operation.LOAD, instructions=instructions)
        before = set(self.work.iterdir())
        try:
            self.sealed.load(self.call, Artifact(key), path)
        except PluginError:
            assert set(self.work.iterdir()) == before, "a failed Load leaves nothing"
            raise
        return harvest(path)


def grow(path: Path, content: Tree | bytes) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
        return
    path.mkdir()
    for name, node in content.items():
        grow(path / name, node)


def harvest(path: Path) -> Tree | bytes:
    return path.read_bytes() if path.is_file() else {child.name: harvest(child) for child in path.iterdir()}


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def way(request):
    return request.param


@pytest.fixture
def bench(way, tmp_path):
    transfer, streams = way
    return Bench(tmp_path, transfer, MemoryPlugin(streams=streams))


TREE: Tree = {"a": b"first", "sub": {"b": b"second", "empty": {}}, "nothing": {}}
KEYS = ["ns/t/.sealgate-manifest", "ns/t/a", "ns/t/sub/b"]

# --- what is saved comes back -----------------------------------------------------------------------------


@pytest.mark.parametrize("tree", [TREE, {}, {"only": {"empty": {"ones": {}}}}])
def test_a_tree_comes_back_with_its_empty_directories(bench, tree):
    bench.save("ns/t", tree)
    assert bench.load("ns/t") == tree
    assert bench.call.sealed.left_out == 0


def test_the_manifest_is_stored_last_and_listed_nowhere(way, tmp_path):
    transfer, streams = way
    bench = Bench(tmp_path, transfer, MemoryPlugin(streams=streams))
    bench.save("ns/t", TREE)
    assert sorted(bench.below.objects) == KEYS
    if transfer is Transfer.STREAM:
        assert [*bench.below.objects][-1] == KEYS[0]
    assert bench.sealed.list_objects(Call(Operation.LIST_OBJECTS), Artifact("ns/t")) == KEYS[1:]
    assert bench.sealed.is_directory(Call(Operation.IS_DIRECTORY), Artifact("ns/t"))


def test_a_directory_costs_one_data_key_for_its_files_and_its_manifest(bench):
    bench.save("ns/t", TREE)
    bench.load("ns/t")
    assert bench.keys.requests == {"new_data_key": 1, "unwrap": 1}


def test_the_modes_of_what_is_loaded_do_not_depend_on_the_transfer(bench):
    bench.save("ns/t", TREE)
    bench.load("ns/t")
    loaded = bench.work / "loaded-1"
    for path in (loaded, *loaded.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


NAMES = st.text(
    st.characters(blacklist_categories=("Cs", "Cc", "Cn", "Co"), blacklist_characters="/"), min_size=1, max_size=20
).filter(lambda name: name not in {".", "..", MANIFEST} and len(name.encode()) < 200)


def trees(names: st.SearchStrategy[str]) -> st.SearchStrategy[Tree]:
    inner = st.recursive(
        st.binary(max_size=2000) | st.just({}), lambda deeper: st.dictionaries(names, deeper, max_size=4), max_leaves=12
    )
    return inner.filter(lambda tree: isinstance(tree, dict))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(way=st.sampled_from([*WAYS.values()]), whole=st.booleans(), tree=trees(NAMES))
def test_any_tree_comes_back(tmp_path_factory, way, whole, tree):
    transfer, streams = way
    bench = Bench(tmp_path_factory.mktemp("any"), transfer, MemoryPlugin(streams=streams, whole=whole))
    bench.save("ns/t", tree)
    assert bench.load("ns/t") == tree


# --- what storage does to it ------------------------------------------------------------------------------

FEW = st.sampled_from(["a", "b", "c", "new"])
CHANGES = st.lists(
    st.tuples(st.sampled_from(["delete", "put", "swap"]), st.integers(0, 99), st.integers(0, 99)), max_size=6
)
STRAY = ("ns/t", "ns/t/new/", "ns/t/a/", "ns/t//x", "ns/t/.sealgate-directory", "ns/t/new/.sealgate-directory")


def changed(objects: dict[str, bytes], keys: list[str], values: list[bytes], changes) -> dict[str, bytes]:
    """Return `objects` after deletions, additions of any of the `values`, and swaps."""
    after = dict(objects)
    for kind, one, two in changes:
        key = keys[one % len(keys)]
        if kind == "delete":
            after.pop(key, None)
        elif kind == "put":
            after[key] = values[two % len(values)]
        elif (other := keys[two % len(keys)]) in after and key in after:
            after[key], after[other] = after[other], after[key]
    return after


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    way=st.sampled_from([*WAYS.values()]),
    earlier=trees(FEW),
    latest=trees(FEW),
    beside=trees(FEW),
    plain=st.booleans(),
    changes=CHANGES,
)
def test_whatever_is_done_in_storage_a_load_gives_a_saved_tree_or_nothing(
    tmp_path_factory, way, earlier, latest, beside, plain, changes
):
    transfer, streams = way
    below = MemoryPlugin(streams=streams)
    bench = Bench(tmp_path_factory.mktemp("changed"), transfer, below)
    generations: dict[str, dict[str, bytes]] = {}
    for name, key, content in (("file", "ns/t", b"a file"), ("earlier", "ns/t", earlier), ("latest", "ns/t", latest)):
        below.objects.clear()
        bench.save(key, content)
        generations[name] = dict(below.objects)
    bench.save("ns/u", beside)
    generations["all"] = dict(below.objects)
    keys = sorted({key for objects in generations.values() for key in objects} | {*STRAY})
    values = [value for objects in generations.values() for value in objects.values()]
    below.objects = changed(below.objects, keys, [*values, b"", b"never sealed"], changes)
    intact = all(below.objects.get(key) == value for key, value in generations["latest"].items())
    saved = [latest, earlier, b"a file"]
    try:
        loaded = bench.load("ns/t", READS_PLAINTEXT if plain else SealingInstructions())
    except Refused:
        assert not intact or transfer is not Transfer.STREAM, "a downstream that works by path may refuse stray keys"
    except PluginError:
        assert not intact or "ns/t" in below.objects
    else:
        assert loaded in saved or (plain and not bench.call.sealed.key), "without a key nothing was ever sealed"
        assert not intact or loaded == latest or "ns/t" in below.objects


FAULTS = {
    "a file is deleted": lambda objects: objects.pop("ns/t/a"),
    "the manifest is deleted": lambda objects: objects.pop(KEYS[0]),
    "a file is replaced by a marker": lambda objects: objects.update(
        {"ns/t/a/.sealgate-directory": objects.pop("ns/t/a")[:0]}
    ),
    "a file is another one of the directory": lambda objects: objects.update({"ns/t/a": objects["ns/t/sub/b"]}),
    "a file is the manifest": lambda objects: objects.update({"ns/t/a": objects[KEYS[0]]}),
    "the manifest is a file": lambda objects: objects.update({KEYS[0]: objects["ns/t/a"]}),
    "the manifest is empty": lambda objects: objects.update({KEYS[0]: b""}),
    "the manifest is plaintext": lambda objects: objects.update({KEYS[0]: b"SGM1\0\0\0\0"}),
    "the manifest is cut": lambda objects: objects.update({KEYS[0]: objects[KEYS[0]][:-1]}),
    "a file is plaintext": lambda objects: objects.update({"ns/t/a": b"first"}),
    "everything but the manifest is deleted": lambda objects: (objects.pop("ns/t/a"), objects.pop("ns/t/sub/b")),
}


@pytest.mark.parametrize("instructions", [SealingInstructions(), READS_PLAINTEXT], ids=["sealed", "plaintext-allowed"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_directory_that_storage_changed_is_refused(bench, fault, instructions):
    bench.save("ns/t", TREE)
    FAULTS[fault](bench.below.objects)
    with pytest.raises((DataLoss, NotSealed)):
        bench.load("ns/t", instructions)


def test_the_error_names_the_first_file_and_counts_the_others(bench):
    bench.save("ns/t", dict.fromkeys("abcdef", b"x"))
    for name in "bde":
        del bench.below.objects[f"ns/t/{name}"]
    with pytest.raises(DirectoryIncomplete) as raised:
        bench.load("ns/t")
    assert raised.value.fact == '"b" in the directory is missing; 2 more of its files are missing or from another Save'


def test_files_of_two_saves_are_not_mixed(bench):
    bench.save("ns/t", dict.fromkeys("abc", b"old"))
    old = dict(bench.below.objects)
    bench.save("ns/t", dict.fromkeys("abc", b"new"))
    bench.below.objects["ns/t/b"] = old["ns/t/b"]
    with pytest.raises(DirectoryIncomplete, match=r'^"b" in the directory is from another Save$'):
        bench.load("ns/t")
    bench.below.objects |= old
    assert bench.load("ns/t") == dict.fromkeys("abc", b"old"), "an earlier Save as a whole (docs/threat-model.md)"


def test_a_manifest_belongs_to_one_directory(bench):
    bench.save("ns/t", {"a": b"one"})
    bench.save("ns/u", {"a": b"one"})
    objects = bench.below.objects
    for name in ("a", MANIFEST):
        objects[f"ns/t/{name}"] = objects[f"ns/u/{name}"]
    with pytest.raises(DataLoss):
        bench.load("ns/t")


def test_objects_that_no_manifest_lists_are_left_out_counted_and_warned_of(bench, caplog):
    bench.save("ns/t", TREE)
    bench.below.objects |= {"ns/t/new": b"planted", "ns/t/deeper/.sealgate-directory": b"", "ns/t/sub/c": b""}
    assert bench.load("ns/t") == TREE
    assert bench.call.sealed.left_out == 3
    assert "objects were left out: operation=Load," in caplog.text
    assert "reason=they are not in the directory's manifest, objects=3" in caplog.text


def test_a_downstream_that_cannot_list_does_not_fail_a_load(way, tmp_path):
    class Unlisted(MemoryPlugin):
        def list_objects(self, call, artifact):
            raise DownstreamStatus("UNIMPLEMENTED", "no listings here")

    transfer, streams = way
    bench = Bench(tmp_path, transfer, Unlisted(streams=streams))
    bench.save("ns/t", TREE)
    assert bench.load("ns/t") == TREE


class EmptyForDirectories(MemoryPlugin):
    """Answers a stream of a directory with an empty one."""

    def open_stream(self, call, artifact):
        if artifact.key not in self.objects and self._beneath(artifact):
            self._note("open_stream", artifact)
            return
        yield from super().open_stream(call, artifact)


@pytest.mark.parametrize("instructions", [SealingInstructions(), READS_PLAINTEXT], ids=["sealed", "plaintext-allowed"])
@pytest.mark.parametrize("transfer", list(Transfer))
def test_a_directory_is_one_though_its_stream_is_empty(tmp_path, transfer, instructions):
    bench = Bench(tmp_path, transfer, EmptyForDirectories())
    for _ in range(2):
        bench.save("ns/t", TREE)
        assert bench.load("ns/t", instructions) == TREE
    assert "delete" not in bench.below.calls
    del bench.below.objects[KEYS[0]]
    with pytest.raises(DirectoryIncomplete, match="no manifest"):
        bench.load("ns/t", instructions)


def test_an_empty_stream_of_a_directory_is_no_empty_artifact(tmp_path):
    bench = Bench(tmp_path, Transfer.STREAM, EmptyForDirectories())
    bench.save("ns/t", TREE)
    call = Call(Operation.OPEN_STREAM, instructions=READS_PLAINTEXT)
    with pytest.raises(DataLoss, match="empty stream for a directory"):
        list(bench.sealed.open_stream(call, Artifact("ns/t")))
    bench.below.objects["ns/f"] = b""
    call = Call(Operation.OPEN_STREAM, instructions=READS_PLAINTEXT)
    assert list(bench.sealed.open_stream(call, Artifact("ns/f"))) == []
    assert bench.load("ns/f", READS_PLAINTEXT) == b""


# --- a Save that ends midway ------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends."""


class Ending(MemoryPlugin):
    """Ends the process at its write number `last`."""

    last = 10**6

    def __init__(self, **options) -> None:
        super().__init__(**options)
        self.objects = _Counted(self)

    def wrote(self) -> None:
        self.last -= 1
        if self.last < 0:
            raise Killed


class _Counted(dict[str, bytes]):
    def __init__(self, plugin: Ending) -> None:
        super().__init__()
        self._plugin = plugin

    def __setitem__(self, key: str, value: bytes) -> None:
        self._plugin.wrote()
        super().__setitem__(key, value)


@pytest.mark.parametrize("old", [None, dict.fromkeys("abcdef", b"old"), TREE], ids=["nothing", "same names", "other"])
def test_a_save_that_was_killed_leaves_the_old_tree_or_an_error(way, tmp_path, old):
    transfer, streams = way
    new: Tree = dict.fromkeys("abcdef", b"new")
    ends: list[Tree | None] = []
    for number in range(8):
        home = tmp_path / str(number)
        home.mkdir()
        bench = Bench(home, transfer, Ending(streams=streams))
        if old:
            bench.save("ns/t", old)
        bench.below.last = number
        try:
            bench.save("ns/t", new)
        except Killed:
            assert number < 7
        try:
            ends.append(bench.load("ns/t"))
        except (DataLoss, Refused):
            ends.append(None)
    assert (ends[0], ends[7]) == (old, new)
    if old is TREE:  # what it has in common with the new tree may be replaced late
        assert all(end in (None, old) for end in ends[1:7])
    else:
        assert ends[1:7] == [None] * 6


# --- what was stored under the key before -----------------------------------------------------------------


PAIRS = [*itertools.product([b"a file", TREE, {}, {"other": b"tree"}], repeat=2)]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kinds", PAIRS, ids=str)
def test_a_save_replaces_a_file_by_a_directory_and_a_directory_by_a_file(way, tmp_path, whole, kinds):
    transfer, streams = way
    bench = Bench(tmp_path, transfer, MemoryPlugin(streams=streams, whole=whole))
    for content in (*kinds, *kinds):
        bench.save("ns/t", content)
        assert bench.load("ns/t") == content
        assert ("ns/t" in bench.below.objects) == isinstance(content, bytes)
        if isinstance(content, bytes):
            assert set(bench.below.objects) == {"ns/t"}


def test_an_upload_replaces_a_directory(bench):
    bench.save("ns/t", TREE)
    bench.sealed.save_stream(Call(Operation.SAVE_STREAM), Artifact("ns/t"), iter([b"up", b"loaded"]))
    assert set(bench.below.objects) == {"ns/t"}
    assert bench.load("ns/t") == b"uploaded"


def test_a_file_that_cannot_be_saved_removes_nothing(bench):
    bench.save("ns/t", TREE)
    before = dict(bench.below.objects)

    def breaking() -> Iterator[bytes]:
        yield b"first"
        raise BadRequest("the client broke off")

    with pytest.raises(BadRequest):
        bench.sealed.save_stream(Call(Operation.SAVE_STREAM), Artifact("ns/t"), breaking())
    assert bench.below.objects == before


def test_a_downstream_that_keeps_a_directory_beneath_a_file_is_named(way, tmp_path):
    class Keeping(MemoryPlugin):
        def delete(self, call, artifact):
            """Report success."""

    transfer, streams = way
    bench = Bench(tmp_path, transfer, Keeping(streams=streams))
    bench.save("ns/t", TREE)
    with pytest.raises(DataLoss, match="keeps objects of an earlier directory"):
        bench.save("ns/t", b"a file")


@pytest.mark.parametrize("refused", [Refused("access denied"), DownstreamStatus("PERMISSION_DENIED", "access denied")])
def test_a_downstream_that_refuses_reads_and_questions_can_still_be_written(way, tmp_path, refused):
    class Mute(MemoryPlugin):
        def answer(self, *arguments):
            raise refused

        is_directory = open_stream = load = list_objects = answer

    transfer, streams = way
    bench = Bench(tmp_path, transfer, Mute(streams=streams))
    bench.save("ns/f", b"a file")
    bench.save("ns/t", TREE)
    assert sorted(bench.below.objects) == ["ns/f", *KEYS]


def test_whether_the_downstream_replaces_whole_artifacts_is_asked_once(tmp_path):
    class Asked(MemoryPlugin):
        asked = 0

        def get_capabilities(self, call):
            self.asked += 1
            if self.asked == 1 and not self.whole:
                raise DownstreamStatus("UNKNOWN", "no such thing")
            return super().get_capabilities(call)

    for whole in (True, False):
        home = tmp_path / str(whole)
        home.mkdir()
        bench = Bench(home, Transfer.FILE, Asked(whole=whole))
        for _ in range(3):
            bench.save("ns/f", b"a file")
            bench.save("ns/t", TREE)
        assert bench.below.asked == 1
        assert ("is_directory" in bench.below.calls) == (not whole)
        assert ("load" in bench.below.calls) == (not whole)


def test_a_save_that_passes_through_makes_a_sealed_directory_an_unsealed_one(bench):
    bench.save("ns/t", {"a": b"sealed", "b": b"sealed"})
    bench.save("ns/t", {"a": b"plain", "b": b"plain"}, PASSTHROUGH)
    assert bench.below.objects == {"ns/t/a": b"plain", "ns/t/b": b"plain"}
    assert bench.load("ns/t", READS_PLAINTEXT) == {"a": b"plain", "b": b"plain"}
    with pytest.raises(DirectoryIncomplete, match="no manifest"):
        bench.load("ns/t")


# --- the reserved name, and limits ------------------------------------------------------------------------

RESERVED = ["ns/t/.sealgate-manifest", ".sealgate-manifest", "ns/.sealgate-manifest/a"]


@pytest.mark.parametrize("key", RESERVED)
def test_a_key_that_names_a_manifest_is_refused(bench, key):
    bench.save("ns/t", TREE)
    before = dict(bench.below.objects)
    file = bench.work / "file"
    file.write_bytes(b"x")
    artifact, call = Artifact(key), Call(Operation.LOAD)
    for act in (
        lambda: bench.sealed.save(call, artifact, file),
        lambda: bench.sealed.save_stream(call, artifact, iter([b"x"])),
        lambda: bench.sealed.load(call, artifact, bench.work / "loaded"),
        lambda: list(bench.sealed.open_stream(call, artifact)),
        lambda: bench.sealed.delete(call, artifact),
    ):
        with pytest.raises(BadRequest, match="is reserved"):
            act()
    assert bench.below.objects == before


@pytest.mark.parametrize("instructions", [SealingInstructions(), PASSTHROUGH], ids=["sealed", "passthrough"])
@pytest.mark.parametrize("tree", [{MANIFEST: b"x"}, {"sub": {MANIFEST: b"x"}}, {MANIFEST: {"a": b"x"}}], ids=str)
def test_a_tree_with_the_name_of_a_manifest_is_refused_before_anything_is_stored(bench, tree, instructions):
    with pytest.raises(BadRequest, match="is reserved"):
        bench.save("ns/t", {"a": b"first", **tree}, instructions)
    assert bench.below.objects == {}
    assert bench.keys.requests == {}


def test_a_tree_of_too_many_entries_is_refused_before_anything_is_stored(bench, monkeypatch):
    monkeypatch.setattr(listing, "MOST_ENTRIES", 3)
    bench.save("ns/t", {"a": b"1", "b": b"2", "c": {}})
    before = dict(bench.below.objects)
    with pytest.raises(LimitReached, match="more than 3 files and empty directories"):
        bench.save("ns/t", {"a": b"1", "b": b"2", "c": {}, "d": b"3"})
    assert bench.below.objects == before
    assert bench.keys.requests["new_data_key"] == 1
