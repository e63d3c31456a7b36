"""A call that ends because of another call, or because its server ends, names that as a passing fault."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.argo import Argo
from harness.outcome import assert_own_line, outcome

from sealgate.call import Call, Operation
from sealgate.errors import Unavailable
from sealgate.plugin import Artifact, Capabilities
from sealgate.rpc.client import Downstream
from sealgate.rpc.endpoint import Endpoint
from sealgate.rpc.server import ArtifactServer


class UntilCancelled:
    """A plugin whose calls last until they are cancelled."""

    def __init__(self) -> None:
        self.entered = threading.Event()

    def is_directory(self, call: Call, _artifact: Artifact) -> bool:
        self.entered.set()
        assert call.cancelled_within(60)
        call.check()
        return False

    def get_capabilities(self, _call: Call) -> Capabilities:
        return Capabilities(save_stream=True)


@pytest.fixture
def plugin():
    return UntilCancelled()


@pytest.fixture
def server(plugin, tmp_path_factory):
    started = ArtifactServer(plugin)
    socket = tmp_path_factory.mktemp("s") / "socket"
    started.start(socket)
    yield started, socket
    started.stop(0)


def test_a_call_that_outlasts_the_end_of_its_server_is_unavailable(server, plugin):
    started, socket = server
    argo = Argo(socket)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(outcome, lambda: argo.is_directory("ns/a"))
        assert plugin.entered.wait(60)
        started.stop(3)
        assert_own_line(call.result(), "UNAVAILABLE", "IsDirectory", "ns/a")
    argo.close()


def test_a_call_whose_connection_another_call_closes_is_unavailable(server):
    _, socket = server
    endpoint = Endpoint(socket, 5)

    def closed_meanwhile(channel):
        endpoint.ended()  # as the end of another call does that finds the connection broken
        return channel

    downstream = Downstream(endpoint, instrument=closed_meanwhile)
    for do in (
        lambda: downstream.get_capabilities(Call(Operation.GET_CAPABILITIES)),
        lambda: list(downstream.open_stream(Call(Operation.OPEN_STREAM), Artifact("ns/a"))),
        lambda: downstream.save_stream(Call(Operation.SAVE_STREAM), Artifact("ns/a"), iter([b"data"])),
    ):
        with pytest.raises(Unavailable, match="the connection to the downstream broke"):
            do()
    downstream.close()
