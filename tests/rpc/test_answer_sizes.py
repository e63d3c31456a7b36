"""An answer is as large as its caller takes: Argo's 4 MiB, or more for a proxy that asks for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from harness.argo import Argo

from sealgate.argo import LARGEST_MESSAGE
from sealgate.call import Call, Operation
from sealgate.errors import DownstreamStatus, LimitReached, Refused
from sealgate.plugin import Artifact
from sealgate.rpc import artifact_pb2 as pb
from sealgate.rpc.client import Downstream
from sealgate.rpc.edge import LARGEST_ANSWER, LARGEST_ANSWER_METADATA
from sealgate.rpc.endpoint import Endpoint
from sealgate.rpc.server import ArtifactServer

pytestmark = pytest.mark.process

MIB = 1 << 20


class Lister:
    """A plugin whose every listing is `objects`."""

    def __init__(self) -> None:
        self.objects: list[str] = []

    def list_objects(self, _call: Call, _artifact: Artifact) -> list[str]:
        return self.objects


@pytest.fixture
def lister():
    return Lister()


@pytest.fixture
def socket(lister, tmp_path_factory):
    server = ArtifactServer(lister)
    path = tmp_path_factory.mktemp("s") / "socket"
    server.start(path)
    yield path
    server.stop(0)


def of_size(size: int) -> list[str]:
    """Return keys whose answer has exactly `size` bytes."""
    keys = ["k" * 1020] * (size // 1023 - 1)
    rest = size - 1023 * len(keys)
    keys.append("r" * (rest - 3))
    assert pb.ListObjectsResponse(objects=keys).ByteSize() == size
    return keys


def listed(socket: Path, asked: str | None) -> str:
    """Return the number of listed objects, or the code and the text of the error."""
    argo = Argo(socket)
    metadata = () if asked is None else ((LARGEST_ANSWER_METADATA, asked),)
    request = pb.ListObjectsRequest(artifact=argo.artifact("key"))
    channel = grpc.insecure_channel(f"unix:{socket}", options=[("grpc.max_receive_message_length", -1)])
    stub = channel.unary_unary("/artifact.ArtifactService/ListObjects")
    try:
        answer = stub(request.SerializeToString(), metadata=metadata, timeout=60)
    except grpc.RpcError as error:
        return f"{error.code().name} {error.details()}"
    finally:
        channel.close()
    return str(len(pb.ListObjectsResponse.FromString(answer).objects))


@pytest.mark.parametrize(
    ("asked", "largest"),
    [
        (None, LARGEST_MESSAGE),
        ("", LARGEST_MESSAGE),
        ("many", LARGEST_MESSAGE),
        ("-1", LARGEST_MESSAGE),
        ("1e9", LARGEST_MESSAGE),
        ("9" * 13, LARGEST_MESSAGE),
        ("5000", 5000),
        (str(5 * MIB), 5 * MIB),
        (str(LARGEST_ANSWER), LARGEST_ANSWER),
        (str(1 << 36), LARGEST_ANSWER),
    ],
)
def test_a_listing_is_as_large_as_its_caller_takes_up_to_a_fixed_bound(lister, socket, asked, largest):
    lister.objects = of_size(largest - 1)
    assert listed(socket, asked) == str(len(lister.objects))
    lister.objects = of_size(largest)
    caller = "Argo's client" if largest == LARGEST_MESSAGE else "the caller"
    error = listed(socket, asked)
    assert error.startswith('RESOURCE_EXHAUSTED ListObjects "key": the listing has ')
    assert f"{largest} bytes; {caller} accepts less than {largest} (sealgate). Open the objects" in error


def test_a_proxy_receives_a_hundred_thousand_long_keys(lister, socket):
    lister.objects = [f"{number:0330}" for number in range(100_000)]
    downstream = Downstream(Endpoint(socket, 5))
    assert downstream.list_objects(Call(Operation.LIST_OBJECTS), Artifact("key")) == lister.objects
    lister.objects = of_size(LARGEST_ANSWER)
    with pytest.raises(DownstreamStatus, match=f"the caller accepts less than {LARGEST_ANSWER}") as caught:
        downstream.list_objects(Call(Operation.LIST_OBJECTS), Artifact("key"))
    assert caught.value.code == "RESOURCE_EXHAUSTED"
    downstream.close()


@contextmanager
def answering(handler: Callable[[bytes, grpc.ServicerContext], bytes], home: Path) -> Iterator[Downstream]:
    """Serve `handler` as the ListObjects of a downstream, and yield the client of it."""
    method = grpc.unary_unary_rpc_method_handler(handler)
    server = grpc.server(
        futures.ThreadPoolExecutor(2),
        handlers=[grpc.method_handlers_generic_handler("artifact.ArtifactService", {"ListObjects": method})],
        options=[("grpc.max_send_message_length", -1)],
    )
    server.add_insecure_port(f"unix:{home}/socket")
    server.start()
    downstream = Downstream(Endpoint(home / "socket", 5))
    yield downstream
    downstream.close()
    server.stop(0)


@pytest.fixture
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("s")


def test_a_downstream_that_sends_more_than_it_was_asked_for_is_refused(home):
    answer = pb.ListObjectsResponse(objects=of_size(LARGEST_ANSWER + 1)).SerializeToString()
    with (
        answering(lambda _request, _context: answer, home) as downstream,
        pytest.raises(LimitReached, match=f"sent more than {LARGEST_ANSWER} bytes"),
    ):
        downstream.list_objects(Call(Operation.LIST_OBJECTS), Artifact("key"))


@pytest.mark.parametrize("letter", ["x", "\N{SNOWMAN}"])
@pytest.mark.parametrize("size", [2048, 9 << 20])
def test_the_text_of_a_refusal_is_cut_to_what_a_status_can_contain(home, letter, size):
    text = letter * (size // len(letter.encode()))
    answer = pb.ListObjectsResponse(error=text).SerializeToString()
    with (
        answering(lambda _request, _context: answer, home) as downstream,
        pytest.raises(Refused) as refused,
    ):
        downstream.list_objects(Call(Operation.LIST_OBJECTS), Artifact("key"))
    fact = refused.value.fact
    assert fact == text if size == 2048 else fact.endswith(f"… (cut; the downstream sent {len(text.encode())} bytes)")
    assert len(fact.encode()) < 2100


def test_a_status_that_is_longer_than_grpc_accepts_is_named(home):
    with (
        answering(
            lambda _request, context: context.abort(grpc.StatusCode.NOT_FOUND, "x" * (9 << 20)), home
        ) as downstream,
        pytest.raises(LimitReached, match="refused with a text that is longer than gRPC accepts"),
    ):
        downstream.list_objects(Call(Operation.LIST_OBJECTS), Artifact("key"))


def test_the_proxy_asks_for_itself_and_not_for_its_caller(proxy):
    argo = proxy.argo("fault: record\n")
    request = pb.IsDirectoryRequest(artifact=argo.artifact("a/b"))
    metadata = ((LARGEST_ANSWER_METADATA, "5000"), ("sealgate-upload-end", "1"), ("x-tenant", "blue"))
    argo.unary("IsDirectory", request, pb.IsDirectoryResponse, metadata=metadata)
    found = json.loads((proxy.storage / "record.json").read_text())["metadata"]
    assert found["x-tenant"] == "blue"
    assert found[LARGEST_ANSWER_METADATA] == str(LARGEST_ANSWER)
    assert "sealgate-upload-end" not in found
