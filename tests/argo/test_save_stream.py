"""Facts 54 to 58 of docs/argo-contract.md: GetCapabilities and SaveStream."""

from __future__ import annotations

import itertools
import threading

import pytest
from harness.argo import FRAME
from harness.content import blob
from harness.outcome import IN_THE_ANSWER, Outcome, assert_own_line, outcome

from sealgate.rpc import artifact_pb2 as pb


@pytest.fixture(params=["proxy", "by_file", "by_stream", "bundled", "builtin"])
def every(request):
    """A proxy for each way to transfer ciphertext, and for each downstream, also one without SaveStream."""
    return request.getfixturevalue(request.param)


def test_54_capabilities_need_no_configuration(start):
    proxy = start(environment={"SEALGATE_CONFIG_YAML": ""})
    assert proxy.argo().supports_save_stream()


def test_54_capabilities_need_no_downstream(start):
    assert start(downstream=["/nowhere/plugin"]).argo().supports_save_stream()


CUTS = {
    "metadata alone": [],
    "frames of 1 byte": [blob(300)[i : i + 1] for i in range(300)],
    "frames of 2 MiB": [blob(FRAME), blob(FRAME, 1), blob(5)],
    "frames of any size": [blob(size) for size in (1, 1 << 20, 7, (1 << 20) - 1, 65_536)],
}


@pytest.mark.parametrize("cut", CUTS)
def test_55_frames_may_be_of_any_size(every, key, cut):
    every.argo().save_stream(key, CUTS[cut])
    assert every.argo().open_stream(key) == b"".join(CUTS[cut])
    assert not every.spools()


def test_55_data_in_the_first_frame_is_kept(every, key):
    argo = every.argo()
    first = pb.SaveStreamArtifactRequest(output_artifact=argo.artifact(key), chunk=b"some ")
    assert argo.raw_save_stream(iter([first, pb.SaveStreamArtifactRequest(chunk=b"plaintext")])).success
    assert argo.open_stream(key) == b"some plaintext"


@pytest.mark.parametrize("frames", [[], [pb.SaveStreamArtifactRequest(chunk=b"some plaintext")]], ids=len)
def test_55_a_stream_without_an_artifact_is_refused(every, frames):
    found = outcome(lambda: every.argo().raw_save_stream(iter(frames)))
    assert_own_line(found, "INVALID_ARGUMENT", "SaveStream")


def test_56_an_upload_that_the_caller_aborts_stores_nothing(every, key):
    argo = every.argo()

    def aborted():
        yield blob(FRAME)
        yield blob(100)
        raise OSError("an error of the caller")

    assert outcome(lambda: argo.save_stream(key, aborted())).code != "OK"
    argo.save_stream(f"{key}-next", b"some plaintext")
    assert not (every.storage / key).exists()
    assert not every.spools()


def test_56_an_aborted_upload_leaves_the_earlier_artifact(every, key):
    argo = every.argo()
    argo.save_stream(key, b"an earlier artifact")

    def aborted():
        yield blob(FRAME)
        raise OSError("an error of the caller")

    assert outcome(lambda: argo.save_stream(key, aborted())).code != "OK"
    assert argo.open_stream(key) == b"an earlier artifact"


def test_57_an_upload_is_spooled_for_a_downstream_without_save_stream(proxy, key):
    proxy.argo().save_stream(key, blob(3 << 20))
    assert (proxy.storage / key).read_bytes()[:8] == b"\x89SEAL\r\n\x1a"
    assert not proxy.spools()


def test_57_the_spool_is_empty_after_a_refusal(proxy, key):
    found = outcome(lambda: proxy.argo("fault: refuse on Save\n").save_stream(key, blob(3 << 20)))
    assert (found.code, found.text) == (IN_THE_ANSWER, "quota of the vendor exceeded")
    assert not proxy.spools()
    assert not (proxy.storage / key).exists()


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        ("refuse-early", "UNKNOWN", "quota of the vendor exceeded"),
        ("abort-midway", "ABORTED", "the vendor gave up"),
        ("status", "ALREADY_EXISTS", "the vendor's own words"),
        ("confirm-early", "DATA_LOSS", "before it had the whole artifact"),
    ],
)
@pytest.mark.parametrize("pause", [0, 3], ids=["fast", "slow"])
def test_58_an_early_answer_of_the_downstream_ends_the_upload_with_a_status(by_stream, key, fault, code, text, pause):
    never = threading.Event()

    def endless():
        while not never.wait(pause):
            yield blob(FRAME)

    found = outcome(lambda: by_stream.argo(f"fault: {fault}\n").save_stream(key, endless()))
    never.set()
    assert found.code == code, found
    assert text in found.text
    assert not (by_stream.storage / key).exists()


@pytest.mark.parametrize("frames", [0, 1, 4])
def test_58_a_refusal_of_a_small_upload_is_in_the_answer(by_stream, key, frames):
    """The rest of a small upload is read before the answer, because Argo's client must have sent it."""
    for _ in range(10):
        found = outcome(lambda: by_stream.argo("fault: refuse-early\n").save_stream(key, blob(frames * FRAME)))
        assert found == Outcome(IN_THE_ANSWER, "quota of the vendor exceeded")
    assert not (by_stream.storage / key).exists()


def test_58_an_error_of_the_proxy_ends_the_upload(every):
    endless = itertools.repeat(blob(FRAME))
    found = outcome(lambda: every.argo().save_stream("a/../b", endless))
    assert_own_line(found, "INVALID_ARGUMENT", "SaveStream", "a/../b")
