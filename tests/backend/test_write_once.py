"""`overwrite: deny` in front of the bundled backend: of two writes of one key at the same time, one is stored."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from harness.chain import SEALGATE, Proxy, eventually
from harness.gate import Gate, gated
from harness.layer_bench import Bench
from harness.policy import document

from sealgate.backend import ObjectStoreBackend
from sealgate.backend.bucket import Bucket
from sealgate.call import Call, Operation
from sealgate.errors import AlreadyStored, BadRequest, Cancelled, PluginError
from sealgate.plugin import Artifact
from sealgate.storage.stored_objects import Transfer

MIB = 1 << 20
ONCE = document([{"effect": "allow"}, {"effect": "require", "require": {"overwrite": "deny"}}])


def new_call() -> Call:
    return Call(Operation.SAVE, only_new=True)


# --- the backend ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, MIB, MIB + 1, 20 * MIB])
@pytest.mark.parametrize("by_stream", [False, True])
def test_a_create_only_write_replaces_nothing(backend, call, at, plant, size, by_stream):
    def write(key: str, content: bytes) -> None:
        if by_stream:
            backend.save_stream(new_call(), at(key), iter([content[n : n + MIB] for n in range(0, size, MIB)]))
        else:
            backend.save(new_call(), at(key), plant(content))

    key = f"once/{size}-{by_stream}"
    write(key, b"1" * size)
    with pytest.raises(AlreadyStored):
        write(key, b"2" * size)
    assert b"".join(map(bytes, backend.open_stream(call, at(key)))) == b"1" * size
    assert backend.list_objects(call, at("once")) == [key]
    backend.delete(call, at(key))
    write(key, b"2" * size)
    backend.delete(call, at(key))


def test_of_writes_at_the_same_time_one_is_stored(store, call, at):
    """Each write waits until all have begun, so that none could see another one's object before."""
    backends = [store.backend() for _ in range(2)] if store.keys else [store.backend()] * 2
    for backend in backends:  # each finds out that its store has create-only writes
        backend.save_stream(new_call(), at("before"), iter([]))
        backend.delete(call, at("before"))
    for number in range(5):
        key, barrier = f"race/{number}", threading.Barrier(4)

        def write(content: bytes, key: str = key, barrier: threading.Barrier = barrier) -> bool:
            def chunks() -> Iterator[bytes]:
                barrier.wait(30)
                yield content

            try:
                backends[content[0] % 2].save_stream(new_call(), at(key), chunks())
            except AlreadyStored:
                return False
            return True

        contents = [bytes([value]) * 1000 for value in range(4)]
        with ThreadPoolExecutor(4) as pool:
            stored = [content for content, won in zip(contents, pool.map(write, contents), strict=True) if won]
        assert len(stored) == 1
        assert b"".join(map(bytes, backends[0].open_stream(call, at(key)))) == stored[0]


def test_of_directories_at_the_same_time_none_is_mixed(store, call, at, plant, seen, fresh):
    backend = store.backend()
    trees = [{f"{number}": bytes([value]) for number in range(20)} | {str(value): b"x"} for value in range(3)]
    planted = [plant(tree) for tree in trees]
    barrier = threading.Barrier(3)

    def write(path: Path) -> bool:
        barrier.wait(30)
        try:
            backend.save(new_call(), at("trees/one"), path)
        except (AlreadyStored, BadRequest):  # a store of files can find a directory of another write in the way
            return False
        return True

    with ThreadPoolExecutor(3) as pool:
        won = [tree for tree, stored in zip(trees, pool.map(write, planted), strict=True) if stored]
    assert len(won) <= 1, "each may find an object of another one"
    if won:
        backend.load(call, at("trees/one"), path := fresh())
        assert seen(path) == won[0]
    else:
        assert backend.list_objects(call, at("trees/one")) == []


@pytest.mark.parametrize("source", ["file", "directory"])
def test_a_caller_who_leaves_after_the_object_was_created_can_save_again(backend, call, at, plant, source, monkeypatch):
    path, key = plant(b"x" if source == "file" else {"a": b"1", "b/c": b"2"}), f"left/{source}"
    backend.save_stream(new_call(), at("before"), iter([]))  # it finds out that the store has create-only writes
    leaving, put, create = new_call(), Bucket.put, Bucket.create

    def put_and_leave(*arguments, **named):
        put(*arguments, **named)
        leaving.cancel()

    async def create_and_leave(*arguments, **named):
        await create(*arguments, **named)
        leaving.cancel()

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "put", put_and_leave)
        patch.setattr(Bucket, "create", create_and_leave)
        with pytest.raises(Cancelled):
            backend.save(leaving, at(key), path)
    assert backend.list_objects(call, at("left")) == []
    backend.save(new_call(), at(key), path)


@pytest.mark.parametrize("size", [1000, MIB + 1])
def test_a_create_that_is_cancelled_at_any_time_leaves_nothing(backend, call, at, plant, size):
    backend.save_stream(new_call(), at("before"), iter([]))
    path = plant({str(number): b"x" * size for number in range(6)})
    for step in range(20):
        key, leaving = f"cut/{step}", new_call()
        timer = threading.Timer(step / 400, leaving.cancel)
        timer.start()
        try:
            backend.save(leaving, at(key), path)
        except Cancelled:
            assert backend.list_objects(call, at(key)) == []
        finally:
            timer.cancel()


def test_a_directory_that_cannot_be_removed_in_time_is_given_up(versitygw, call, at, plant, backend_at, monkeypatch):
    monkeypatch.setattr("sealgate.call._UNDOING", 0.5)  # else the test would take ten seconds
    stored, removals = itertools.count(), []

    def counts(method: str, path: str, _: str) -> bool:
        if method == "PUT" and "/tree/" in path and next(stored) > 1200:
            raise ConnectionError
        if method == "POST" and "?delete" in path:
            removals.append(path)
            time.sleep(1)
        return False

    with gated(versitygw.endpoint, Gate(counts, 1)) as endpoint:
        backend = backend_at(versitygw, versitygw.new_bucket(), endpoint=endpoint, retry_timeout_seconds=0)
        with pytest.raises(PluginError):
            backend.save(new_call(), at("tree"), plant({f"{number}": b"" for number in range(1500)}))
    assert len(removals) == 1


@pytest.mark.parametrize("first", ["file", "directory"])
def test_a_file_and_a_directory_of_one_key_are_not_both_stored(backend, call, at, plant, first):
    sources = {"file": plant(b"x"), "directory": plant({"a": b"1", "b/c": b"2"})}
    key = f"kind/{first}"
    backend.save(new_call(), at(key), sources.pop(first))
    before = backend.list_objects(call, at("kind"))
    with pytest.raises(PluginError):
        backend.save(new_call(), at(key), sources.popitem()[1])
    assert backend.list_objects(call, at("kind")) == before


# --- the whole chain --------------------------------------------------------------------------------------


@pytest.fixture
def transfer() -> str:
    return "auto"


@pytest.fixture(params=["file", "moto", "versitygw", "moto without conditions"])
def proxies(request, tmp_path, transfer) -> Iterator[list[Proxy]]:
    """Two proxies, as in two pods, with a store in common."""
    environment = {"SEALGATE_BACKEND_URL": (tmp_path / "store").as_uri(), "AWS_CONDITIONAL_PUT": ""}
    (tmp_path / "store").mkdir()
    if request.param != "file":
        server = request.getfixturevalue(request.param.split()[0])
        config = json.dumps(server.config())
        environment = {"SEALGATE_BACKEND_URL": f"s3://{server.new_bucket()}", "SEALGATE_BACKEND_CONFIG": config}
    if "without" in request.param:
        environment["AWS_CONDITIONAL_PUT"] = "disabled"
    started = []
    keyring = None
    for name in ("one", "two"):
        home = tmp_path / name
        home.mkdir()
        if keyring:
            (home / "keyring.json").write_bytes(keyring)
            (home / "keyring.json").chmod(0o600)
        proxy = Proxy(
            home,
            downstream=[*SEALGATE, "backend"],
            settings={"policies": [ONCE], "spool": {"transfer": transfer}},
            environment=environment,
        )
        keyring = (home / "keyring.json").read_bytes()
        started.append(proxy.start())
    yield started
    for proxy in started:
        proxy.stop()


def attempts(proxy: Proxy) -> int:
    return proxy.trail.read_text().count('"phase":"attempt"')


def outcome(write: Callable[[], None]) -> str:
    try:
        write()
    except grpc.RpcError as error:
        return f"{error.code().name} {error.details()}"
    return ""


def test_two_saves_that_both_saw_nothing_store_one(request, proxies):
    """Both uploads are held open until both were allowed and recorded."""
    begun = [threading.Event(), threading.Event()]
    go = threading.Event()

    def upload(number: int) -> str:
        def chunks() -> Iterator[bytes]:
            yield b"begin"
            begun[number].set()
            go.wait(60)
            yield bytes([number]) * 100_000

        return outcome(lambda: proxies[number].argo().save_stream("models/one", chunks()))

    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(upload, number) for number in range(2)]
        both_allowed = eventually(lambda: all(attempts(proxy) for proxy in proxies))
        go.set()
        assert both_allowed, proxies[0].output()
        texts = [result.result() for result in results]
    if "without" in request.node.name:
        assert texts == ["", ""]
        logs = "".join(proxy.output() for proxy in proxies)
        assert "the store has no create-only writes" in logs
        return
    assert texts.count("") == 1, texts
    refused = next(text for text in texts if text)
    assert refused.startswith("PERMISSION_DENIED denied SaveStream"), refused
    assert "policy main, rule r1, OVERWRITE" in refused
    winner = texts.index("")
    assert proxies[0].argo().open_stream("models/one") == b"begin" + bytes([winner]) * 100_000
    with suppress(grpc.RpcError):
        proxies[1 - winner].argo().save_stream("models/one", b"later")
    assert proxies[1].argo().open_stream("models/one") == b"begin" + bytes([winner]) * 100_000


@pytest.mark.parametrize("transfer", ["auto", "stream"])
def test_a_directory_that_loses_leaves_nothing_behind(request, proxies):
    """The directories have no file in common, so only their manifests meet."""
    if "without" in request.node.name:
        pytest.skip("the store has no create-only writes")
    paths = []
    for number, proxy in enumerate(proxies):
        paths.append(proxy.work / "tree")
        paths[-1].mkdir()
        for file in range(5):
            (paths[-1] / f"{number}-{file}").write_bytes(bytes([number]))
    barrier = threading.Barrier(2)

    def save(number: int) -> str:
        barrier.wait(30)
        return outcome(lambda: proxies[number].argo().save("models/tree", paths[number]))

    with ThreadPoolExecutor(2) as pool:
        texts = list(pool.map(save, range(2)))
    assert texts.count("") == 1, texts
    winner = texts.index("")
    expected = sorted(f"models/tree/{winner}-{file}" for file in range(5))
    assert sorted(proxies[0].argo().list_objects("models/tree")) == expected
    proxies[1].argo().load("models/tree", loaded := proxies[1].work / "loaded")
    assert sorted(file.name for file in loaded.iterdir()) == [f"{winner}-{file}" for file in range(5)]


def test_the_mark_of_a_create_only_write_goes_no_further_than_the_plugin_that_asked(tmp_path):
    """A backend that Argo reaches without the proxy replaces, as Argo expects."""
    backend = ObjectStoreBackend({"SEALGATE_BACKEND_URL": tmp_path.as_uri()})
    for content in (b"1", b"2"):
        backend.save_stream(Call(Operation.SAVE_STREAM), Artifact("key"), iter([content]))
    assert (tmp_path / "key").read_bytes() == b"2"


# --- directories of two Saves, step by step ---------------------------------------------------------------


class Hooked:
    """A backend that calls `before(key)` before each SaveStream."""

    def __init__(self, backend: ObjectStoreBackend, before: Callable[[str], None]) -> None:
        self._backend, self._before = backend, before

    def __getattr__(self, name: str):
        return getattr(self._backend, name)

    def save_stream(self, call, artifact, chunks):
        self._before(artifact.key)
        self._backend.save_stream(call, artifact, chunks)


def test_a_directory_that_loses_by_its_manifest_leaves_nothing_beneath_the_key(tmp_path):
    backend = ObjectStoreBackend({"SEALGATE_BACKEND_URL": "memory://loses"})
    winner = Bench(tmp_path / "winner", ONCE, transfer=Transfer.STREAM, below=backend)
    begun: list[str] = []
    lock = threading.Lock()

    def before(key: str) -> None:
        with lock:  # the second file is on its way beside the first one
            if not begun:
                begun.append(key)
                winner.save("models/tree", winner.work / "tree")

    loser = Bench(tmp_path / "loser", ONCE, transfer=Transfer.STREAM, below=Hooked(backend, before))
    for bench, names in ((winner, ("w1", "w2")), (loser, ("l1", "l2"))):
        for name in names:
            bench.file(b"x", f"tree/{name}")
    with pytest.raises(PluginError) as raised:
        loser.save("models/tree", loser.work / "tree")
    assert "OVERWRITE" in raised.value.says
    assert winner.list("models/tree") == ["models/tree/w1", "models/tree/w2"]
    assert sorted(path.name for path in winner.load("models/tree").iterdir()) == ["w1", "w2"]


def test_a_directory_that_loses_deletes_no_object_of_another_save_beneath_its_own(tmp_path):
    backend = ObjectStoreBackend({"SEALGATE_BACKEND_URL": "memory://beneath"})
    others = {"m/t/z": b"1", "m/t/d/x": b"2"}

    def before(key: str) -> None:
        if key == "m/t/z":
            # The files before it are on their way at the same time.
            assert eventually(lambda: backend.list_objects(new_call(), Artifact("m/t")) == ["m/t/c", "m/t/d"])
            for other, content in others.items():
                backend.save_stream(new_call(), Artifact(other), iter([content]))

    loser = Bench(tmp_path, ONCE, transfer=Transfer.STREAM, below=Hooked(backend, before))
    for name in ("c", "d", "z"):
        loser.file(b"mine", f"tree/{name}")
    with pytest.raises(PluginError, match="already stored"):
        loser.save("m/t", loser.work / "tree")
    assert backend.list_objects(new_call(), Artifact("m/t")) == ["m/t/d", "m/t/d/x", "m/t/z"]
    for other, content in others.items():
        assert b"".join(map(bytes, backend.open_stream(new_call(), Artifact(other)))) == content
