"""Artifacts of others, sealed under keys that this identity may not use: what they cost, and what the error says."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import vault_logins as logins
from harness.chain import Proxy
from harness.outcome import outcome
from harness.sealing import content_of, in_memory

from sealgate import envelope
from sealgate.errors import NotPermitted
from sealgate.keys import DataKey

OTHERS = [f"other-{number}" for number in range(12)]


@pytest.fixture
def others(own_transit, provider, call) -> list[DataKey]:
    """Data keys under twelve keys of others."""
    for name in OTHERS:
        own_transit.create_key(name)
    return [provider(own_transit, key=name).new_data_key(call) for name in OTHERS]


@pytest.fixture
def login(own_transit, tmp_path):
    return logins.approle(own_transit, tmp_path, own_transit.shipped_policies("saver", "loader"))


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def refused(keys, call, made):
    with pytest.raises(NotPermitted) as raised:
        keys.unwrap(call, made.wrapped)
    return raised.value


def count(openbao, login):
    return openbao.calls()[f"auth/{login.mount}/login"]


def test_twelve_keys_of_others_cause_one_login(openbao, own_transit, provider, login, call, others):
    keys = provider(own_transit, login, clock=Clock())
    own = keys.new_data_key(call)
    for made in others:
        refused(keys, call, made)
        assert keys.unwrap(call, own.wrapped) == own.plaintext
    assert count(openbao, login) == 2


def test_twelve_keys_of_others_at_the_same_time_cause_one_login(openbao, own_transit, provider, login, call, others):
    keys = provider(own_transit, login)
    keys.new_data_key(call)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda made: refused(keys, call, made), others))
    assert count(openbao, login) == 2


def test_the_time_without_a_login_grows_while_logins_do_not_help(openbao, own_transit, provider, login, call, others):
    clock = Clock()
    keys = provider(own_transit, login, clock=clock)
    keys.new_data_key(call)
    for made in others * 10:
        refused(keys, call, made)
        clock.now += 1
    assert count(openbao, login) == 1 + 5  # after 0, 5, 15, 35 and 75 s


def test_a_token_that_was_revoked_meanwhile_is_replaced_for_the_own_key(own_transit, provider, login, call, others):
    keys = provider(own_transit, login, clock=Clock())
    own = keys.new_data_key(call)
    assert keys.unwrap(call, own.wrapped) == own.plaintext
    refused(keys, call, others[0])
    assert keys.unwrap(call, own.wrapped) == own.plaintext
    own_transit.post(f"sys/leases/revoke-prefix/auth/{login.mount}")
    assert keys.unwrap(call, own.wrapped) == own.plaintext
    refused(keys, call, others[1])


def test_other_contexts_of_the_own_key_cause_one_login(openbao, own_transit, provider, call, tmp_path):
    own_transit.delete_key()
    own_transit.create_key("artifacts", derived=True)
    login = logins.approle(own_transit, tmp_path, own_transit.shipped_policies("saver-bound", "loader-bound"))
    keys = provider(own_transit, login, context=b"team-a", clock=Clock())
    foreign = [provider(own_transit, context=f"team-{n}".encode()).new_data_key(call) for n in range(12)]
    own = keys.new_data_key(call)
    before = count(openbao, login)
    for made in foreign:
        refused(keys, call, made)
        assert keys.unwrap(call, own.wrapped) == own.plaintext
    assert count(openbao, login) == before + 1


# --- through the socket ----------------------------------------------------------------------------------


@pytest.fixture
def proxy(openbao, own_transit, login, tmp_path):
    auth = {"method": "approle", "roleId": login.role_id, "mount": login.mount}
    auth["secretIdFile"] = str(login.secret_id_file)
    vault = {"mount": own_transit.mount, "auth": auth}
    settings = {"keys": {"provider": "vault", "vault": vault}}
    proxy = Proxy(tmp_path, settings=settings, environment={"VAULT_ADDR": openbao.address}).start()
    yield proxy
    proxy.stop()


def sealed(made: DataKey, key: str) -> bytes:
    header = envelope.new_header(made.plaintext, made.wrapped, sealed_at=1_767_225_600)
    with in_memory(b"x" * 1000) as source, in_memory() as target:
        envelope.seal_file(source, target, header, made.plaintext, key)
        return content_of(target)


def test_twelve_artifacts_of_others_cause_one_login_of_the_proxy(openbao, proxy, login, others):
    argo = proxy.argo()
    argo.save_stream("ns/own", b"own")
    for number, made in enumerate(others):
        key = f"ns/other-{number}"
        (proxy.storage / "ns").mkdir(exist_ok=True)
        (proxy.storage / key).write_bytes(sealed(made, key))
        found = outcome(lambda key=key: argo.open_stream(key))
        assert found.code == "PERMISSION_DENIED"
        assert argo.open_stream("ns/own") == b"own"
    assert count(openbao, login) == 2
