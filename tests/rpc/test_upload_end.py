"""The end of an upload, with the mark that two processes of Sealgate use and without: no cut stream counts as whole."""

from __future__ import annotations

import subprocess
import sys

import grpc
import pytest
from harness.argo import Argo
from harness.chain import TESTS

from sealgate.call import Call, Operation
from sealgate.errors import Cancelled
from sealgate.plugin import Artifact, Capabilities
from sealgate.rpc import artifact_pb2 as pb
from sealgate.rpc.client import Downstream
from sealgate.rpc.edge import UPLOAD_END
from sealgate.rpc.endpoint import Endpoint
from sealgate.rpc.server import ArtifactServer

pytestmark = pytest.mark.process


class Broken(Exception):
    pass


class Store:
    """A plugin that keeps each upload, and the error of each that failed."""

    def __init__(self) -> None:
        self.stored: list[bytes] = []
        self.failed: list[BaseException] = []

    def save_stream(self, _call: Call, _artifact: Artifact, chunks) -> None:
        try:
            self.stored.append(b"".join(map(bytes, chunks)))
        except BaseException as error:
            self.failed.append(error)
            raise

    def get_capabilities(self, _call: Call) -> Capabilities:
        return Capabilities(save_stream=True)


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def socket(store, tmp_path_factory):
    server = ArtifactServer(store)
    path = tmp_path_factory.mktemp("s") / "socket"
    server.start(path)
    yield path
    server.stop(0)


def send(socket, frames, *, marked: bool) -> str:
    """Send the frames of one upload; return the code of its end."""
    channel = grpc.insecure_channel(f"unix:{socket}", options=[("grpc.use_local_subchannel_pool", 1)])
    stub = channel.stream_unary("/artifact.ArtifactService/SaveStream")
    first = pb.SaveStreamArtifactRequest(output_artifact=Argo(socket).artifact("key")).SerializeToString()
    try:
        stub(iter([first, *frames]), metadata=(UPLOAD_END,) if marked else (), timeout=30)
    except grpc.RpcError as error:
        return error.code().name
    finally:
        channel.close()
    return "OK"


def chunk(data: bytes) -> bytes:
    return pb.SaveStreamArtifactRequest(chunk=data).SerializeToString()


@pytest.mark.parametrize("frames", [[], [b"a"], [b"a", b"b"], [b"", b"a", b""]])
def test_an_upload_with_the_mark_is_stored(store, socket, frames):
    assert send(socket, [*map(chunk, frames), b""], marked=True) == "OK"
    assert store.stored == [b"".join(frames)]


@pytest.mark.parametrize("frames", [[], [b"a"], [b"", b"a"]])
def test_an_upload_that_ends_without_the_mark_is_cut_off(store, socket, frames):
    sent = [chunk(frame) if frame else b"" for frame in frames]
    assert send(socket, sent, marked=True) == "CANCELLED"
    assert store.stored == []
    assert [type(error) for error in store.failed] == [Cancelled]


def test_an_empty_frame_is_no_mark_for_a_caller_that_does_not_say_so(store, socket):
    assert send(socket, [chunk(b"a"), b"", chunk(b"b")], marked=False) == "OK"
    assert send(socket, [b""], marked=False) == "OK"
    assert store.stored == [b"ab", b""]


def test_a_proxy_marks_the_end_once_its_downstream_has_said_that_it_knows_the_mark(store, socket):
    downstream, call = Downstream(Endpoint(socket, 5)), Call(Operation.SAVE_STREAM)
    for _ in range(2):
        for number in range(5):
            downstream.save_stream(call, Artifact("key", configuration="{}"), iter([b"some ", b"%d" % number]))
        downstream.get_capabilities(call)
    assert store.stored == [b"some %d" % number for number in range(5)] * 2
    downstream.close()


def test_an_upload_whose_chunks_fail_is_never_stored(store, socket):
    downstream, call = Downstream(Endpoint(socket, 5)), Call(Operation.SAVE_STREAM)
    downstream.get_capabilities(call)

    def chunks():
        yield b"a part"
        raise Broken

    for _ in range(20):
        with pytest.raises(Broken):
            downstream.save_stream(call, Artifact("key", configuration="{}"), chunks())
    downstream.save_stream(call, Artifact("key", configuration="{}"), iter([b"whole"]))
    assert store.stored == [b"whole"]
    downstream.close()


def test_a_call_keeps_nothing_of_its_uploads(store, socket):
    downstream, call = Downstream(Endpoint(socket, 5)), Call(Operation.SAVE_STREAM)
    downstream.get_capabilities(call)
    for _ in range(10):
        downstream.save_stream(call, Artifact("key", configuration="{}"), iter([b"x"]))
    assert call._on_cancel == []
    downstream.close()


@pytest.mark.parametrize("cuts", [800, pytest.param(40_000, marks=pytest.mark.large)])
def test_no_upload_that_its_caller_cancels_is_stored(store, socket, cuts):
    program = TESTS / "harness" / "cutter.py"
    subprocess.run(
        [sys.executable, program, str(socket), str(cuts), "0"],
        env={"PYTHONPATH": str(TESTS.parent / "proxy")},
        check=True,
    )
    assert send(socket, [chunk(b"whole")], marked=False) == "OK"
    assert store.stored == [b"whole"]
    assert store.failed, "no upload was cut while the plugin took its frames"
