"""Streams: a bounded number of them, none stalled for ever, and short calls are answered beside them."""

import contextlib
import time

import grpc
import pytest
from harness.chain import SEALGATE, eventually
from harness.memory import Watch
from harness.outcome import TRANSIENT

from sealgate.call import Call, Operation
from sealgate.errors import Busy, Stalled
from sealgate.rpc import artifact_pb2 as pb
from sealgate.rpc.streams import MOST_LARGE, SMALL, Streams, stream_limit

MIB = 1 << 20


# --- the bound --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "streams"),
    [
        (None, MOST_LARGE),
        (64 * MIB, 2),
        (160 * MIB, 7),
        (256 * MIB, 17),
        (512 * MIB, MOST_LARGE),
        (8192 * MIB, MOST_LARGE),
    ],
)
def test_the_number_of_streams_follows_from_the_memory(memory, streams):
    assert stream_limit(memory) == streams


def call() -> Call:
    return Call(Operation.OPEN_STREAM)


def large(stream) -> None:
    stream.moves(SMALL + 1)


def test_a_large_stream_beyond_the_bound_is_refused_at_once_and_not_after_another_has_ended():
    streams = Streams(2)
    with contextlib.ExitStack() as stack:
        first = contextlib.ExitStack()
        large(first.enter_context(streams.open(call(), lambda: None)))
        large(stack.enter_context(streams.open(call(), lambda: None)))
        third = stack.enter_context(streams.open(call(), lambda: None))
        third.moves(SMALL)
        with pytest.raises(Busy, match="2 large streams are open") as refused:
            third.moves(1)
        assert any(mark in refused.value.line(call(), "a") for mark in TRANSIENT)
        first.close()
        large(third)


def test_an_upload_whose_first_frame_does_not_come_is_ended_soon():
    now = [0.0]
    streams = Streams(4, longest_stall=60, clock=lambda: now[0])
    ended = []
    with (
        streams.open(Call(Operation.SAVE_STREAM), lambda: ended.append("silent")),
        streams.open(Call(Operation.SAVE_STREAM), lambda: ended.append("begun")) as begun,
    ):
        begun.moves(1)
        now[0] = 21
        streams.end_stalled()
        assert ended == ["silent"]


def test_a_stream_without_progress_is_ended_and_one_with_progress_is_not():
    now = [0.0]
    streams = Streams(4, longest_stall=60, clock=lambda: now[0])
    ended = []
    with (
        streams.open(stalled := call(), lambda: ended.append("stalled")),
        streams.open(call(), lambda: ended.append("moving")) as moving,
    ):
        now[0] = 50
        moving.progress()
        now[0] = 61
        streams.end_stalled()
        assert ended == ["stalled"]
        with pytest.raises(Stalled, match="for 60 s"):
            stalled.check()


# --- through the socket -----------------------------------------------------------------------------------


def open_stalled(proxy, key: str, channels: list) -> grpc.RpcContext:
    """An OpenStream on a connection of its own whose reader takes nothing."""
    channel = grpc.insecure_channel(f"unix:{proxy.socket}", options=(("grpc.use_local_subchannel_pool", 1),))
    channels.append(channel)
    stream = channel.unary_stream("/artifact.ArtifactService/OpenStream")
    artifact = pb.Artifact(plugin=pb.PluginArtifact(key=key, configuration="{}"))
    return stream(pb.OpenStreamRequest(artifact=artifact).SerializeToString())


def healthy_within(proxy, seconds: float) -> bool:
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415 - only here

    with grpc.insecure_channel(f"unix:{proxy.socket}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=seconds)
    return answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.process
@pytest.mark.parametrize("readers", [40, pytest.param(400, marks=pytest.mark.large)])
def test_short_calls_are_answered_and_memory_is_bounded_beside_stalled_readers(start, readers):
    proxy = start(downstream=[*SEALGATE, "backend"], settings={"spool": {"transfer": "stream"}})
    source = proxy.work / "source"
    source.write_bytes(bytes(64 * MIB))
    argo = proxy.argo()
    argo.save("a/large", source)
    channels: list[grpc.Channel] = []
    try:
        with Watch(proxy.process.pid) as watch:
            streams = [open_stalled(proxy, "a/large", channels) for _ in range(readers)]
            expected = max(0, readers - MOST_LARGE)
            assert eventually(lambda: sum(not one.is_active() for one in streams) == expected)
            assert healthy_within(proxy, 30)
            assert argo.is_directory("a") is True
            time.sleep(2)  # what flows without a reader has flowed
        assert watch.grown < 416 * MIB, watch.grown  # the chart allows 512Mi for the process beside Argo's server
        for one in (one for one in streams if not one.is_active()):
            assert one.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "i/o timeout" in one.details()
    finally:
        for channel in channels:
            channel.close()
    with contextlib.closing(proxy.argo()) as later:
        assert len(later.open_stream("a/large")) == 64 * MIB
