"""The server seals itself, hangs, dies, comes back, or has had enough: what callers see, and how much it is asked."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.chain import eventually

from proxy.keys.vault import TransitKey, VaultKeys, VaultServer
from proxy.keys.vault_auth import StaticToken
from proxy.keys.vault_faults import Answer, Request, Unanswered
from proxy.keys.vault_requests import AT_ONCE, Requests
from proxy.plugin import (
    Call,
    Cancelled,
    DeadlineExceeded,
    NotConfigured,
    Operation,
    PluginError,
    Tampered,
    TimedOut,
    Unavailable,
)

SHORT = 1.5
"""Seconds of patience, so that a failure is there before a reader is bored."""


@pytest.fixture
def keys(own_transit, provider):
    return provider(own_transit, patience=SHORT)


def works_again(keys, call):
    """Whether the next call is right; it may have to wait for the next look at the server."""

    def works():
        try:
            keys.check(call)
        except Unavailable:
            return False
        return True

    return eventually(works)


# --- a real server ---------------------------------------------------------------------------------------


def test_a_sealed_server_is_a_passing_fault_and_the_next_call_after_is_right(openbao, keys, call):
    made = keys.new_data_key(call)
    openbao.seal()
    try:
        for refused in (keys.new_data_key, lambda call: keys.unwrap(call, made.wrapped)):
            with pytest.raises(Unavailable, match="Vault is sealed"):
                refused(call)
    finally:
        openbao.unseal()
    assert works_again(keys, call)
    assert keys.unwrap(call, made.wrapped) == made.plaintext


def test_a_call_outlasts_a_short_outage(openbao, own_transit, provider, call):
    keys = provider(own_transit, patience=60)
    keys.check(call)
    openbao.seal()
    with ThreadPoolExecutor() as pool:
        try:
            before = openbao.calls()
            waiting = pool.submit(keys.check, call)
            path = f"{own_transit.mount}/datakey/plaintext/artifacts"
            assert eventually(lambda: not openbao.calls()[path] > before[path])
            assert not waiting.done()
        finally:
            openbao.unseal()
        assert waiting.result() == f"vault {own_transit.mount}, key artifacts version 1"


def test_a_server_that_hangs_is_a_time_out_and_the_next_call_after_is_right(openbao, keys, call):
    made = keys.new_data_key(call)
    openbao.freeze()
    try:
        with pytest.raises(TimedOut, match="does not answer in time"):
            keys.unwrap(call, made.wrapped)
    finally:
        openbao.thaw()
    assert works_again(keys, call)


def test_a_server_that_was_killed_cannot_be_reached_until_it_is_back(openbao, keys, call):
    made = keys.new_data_key(call)
    openbao.stop()
    try:
        with pytest.raises(Unavailable, match="cannot be reached"):
            keys.unwrap(call, made.wrapped)
    finally:
        openbao.start()
    assert works_again(keys, call)
    assert keys.unwrap(call, made.wrapped) == made.plaintext


def test_a_quota_is_a_passing_fault_and_the_next_call_after_is_right(vault, transit, provider, call):
    keys = provider(transit, patience=SHORT)
    keys.check(call)
    quota = f"sys/quotas/rate-limit/{transit.mount}"
    vault.post(quota, {"path": f"{transit.mount}/", "rate": 0.001, "interval": "1m"})
    try:
        with pytest.raises(Unavailable, match="too many requests from here"):
            [keys.new_data_key(call) for _ in range(3)]
    finally:
        vault.api("DELETE", quota)
    keys.check(call)


def test_a_quota_that_is_wide_enough_is_only_waited_for(vault, transit, provider, call):
    keys = provider(transit)
    quota = f"sys/quotas/rate-limit/{transit.mount}"
    vault.post("sys/quotas/config", {"enable_rate_limit_response_headers": True})
    vault.post(quota, {"path": f"{transit.mount}/", "rate": 2, "interval": "1s"})
    try:
        for _ in range(3):
            keys.check(call)
    finally:
        vault.api("DELETE", quota)


def test_the_deadline_of_a_call_is_kept(openbao, own_transit, provider):
    keys = provider(own_transit, patience=300)
    keys.check(Call(Operation.SAVE))
    openbao.freeze()
    try:
        with pytest.raises((TimedOut, DeadlineExceeded)):
            keys.new_data_key(Call(Operation.SAVE, deadline=time.monotonic() + 0.5))
    finally:
        openbao.thaw()
    # A caller in a hurry does not make it an outage for the others.
    assert keys.check(Call(Operation.SAVE))


# --- how much a server that is down is asked -------------------------------------------------------------


class Door:
    """A port that counts who comes, and sends everybody away."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.came = 0
        threading.Thread(target=self._send_away, daemon=True).start()

    def _send_away(self):
        while True:
            try:
                come, _ = self._socket.accept()
            except OSError:
                return
            self.came += 1
            come.close()

    def close(self):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def door():
    door = Door()
    yield door
    door.close()


def test_a_hundred_callers_do_not_ask_a_server_that_is_down_a_hundred_times(door):
    keys = VaultKeys(VaultServer(door.address, StaticToken("t"), patience=SHORT), TransitKey("transit", "artifacts"))
    together = threading.Barrier(100)

    def work(_):
        together.wait()
        with pytest.raises(Unavailable, match="cannot be reached"):
            keys.new_data_key(Call(Operation.SAVE))

    with ThreadPoolExecutor(100) as pool:
        list(pool.map(work, range(100)))
    # The first wave, and a look now and then while the calls have patience.
    assert 1 <= door.came <= 2 * AT_ONCE


class Scripted:
    """A server that answers what the test says, and counts."""

    def __init__(self, outcome):
        self.outcome = outcome
        self.asked = 0

    def send(self, request, token, timeout):
        self.asked += 1
        return self.outcome


class World:
    """Time that passes only while somebody waits."""

    def __init__(self, outcome, patience=30.0):
        self.now = 1000.0
        self.waits = []
        self.server = Scripted(outcome)
        self.requests = Requests(
            self.server, patience, clock=lambda: self.now, jitter=lambda _, most: most, wait=self._wait
        )

    def _wait(self, call, seconds):
        self.waits.append(seconds)
        self.now += seconds

    def send(self, call=None, path="transit/decrypt/a"):
        return self.requests.send(call or Call(Operation.LOAD), Request(path, {}), "token")

    def fault(self):
        """What a call ends with; None if it is carried out."""
        try:
            self.send()
        except PluginError as fault:
            return fault
        return None


def test_an_outage_is_looked_at_less_and_less_often():
    world = World(Unanswered.NO_CONNECTION)
    with pytest.raises(Unavailable):
        world.send()
    assert world.server.asked <= 12  # 30 s: at 0, .25, .75, 1.75, 3.75, 7.75, then each 5 s
    assert world.now <= 1030


def test_a_long_outage_is_told_at_once_and_still_looked_at():
    world = World(Unanswered.NO_CONNECTION)
    with pytest.raises(Unavailable):
        world.send()
    world.now += 5  # now the outage is older than a call is patient
    world.waits.clear()
    before = world.server.asked
    for _ in range(100):
        with pytest.raises(Unavailable):
            world.send()
    assert world.waits == []
    assert world.server.asked - before <= 1
    world.server.outcome = Answer(200)
    world.now += 5
    assert world.send().status == 200
    assert world.send().status == 200


def test_somebody_is_always_next_to_look_even_if_the_last_one_learned_nothing():
    world = World(Unanswered.NO_CONNECTION)
    with pytest.raises(Unavailable):
        world.send()
    world.server.outcome = Unanswered.TIMEOUT
    world.now += 60
    with pytest.raises(PluginError):
        world.send(Call(Operation.LOAD, deadline=time.monotonic() + 0.01))
    world.server.outcome = Answer(200)
    world.now += 60
    assert world.send().status == 200


@pytest.mark.parametrize("outcome", [Answer(400), Answer(403), Answer(404), Answer(200)], ids=str)
def test_an_answer_of_any_kind_ends_the_outage(outcome):
    world = World(Unanswered.NO_CONNECTION)
    with pytest.raises(Unavailable):
        world.send()
    world.now += 60
    world.server.outcome = outcome
    for _ in range(2):
        before = world.server.asked
        assert not isinstance(world.fault(), Unavailable)
        assert world.server.asked == before + 1


def test_a_caller_that_went_away_is_not_worked_for(call):
    world = World(Unanswered.NO_CONNECTION)
    call.cancel()
    with pytest.raises(Cancelled):
        world.send(call)
    assert world.server.asked == 0


def test_a_caller_that_goes_away_while_it_waits_waits_no_longer(call):
    requests = Requests(Scripted(Answer(503)), 1000, jitter=lambda _, most: 100 * most)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(requests.send, call, Request("transit/decrypt/a", {}), "token")
        assert not waiting.done()
        call.cancel()
        with pytest.raises(Cancelled):
            waiting.result()


# --- the table -------------------------------------------------------------------------------------------

PASSING = {
    "no connection": (Unanswered.NO_CONNECTION, Unavailable, None),
    "time-out": (Unanswered.TIMEOUT, TimedOut, None),
    "412": (Answer(412), Unavailable, 5),
    "429": (Answer(429, {"errors": ["request path ...: rate limit quota exceeded"]}), Unavailable, 5),
    "472": (Answer(472), Unavailable, 3),
    "500": (Answer(500, {"errors": ["internal error"]}), Unavailable, 3),
    "502": (Answer(502), Unavailable, 3),
    "503 sealed": (Answer(503, {"errors": ["Vault is sealed"]}), Unavailable, None),
    "503": (Answer(503, {"errors": ["node is not active"]}), Unavailable, None),
    "504": (Answer(504), Unavailable, 3),
    "530": (Answer(530), Unavailable, 3),
}
LASTING = {
    "TLS": (Unanswered.TLS, NotConfigured, 1),
    "address": (Unanswered.ADDRESS, NotConfigured, 1),
    "CA file": (Unanswered.CA_FILE, NotConfigured, 1),
    "307": (Answer(307), NotConfigured, 1),
    "400 tampered": (Answer(400, {"errors": ["cipher: message authentication failed"]}), Tampered, 1),
    "400 no ciphertext": (Answer(400, {"errors": ["invalid ciphertext: no prefix"]}), Tampered, 1),
    "400 too new": (Answer(400, {"errors": ["invalid ciphertext: version is too new"]}), NotConfigured, 4),
    "400 unheard of": (Answer(400, {"errors": ["something else"]}), NotConfigured, 1),
    "400 without a text": (Answer(400, {"errors": {"a": 1}}), NotConfigured, 1),
    "401": (Answer(401), NotConfigured, 1),
    "404": (Answer(404), NotConfigured, 1),
    "405": (Answer(405), NotConfigured, 1),
    "413": (Answer(413), NotConfigured, 1),
    "501": (Answer(501), NotConfigured, 1),
}
ARGO_RETRIES = ("connect: connection refused", "i/o timeout")


@pytest.mark.parametrize(("outcome", "error", "tries"), (PASSING | LASTING).values(), ids=PASSING | LASTING)
def test_each_answer_is_tried_so_often_and_then_is_this_error(outcome, error, tries, call):
    world = World(outcome)
    with pytest.raises(PluginError) as raised:
        world.send()
    assert type(raised.value) is error
    assert tries is None or world.server.asked == tries
    assert world.now <= 1030
    line = raised.value.line(call, "a/b")
    assert any(mark in line for mark in ARGO_RETRIES) is issubclass(error, Unavailable)
    assert raised.value.remedy


@pytest.mark.parametrize(("status", "tries"), [(400, 1), (403, 3), (404, 1), (429, 5), (500, 3)], ids=str)
def test_each_answer_to_a_login_is_tried_so_often(status, tries):
    world = World(Answer(status))
    with pytest.raises(PluginError):
        world.send(path="auth/kubernetes/login")
    assert world.server.asked == tries


def test_pauses_grow_and_are_as_long_as_the_server_asks_at_least():
    plain, asked = World(Answer(429)), World(Answer(429, retry_after=3.0))
    for world in (plain, asked):
        with pytest.raises(Unavailable):
            world.send()
    assert plain.waits == [1, 2, 4, 5]
    assert asked.waits == [3, 3, 4, 5]


def test_pauses_are_not_the_same_for_everybody():
    waits = Counter()
    for _ in range(5):
        requests = Requests(Scripted(Answer(500)), 30, wait=lambda _, seconds: waits.update([seconds]))
        with pytest.raises(Unavailable):
            requests.send(Call(Operation.LOAD), Request("transit/decrypt/a", {}), "token")
    assert len(waits) == 10


def test_no_pause_outlives_the_deadline_of_the_call():
    world = World(Answer(429))
    with pytest.raises(Unavailable):
        world.send(Call(Operation.LOAD, deadline=time.monotonic() + 0.5))
    assert world.waits == []
    assert world.server.asked == 1
