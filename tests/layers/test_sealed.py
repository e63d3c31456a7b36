"""The layer that seals, around a plugin in memory, with a keyring in a file."""

import hashlib
import os
from contextlib import closing
from pathlib import Path

import pytest
from harness.chain import write_keyring
from harness.counting_keys import CountingKeys
from harness.memory_plugin import WAYS, MemoryPlugin

from sealgate.call import Call, Operation, SealingInstructions
from sealgate.errors import (
    BadRequest,
    DataLoss,
    DirectoryIncomplete,
    DownstreamStatus,
    LimitReached,
    NotConfigured,
    NotSealed,
    Refused,
    Tampered,
)
from sealgate.layers.digested import Digested
from sealgate.layers.sealed import Sealed
from sealgate.plugin import Artifact
from sealgate.storage.local_paths import Roots
from sealgate.storage.spool import Spool
from sealgate.storage.stored_objects import Transfer


class Bench:
    def __init__(self, home: Path, transfer: Transfer, *, streams: bool, whole: bool = False) -> None:
        self.work = home / "work"
        self.work.mkdir()
        self.spool = home / "spool"
        self.below = MemoryPlugin(streams=streams, whole=whole)
        self.keys = CountingKeys(write_keyring(home / "keyring.json"))
        self.sealed = Sealed(
            self.below, self.keys, roots=Roots([self.work]), spool=Spool(self.spool), transfer=transfer
        )

    def save(self, key, path):
        self.sealed.save(Call(Operation.SAVE), Artifact(key), path)

    def load(self, key, name="loaded"):
        path = self.work / name
        call = Call(Operation.LOAD)
        self.sealed.load(call, Artifact(key), path)
        return path

    def stream(self, key):
        with closing(self.sealed.open_stream(Call(Operation.OPEN_STREAM), Artifact(key))) as chunks:
            return b"".join(bytes(chunk) for chunk in chunks)

    def file(self, data, name="file"):
        path = self.work / name
        path.write_bytes(data)
        return path

    def spooled(self):
        return [path for path in self.spool.rglob("*") if path.is_file() and path.name != "lock"]


@pytest.fixture(params=WAYS.values(), ids=WAYS)
def bench(request, tmp_path):
    transfer, streams = request.param
    return Bench(tmp_path, transfer, streams=streams)


@pytest.fixture
def auto(tmp_path):
    return Bench(tmp_path, Transfer.AUTO, streams=True)


def snapshot(root):
    return {
        path.relative_to(root).as_posix(): path.read_bytes() if path.is_file() else None for path in root.rglob("*")
    }


@pytest.mark.parametrize("size", [0, 1, 1_048_520, 1_048_521, 3_000_000])
def test_a_file_comes_back_byte_for_byte_by_every_transfer(bench, size):
    data = os.urandom(size)
    bench.save("ns/a", bench.file(data))
    assert bench.load("ns/a").read_bytes() == data
    assert bench.stream("ns/a") == data
    assert bench.spooled() == []


def test_storage_holds_no_plaintext(bench):
    data = b"this must not be seen in storage " * 10_000
    bench.save("ns/a", bench.file(data))
    assert b"must not be seen" not in bench.below.objects["ns/a"]


def test_a_streamed_save_comes_back(bench):
    chunks = [os.urandom(n) for n in (0, 1, 65_536, 2 << 20)]
    bench.sealed.save_stream(Call(Operation.SAVE_STREAM), Artifact("ns/up"), iter(chunks))
    assert bench.stream("ns/up") == b"".join(chunks)


def test_a_stream_that_breaks_stores_nothing(bench):
    def breaking():
        yield b"first"
        raise Refused("the client broke off")

    with pytest.raises(Refused):
        bench.sealed.save_stream(Call(Operation.SAVE_STREAM), Artifact("ns/up"), breaking())
    assert bench.below.objects == {}
    assert bench.spooled() == []


def test_a_directory_comes_back_and_costs_one_data_key(bench):
    tree = bench.work / "tree"
    for number in range(20):
        file = tree / f"d{number % 3}" / f"ä {number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(number * 1000))
    bench.save("ns/tree", tree)
    assert bench.keys.requests == {"new_data_key": 1}
    assert snapshot(bench.load("ns/tree")) == snapshot(tree)
    assert bench.keys.requests == {"new_data_key": 1, "unwrap": 1}


def test_a_child_of_a_directory_opens_by_its_own_key(bench):
    tree = bench.work / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "child").write_bytes(b"alone")
    bench.save("ns/tree", tree)
    assert bench.load("ns/tree/sub/child").read_bytes() == b"alone"
    assert bench.stream("ns/tree/sub/child") == b"alone"


def test_a_part_of_a_directory_that_is_a_directory_is_no_artifact(bench):
    tree = bench.work / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "child").write_bytes(b"alone")
    bench.save("ns/tree", tree)
    with pytest.raises(DirectoryIncomplete, match="no manifest"):
        bench.load("ns/tree/sub", "part")
    assert not (bench.work / "part").exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "extend", "swap", "plain", "empty"])
def test_damage_in_storage_is_refused_and_leaves_no_file(bench, damage):
    bench.save("ns/a", bench.file(os.urandom(2_000_000)))
    bench.save("ns/b", bench.file(os.urandom(2_000_000)))
    stored = bench.below.objects["ns/a"]
    bench.below.objects["ns/a"] = {
        "flip": stored[:1_500_000] + bytes([stored[1_500_000] ^ 1]) + stored[1_500_001:],
        "cut": stored[: len(stored) // 2],
        "extend": stored + b"more",
        "swap": bench.below.objects["ns/b"],
        "plain": b"plain text",
        "empty": b"",
    }[damage]
    before = set(bench.work.iterdir())
    for read in (bench.load, bench.stream):
        with pytest.raises(NotSealed if damage == "plain" else DataLoss):
            read("ns/a")
    assert set(bench.work.iterdir()) == before
    assert bench.spooled() == []
    bench.below.objects["ns/a"] = stored
    assert bench.load("ns/a").exists(), "the next call works"


def test_two_files_of_a_directory_cannot_be_swapped(bench):
    tree = bench.work / "tree"
    tree.mkdir()
    for name in ("one", "two"):
        (tree / name).write_bytes(os.urandom(1000))
    bench.save("ns/t", tree)
    objects = bench.below.objects
    objects["ns/t/one"], objects["ns/t/two"] = objects["ns/t/two"], objects["ns/t/one"]
    with pytest.raises(Tampered):
        bench.load("ns/t")
    assert not (bench.work / "loaded").exists()


def test_a_missing_object_is_the_downstreams_own_answer(bench):
    with pytest.raises(Refused, match="not found"):
        bench.load("ns/none")
    with pytest.raises(Refused, match="not found"):
        bench.stream("ns/none")


@pytest.mark.parametrize("whole", [True, False])
def test_the_transfer_decides_which_operations_the_downstream_sees(tmp_path, whole):
    seen = {}
    for transfer in Transfer:
        home = tmp_path / transfer
        home.mkdir()
        bench = Bench(home, transfer, streams=True, whole=whole)
        bench.save("a", bench.file(b"x"))
        bench.load("a")
        bench.stream("a")
        bench.sealed.save_stream(Call(Operation.SAVE_STREAM), Artifact("b"), iter([b"y"]))
        seen[transfer] = bench.below.calls
    asked = [] if whole else ["is_directory"]
    assert seen == {
        Transfer.FILE: ["save", *asked, "load", "load", "save", *asked],
        Transfer.STREAM: ["save_stream", *asked, "open_stream", "open_stream", "save_stream", *asked],
        Transfer.AUTO: ["save_stream", *asked, "open_stream", "open_stream", "save_stream", *asked],
    }


def test_transfer_by_stream_with_a_downstream_without_streams_is_a_named_error(tmp_path):
    bench = Bench(tmp_path, Transfer.STREAM, streams=False)
    with pytest.raises(NotConfigured, match="no SaveStream"):
        bench.save("a", bench.file(b"x"))
    with pytest.raises(NotConfigured, match="no SaveStream"):
        bench.sealed.save_stream(Call(Operation.SAVE_STREAM), Artifact("a"), iter([b"x"]))


def test_save_stream_is_always_offered(tmp_path):
    bench = Bench(tmp_path, Transfer.AUTO, streams=False)
    assert bench.sealed.get_capabilities(Call(Operation.GET_CAPABILITIES)).save_stream


@pytest.mark.parametrize("code", ["DATA_LOSS", "RESOURCE_EXHAUSTED", "UNAVAILABLE", "NOT_FOUND"])
@pytest.mark.parametrize("streams", [True, False])
def test_a_directory_whose_load_by_path_fails_is_tried_by_stream_where_that_may_differ(tmp_path, code, streams):
    bench = Bench(tmp_path, Transfer.AUTO, streams=streams)
    tree = bench.work / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"x")
    bench.save("a", tree)

    def refuse(*_):
        raise DownstreamStatus(code, "refused by path")

    bench.below.load = refuse
    if streams and code in {"DATA_LOSS", "RESOURCE_EXHAUSTED"}:
        assert snapshot(bench.load("a")) == snapshot(tree)
    else:
        with pytest.raises(DownstreamStatus, match="refused by path"):
            bench.load("a")


def cannot_stream():
    raise DownstreamStatus("UNIMPLEMENTED", "no such thing here")
    yield


def refuses_streams():
    raise Refused("streams cost extra")
    yield


def tells_too_much():
    raise LimitReached("the downstream refused with a text that is longer than gRPC accepts")
    yield


STREAMS_WITHOUT_A_SEALED_FILE = {
    "no OpenStream": cannot_stream,
    "a refusal": refuses_streams,
    "more text than gRPC accepts": tells_too_much,
    "no bytes": lambda: (chunk for chunk in ()),
    "a part of a header": lambda: (chunk for chunk in [b"\x89SEAL"]),
    "an archive": lambda: (chunk for chunk in [b"PK\x03\x04" * 50_000]),
}


@pytest.mark.parametrize("stream", STREAMS_WITHOUT_A_SEALED_FILE.values(), ids=STREAMS_WITHOUT_A_SEALED_FILE)
def test_auto_loads_by_path_what_does_not_come_as_a_sealed_file_by_stream(auto, stream):
    data = os.urandom(1_200_000)
    auto.save("a", auto.file(data))
    auto.below.open_stream = lambda *_: stream()
    auto.below.calls.clear()
    call = Call(Operation.LOAD)
    sealed = Sealed(Digested(auto.below), auto.keys, roots=Roots([auto.work]), spool=Spool(auto.spool))
    sealed.load(call, Artifact("a"), auto.work / "loaded")
    assert auto.below.calls == ["load"]
    assert call.stored.sha256 == hashlib.sha256(auto.below.objects["a"]).hexdigest()
    assert (auto.work / "loaded").read_bytes() == data
    assert (call.sealed.files, call.sealed.plaintext_bytes) == (1, len(data))
    assert call.sealed.stored_bytes == len(auto.below.objects["a"])
    assert {path.name for path in auto.work.iterdir()} == {"file", "loaded"}


def test_auto_records_no_digest_for_a_directory_whose_stream_is_empty(auto):
    tree = auto.work / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"x")
    auto.save("a", tree)
    auto.below.open_stream = lambda *_: (chunk for chunk in ())
    call = Call(Operation.LOAD)
    sealed = Sealed(Digested(auto.below), auto.keys, roots=Roots([auto.work]), spool=Spool(auto.spool))
    sealed.load(call, Artifact("a"), auto.work / "loaded")
    assert snapshot(auto.work / "loaded") == snapshot(tree)
    assert call.stored.sha256 == ""


@pytest.mark.parametrize("taken", [500, 1_100_000])
def test_auto_does_not_load_twice_what_broke_after_its_header(auto, taken):
    auto.save("a", auto.file(os.urandom(1_200_000)))

    def breaks():
        yield auto.below.objects["a"][:taken]
        raise DownstreamStatus("UNAVAILABLE", "the line broke")

    auto.below.open_stream = lambda *_: breaks()
    auto.below.calls.clear()
    with pytest.raises(DownstreamStatus, match="the line broke"):
        auto.load("a")
    assert auto.below.calls == []
    assert [path.name for path in auto.work.iterdir()] == ["file"]


def test_auto_does_not_read_plaintext_by_path_that_the_downstream_calls_lost(auto):
    def lost():
        raise DownstreamStatus("DATA_LOSS", "a checksum differs")
        yield

    auto.below.objects["a"] = b"stored before there was a key"
    auto.below.open_stream = lambda *_: lost()
    call = Call(Operation.LOAD, instructions=SealingInstructions(reads_plaintext=True))
    with pytest.raises(DownstreamStatus, match="a checksum differs"):
        auto.sealed.load(call, Artifact("a"), auto.work / "loaded")


def test_auto_needs_no_room_in_the_spool_for_a_file(auto, monkeypatch):
    monkeypatch.setattr(Spool, "place", lambda _: pytest.fail("the spool was used"))
    auto.save("a", auto.file(b"x" * 3_000_000))
    assert auto.load("a").read_bytes() == b"x" * 3_000_000


def test_a_downstream_without_is_directory_has_no_directories(auto):
    class NoDirectories(MemoryPlugin):
        def is_directory(self, call, artifact):
            raise DownstreamStatus("UNIMPLEMENTED", "no such thing")

    sealed = Sealed(NoDirectories(), auto.keys, roots=Roots([auto.work]), spool=Spool(auto.spool))
    assert sealed.is_directory(Call(Operation.IS_DIRECTORY), Artifact("a")) is False


def test_a_configuration_that_only_mentions_sealgate_is_forwarded_unchanged(auto):
    text = "bucket: x\n# sealgate is only mentioned\n"
    auto.sealed.delete(Call(Operation.DELETE), Artifact("a", configuration=text))
    assert auto.below.artifacts[-1].configuration == text


@pytest.mark.parametrize(
    ("text", "forwarded"),
    [
        ("sealgate: {}\nbucket: x\n", "bucket: x\n"),
        ("sealgate: {}\ndownstream: |\n  any: {text\n", "any: {text\n"),
        ("sealgate: {}\ndownstream: {bucket: z}\n", "{bucket: z}"),
    ],
)
def test_the_authors_block_is_not_forwarded(auto, text, forwarded):
    auto.sealed.delete(Call(Operation.DELETE), Artifact("a", configuration=text))
    assert auto.below.artifacts[-1].configuration == forwarded


@pytest.mark.parametrize("text", ["sealgate: {key: other}", "sealgate: {transfer: none, key: x}", "sealgate: [1]"])
def test_authors_may_choose_nothing_by_default(auto, text):
    with pytest.raises(BadRequest, match=r"sealgate|Sealgate"):
        auto.sealed.save_stream(Call(Operation.SAVE_STREAM), Artifact("a", configuration=text), iter([b"plain"]))
    assert auto.below.objects == {}


def test_a_call_records_files_bytes_and_key(bench):
    data = os.urandom(1_200_000)
    call = Call(Operation.SAVE)
    bench.sealed.save(call, Artifact("ns/a"), bench.file(data))
    assert (call.sealed.files, call.sealed.plaintext_bytes) == (1, len(data))
    assert call.sealed.stored_bytes == len(bench.below.objects["ns/a"])
    assert call.sealed.key.key_version == 1
    call = Call(Operation.LOAD)
    bench.sealed.load(call, Artifact("ns/a"), bench.work / "loaded")
    assert (call.sealed.files, call.sealed.plaintext_bytes) == (1, len(data))
    assert call.sealed.stored_bytes == len(bench.below.objects["ns/a"])


def test_a_cancelled_call_stops_and_leaves_nothing(bench):
    bench.save("ns/a", bench.file(os.urandom(3_000_000)))
    call = Call(Operation.LOAD)
    call.cancel()
    with pytest.raises(Exception, match="went away"):
        bench.sealed.load(call, Artifact("ns/a"), bench.work / "loaded")
    assert not (bench.work / "loaded").exists()
    assert bench.spooled() == []


def test_a_file_that_the_downstream_only_linked_is_not_consumed(tmp_path):
    class Linking(MemoryPlugin):
        """Stores files, and answers a Load with a hard link to them."""

        def save(self, call, artifact, path):
            (tmp_path / "stored").write_bytes(path.read_bytes())

        def load(self, call, artifact, path):
            path.hardlink_to(tmp_path / "stored")

    bench = Bench(tmp_path, Transfer.FILE, streams=False)
    sealed = Sealed(Linking(), bench.keys, roots=Roots([bench.work]), spool=Spool(bench.spool))
    sealed.save(Call(Operation.SAVE), Artifact("a"), bench.file(b"twice" * 1000))
    for name in ("first", "second"):
        sealed.load(Call(Operation.LOAD), Artifact("a"), bench.work / name)
        assert (bench.work / name).read_bytes() == b"twice" * 1000


@pytest.mark.parametrize("left", ["nothing", "link", "pipe"])
def test_a_load_that_reports_success_without_a_file_is_data_loss(tmp_path, left):
    class Lying(MemoryPlugin):
        def load(self, call, artifact, path):
            if left == "link":
                path.symlink_to("/etc/passwd")
            if left == "pipe":
                os.mkfifo(path)

    bench = Bench(tmp_path, Transfer.FILE, streams=False)
    sealed = Sealed(Lying(), bench.keys, roots=Roots([bench.work]), spool=Spool(bench.spool))
    with pytest.raises(DataLoss, match="reported success"):
        sealed.load(Call(Operation.LOAD), Artifact("a"), bench.work / "loaded")
    assert list(bench.work.iterdir()) == []


@pytest.mark.parametrize("listed", ["other/x", "ns/t/../up", "ns/t//x", "ns/t/a/", "ns/t", "ns/t/./x"])
def test_a_listing_of_unsealed_files_that_leads_out_of_the_artifact_is_refused(tmp_path, listed):
    class Climbing(MemoryPlugin):
        def list_objects(self, call, artifact):
            return [listed]

        def is_directory(self, call, artifact):
            return True

    bench = Bench(tmp_path, Transfer.STREAM, streams=True)
    sealed = Sealed(
        Climbing(), bench.keys, roots=Roots([bench.work]), spool=Spool(bench.spool), transfer=Transfer.STREAM
    )
    call = Call(Operation.LOAD, instructions=SealingInstructions(reads_plaintext=True))
    with pytest.raises(DataLoss, match=r"outside the artifact|not a path beneath it"):
        sealed.load(call, Artifact("ns/t"), bench.work / "loaded")
    assert list(bench.work.iterdir()) == []
