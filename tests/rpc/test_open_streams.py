"""Streams: a bounded number of them, none stalled for ever, and short calls are answered beside them."""

import contextlib
import threading
import time
from pathlib import Path

import grpc
import pytest
import yaml
from harness.chain import SEALGATE, eventually
from harness.memory import Watch
from harness.outcome import TRANSIENT, outcome

from sealgate.call import Call, Operation
from sealgate.errors import Busy, Stalled
from sealgate.layers.beside import MOST as MOST_BESIDE
from sealgate.rpc import artifact_pb2 as pb
from sealgate.rpc.streams import (
    MEMORY_OF_A_STREAM,
    MEMORY_OF_THE_PROCESS,
    MOST_LARGE,
    MOST_SMALL,
    MOST_WAITING,
    MOST_WORK,
    SMALL,
    Streams,
    spare_memory,
    stream_limit,
    upload_places,
)

MIB = 1 << 20


# --- the bound --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "streams"),
    [
        (None, MOST_LARGE),
        (64 * MIB, 2),
        (256 * MIB, 2),
        (384 * MIB, 6),
        (512 * MIB, 11),
        (768 * MIB, 20),
        (8192 * MIB, MOST_LARGE),
    ],
)
def test_the_number_of_streams_follows_from_the_memory(memory, streams):
    assert stream_limit(memory) == streams


@pytest.mark.parametrize(
    ("memory", "spare"), [(None, None), (64 * MIB, 0), (160 * MIB, 8 * MIB), (512 * MIB, 52 * MIB)]
)
def test_what_the_backend_may_use_to_be_faster_follows_from_the_memory(memory, spare):
    assert spare_memory(memory) == spare


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
        with pytest.raises(Busy, match=r"allows no more than 2 large streams at once$") as refused:
            third.moves(1)
        assert any(mark in refused.value.line(call(), "a") for mark in TRANSIENT)
        first.close()
        large(third)


def test_a_large_upload_takes_two_places_where_memory_is_scarce():
    assert [upload_places(memory) for memory in (None, 8192 * MIB, 768 * MIB)] == [1, 1, 2]
    streams = Streams(3, upload_places=2)
    with (
        streams.open(Call(Operation.SAVE_STREAM), lambda: None) as first,
        streams.open(Call(Operation.SAVE_STREAM), lambda: None) as second,
        streams.open(call(), lambda: None) as third,
    ):
        first.moves(2 * SMALL)
        with pytest.raises(Busy, match=r"allows no more than 3 large streams at once, and a large upload counts as 2$"):
            second.moves(2 * SMALL)
        third.moves(2 * SMALL)
    with streams.open(Call(Operation.SAVE_STREAM), lambda: None) as later:
        later.moves(2 * SMALL)


def test_an_upload_whose_first_frame_does_not_come_is_ended_soon():
    now = [0.0]
    streams = Streams(4, longest_stall=60, clock=lambda: now[0])
    ended = []
    with (
        streams.open(Call(Operation.SAVE_STREAM), lambda: ended.append("silent")) as silent,
        streams.open(Call(Operation.SAVE_STREAM), lambda: ended.append("begun")) as begun,
    ):
        begun.moves(1)
        for one in (silent, begun):
            one.waits()
        now[0] = 21
        streams.end_stalled()
        assert ended == ["silent"]


def test_a_stream_without_progress_is_ended_and_one_with_progress_is_not():
    now = [0.0]
    streams = Streams(4, longest_stall=60, clock=lambda: now[0])
    ended = []
    with (
        streams.open(stalled := call(), lambda: ended.append("stalled")) as first,
        streams.open(call(), lambda: ended.append("moving")) as moving,
    ):
        first.waits()
        moving.waits()
        now[0] = 50
        moving.progress()
        moving.waits()
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


def chart_limit() -> int:
    """Return the memory in bytes that the chart allows beside Argo's server."""
    values = yaml.safe_load((Path(__file__).parents[2] / "charts/sealgate/values.yaml").read_text())
    return int(values["argo"]["server"]["resources"]["limits"]["memory"].removesuffix("Mi")) * MIB


def test_the_chart_allows_what_the_rule_needs_for_twenty_large_streams():
    needed = MEMORY_OF_THE_PROCESS + (20 + MOST_SMALL) * MEMORY_OF_A_STREAM * 3 // 2
    assert needed <= chart_limit() <= needed + 64 * MIB
    assert stream_limit(chart_limit()) == 20


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
        with Watch(proxy.process.pid, with_children=True) as watch:
            streams = [open_stalled(proxy, "a/large", channels) for _ in range(readers)]
            expected = max(0, readers - MOST_LARGE)
            assert eventually(lambda: sum(not one.is_active() for one in streams) == expected)
            assert healthy_within(proxy, 30)
            assert argo.is_directory("a") is True
            time.sleep(2)  # what flows without a reader has flowed
        assert watch.peak < chart_limit(), watch.peak
        for one in (one for one in streams if not one.is_active()):
            assert one.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "i/o timeout" in one.details()
    finally:
        for channel in channels:
            channel.close()
    with contextlib.closing(proxy.argo()) as later:
        assert len(later.open_stream("a/large")) == 64 * MIB


@pytest.mark.process
def test_silent_uploads_take_their_own_threads_alone_and_too_many_are_refused_at_once(start):
    proxy = start(downstream=[*SEALGATE, "backend"])
    proxy.argo().save_stream("a/small", b"x")
    silence, channels, uploads = threading.Event(), [], []

    def nothing():
        silence.wait(60)
        yield from ()

    try:
        for _ in range(MOST_LARGE + MOST_SMALL + MOST_WAITING + 50):
            channel = grpc.insecure_channel(f"unix:{proxy.socket}", options=(("grpc.use_local_subchannel_pool", 1),))
            channels.append(channel)
            uploads.append(channel.stream_unary("/artifact.ArtifactService/SaveStream").future(nothing()))
        assert eventually(lambda: sum(one.done() for one in uploads) >= 50)
        assert healthy_within(proxy, 30)
        assert proxy.argo().is_directory("a") is True
        refused = [one for one in uploads if one.done()]
        assert {one.code() for one in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert all("i/o timeout" in one.details() for one in refused)
    finally:
        silence.set()
        for channel in channels:
            channel.close()
    assert proxy.argo().open_stream("a/small") == b"x"


@pytest.mark.process
def test_health_and_capabilities_are_answered_beside_questions_to_a_hanging_downstream(start):
    proxy = start()
    hanging = [proxy.argo("fault: hang on ListObjects\n") for _ in range(50)]
    for argo in hanging:
        threading.Thread(target=lambda argo=argo: outcome(lambda: argo.list_objects("a/b")), daemon=True).start()
    assert eventually(lambda: proxy.output().count("hang on ListObjects") >= 20)
    assert healthy_within(proxy, 30)
    assert proxy.argo(timeout=30).supports_save_stream() is True
    for argo in hanging:
        argo.close()


def test_a_slow_downstream_is_no_silent_caller():
    streams = Streams(4, longest_stall=60, clock=lambda: now[0])
    now, ended = [0.0], []
    with streams.open(call(), lambda: ended.append("slow")) as slow:
        now[0] = 600  # the downstream works
        streams.end_stalled()
        slow.moves(1)
        slow.waits()
        now[0] = 650
        streams.end_stalled()
        assert ended == []
        now[0] = 661
        streams.end_stalled()
        assert ended == ["slow"]


def test_the_streams_of_all_calls_fit_into_what_a_downstream_of_ours_lets_wait():
    """Beside the streams that callers open, of which this process has no more than its downstream serves at once."""
    assert MOST_WORK + MOST_BESIDE <= MOST_WAITING
    for memory in (64 << 20, 256 << 20, 768 << 20, 4 << 30):
        assert stream_limit(memory) // 4 + MOST_BESIDE <= MOST_WAITING
