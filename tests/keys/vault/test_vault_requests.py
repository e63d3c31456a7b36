"""How often requests are sent, and the error for each answer: the table of faults, on a clock that the test sets."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.chain import eventually

from sealgate.call import Call, Operation
from sealgate.errors import Cancelled, NotConfigured, PluginError, Tampered, TimedOut, Unavailable
from sealgate.keys.vault.formats import Unanswered, VaultRequest, VaultResponse
from sealgate.keys.vault.requests import Requests


class Scripted:
    """A server that gives the answer that the test sets, and counts requests."""

    def __init__(self, outcome):
        self.outcome = outcome
        self.asked = 0

    def send(self, request, token, timeout):
        self.asked += 1
        return self.outcome


class World:
    """A clock that moves only while a call waits."""

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
        return self.requests.send(call or Call(Operation.LOAD), VaultRequest(path, {}), "token")

    def fault(self):
        """Return the error of a call; None if it succeeds."""
        try:
            self.send()
        except PluginError as fault:
            return fault
        return None


def test_probes_during_an_outage_become_less_frequent():
    world = World(Unanswered.NO_CONNECTION)
    with pytest.raises(Unavailable):
        world.send()
    assert world.server.asked <= 12  # 30 s: at 0, .25, .75, 1.75, 3.75, 7.75, then each 5 s
    assert world.now <= 1030


def test_in_a_long_outage_a_call_waits_for_the_next_probe_only():
    world = World(Unanswered.NO_CONNECTION)
    with pytest.raises(Unavailable):
        world.send()
    world.now += 5  # now the outage has lasted longer than the patience of a call
    for _ in range(100):
        begun, asked = world.now, world.server.asked
        with pytest.raises(Unavailable):
            world.send()
        assert world.now - begun <= 5.25
        assert world.server.asked == asked + 1


@pytest.mark.parametrize("patience", [0.5, 1.0, 30.0, 300.0])
@pytest.mark.parametrize("lasted", [0.1, 1.0, 31.0, 1000.0])
def test_the_first_call_after_an_outage_is_right_however_long_it_was(lasted, patience):
    world = World(VaultResponse(503, {"errors": ["Vault is sealed"]}), patience)
    began = world.now
    while world.now < began + lasted:
        with pytest.raises(Unavailable):
            world.send()
        world.now += lasted / 10
    with pytest.raises(Unavailable):
        world.send()
    world.server.outcome = VaultResponse(200)
    assert world.send().status == 200
    assert world.send().status == 200


def test_a_call_does_not_fail_because_of_an_earlier_probe():
    world = World(Unanswered.NO_CONNECTION, patience=1.0)
    with pytest.raises(Unavailable):
        world.send()
    with pytest.raises(Unavailable):
        world.send()
    asked = world.server.asked
    world.now += 0.01
    with pytest.raises(Unavailable):
        world.send()
    assert world.server.asked == asked + 1


def test_a_next_probe_is_due_even_if_the_last_one_had_no_result():
    world = World(Unanswered.NO_CONNECTION)
    with pytest.raises(Unavailable):
        world.send()
    world.server.outcome = Unanswered.TIMEOUT
    world.now += 60
    with pytest.raises(PluginError):
        world.send(Call(Operation.LOAD, deadline=time.monotonic() + 0.01))
    world.server.outcome = VaultResponse(200)
    world.now += 60
    assert world.send().status == 200


@pytest.mark.parametrize(
    "outcome", [VaultResponse(400), VaultResponse(403), VaultResponse(404), VaultResponse(200)], ids=str
)
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


def test_a_cancelled_call_causes_no_request(call):
    world = World(Unanswered.NO_CONNECTION)
    call.cancel()
    with pytest.raises(Cancelled):
        world.send(call)
    assert world.server.asked == 0


def test_a_call_that_is_cancelled_while_it_waits_ends_at_once(call):
    server = Scripted(VaultResponse(503))
    requests = Requests(server, 1000, jitter=lambda _, most: 100 * most)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(requests.send, call, VaultRequest("transit/decrypt/a", {}), "token")
        assert eventually(lambda: server.asked == 1)
        call.cancel()
        with pytest.raises(Cancelled):
            waiting.result()


# --- the table -------------------------------------------------------------------------------------------

PASSING = {
    "no connection": (Unanswered.NO_CONNECTION, Unavailable, None),
    "time-out": (Unanswered.TIMEOUT, TimedOut, None),
    "412": (VaultResponse(412), Unavailable, 5),
    "429": (VaultResponse(429, {"errors": ["request path ...: rate limit quota exceeded"]}), Unavailable, 5),
    "472": (VaultResponse(472), Unavailable, 3),
    "500": (VaultResponse(500, {"errors": ["internal error"]}), Unavailable, 3),
    "502": (VaultResponse(502), Unavailable, 3),
    "503 sealed": (VaultResponse(503, {"errors": ["Vault is sealed"]}), Unavailable, None),
    "503": (VaultResponse(503, {"errors": ["node is not active"]}), Unavailable, None),
    "504": (VaultResponse(504), Unavailable, 3),
    "530": (VaultResponse(530), Unavailable, 3),
}
LASTING = {
    **{
        reason.value: (reason, NotConfigured, 1)
        for reason in Unanswered
        if reason not in {Unanswered.NO_CONNECTION, Unanswered.TIMEOUT}
    },
    "307": (VaultResponse(307), NotConfigured, 1),
    "400 tampered": (VaultResponse(400, {"errors": ["cipher: message authentication failed"]}), Tampered, 1),
    "400 no ciphertext": (VaultResponse(400, {"errors": ["invalid ciphertext: no prefix"]}), Tampered, 1),
    "400 too new": (VaultResponse(400, {"errors": ["invalid ciphertext: version is too new"]}), NotConfigured, 4),
    "400 unheard of": (VaultResponse(400, {"errors": ["something else"]}), NotConfigured, 1),
    "400 without a text": (VaultResponse(400, {"errors": {"a": 1}}), NotConfigured, 1),
    "401": (VaultResponse(401), NotConfigured, 1),
    "404": (VaultResponse(404), NotConfigured, 1),
    "405": (VaultResponse(405), NotConfigured, 1),
    "413": (VaultResponse(413), NotConfigured, 1),
    "501": (VaultResponse(501), NotConfigured, 1),
}
ARGO_RETRIES = ("connect: connection refused", "i/o timeout")


@pytest.mark.parametrize(("outcome", "error", "tries"), (PASSING | LASTING).values(), ids=PASSING | LASTING)
def test_each_answer_has_a_number_of_tries_and_an_error(outcome, error, tries, call):
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
def test_each_answer_to_a_login_has_a_number_of_tries(status, tries):
    world = World(VaultResponse(status))
    with pytest.raises(PluginError):
        world.send(path="auth/kubernetes/login")
    assert world.server.asked == tries


def test_pauses_grow_and_last_at_least_as_long_as_the_server_requests():
    plain, asked = World(VaultResponse(429)), World(VaultResponse(429, retry_after=3.0))
    for world in (plain, asked):
        with pytest.raises(Unavailable):
            world.send()
    assert plain.waits == [1, 2, 4, 5]
    assert asked.waits == [3, 3, 4, 5]


def test_pauses_differ_between_processes():
    waits = Counter()
    for _ in range(5):
        requests = Requests(Scripted(VaultResponse(500)), 30, wait=lambda _, seconds: waits.update([seconds]))
        with pytest.raises(Unavailable):
            requests.send(Call(Operation.LOAD), VaultRequest("transit/decrypt/a", {}), "token")
    assert len(waits) == 10


def test_no_pause_outlives_the_deadline_of_the_call():
    world = World(VaultResponse(429))
    with pytest.raises(Unavailable):
        world.send(Call(Operation.LOAD, deadline=time.monotonic() + 0.5))
    assert world.waits == []
    assert world.server.asked == 1
