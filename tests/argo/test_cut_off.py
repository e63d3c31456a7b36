"""The proxy is killed, or its caller goes away, during a call."""

from __future__ import annotations

import random
import sys
import threading

import grpc
import psutil
import pytest
from harness.argo import FRAME
from harness.chain import VENDOR, eventually
from harness.content import blob
from harness.outcome import outcome
from harness.stand import filled

from sealgate.rpc import artifact_pb2 as pb

# --- the proxy is killed ---------------------------------------------------------------------------------

WITH_A_GRANDCHILD = ["sh", "-c", f'{sys.executable} {VENDOR[-1]} "$0"; true']


@pytest.mark.parametrize("command", [VENDOR, WITH_A_GRANDCHILD], ids=["child", "grandchild"])
def test_sigkill_leaves_no_process_and_the_next_start_removes_the_spool(start, key, command):
    proxy = start(downstream=command)
    stand = filled(proxy, key)
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
    filled(proxy, key).assert_clean()
    children = psutil.Process(proxy.process.pid).children(recursive=True)
    assert proxy.stop() == 0
    assert not [child for child in children if _alive(child)]


# --- the caller goes away --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancel", "close"])
def test_an_upload_whose_caller_goes_away_is_never_stored(each, key, how):
    """grpcio reports a cancelled stream to a server as ended (docs/decisions/end-of-upload.md)."""
    chance = random.Random(0)
    argo = each.argo()
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
    assert eventually(lambda: not each.spools())
    assert [path.name for path in (each.storage / key).iterdir()] == ["whole"]


def test_an_upload_past_its_deadline_stores_nothing(each, key):
    argo = each.argo(timeout=0.5)
    never = threading.Event()

    def chunks():
        yield blob(FRAME)
        never.wait(30)

    with pytest.raises(grpc.RpcError) as raised:
        argo.save_stream(key, chunks())
    never.set()
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    each.argo().save_stream(f"{key}-next", b"some plaintext")
    assert eventually(lambda: not each.spools())
    assert not (each.storage / key).exists()
