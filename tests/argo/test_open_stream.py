"""Facts 46 to 53 of docs/argo-contract.md: OpenStream."""

from __future__ import annotations

import grpc
import psutil
import pytest
from harness.chain import eventually
from harness.content import SIZES, blob
from harness.outcome import IN_THE_ANSWER, assert_own_line, outcome

LARGE = (3 << 20) + 17


@pytest.mark.parametrize("size", SIZES)
def test_46_47_data_is_sent_in_small_frames_without_an_end_or_an_error(each, key, size):
    argo = each.argo()
    argo.save_stream(key, blob(size))
    frames = list(argo.frames(key))
    assert b"".join(frame.data for frame in frames) == blob(size)
    assert not [frame for frame in frames if frame.data and (frame.is_end or frame.error)]
    assert all(frame.ByteSize() <= (1 << 20) + 64 for frame in frames)


FAULTS = {
    "error-midway": (IN_THE_ANSWER, "the vendor's disk broke"),
    "abort-midway": ("ABORTED", "the vendor gave up"),
    "early-end": ("DATA_LOSS", None),
    "early-close": ("DATA_LOSS", None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_48_49_a_stream_that_breaks_never_ends_cleanly(by_stream, key, fault):
    by_stream.argo().save_stream(key, blob(LARGE))
    received: list[bytes] = []
    found = outcome(lambda: received.extend(by_stream.argo(f"fault: {fault}\n").stream(key)))
    code, text = FAULTS[fault]
    assert found.code == code, found
    if text is None:
        assert_own_line(found, code, "OpenStream", key)
    else:
        assert found.text == text
    assert blob(LARGE).startswith(b"".join(received))


def test_48_a_truncated_object_never_ends_cleanly(each, key):
    each.argo().save_stream(key, blob(LARGE))
    stored = (each.storage / key).read_bytes()
    for length in (40, 1 << 20, 2 << 20, len(stored) - 1):
        (each.storage / key).write_bytes(stored[:length])
        assert_own_line(outcome(lambda: each.argo().open_stream(key)), "DATA_LOSS", "OpenStream", key)


def test_50_an_empty_artifact_is_a_clean_end_without_data(each, key):
    argo = each.argo()
    argo.save_stream(key, b"")
    assert argo.open_stream(key) == b""


@pytest.mark.parametrize("segment", range(4))
def test_51_only_verified_data_is_sent(each, key, segment):
    each.argo().save_stream(key, blob(LARGE))
    stored = bytearray((each.storage / key).read_bytes())
    place = min((segment << 20) + (1 << 19), len(stored) - 1)
    stored[place] ^= 1
    (each.storage / key).write_bytes(stored)
    received: list[bytes] = []
    found = outcome(lambda: received.extend(each.argo().stream(key)))
    assert_own_line(found, "DATA_LOSS", "OpenStream", key)
    sent = b"".join(received)
    assert blob(LARGE).startswith(sent)
    assert len(sent) <= segment << 20
    assert bool(sent) == bool(segment)  # Argo's server answers HTTP 200 with the first byte


def test_52_aborted_streams_leave_neither_threads_nor_descriptors(each, key):
    each.argo().save_stream(key, blob(LARGE))
    process = psutil.Process(each.process.pid)

    def abort(times: int) -> None:
        for _ in range(times):
            argo = each.argo()
            stream = argo.frames(key)
            assert next(stream).data
            stream.cancel()
            argo.close()

    abort(40)
    assert eventually(lambda: not each.spools())
    threads, descriptors = process.num_threads(), process.num_fds()
    abort(200)
    assert eventually(lambda: process.num_threads() <= threads + 4), (threads, process.num_threads())
    assert eventually(lambda: process.num_fds() <= descriptors + 4), (descriptors, process.num_fds())
    assert eventually(lambda: not each.spools())
    assert each.argo().open_stream(key) == blob(LARGE)


def test_52_a_cancelled_stream_cancels_that_of_the_downstream(by_stream, key):
    by_stream.argo().save_stream(key, blob(LARGE))
    ended = by_stream.storage / "hang-ended"
    stream = by_stream.argo("fault: hang on OpenStream\n").frames(key)
    assert eventually(lambda: f"hang on OpenStream of {key}\n" in by_stream.output())
    stream.cancel()
    assert eventually(ended.exists)
    ended.unlink()


@pytest.mark.parametrize("sloppy", ["data-in-end", "empty-frames"])
def test_53_a_sloppy_downstream_is_read_completely(by_stream, key, sloppy):
    by_stream.argo().save_stream(key, blob(LARGE))
    assert by_stream.argo(f"fault: {sloppy}\n").open_stream(key) == blob(LARGE)


def test_53_a_downstream_may_omit_the_end_message(by_stream, key):
    by_stream.argo().save_stream(key, blob(LARGE))
    assert by_stream.argo("fault: no-end\n").open_stream(key) == blob(LARGE)


def test_51_a_missing_object_is_an_error_before_any_data(each, key):
    assert outcome(lambda: next(each.argo().stream(key))).code == IN_THE_ANSWER


def test_52_a_reader_that_stops_does_not_block_others(by_stream, key):
    by_stream.argo().save_stream(key, blob(6 << 20))
    stopped = [by_stream.argo().frames(key) for _ in range(20)]
    assert all(next(stream).data for stream in stopped)
    assert by_stream.argo().open_stream(key) == blob(6 << 20)
    for stream in stopped:
        assert isinstance(stream, grpc.Call)
        stream.cancel()
