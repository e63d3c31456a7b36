"""The policies that are shipped allow what each role does, and on a real server nothing else."""

from __future__ import annotations

import pytest
from harness.openbao import POLICIES, ApiError

from proxy.keys.vault_auth import StaticToken
from proxy.plugin import Denied

OPERATIONS = ("save", "load", "rewrap", "certify", "verify")
MAY = {
    "saver": {"save"},
    "loader": {"load"},
    "rewrapper": {"rewrap"},
    "certifier": {"certify"},
    "auditor": {"verify"},
}


def attempt(operation, keys, call, wrapped):
    {
        "save": lambda: keys.new_data_key(call),
        "load": lambda: keys.unwrap(call, wrapped),
        "rewrap": lambda: keys.rewrap(call, wrapped),
        "certify": lambda: keys.sign(call, b"certificate"),
        "verify": lambda: keys.public_keys(call),
    }[operation]()


def test_each_policy_that_is_shipped_is_tried_here():
    assert {path.stem for path in POLICIES.glob("*.hcl")} == set(MAY)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("role", MAY)
def test_a_role_can_do_its_own_work_and_no_other(transit, provider, call, role, operation):
    transit.create_key("audit", type="ed25519")
    wrapped = provider(transit).new_data_key(call).wrapped
    token = transit.token(*transit.shipped_policies(role))
    keys = provider(transit, StaticToken(token), signing_key="audit")
    if operation in MAY[role]:
        attempt(operation, keys, call, wrapped)
        return
    with pytest.raises(Denied, match=r"refuses the token for key (artifacts|audit)") as raised:
        attempt(operation, keys, call, wrapped)
    assert "policies/vault" in raised.value.remedy


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("role", MAY)
def test_a_role_can_use_no_other_key(transit, provider, call, role, operation):
    transit.create_key("other")
    wrapped = provider(transit, key="other").new_data_key(call).wrapped
    token = transit.token(*transit.shipped_policies(role))
    keys = provider(transit, StaticToken(token), key="other", signing_key="other")
    with pytest.raises(Denied, match="key other"):
        attempt(operation, keys, call, wrapped)


FORBIDDEN = {
    "make a key": ("POST", "keys/artifacts-2", {}),
    "make a key by encrypting": ("POST", "encrypt/artifacts-2", {"plaintext": "AAAA"}),
    "encrypt a data key of its own choice": ("POST", "encrypt/artifacts", {"plaintext": "AAAA"}),
    "rotate": ("POST", "keys/artifacts/rotate", {}),
    "allow deletion": ("POST", "keys/artifacts/config", {"deletion_allowed": True}),
    "delete": ("DELETE", "keys/artifacts", None),
    "export": ("GET", "export/encryption-key/artifacts", None),
    "back up": ("GET", "backup/artifacts", None),
    "trim": ("POST", "keys/artifacts/trim", {"min_available_version": 1}),
}


@pytest.mark.parametrize(("method", "path", "body"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_all_roles_together_cannot(transit, method, path, body):
    token = transit.token(*transit.shipped_policies(*MAY))
    with pytest.raises(ApiError) as raised:
        transit.server.api(method, f"{transit.mount}/{path}", body, token=token)
    assert raised.value.status == 403


def test_the_rewrapper_alone_may_look_at_the_key(transit):
    def look(role):
        token = transit.token(*transit.shipped_policies(role))
        return transit.server.api("GET", f"{transit.mount}/keys/artifacts", token=token)

    assert look("rewrapper")["data"]["latest_version"] == 1
    for role in ("saver", "loader"):
        with pytest.raises(ApiError) as raised:
            look(role)
        assert raised.value.status == 403
