"""The number of requests to the server, according to its audit log."""

from __future__ import annotations

import pytest
from harness import vault_logins as logins

from sealgate.call import WrappedKey
from sealgate.errors import PluginError
from sealgate.keys.cache import CachedKeys
from sealgate.keys.provider import BATCH
from sealgate.keys.vault.login import StaticToken


@pytest.fixture
def asked(openbao, own_transit):
    """Count the requests since the first call, with this test's mount shown as `transit`."""
    start = None

    def count():
        nonlocal start
        start = openbao.calls() if start is None else start
        return {
            path.replace(own_transit.mount, "transit"): number for path, number in (openbao.calls() - start).items()
        }

    return count


def test_a_process_logs_in_once_and_each_save_and_each_first_read_is_one_request(
    own_transit, provider, call, tmp_path, asked
):
    login = logins.approle(own_transit, tmp_path, own_transit.shipped_policies("saver", "loader"))
    asked()
    keys = CachedKeys(provider(own_transit, login), 600, 100)
    made = [keys.new_data_key(call) for _ in range(3)]
    for _ in range(4):
        for item in made:
            assert keys.unwrap(call, item.wrapped) == item.plaintext
    assert asked() == {
        f"auth/{login.mount}/login": 1,
        "transit/datakey/plaintext/artifacts": 3,
        "transit/decrypt/artifacts": 3,
    }


def test_without_the_cache_each_read_asks_once(own_transit, provider, call, asked):
    keys = CachedKeys(provider(own_transit), 0, 100)
    wrapped = keys.new_data_key(call).wrapped
    asked()
    for _ in range(4):
        keys.unwrap(call, wrapped)
    assert asked() == {"transit/decrypt/artifacts": 4}


def test_a_derived_key_costs_one_more_request_in_a_process(own_transit, provider, call, asked):
    own_transit.create_key("derived", derived=True)
    asked()
    saving = provider(own_transit, key="derived", context=b"team-a")
    made = [saving.new_data_key(call) for _ in range(3)]
    assert asked() == {"transit/datakey/plaintext/derived": 4}
    for item in made:
        saving.unwrap(call, item.wrapped)
    assert asked() == {"transit/datakey/plaintext/derived": 4, "transit/decrypt/derived": 3}
    reading = provider(own_transit, key="derived", context=b"team-a")
    for item in made:
        reading.unwrap(call, item.wrapped)
    assert asked() == {"transit/datakey/plaintext/derived": 4, "transit/decrypt/derived": 7}


@pytest.mark.parametrize(("count", "requests"), [(1, 1), (BATCH, 1), (BATCH + 1, 2), (3 * BATCH, 3)])
def test_rewrapping_asks_once_for_each_full_batch_and_opens_nothing(
    own_transit, provider, call, asked, count, requests
):
    token = own_transit.token(*own_transit.shipped_policies("rewrapper"))
    wrapped = provider(own_transit).new_data_key(call).wrapped
    own_transit.rotate()
    asked()
    moved = provider(own_transit, StaticToken(token)).rewrap_many(call, [wrapped] * count)
    assert {key.key_version for key in moved} == {2}
    assert asked() == {"transit/rewrap/artifacts": requests}


def test_a_header_that_is_not_vaults_costs_nothing(own_transit, provider, call, asked):
    asked()
    keys = provider(own_transit)
    for name, text in (("../keys/artifacts", "vault:v1:AAAA"), ("artifacts", "vault:v1:!")):
        with pytest.raises(PluginError):
            keys.unwrap(call, WrappedKey("vault", own_transit.mount, name, text, 1))
    assert asked() == {}
