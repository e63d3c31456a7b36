"""A server that is sealed, hangs, dies, returns or limits requests: the callers' errors, and the number of requests."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.chain import eventually
from harness.data_keys import make_and_open

from sealgate.call import Call, Operation
from sealgate.errors import DeadlineExceeded, TimedOut, Unavailable
from sealgate.keys.vault.login import StaticToken
from sealgate.keys.vault.provider import VaultKeys
from sealgate.keys.vault.requests import AT_ONCE
from sealgate.keys.vault.server import TransitKey, VaultServer

SHORT = 1.5
"""Seconds of patience, so that the tests of failures are fast."""


@pytest.fixture
def keys(own_transit, provider):
    return provider(own_transit, patience=SHORT)


def works_again(keys, call):
    """Return whether a call succeeds. It may have to wait for the next probe of the server."""

    def works():
        try:
            make_and_open(keys, call)
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


def test_a_call_outlasts_a_short_outage(openbao, own_transit, provider, call, caplog):
    keys = provider(own_transit, patience=60)
    make_and_open(keys, call)
    openbao.seal()
    with ThreadPoolExecutor() as pool:
        try:
            waiting = pool.submit(make_and_open, keys, call)
            assert eventually(lambda: "Vault is sealed" in caplog.text)
            assert not waiting.done()
        finally:
            openbao.unseal()
        wrapped = waiting.result()
        assert (wrapped.mount, wrapped.key_name, wrapped.key_version) == (own_transit.mount, "artifacts", 1)


def test_a_server_that_hangs_is_a_time_out_and_the_next_call_after_is_right(openbao, keys, call):
    made = keys.new_data_key(call)
    openbao.freeze()
    try:
        with pytest.raises(TimedOut, match="did not answer in time"):
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
    make_and_open(keys, call)
    quota = f"sys/quotas/rate-limit/{transit.mount}"
    vault.post(quota, {"path": f"{transit.mount}/", "rate": 0.001, "interval": "1m"})
    try:
        with pytest.raises(Unavailable, match="Vault limits the rate of requests"):
            [keys.new_data_key(call) for _ in range(3)]
    finally:
        vault.api("DELETE", quota)
    make_and_open(keys, call)


def test_a_sufficient_quota_only_causes_waiting(vault, transit, provider, call):
    keys = provider(transit)
    quota = f"sys/quotas/rate-limit/{transit.mount}"
    vault.post("sys/quotas/config", {"enable_rate_limit_response_headers": True})
    vault.post(quota, {"path": f"{transit.mount}/", "rate": 2, "interval": "1s"})
    try:
        for _ in range(3):
            make_and_open(keys, call)
    finally:
        vault.api("DELETE", quota)


def test_the_deadline_of_a_call_is_kept(openbao, own_transit, provider):
    keys = provider(own_transit, patience=300)
    make_and_open(keys, Call(Operation.SAVE))
    openbao.freeze()
    try:
        with pytest.raises((TimedOut, DeadlineExceeded)):
            keys.new_data_key(Call(Operation.SAVE, deadline=time.monotonic() + 0.5))
    finally:
        openbao.thaw()
    # A call with little time does not cause an outage for the others.
    assert make_and_open(keys, Call(Operation.SAVE))


# --- the number of requests to a server that is down ------------------------------------------------------


class Door:
    """A port that counts connections and closes each at once."""

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
    # Longer than a busy machine needs for all callers to try.
    server = VaultServer(door.address, StaticToken("t"), patience=4 * SHORT)
    keys = VaultKeys(server, TransitKey("transit", "artifacts"))
    together = threading.Barrier(100)

    def work(_):
        together.wait()
        with pytest.raises(Unavailable, match="cannot be reached"):
            keys.new_data_key(Call(Operation.SAVE))

    with ThreadPoolExecutor(100) as pool:
        list(pool.map(work, range(100)))
    # The first wave, and a probe now and then while the calls wait.
    assert 1 <= door.came <= 2 * AT_ONCE
