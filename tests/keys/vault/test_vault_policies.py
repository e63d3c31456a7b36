"""The shipped policies allow each role its own work and nothing else, on a real server."""

from __future__ import annotations

import pytest
from harness.openbao import POLICIES, ApiError

from sealgate.errors import NotPermitted
from sealgate.keys.vault.login import StaticToken

OPERATIONS = ("save", "load", "rewrap", "certify", "verify")
MAY = {
    "saver": {"save"},
    "loader": {"load"},
    "rewrapper": {"rewrap"},
    "certifier": {"certify"},
    "auditor": {"verify"},
    "saver-local": {"save"},
    "rewrapper-local": {"save", "load"},
}
BOUND = {"saver-bound": {"save"}, "loader-bound": {"load"}, "saver-local-bound": {"save"}}
"""The same for one context, which is `team-a` in the shipped files."""


def attempt(operation, keys, call, wrapped):
    {
        "save": lambda: keys.new_data_key(call),
        "load": lambda: keys.unwrap(call, wrapped),
        "rewrap": lambda: keys.rewrap(call, wrapped),
        "certify": lambda: keys.sign(call, b"certificate"),
        "verify": lambda: keys.public_keys(call),
    }[operation]()


def test_each_policy_that_is_shipped_is_tried_here():
    assert {path.stem for path in POLICIES.glob("*.hcl")} == {*MAY, *BOUND}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("role", MAY)
def test_a_role_can_do_its_own_work_and_no_other(transit, provider, call, role, operation):
    transit.create_key("audit", type="ed25519")
    wrapped = provider(transit).new_data_key(call).wrapped
    token = transit.token(*transit.shipped_policies(role))
    keys = provider(transit, StaticToken(token), signing_key="audit", wraps_local="local" in role)
    if operation in MAY[role]:
        attempt(operation, keys, call, wrapped)
        return
    with pytest.raises(NotPermitted, match=r"refuses the token for key (artifacts|audit)") as raised:
        attempt(operation, keys, call, wrapped)
    assert "policies/vault" in raised.value.remedy


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("role", MAY)
def test_a_role_can_use_no_other_key(transit, provider, call, role, operation):
    transit.create_key("other")
    wrapped = provider(transit, key="other").new_data_key(call).wrapped
    token = transit.token(*transit.shipped_policies(role))
    keys = provider(transit, StaticToken(token), key="other", signing_key="other", wraps_local="local" in role)
    with pytest.raises(NotPermitted, match="key other"):
        attempt(operation, keys, call, wrapped)


FORBIDDEN = {
    "make a key": ("POST", "keys/artifacts-2", {}),
    "make a key by encrypting": ("POST", "encrypt/artifacts-2", {"plaintext": "AAAA"}),
    "encrypt a data key of its own choice": ("POST", "encrypt/artifacts", {"plaintext": "AAAA"}),
    "rotate": ("POST", "keys/artifacts/rotate", {}),
    "allow deletion": ("POST", "keys/artifacts/config", {"deletion_allowed": True}),
    "delete": ("DELETE", "keys/artifacts", None),
    "take out of use": ("DELETE", "keys/artifacts/soft-delete", None),
    "import": ("POST", "keys/artifacts/import_version", {"ciphertext": "AAAA"}),
    "restore": ("POST", "restore/artifacts", {"backup": "AAAA", "force": True}),
    "export": ("GET", "export/encryption-key/artifacts", None),
    "back up": ("GET", "backup/artifacts", None),
    "trim": ("POST", "keys/artifacts/trim", {"min_available_version": 1}),
}


@pytest.mark.parametrize(("method", "path", "body"), FORBIDDEN.values(), ids=FORBIDDEN)
def test_all_roles_together_cannot(transit, method, path, body):
    roles = {*MAY, *BOUND}
    if path == "encrypt/artifacts":
        roles -= {role for role in roles if "local" in role}
    token = transit.token(*transit.shipped_policies(*roles))
    with pytest.raises(ApiError) as raised:
        transit.server.api(method, f"{transit.mount}/{path}", body, token=token)
    assert raised.value.status == 403


def test_the_rewrappers_alone_may_look_at_the_key(transit):
    def look(role):
        token = transit.token(*transit.shipped_policies(role))
        return transit.server.api("GET", f"{transit.mount}/keys/artifacts", token=token)

    for role in ("rewrapper", "rewrapper-local"):
        assert look(role)["data"]["latest_version"] == 1
    for role in ("saver", "saver-local", "loader"):
        with pytest.raises(ApiError) as raised:
            look(role)
        assert raised.value.status == 403


# --- bound to a context ----------------------------------------------------------------------------------


@pytest.fixture
def derived(transit):
    transit.delete_key()
    transit.create_key("artifacts", derived=True)
    return transit


@pytest.mark.parametrize("operation", ["save", "load", "rewrap"])
@pytest.mark.parametrize("role", BOUND)
def test_a_bound_role_can_do_its_own_work_in_its_own_context_alone(derived, provider, call, role, operation):
    derived.create_key("audit", type="ed25519")
    token = StaticToken(derived.token(*derived.shipped_policies(role)))
    for context in (b"team-a", b"team-b"):
        wrapped = provider(derived, context=context).new_data_key(call).wrapped
        keys = provider(derived, token, context=context, signing_key="audit", wraps_local="local" in role)
        if operation in BOUND[role] and context == b"team-a":
            attempt(operation, keys, call, wrapped)
        else:
            with pytest.raises(NotPermitted):
                attempt(operation, keys, call, wrapped)


AROUND = {
    "without a context": lambda wrapped, own: {"ciphertext": wrapped},
    "in a batch": lambda wrapped, own: {"batch_input": [{"ciphertext": wrapped, "context": own}]},
    "in a batch with its own context beside it": lambda wrapped, own: {
        "batch_input": [{"ciphertext": wrapped, "context": "dGVhbS1i"}],
        "context": own,
    },
    "with a context twice": lambda wrapped, own: {"ciphertext": wrapped, "context": own, "Context": "dGVhbS1i"},
}


@pytest.mark.parametrize("body", AROUND.values(), ids=AROUND)
def test_a_bound_loader_opens_nothing(derived, provider, call, body):
    """Try requests that Sealgate itself does not send."""
    wrapped = provider(derived, context=b"team-b").new_data_key(call).wrapped.wrapped_key
    token = derived.token(*derived.shipped_policies("loader-bound"))
    with pytest.raises(ApiError) as raised:
        derived.post(f"{derived.mount}/decrypt/artifacts", body(wrapped, "dGVhbS1h"), token=token)
    assert raised.value.status == 403
