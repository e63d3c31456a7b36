"""Derived keys: either the context protects the data key, or the request is refused."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from sealgate.errors import NotConfigured, NotPermitted, Tampered
from sealgate.keys.vault.formats import VaultResponse
from sealgate.keys.vault.login import StaticToken

SCOPED = """
path "transit/{operation}/derived" {{
  capabilities = ["update"]
  required_parameters = ["context"]
  allowed_parameters = {{ "bits" = [], "ciphertext" = [], "context" = ["{context}"] }}
}}
"""
LOOK = 'path "transit/keys/derived" { capabilities = ["read"] }'


@pytest.fixture
def transit(transit):
    transit.create_key("derived", derived=True)
    return transit


@pytest.fixture
def team_a(transit, provider):
    return provider(transit, key="derived", context=b"team-a")


def scoped(transit, operation, context=b"team-a"):
    return SCOPED.format(operation=operation, context=base64.b64encode(context).decode())


def test_a_data_key_of_a_context_comes_back(team_a, transit, call):
    made = team_a.new_data_key(call)
    assert made.wrapped.derivation_context == b"team-a"
    assert team_a.unwrap(call, made.wrapped) == made.plaintext == transit.decrypt(made.wrapped)


def test_another_context_does_not_open_it(team_a, call):
    made = team_a.new_data_key(call)
    with pytest.raises(Tampered):
        team_a.unwrap(call, replace(made.wrapped, derivation_context=b"team-b"))


def test_it_does_not_open_without_its_context(team_a, call):
    made = team_a.new_data_key(call)
    with pytest.raises(NotConfigured, match="is derived, but the data key has no context"):
        team_a.unwrap(call, replace(made.wrapped, derivation_context=b""))


def test_the_context_of_the_header_decides_and_not_that_of_the_settings(team_a, transit, provider, call):
    made = team_a.new_data_key(call)
    team_b = provider(transit, key="derived", context=b"team-b")
    assert team_b.unwrap(call, made.wrapped) == made.plaintext


def test_a_context_survives_rewrapping(team_a, transit, call):
    made = team_a.new_data_key(call)
    transit.rotate("derived")
    moved = team_a.rewrap(call, made.wrapped)
    assert (moved.key_version, moved.derivation_context) == (2, b"team-a")
    assert team_a.unwrap(call, moved) == made.plaintext


# --- failing closed --------------------------------------------------------------------------------------


def test_a_context_with_a_key_that_is_not_derived_is_refused_by_every_operation(transit, provider, call):
    plain = provider(transit).new_data_key(call).wrapped
    keys = provider(transit, context=b"team-a")
    with pytest.raises(NotConfigured, match="key artifacts is not derived"):
        keys.new_data_key(call)
    for refused in (keys.unwrap, keys.rewrap):
        with pytest.raises(NotConfigured, match="key artifacts is not derived"):
            refused(call, replace(plain, derivation_context=b"team-a"))


def test_one_data_key_that_is_too_old_does_not_keep_the_others_from_being_rewrapped(team_a, transit, provider, call):
    old = team_a.new_data_key(call).wrapped
    transit.rotate("derived")
    good = team_a.new_data_key(call)
    transit.rotate("derived")
    transit.configure("derived", min_decryption_version=2)
    fresh = provider(transit, key="derived", context=b"team-a")
    refused, moved = fresh.rewrap_many(call, [old, good.wrapped])
    assert isinstance(refused, NotConfigured)
    assert moved.key_version == 3
    assert fresh.unwrap(call, moved) == good.plaintext


def test_a_derived_key_without_a_context_is_refused(transit, provider, call):
    with pytest.raises(NotConfigured, match="is derived, but the data key has no context"):
        provider(transit, key="derived").new_data_key(call)


def test_a_role_that_may_use_only_one_context_verifies_the_key_by_reading_it(transit, provider, call):
    policy = transit.policy(scoped(transit, "datakey/plaintext") + scoped(transit, "decrypt") + LOOK)
    token = transit.token(policy)
    made = provider(transit, StaticToken(token), "derived", b"team-a").new_data_key(call)
    assert provider(transit, StaticToken(token), "derived", b"team-a").unwrap(call, made.wrapped) == made.plaintext
    with pytest.raises(NotPermitted):
        provider(transit, StaticToken(token), "derived", b"team-b").new_data_key(call)


def test_the_error_for_a_role_that_cannot_verify_the_key_names_the_missing_right(transit, provider, call):
    token = transit.token(transit.policy(scoped(transit, "datakey/plaintext")))
    with pytest.raises(NotConfigured, match="cannot verify that key derived is derived") as raised:
        provider(transit, StaticToken(token), "derived", b"team-a").new_data_key(call)
    assert f"read on {transit.mount}/keys/derived" in raised.value.remedy


def test_a_policy_that_is_bound_to_a_context_opens_no_other(team_a, transit, provider, call):
    made = team_a.new_data_key(call)
    token = transit.token(transit.policy(scoped(transit, "decrypt", b"team-b") + LOOK))
    with pytest.raises(NotPermitted):
        provider(transit, StaticToken(token), "derived", b"team-b").unwrap(call, made.wrapped)


class Ignoring:
    """A simulated old server that ignores the context. The tests start no server that is old enough."""

    def send(self, request, token, timeout):
        if "context" not in request.body:
            return VaultResponse(400, {"errors": ["missing 'context' for key derivation"]})
        data = {"ciphertext": "vault:v1:AAAA", "plaintext": base64.b64encode(bytes(32)).decode()}
        return VaultResponse(
            200, {"data": data, "warnings": ["Endpoint ignored these unrecognized parameters: [context]"]}
        )


def test_a_warning_that_a_parameter_was_ignored_is_an_error(transit, provider, call):
    with pytest.raises(NotConfigured, match="ignored a parameter of the request"):
        provider(transit, key="derived", context=b"team-a", transport=Ignoring()).new_data_key(call)
