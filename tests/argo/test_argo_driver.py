"""Argo's own driver calls Sealgate, and the bundled backend without Sealgate: it must see the same of both.

The other files of this directory use a client in Python, which can do what Argo's cannot, such as an upload: the driver
of Argo v4.0 has none.
"""

from __future__ import annotations

import hashlib
import json
import socket
import stat
import tarfile
from collections.abc import Iterator

import psutil
import pytest
from harness.argo_driver import ArgoDriver, Pair, Plugin, Result
from harness.chain import SEALGATE, eventually
from harness.content import blob, read_tree, write_tree

from sealgate.envelope.segments import FIRST_PLAINTEXT, PLAINTEXT

LARGE = (24 << 20) + 1
"""More than the window of a stream can become in Go, 16 MiB."""
SIZES = [0, 1, FIRST_PLAINTEXT, FIRST_PLAINTEXT + 1, 1 << 20, FIRST_PLAINTEXT + PLAINTEXT, LARGE]
MAGIC = b"\x89SEAL\r\n\x1a"
AT_ONCE = 8
OPERATIONS = ["Load", "OpenStream", "Save", "Delete", "ListObjects", "IsDirectory"]
READS = ["Load", "OpenStream", "ListObjects", "IsDirectory"]
OK = Result()
MISSING = ["absent", "tree/absent", "tree/file/beneath", "file/beneath"]
ABSENT = "not found: nothing is stored under the artifact's key"


@pytest.fixture(scope="module")
def driver() -> Iterator[ArgoDriver]:
    started = ArgoDriver()
    yield started
    assert started.stop() == 0


@pytest.fixture(params=["bundled", "builtin"])
def pair(request, driver, bundled, key) -> Pair:
    bundled.argo().is_directory("any")  # now the backend has started
    return Pair(driver, request.getfixturevalue(request.param), bundled, key)


def read(data: bytes) -> Result:
    return Result(size=len(data), sha256=hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("size", SIZES)
def test_a_file_of_any_size_is_saved_and_read(pair, size):
    data = blob(size)

    def seen(plugin: Plugin) -> list[object]:
        loaded = plugin.work / "loaded"
        return [
            plugin.one("Save", "file", plugin.file("source", data)),
            plugin.one("Load", "file", loaded),
            loaded.read_bytes() == data,
            oct(loaded.stat().st_mode),
            *(plugin.one(operation, "file") for operation in ("OpenStream", "ListObjects", "IsDirectory")),
        ]

    assert pair.both(seen) == [OK, OK, True, oct(stat.S_IFREG | 0o644), read(data), OK, OK]
    assert (pair.proxy.storage / f"{pair.sealgate.prefix}file").read_bytes()[:8] == MAGIC
    assert not pair.proxy.spools()


def test_a_deleted_file_is_gone_and_deleted_again(pair):
    def seen(plugin: Plugin) -> list[Result]:
        plugin.one("Save", "file", plugin.file("source", b"some plaintext"))
        return [plugin.one(operation, "file") for operation in ("Delete", "OpenStream", "Delete")]

    deleted, opened, again = pair.both(seen)
    assert (deleted, opened.code, again) == (OK, "Unknown", OK)


def test_a_directory_and_each_of_its_files(pair):
    def seen(plugin: Plugin) -> list[object]:
        tree = write_tree(plugin.work / "tree")
        (tree / "nothing in it").rmdir()  # the backend alone refuses it
        loaded = plugin.work / "loaded"
        saved, back = plugin.one("Save", "tree", tree), plugin.one("Load", "tree", loaded)
        assert (saved, back, read_tree(loaded)) == (OK, OK, read_tree(tree))
        names = sorted(read_tree(tree))
        return [
            plugin.listed("tree"),
            [oct((loaded / name).stat().st_mode) for name in names],
            [plugin.one("OpenStream", f"tree/{name}") for name in names],
            [plugin.one("IsDirectory", f"tree/{name}").directory for name in names],
            [plugin.one("IsDirectory", "tree").directory, plugin.listed("tree/deeper")],
            [plugin.one("Load", "tree/file", plugin.work / "one"), (plugin.work / "one").read_bytes()],
            [plugin.one("Delete", "tree"), plugin.listed("tree"), plugin.one("IsDirectory", "tree")],
        ]

    listing, _, streams, directories, *_ = pair.both(seen)
    assert listing == [
        f"tree/{name}" for name in sorted(read_tree(pair.sealgate.work / "tree")) if "." in name or "deeper" not in name
    ]
    assert [stream.code for stream in streams] == ["Unknown" if directory else "OK" for directory in directories]


def test_an_empty_directory_is_kept_where_the_backend_refuses_it(pair):
    def saved(plugin: Plugin) -> Result:
        (plugin.work / "empty").mkdir()
        return plugin.one("Save", "empty", plugin.work / "empty")

    assert saved(pair.backend).code == "InvalidArgument"
    assert saved(pair.sealgate) == OK
    loaded = pair.sealgate.work / "loaded"
    assert pair.sealgate.one("Load", "empty", loaded) == OK
    assert read_tree(loaded) == {}
    assert pair.sealgate.listed("empty") == []


@pytest.mark.parametrize("text", [b"", b"a line of the step\n"])
def test_a_log_is_saved_and_shown(pair, text):
    def seen(plugin: Plugin) -> list[Result]:
        log = plugin.file("main.log", text)
        return [plugin.one("Save", "pod/main.log", log, name="main-logs"), plugin.one("OpenStream", "pod/main.log")]

    assert pair.both(seen) == [OK, read(text)]


def test_an_archive_that_argo_packed_comes_back_bit_for_bit(pair):
    def seen(plugin: Plugin) -> list[tuple[str, int, str]]:
        tree = write_tree(plugin.work / "tree")
        (tree / "link").symlink_to("file")
        (tree / "file").chmod(0o755)
        packed, loaded = plugin.work / "main.tgz", plugin.work / "main.tmp"
        plugin.driver.pack(tree, packed)
        assert plugin.one("Save", "pod/main.tgz", packed) == OK
        assert plugin.one("OpenStream", "pod/main.tgz") == read(packed.read_bytes())
        assert plugin.one("Load", "pod/main.tgz", loaded) == OK
        assert loaded.read_bytes() == packed.read_bytes()
        with tarfile.open(loaded, "r:gz") as archive:
            return sorted((member.name, member.mode, member.linkname) for member in archive)

    members = pair.both(seen)
    assert {("tree/file", 0o755, ""), ("tree/link", 0o777, "file")} < set(members)
    assert len(members) == len(read_tree(pair.sealgate.work / "tree")) + 1


def test_what_is_missing_is_an_error_only_where_data_is_wanted(pair):
    def seen(plugin: Plugin) -> list[list[Result]]:
        (plugin.work / "tree").mkdir()
        file = plugin.work / "tree" / "file"
        file.write_bytes(b"some plaintext")
        assert plugin.one("Save", "tree", plugin.work / "tree") == plugin.one("Save", "file", file) == OK
        loaded = plugin.work / "loaded"
        found = [
            [*plugin.together(*(plugin.call(operation, key, loaded) for operation in READS)), plugin.one("Delete", key)]
            for key in MISSING
        ]
        assert not loaded.exists()
        assert [plugin.one("OpenStream", key) for key in ("file", "tree/file")] == [read(b"some plaintext")] * 2
        return found

    for load, stream, *others in pair.both(seen):
        assert (load.code, load.error) == ("Unknown", f"plugin crypt load failed: {ABSENT}")
        assert (stream.code, stream.error, stream.size) == ("Unknown", f"plugin crypt stream error: {ABSENT}", 0)
        assert others == [OK] * 3


def test_a_missing_local_file_is_not_saved(pair):
    assert pair.both(lambda plugin: plugin.one("Save", "file", plugin.work / "absent").code) == "InvalidArgument"
    assert pair.both(lambda plugin: plugin.one("OpenStream", "file").error) == f"plugin crypt stream error: {ABSENT}"


def test_streams_that_are_closed_early_leave_nothing_behind(pair):
    process = psutil.Process(pair.proxy.process.pid)
    data = blob(3 << 20)

    def closed(plugin: Plugin) -> list[Result]:
        calls = [plugin.call("OpenStream", "file", take=1000)] * AT_ONCE
        return plugin.together(*calls) + plugin.together(*calls)

    assert pair.both(lambda plugin: plugin.one("Save", "file", plugin.file("source", data))) == OK
    assert pair.both(closed) == [read(data[:1000])] * 2 * AT_ONCE
    assert eventually(lambda: not pair.proxy.spools())
    threads, descriptors = process.num_threads(), process.num_fds()
    assert pair.both(closed) == [read(data[:1000])] * 2 * AT_ONCE
    assert eventually(lambda: process.num_threads() <= threads + 4), (threads, process.num_threads())
    # The driver leaves each of its connections open.
    assert eventually(lambda: process.num_fds() <= descriptors + 2 * AT_ONCE + 4), (descriptors, process.num_fds())
    assert not pair.proxy.spools()
    assert pair.both(lambda plugin: plugin.one("OpenStream", "file")) == read(data)


def test_eight_calls_at_once_do_not_mix_their_artifacts(pair):
    contents = [blob((1 << 20) + number, number) for number in range(AT_ONCE)]

    def seen(plugin: Plugin) -> None:
        paths = [plugin.file(f"source-{number}", data) for number, data in enumerate(contents)]
        loaded = [plugin.work / f"loaded-{number}" for number in range(AT_ONCE)]
        for kind, places, wanted in (
            ("Save", paths, [OK] * AT_ONCE),
            ("Load", loaded, [OK] * AT_ONCE),
            ("OpenStream", loaded, [read(data) for data in contents]),
            ("Delete", loaded, [OK] * AT_ONCE),
        ):
            calls = [plugin.call(kind, f"many/{number}", path) for number, path in enumerate(places)]
            assert plugin.together(*calls) == wanted
        assert [path.read_bytes() for path in loaded] == contents
        assert plugin.listed("many") == []

    pair.both(seen)


def test_a_stream_whose_reader_stops_never_ends_cleanly_after_its_deadline(pair):
    data = blob(LARGE)

    def seen(plugin: Plugin) -> Result:
        assert plugin.one("Save", "file", plugin.file("source", data)) == OK
        return plugin.one("OpenStream", "file", take=1, stall=True, deadline=1)

    for result in (seen(pair.sealgate), seen(pair.backend)):
        # gRPC ends a stream in the middle of a message where the plugin's clock reaches the deadline first.
        assert result.code == "DeadlineExceeded" or result.error.endswith("code = Internal desc = unexpected EOF"), (
            result
        )
        assert result.size < len(data)
    assert eventually(lambda: not pair.proxy.spools())


def test_every_call_ends_at_its_deadline_when_the_store_hangs(driver, make, key):
    with socket.create_server(("127.0.0.1", 0), backlog=100) as store:  # it never answers
        address = f"http://127.0.0.1:{store.getsockname()[1]}"
        options = {
            "endpoint": address,
            "allow_http": True,
            "region": "x",
            "access_key_id": "x",
            "secret_access_key": "x",
        }
        environment = {"SEALGATE_BACKEND_URL": "s3://bucket", "SEALGATE_BACKEND_CONFIG": json.dumps(options)}
        behind = make(downstream=[*SEALGATE, "backend"], environment=environment).start()
        builtin = make(downstream={"builtin": {}}, environment=environment).start()
        assert eventually((behind.socket.parent / ".sealgate-downstream" / "socket").exists)
        pairs = [Pair(driver, proxy, behind, f"{key}/{number}") for number, proxy in enumerate((behind, builtin))]
        plugins = [pairs[0].sealgate, pairs[1].sealgate, pairs[0].backend]

        def call(plugin: Plugin, operation: str) -> dict[str, object]:
            source = plugin.file("source", b"some plaintext") if operation == "Save" else plugin.work / "loaded"
            return plugin.call(operation, "file", source, deadline=2)

        results = driver.together(*(call(plugin, operation) for operation in OPERATIONS for plugin in plugins))
        assert [result.code for result in results] == ["DeadlineExceeded"] * len(results), results
        assert not [plugin for plugin in plugins if (plugin.work / "loaded").exists()]
        assert (behind.stop(), builtin.stop()) == (0, 0), behind.output() + builtin.output()
