"""A request to the downstream is carried out by the thread of its call, and takes exactly one answer."""

from __future__ import annotations

import threading
from concurrent import futures

import grpc
import pytest
from harness.counting import calls_of

from sealgate.call import Call, Operation
from sealgate.errors import Cancelled, DeadlineExceeded, Unavailable
from sealgate.plugin import Artifact
from sealgate.rpc import artifact_pb2 as pb
from sealgate.rpc.client import Downstream
from sealgate.rpc.endpoint import Endpoint

pytestmark = pytest.mark.process

YES = pb.IsDirectoryResponse(is_directory=True).SerializeToString()
STREAM = [
    pb.OpenStreamResponse(data=b"data").SerializeToString(),
    pb.OpenStreamResponse(is_end=True).SerializeToString(),
]
ARTIFACT = Artifact("a/b")


class Answering(grpc.GenericRpcHandler):
    """Answers each request with the messages in `answers`, and does not answer while `answers` is None."""

    def __init__(self) -> None:
        self.answers: list[bytes] | None = [YES]
        self.asked = threading.Event()
        self.leaves = threading.Event()

    def service(self, details):
        return grpc.unary_stream_rpc_method_handler(self.answer)

    def answer(self, request, context):
        self.asked.set()
        context.add_callback(self.leaves.set)
        if self.answers is None:
            self.leaves.wait(60)
        yield from self.answers or ()


@pytest.fixture
def handler():
    return Answering()


@pytest.fixture
def downstream(handler, tmp_path_factory):
    path = tmp_path_factory.mktemp("s") / "socket"
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[handler])
    server.add_insecure_port(f"unix:{path}")
    server.start()
    made = Downstream(Endpoint(path, 5))
    yield made
    made.close()
    server.stop(0)


def test_no_request_starts_a_thread(handler, downstream):
    def ask() -> None:
        for _ in range(10):
            assert downstream.is_directory(Call(Operation.IS_DIRECTORY), ARTIFACT)

    def read() -> None:
        for _ in range(10):
            assert b"".join(downstream.open_stream(Call(Operation.OPEN_STREAM), ARTIFACT)) == b"data"

    ask()
    assert calls_of(threading.Thread.start, ask) == 0
    handler.answers = STREAM
    assert calls_of(threading.Thread.start, read) == 0


@pytest.mark.parametrize("answers", [[], [YES, YES]], ids=["none", "two"])
def test_a_request_with_no_answer_or_with_two_fails(handler, downstream, answers):
    handler.answers = answers
    with pytest.raises(Unavailable, match="not a message of Argo's contract"):
        downstream.is_directory(Call(Operation.IS_DIRECTORY), ARTIFACT)


def test_a_request_ends_when_its_caller_leaves(handler, downstream):
    handler.answers = None
    call = Call(Operation.IS_DIRECTORY)
    with futures.ThreadPoolExecutor(1) as pool:
        asking = pool.submit(downstream.is_directory, call, ARTIFACT)
        assert handler.asked.wait(60)
        call.cancel()
        with pytest.raises(Cancelled):
            asking.result(60)
    assert handler.leaves.wait(60)


def test_a_request_ends_at_its_deadline(handler, downstream):
    handler.answers = None
    call = Call(Operation.IS_DIRECTORY)
    call.deadline = call.began + 0.3
    with pytest.raises(DeadlineExceeded):
        downstream.is_directory(call, ARTIFACT)
