"""Every way in which a downstream, a caller or what lies in storage can be wrong, on every operation.

After each: the right status and text, nothing at the destination, nothing in the spool, nothing new in
storage, and the next call works.
"""

from __future__ import annotations

import os
import random
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import psutil
import pytest
from harness.argo import FRAME, Argo
from harness.chain import VENDOR, Proxy, eventually
from harness.content import blob, write_tree
from harness.outcome import IN_THE_ANSWER, Outcome, assert_own_line, outcome

from proxy.rpc import artifact_pb2 as pb

LARGE = (3 << 20) + 17
OPERATIONS = ["Load", "OpenStream", "Save", "SaveStream", "Delete", "ListObjects", "IsDirectory"]


class Stand:
    """A proxy with one stored artifact, whose seven operations can be tried."""

    def __init__(self, proxy: Proxy, key: str) -> None:
        self.proxy = proxy
        self.stored = f"{key}-stored"
        self.new = f"{key}-new"
        self.target = proxy.work / key.replace("/", "-")
        self.source = proxy.work / f"{self.target.name}-source"
        self.source.write_bytes(blob(LARGE))

    def fill(self) -> None:
        self.proxy.argo().save_stream(self.stored, blob(LARGE))

    def key(self, operation: str) -> str:
        return self.new if operation.startswith("Save") else self.stored

    def asked(self, operation: str) -> str:
        """Which operation of the downstream does the work of this one of the proxy's."""
        by_file = {"OpenStream": "Load", "SaveStream": "Save"}
        by_stream = {"Load": "OpenStream", "Save": "SaveStream"}
        return (by_file if self.proxy.settings["spool"]["transfer"] == "file" else by_stream).get(operation, operation)

    def tries(self, argo: Argo) -> dict[str, Callable[[], object]]:
        return {
            "Load": lambda: argo.load(self.stored, self.target),
            "OpenStream": lambda: argo.open_stream(self.stored),
            "Save": lambda: argo.save(self.new, self.source),
            "SaveStream": lambda: argo.save_stream(self.new, blob(LARGE)),
            "Delete": lambda: argo.delete(self.stored),
            "ListObjects": lambda: argo.list_objects(self.stored),
            "IsDirectory": lambda: argo.is_directory(self.stored),
        }

    def attempt(self, operation: str, configuration: str = "{}", timeout: float = 60) -> Outcome:
        return outcome(self.tries(self.proxy.argo(configuration, timeout))[operation])

    def assert_clean(self) -> None:
        """Nothing came of it, and everything works again."""
        assert not self.target.exists()
        assert not (self.proxy.storage / self.new).exists()
        assert eventually(lambda: not self.proxy.spools()), self.proxy.spools()
        assert eventually(lambda: not [p for p in self.proxy.work.iterdir() if p.name.startswith(".")])
        assert self.attempt("Save").code == "OK"
        assert self.proxy.argo().open_stream(self.new) == blob(LARGE)
        (self.proxy.storage / self.new).unlink()


@pytest.fixture
def stand(either, key) -> Stand:
    return _filled(either, key)


@pytest.fixture
def by_files(by_file, key) -> Stand:
    return _filled(by_file, key)


@pytest.fixture
def by_streams(by_stream, key) -> Stand:
    return _filled(by_stream, key)


def _filled(proxy: Proxy, key: str) -> Stand:
    filled = Stand(proxy, key)
    filled.fill()
    return filled


# --- the downstream is not there -------------------------------------------------------------------------

ABSENT = {
    "nobody on the socket": {"socket": "/nowhere/socket", "startTimeout": "100ms"},
    "no such command": {"command": ["/nowhere/plugin"]},
    "a command that may not be run": {"command": ["/etc/passwd"]},
    "a command that ends at once": {"command": ["true"], "startTimeout": "100ms"},
    "a command that never listens": {"command": ["sleep", "1000"], "startTimeout": "100ms"},
}


@pytest.mark.parametrize("transfer", ["file", "stream", "auto"])
@pytest.mark.parametrize("absent", ABSENT)
def test_an_absent_downstream_is_unavailable(start, key, absent, transfer):
    proxy = start(downstream=ABSENT[absent], settings={"spool": {"transfer": transfer}})
    stand = Stand(proxy, key)
    for operation in OPERATIONS:
        assert_own_line(stand.attempt(operation), "UNAVAILABLE", operation, stand.key(operation))
    assert not stand.target.exists()
    assert not proxy.spools()
    assert proxy.argo().supports_save_stream()


# --- the downstream dies ---------------------------------------------------------------------------------


@pytest.fixture(params=["file", "stream"])
def own(request, start, key) -> Stand:
    """A proxy for one test: what dies often is restarted ever later."""
    return _filled(start(settings={"spool": {"transfer": request.param}}, environment={"VENDOR_STREAMS": "1"}), key)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_downstream_that_dies_is_unavailable_and_comes_back(own, operation):
    fault = f"fault: die on {own.asked(operation)}\n"
    assert_own_line(own.attempt(operation, fault), "UNAVAILABLE", operation, own.key(operation))
    own.assert_clean()


def vendor_process(proxy: Proxy) -> psutil.Process:
    for child in psutil.Process(proxy.process.pid).children(recursive=True):
        if VENDOR[-1] in child.cmdline() and "guardian.py" not in " ".join(child.cmdline()):
            return child
    raise AssertionError(proxy.output())


def test_a_downstream_that_was_killed_while_idle_is_started_again(own):
    vendor = vendor_process(own.proxy)
    vendor.kill()
    vendor.wait()
    found = own.attempt("Save")
    if found.code != "OK":  # the call was quicker than the news
        assert_own_line(found, "UNAVAILABLE", "Save", own.new)
    (own.proxy.storage / own.new).unlink(missing_ok=True)
    own.assert_clean()


def test_a_downstream_that_is_killed_midway_leaves_nothing(start, key):
    options = {"settings": {"spool": {"transfer": "stream"}}, "environment": {"VENDOR_STREAMS": "1"}}
    stand = _filled(start(**options), key)
    argo = stand.proxy.argo("fault: hang-midway\n")
    failed: list[Outcome] = []
    call = threading.Thread(target=lambda: failed.append(outcome(stand.tries(argo)["Load"])))
    call.start()
    assert eventually(lambda: f"hang-midway on OpenStream of {stand.stored}\n" in stand.proxy.output())
    vendor_process(stand.proxy).kill()
    call.join()
    assert_own_line(failed[0], "UNAVAILABLE", "Load", stand.stored)
    stand.assert_clean()


# --- the downstream hangs --------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_hanging_downstream_ends_with_the_callers_deadline(stand, operation):
    asked = stand.asked(operation)
    ended = stand.proxy.storage / "hang-ended"
    assert stand.attempt(operation, f"fault: hang on {asked}\n", timeout=0.7).code == "DEADLINE_EXCEEDED"
    if f"hang on {asked} of {stand.key(operation)}\n" in stand.proxy.output():
        assert eventually(ended.exists)
        ended.unlink()
    stand.assert_clean()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_hanging_downstream_ends_with_its_caller(stand, operation):
    asked = stand.asked(operation)
    ended = stand.proxy.storage / "hang-ended"
    argo = stand.proxy.argo(f"fault: hang on {asked}\n")
    failed: list[Outcome] = []
    call = threading.Thread(target=lambda: failed.append(outcome(stand.tries(argo)[operation])))
    call.start()
    assert eventually(lambda: f"hang on {asked} of {stand.key(operation)}\n" in stand.proxy.output())
    argo.close()
    call.join()
    assert failed[0].code == "CANCELLED"
    assert eventually(ended.exists)
    ended.unlink()
    stand.assert_clean()


# --- the downstream answers what it should not -----------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_downstreams_own_status_passes_unchanged(stand, operation):
    assert stand.attempt(operation, "fault: status\n") == Outcome("ALREADY_EXISTS", "the vendor's own words")
    stand.assert_clean()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_downstreams_own_refusal_passes_unchanged(stand, operation):
    asked = stand.asked(operation)
    fault = "refuse-early" if asked == "SaveStream" else f"refuse on {asked}"
    assert stand.attempt(operation, f"fault: {fault}\n") == Outcome(IN_THE_ANSWER, "quota of the vendor exceeded")
    stand.assert_clean()


LOADS = {"short": "DATA_LOSS", "nothing": "DATA_LOSS", "link": "DATA_LOSS"}


@pytest.mark.parametrize("operation", ["Load", "OpenStream"])
@pytest.mark.parametrize("fault", LOADS)
def test_a_load_that_did_not_do_what_it_says_is_data_loss(by_files, operation, fault):
    found = by_files.attempt(operation, f"fault: {fault} on Load\n")
    assert_own_line(found, LOADS[fault], operation, by_files.stored)
    by_files.assert_clean()


STREAMS = {
    "early-end": ("DATA_LOSS", None),
    "early-close": ("DATA_LOSS", None),
    "error-midway": (IN_THE_ANSWER, "the vendor's disk broke"),
    "abort-midway": ("ABORTED", "the vendor gave up"),
}


@pytest.mark.parametrize("operation", ["Load", "OpenStream"])
@pytest.mark.parametrize("fault", STREAMS)
def test_a_stream_that_ends_early_is_no_artifact(by_streams, operation, fault):
    code, text = STREAMS[fault]
    found = by_streams.attempt(operation, f"fault: {fault} on OpenStream\n")
    if text is None:
        assert_own_line(found, code, operation, by_streams.stored)
    else:
        assert found == Outcome(code, text)
    by_streams.assert_clean()


@pytest.mark.parametrize("operation", ["Save", "SaveStream"])
def test_a_confirmation_before_the_end_is_not_believed(by_streams, operation):
    found = by_streams.attempt(operation, "fault: confirm-early\n")
    assert_own_line(found, "DATA_LOSS", operation, by_streams.new)
    by_streams.assert_clean()


@pytest.mark.parametrize("operation", ["Save", "SaveStream"])
def test_an_upload_that_the_downstream_aborts_stores_nothing(by_streams, operation):
    found = by_streams.attempt(operation, "fault: abort-midway\n")
    assert found == Outcome("ABORTED", "the vendor gave up")
    by_streams.assert_clean()


@pytest.mark.parametrize("fault", ["outside", "climb"])
def test_a_listing_that_leads_out_is_not_loaded(by_streams, fault):
    proxy = by_streams.proxy
    tree = write_tree(by_streams.source.with_name(f"{by_streams.source.name}-tree"))
    (tree / "nothing in it").rmdir()
    proxy.argo().save(f"{by_streams.new}-tree", tree)
    found = outcome(lambda: proxy.argo(f"fault: {fault}\n").load(f"{by_streams.new}-tree", by_streams.target))
    assert_own_line(found, "DATA_LOSS", "Load", f"{by_streams.new}-tree")
    by_streams.assert_clean()


def test_a_listing_larger_than_argo_takes_is_a_limit(stand):
    found = stand.attempt("ListObjects", "fault: huge\n")
    assert_own_line(found, "RESOURCE_EXHAUSTED", "ListObjects", stand.stored)
    stand.assert_clean()


def test_what_the_downstream_lacks_is_done_without_it(start, key):
    stand = _filled(start(environment={"VENDOR_STREAMS": "1"}), key)
    lacking = "fault: unimplemented\n"
    assert stand.proxy.argo(lacking).open_stream(stand.stored) == blob(LARGE)
    assert not stand.proxy.argo(lacking).is_directory(stand.stored)
    stand.assert_clean()


def test_without_streams_transfer_stream_says_what_to_change(start, key):
    stand = Stand(start(settings={"spool": {"transfer": "stream"}}), key)
    for operation in ("Save", "SaveStream"):
        found = stand.attempt(operation)
        assert_own_line(found, "FAILED_PRECONDITION", operation, stand.new)
        assert "spool.transfer" in found.text
    assert not (stand.proxy.storage / stand.new).exists()


def test_by_stream_alone_an_unimplemented_open_stream_passes_unchanged(by_streams):
    found = by_streams.attempt("OpenStream", "fault: unimplemented on OpenStream\n")
    assert found == Outcome("UNIMPLEMENTED", "no such thing here")
    by_streams.assert_clean()


# --- what lies in storage is wrong -----------------------------------------------------------------------

MAGIC = b"\x89SEAL\r\n\x1a"
PLANTED = {
    "nothing": (b"", "DATA_LOSS"),
    "plaintext": (b"plaintext that somebody planted\n" * 100, "PERMISSION_DENIED"),
    "a header of 4 GiB": (MAGIC + b"\xff\xff\xff\xff" + b"\x0a" * 4000, "DATA_LOSS"),
    "the beginning alone": (MAGIC, "DATA_LOSS"),
    "a header that is none": (MAGIC + (500).to_bytes(4, "big") + b"\xff" * 4000, "DATA_LOSS"),
}


@pytest.mark.parametrize("operation", ["Load", "OpenStream"])
@pytest.mark.parametrize("planted", PLANTED)
def test_what_was_planted_in_storage_is_not_read(stand, operation, planted):
    data, code = PLANTED[planted]
    (stand.proxy.storage / stand.stored).write_bytes(data)
    found = stand.attempt(operation)
    assert_own_line(found, found.code if planted == "nothing" else code, operation, stand.stored)
    assert found.code in {"DATA_LOSS", "PERMISSION_DENIED"}
    stand.assert_clean()


@pytest.mark.parametrize("operation", ["Load", "OpenStream"])
def test_one_artifact_in_the_place_of_another_is_not_read(stand, operation):
    stand.proxy.argo().save_stream(f"{stand.stored}-other", blob(LARGE, 1))
    (stand.proxy.storage / f"{stand.stored}-other").replace(stand.proxy.storage / stand.stored)
    assert_own_line(stand.attempt(operation), "DATA_LOSS", operation, stand.stored)
    stand.assert_clean()


@pytest.mark.parametrize("planted", ["file", "link", "swapped"])
def test_what_was_planted_in_a_stored_directory_is_not_read(by_files, planted):
    proxy, key = by_files.proxy, f"{by_files.new}-tree"
    proxy.argo().save(key, write_tree(by_files.source.with_name(f"{by_files.source.name}-tree")))
    tree = proxy.storage / key
    if planted == "file":
        (tree / "planted").write_bytes(b"plaintext that somebody planted")
    elif planted == "link":
        (tree / "planted").symlink_to(tree / "file")
    else:
        (tree / "file").replace(tree / "empty")
    found = outcome(lambda: proxy.argo().load(key, by_files.target))
    assert found.code in {"DATA_LOSS", "PERMISSION_DENIED"}
    assert_own_line(found, found.code, "Load", key)
    by_files.assert_clean()


# --- the request is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "garbage", [b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\x0a\x01\xff"], ids=bytes.hex
)
def test_garbage_is_a_bad_request(by_files, operation, garbage):
    found = outcome(lambda: by_files.proxy.argo().raw(operation, garbage))
    assert_own_line(found, "INVALID_ARGUMENT", operation)


def _device(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes devices")
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))


SOURCES = {
    "missing": lambda path: None,
    "a pipe": os.mkfifo,
    "a device": _device,
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("what", SOURCES)
def test_what_is_no_file_is_not_saved(stand, what):
    path = stand.source.with_name(f"{stand.source.name}-bad")
    SOURCES[what](path)
    found = outcome(lambda: stand.proxy.argo().save(stand.new, path))
    assert_own_line(found, "INVALID_ARGUMENT", "Save", stand.new)
    stand.assert_clean()


PATHS = ["", "relative", "/", "/etc/passwd", "{work}/../keyring.json", "{work}", "{work}/a\0b", "{work}/no/such/file"]


@pytest.mark.parametrize("path", PATHS, ids=ascii)
@pytest.mark.parametrize("operation", ["Load", "Save"])
def test_a_path_outside_the_roots_is_refused(stand, operation, path):
    path = path.replace("{work}", str(stand.proxy.work))
    argo = stand.proxy.argo()
    if operation == "Load":
        request = pb.LoadArtifactRequest(input_artifact=argo.artifact(stand.stored), path=path)
        found = outcome(lambda: argo.unary("Load", request, pb.LoadArtifactResponse))
    else:
        request = pb.SaveArtifactRequest(output_artifact=argo.artifact(stand.new), path=path)
        found = outcome(lambda: argo.unary("Save", request, pb.SaveArtifactResponse))
    assert_own_line(found, "INVALID_ARGUMENT", operation, stand.key(operation))
    stand.assert_clean()


def test_a_destination_that_is_a_directory_with_something_in_it_is_left_alone(stand):
    stand.target.mkdir()
    (stand.target / "kept").touch()
    assert_own_line(stand.attempt("Load"), "INVALID_ARGUMENT", "Load", stand.stored)
    assert (stand.target / "kept").exists()
    (stand.target / "kept").unlink()
    stand.target.rmdir()
    stand.assert_clean()


# --- the proxy is killed ---------------------------------------------------------------------------------

WITH_A_GRANDCHILD = ["sh", "-c", f'{sys.executable} {VENDOR[-1]} "$0"; true']


@pytest.mark.parametrize("command", [VENDOR, WITH_A_GRANDCHILD], ids=["child", "grandchild"])
def test_sigkill_midway_leaves_no_process_and_the_next_start_no_spool(start, key, command):
    proxy = start(downstream=command)
    stand = _filled(proxy, key)
    argo = proxy.argo("fault: hang on Save\n")
    call = threading.Thread(target=lambda: outcome(stand.tries(argo)["Save"]))
    call.start()
    assert eventually(lambda: f"hang on Save of {stand.new}\n" in proxy.output())
    assert proxy.spools()
    children = psutil.Process(proxy.process.pid).children(recursive=True)
    assert any(VENDOR[-1] in child.cmdline() for child in children)
    proxy.kill()
    call.join()
    assert eventually(lambda: not [child for child in children if _alive(child)]), children
    assert proxy.spools()
    proxy.start()
    stand.assert_clean()
    assert len([*proxy.socket.parent.glob(".sealgate-spool-*")]) == 1  # its own


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_sigterm_ends_the_downstream_too(start, key):
    proxy = start(downstream=WITH_A_GRANDCHILD)
    _filled(proxy, key).assert_clean()
    children = psutil.Process(proxy.process.pid).children(recursive=True)
    assert proxy.stop() == 0
    assert not [child for child in children if _alive(child)]


# --- the caller goes away --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_an_upload_whose_caller_goes_away_is_never_stored(either, key, how):
    """The library hands a server the end of a cancelled stream as that of a whole one."""
    chance = random.Random(0)
    argo = either.argo()
    for number in range(100):
        sent, ended = threading.Event(), threading.Event()
        sizes = [chance.choice([1, 1000, 300_000, FRAME]) for _ in range(chance.randrange(4))]

        def frames(number=number, sizes=sizes, sent=sent, ended=ended):
            yield pb.SaveStreamArtifactRequest(output_artifact=argo.artifact(f"{key}/{number}"))
            for size in sizes:
                yield pb.SaveStreamArtifactRequest(chunk=bytes(size))
            sent.set()
            ended.wait()

        channel = argo.channel()
        call = argo.begin_save_stream(channel, frames())
        sent.wait()
        ended.wait(chance.choice([0, 0, 0.001, 0.005, 0.02]))
        if how == "cancel":
            call.cancel()
        channel.close()
        ended.set()
    argo.save_stream(f"{key}/whole", b"some plaintext")
    assert eventually(lambda: not either.spools())
    assert [path.name for path in (either.storage / key).iterdir()] == ["whole"]


def test_a_caller_that_is_gone_before_its_deadline_passed_stores_nothing(either, key):
    argo = either.argo(timeout=0.5)
    never = threading.Event()

    def chunks():
        yield blob(FRAME)
        never.wait(30)

    with pytest.raises(grpc.RpcError) as raised:
        argo.save_stream(key, chunks())
    never.set()
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    either.argo().save_stream(f"{key}-next", b"some plaintext")
    assert eventually(lambda: not either.spools())
    assert not (either.storage / key).exists()
