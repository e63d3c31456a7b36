"""The settings and the environment as a provider: the effect of each option."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from harness import vault_logins as logins
from harness.data_keys import make_and_open
from harness.openbao import Server

from sealgate.call import Call, Operation
from sealgate.compose.keys import cached_vault_keys, key_provider, vault_keys
from sealgate.compose.policies import identity_resolver
from sealgate.config import Duration, Roles, parse
from sealgate.errors import NotConfigured, PluginError, Unavailable
from sealgate.keys.vault.login import StaticToken
from sealgate.keys.vault.server import Authorities
from sealgate.policy.schema import Component

TOKEN = {"auth": {"method": "token"}}


def settings(vault, **keys):
    document = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "Sealgate",
        "keys": {"provider": "vault", "vault": vault, **keys},
    }
    return parse(json.dumps(document), "config.json")


def section(vault, **keys):
    found = settings(vault, **keys).required_keys()
    assert found.vault
    return found.vault


@pytest.fixture
def environment(transit):
    return {"VAULT_ADDR": transit.server.address, "VAULT_TOKEN": transit.server.root}


def checked(vault, environment, **options):
    return make_and_open(vault_keys(section(vault), environment, **options), Call(Operation.SAVE))


# --- each option -----------------------------------------------------------------------------------------


def test_mount_and_key_are_used_and_have_defaults(transit, environment):
    transit.create_key("other")
    used = checked({**TOKEN, "mount": transit.mount, "key": "other"}, environment)
    assert (used.mount, used.key_name, used.key_version) == (transit.mount, "other", 1)
    defaults = section(TOKEN)
    assert (defaults.mount, defaults.key, defaults.context, defaults.timeout) == ("transit", "artifacts", "", 30.0)


def test_the_address_is_that_of_the_settings_and_else_of_the_environment(transit, environment):
    vault = {**TOKEN, "mount": transit.mount}
    nowhere = "http://127.0.0.1:1"
    checked({**vault, "address": transit.server.address}, {**environment, "VAULT_ADDR": nowhere})
    with pytest.raises(Unavailable):
        checked({**vault, "address": nowhere, "timeout": "300ms"}, environment)


def test_the_namespace_is_that_of_the_settings_and_else_of_the_environment(vault, environment):
    name = vault.new_namespace()
    inside = {**TOKEN, "mount": vault.transit(name).mount}
    checked({**inside, "namespace": name}, {**environment, "VAULT_NAMESPACE": "elsewhere"})
    checked(inside, {**environment, "VAULT_NAMESPACE": f"{name}\n"})
    with pytest.raises(NotConfigured, match="no such mount or namespace"):
        checked(inside, environment)


def own_authorities(settings, environment):
    return vault_keys(section({**TOKEN, **settings}), environment)._server.authorities


PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"


def test_the_trusted_certificates_are_those_of_the_settings_and_else_of_one_variable(environment):
    file, text = {"VAULT_CACERT": "/ca.pem\n"}, {"VAULT_CACERT_BYTES": PEM}
    assert own_authorities({}, environment) == Authorities()
    named = Authorities("the file that VAULT_CACERT names", file=Path("/ca.pem"))
    assert own_authorities({}, environment | file) == named
    assert own_authorities({}, environment | text) == Authorities("VAULT_CACERT_BYTES", pem=PEM)
    for more in ({}, file, text, file | text):
        assert own_authorities({"caBundle": PEM}, environment | more) == Authorities("keys.vault.caBundle", pem=PEM)


def test_two_variables_with_trusted_certificates_are_refused(environment):
    with pytest.raises(NotConfigured, match="both VAULT_CACERT and VAULT_CACERT_BYTES are set"):
        own_authorities({}, environment | {"VAULT_CACERT": "/ca.pem", "VAULT_CACERT_BYTES": PEM})


@pytest.mark.parametrize("text", ["/etc/ca.pem", "-----BEGIN PRIVATE KEY-----", "MIIB"])
def test_a_bundle_without_a_certificate_is_refused_with_its_place(text):
    with pytest.raises(NotConfigured, match=r"`caBundle` must contain certificates in PEM"):
        section({**TOKEN, "caBundle": text})


def test_the_timeout_is_how_long_a_call_waits(environment):
    with pytest.raises(Unavailable):
        checked({**TOKEN, "address": "http://127.0.0.1:1", "timeout": "100ms"}, environment)
    assert section({**TOKEN, "timeout": "2m"}).timeout == Duration(120)


@pytest.mark.parametrize(("text", "context"), [("team-a", b"team-a"), ("a/${identity.namespace}/b", b"a/ns/b")])
def test_the_context_is_literal_or_names_the_namespace(transit, environment, call, text, context):
    transit.create_key("derived", derived=True)
    vault = section({**TOKEN, "mount": transit.mount, "key": "derived", "context": text})
    made = vault_keys(vault, {**environment, "SEALGATE_NAMESPACE": "ns"}).new_data_key(call)
    assert made.wrapped.derivation_context == context
    assert transit.decrypt(made.wrapped) == made.plaintext


def test_the_namespace_of_the_identity_is_the_environments_and_else_the_service_accounts(
    transit, environment, call, tmp_path
):
    transit.create_key("derived", derived=True)
    vault = section({**TOKEN, "mount": transit.mount, "key": "derived", "context": "${identity.namespace}"})
    (tmp_path / "namespace").write_text("from-file\n")
    for more, context in (({}, b"from-file"), ({"SEALGATE_NAMESPACE": "from-environment"}, b"from-environment")):
        keys = vault_keys(vault, {**environment, **more}, service_account=tmp_path)
        assert keys.new_data_key(call).wrapped.derivation_context == context
    with pytest.raises(NotConfigured, match="the namespace is not known"):
        vault_keys(vault, environment, service_account=tmp_path / "missing")


def test_every_method_has_its_fields_and_their_defaults(transit, environment, tmp_path, call):
    policies = transit.shipped_policies("saver", "loader")
    approle = logins.approle(transit, tmp_path, policies)
    jwt = logins.jwt(transit, logins.ServiceAccount(), tmp_path / "jwt", policies)
    (tmp_path / "token").write_text(transit.token(*policies))
    methods = [
        {
            "method": "approle",
            "roleId": approle.role_id,
            "secretIdFile": str(approle.secret_id_file),
            "mount": approle.mount,
        },
        {"method": "jwt", "role": jwt.role, "jwtPath": str(jwt.jwt_path), "mount": jwt.mount},
        {"method": "tokenFile", "path": str(tmp_path / "token")},
        {"method": "token"},
    ]
    for auth in methods:
        checked({"auth": auth, "mount": transit.mount}, environment)
    for method in ("kubernetes", "jwt"):
        auth = section({"auth": {"method": method, "role": "r"}}).auth
        assert (auth.mount, str(auth.jwt_path)) == (method, "/var/run/secrets/kubernetes.io/serviceaccount/token")


COMPONENTS = {
    "init": {"ARGO_CONTAINER_NAME": "init-artifact-crypt", "ARGO_NODE_ID": "w-1"},
    "sidecar": {"ARGO_CONTAINER_NAME": "artifact-plugin-crypt", "ARGO_NODE_ID": "w-1"},
    "gc": {"ARGO_CONTAINER_NAME": "artifact-plugin-crypt", "ARGO_WORKFLOW_NAME": "w"},
    "server": {},
    "": {"ARGO_WORKFLOW_NAME": "w"},
}
"""The variables that Argo sets for each component. The component of the last is unknown."""


@pytest.mark.parametrize("component", get_args(Component))
def test_only_a_component_logs_in_by_a_role_of_its_own(transit, environment, tmp_path, component):
    jwt = logins.jwt(transit, logins.ServiceAccount(), tmp_path / "jwt", transit.shipped_policies("saver", "loader"))
    auth = {"method": "jwt", "jwtPath": str(jwt.jwt_path), "mount": jwt.mount}
    vault = {"mount": transit.mount, "auth": {**auth, "role": "no-such-role", "roles": {component: jwt.role}}}
    for other, variables in COMPONENTS.items():
        if other == component:
            checked(vault, environment | variables)
        else:
            with pytest.raises(PluginError, match="login"):
                checked(vault, environment | variables)


def test_a_component_without_a_role_of_its_own_logs_in_by_the_role_of_all(transit, environment, tmp_path):
    jwt = logins.jwt(transit, logins.ServiceAccount(), tmp_path / "jwt", transit.shipped_policies("saver", "loader"))
    auth = {"method": "jwt", "role": jwt.role, "jwtPath": str(jwt.jwt_path), "mount": jwt.mount}
    for variables in COMPONENTS.values():
        checked({"mount": transit.mount, "auth": auth}, environment | variables)
    checked({"mount": transit.mount, "auth": {**auth, "roles": {"gc": "other", "init": ""}}}, environment)


def test_the_name_of_a_role_may_contain_the_namespace(transit, environment, tmp_path):
    jwt = logins.jwt(transit, logins.ServiceAccount(), tmp_path / "jwt", transit.shipped_policies("saver", "loader"))
    namespace, ending = jwt.role[:2], jwt.role[2:]
    auth = {"method": "jwt", "jwtPath": str(jwt.jwt_path), "mount": jwt.mount}
    for roles in ({"role": f"${{identity.namespace}}{ending}"}, {"role": "x", "roles": {"server": jwt.role}}):
        vault = {"mount": transit.mount, "auth": {**auth, **roles}}
        checked(vault, {**environment, "SEALGATE_NAMESPACE": namespace})
    vault = {"mount": transit.mount, "auth": {**auth, "role": f"${{identity.namespace}}{ending}"}}
    with pytest.raises(PluginError, match="login"):
        checked(vault, {**environment, "SEALGATE_NAMESPACE": "another"})
    with pytest.raises(NotConfigured, match=r"keys\.vault\.auth names .*, and the namespace is not known"):
        vault_keys(section(vault), environment, service_account=tmp_path / "missing")


@pytest.mark.parametrize("roles", [{"role": "${identity.workflow}"}, {"role": "r", "roles": {"gc": "${x}"}}], ids=repr)
def test_the_name_of_a_role_contains_no_other_variable(roles):
    with pytest.raises(NotConfigured, match=r"`role` and `roles` may contain \$\{identity.namespace\} and no other"):
        section({"auth": {"method": "kubernetes", **roles}})


def test_a_role_may_be_given_to_each_component_that_policies_know_and_to_no_other():
    assert tuple(field.encode_name for field in msgspec.structs.fields(Roles)) == get_args(Component)


def test_a_role_without_rights_proves_the_identity_of_garbage_collection(transit, environment, tmp_path):
    claims = {"/kubernetes.io/namespace": "service_account_namespace"}
    claims |= {"/kubernetes.io/serviceaccount/name": "service_account_name"}
    jwt = logins.jwt(transit, logins.ServiceAccount(), tmp_path / "jwt", [], claim_mappings=claims)
    auth = {"method": "jwt", "jwtPath": str(jwt.jwt_path), "mount": jwt.mount, "role": "no-such-role"}
    auth |= {"roles": {"gc": jwt.role}}
    collecting = {**environment, "ARGO_CONTAINER_NAME": "artifact-plugin-crypt", "ARGO_WORKFLOW_NAME": "w"}
    known = identity_resolver(vault_keys(section({"mount": transit.mount, "auth": auth}), collecting))
    found = known(Call(Operation.DELETE))
    assert (found.namespace, found.service_account, found.attested) == ("ns", "sa", True)


def test_a_kubernetes_login_goes_to_its_mount(environment):
    # The method itself is tried in test_vault_auth.
    auth = {"method": "kubernetes", "role": "r", "mount": "k8s", "jwtPath": "/nowhere"}
    with pytest.raises(NotConfigured, match="/nowhere"):
        checked({"auth": auth}, environment)


# --- the cache -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cache", "requests"), [({}, 1), ({"ttl": "0s"}, 3), ({"entries": 0}, 3), ({"ttl": "1h", "entries": 1}, 1)]
)
def test_the_cache_is_as_the_settings_say(openbao, own_transit, call, cache, requests):
    environment = {"VAULT_ADDR": openbao.address, "VAULT_TOKEN": openbao.root}
    keys = settings({**TOKEN, "mount": own_transit.mount}, cache=cache).required_keys()
    keys = cached_vault_keys(keys, environment=environment)
    wrapped = keys.new_data_key(call).wrapped
    for _ in range(3):
        keys.unwrap(call, wrapped)
    assert openbao.calls()[f"{own_transit.mount}/decrypt/artifacts"] == requests


def test_the_defaults_of_the_cache_are_ten_minutes_and_1024_entries():
    cache = settings(TOKEN).required_keys().cache
    assert (cache.ttl, cache.entries) == (600.0, 1024)


# --- what is refused -------------------------------------------------------------------------------------

REFUSED = {
    "no method": ({"auth": {}}, "method"),
    "unheard-of method": ({"auth": {"method": "ldap"}}, "ldap"),
    "no auth": ({}, "auth"),
    "a token in the configuration": ({"auth": {"method": "token", "token": "hvs.x"}}, "unknown field `token`"),
    "a secret id in the configuration": (
        {"auth": {"method": "approle", "roleId": "r", "secretId": "s"}},
        "secretId",
    ),
    "no role": ({"auth": {"method": "kubernetes"}}, "`role`"),
    "a role of no component": (
        {"auth": {"method": "kubernetes", "role": "r", "roles": {"sidcar": "s"}}},
        "unknown field `sidcar`; did you mean `sidecar`?",
    ),
    "a role that is no name": ({"auth": {"method": "jwt", "role": "r", "roles": {"gc": ["g"]}}}, "Expected `str`"),
    "roles that are no mapping": ({"auth": {"method": "jwt", "role": "r", "roles": "g"}}, "Expected `object`"),
    "roles where a login has none": ({"auth": {"method": "token", "roles": {"gc": "g"}}}, "unknown field `roles`"),
    "an address without a scheme": ({**TOKEN, "address": "vault:8200"}, "https://"),
    "another variable": ({**TOKEN, "context": "${identity.pod}"}, "identity.namespace"),
    "no time": ({**TOKEN, "timeout": "0s"}, "timeout"),
    "unknown field": ({**TOKEN, "renew": True}, "renew"),
}


@pytest.mark.parametrize(("vault", "fact"), REFUSED.values(), ids=REFUSED)
def test_invalid_settings_are_refused(vault, fact):
    with pytest.raises(NotConfigured) as raised:
        settings(vault)
    assert fact in raised.value.fact
    assert "hvs.x" not in raised.value.line(Call(Operation.LOAD), "")


def test_a_negative_number_of_entries_is_refused():
    with pytest.raises(NotConfigured, match="Expected `int` >= 0"):
        settings(TOKEN, cache={"entries": -1})


@pytest.mark.parametrize("address", [None, "", "vault:8200", "unix:///run/vault"])
def test_a_missing_address_is_named(address):
    with pytest.raises(NotConfigured, match="the address of Vault is missing or not an http or https URL"):
        vault_keys(section(TOKEN), {"VAULT_TOKEN": "t"} | ({} if address is None else {"VAULT_ADDR": address}))


@pytest.mark.parametrize("address", ["{}\n", " {} ", "{}/", "{}//\n"], ids=repr)
def test_space_and_slashes_around_an_address_are_not_part_of_it(transit, environment, address):
    address = address.format(transit.server.address)
    vault = {**TOKEN, "mount": transit.mount}
    checked(vault, {**environment, "VAULT_ADDR": address})
    checked({**vault, "address": address.lstrip()}, environment)


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/vault/v1", "?x", "#x"])
def test_the_error_for_the_address_of_the_api_names_the_part_to_remove(environment, path):
    address = f"http://user:pass-word@vault:8200{path}"
    for vault, more in (({**TOKEN, "address": address}, {}), (TOKEN, {"VAULT_ADDR": address})):
        with pytest.raises(NotConfigured, match="the address of Vault contains the path") as raised:
            vault_keys(section(vault), {**environment, **more})
        assert "/v1" in raised.value.remedy
        assert "pass-word" not in raised.value.line(Call(Operation.SAVE), "")


@pytest.mark.parametrize("namespace", ["a\nb", "a\r\nX-Vault-Token: b", "schlüssel"], ids=repr)
def test_a_namespace_that_no_request_can_carry_is_named_as_what_is_wrong(environment, namespace):
    for vault, more in (({**TOKEN, "namespace": namespace}, {}), (TOKEN, {"VAULT_NAMESPACE": namespace})):
        with pytest.raises(NotConfigured, match="is not a valid namespace in Vault") as raised:
            vault_keys(section(vault), {**environment, **more})
        assert raised.value.remedy == "Check keys.vault.namespace or VAULT_NAMESPACE"


@pytest.mark.parametrize("token", [None, "", " \n", "a\nb", "schlüssel"])
def test_a_missing_token_is_named(token):
    vault = section({**TOKEN, "address": "http://vault"})
    with pytest.raises(NotConfigured, match=r"VAULT_TOKEN (?:is not set|contains a character)") as raised:
        vault_keys(vault, {} if token is None else {"VAULT_TOKEN": token})
    assert raised.value.remedy


def test_a_name_that_no_key_can_have_is_refused_at_the_start(environment):
    with pytest.raises(NotConfigured, match="is not a valid name for a key in Vault"):
        vault_keys(section({**TOKEN, "key": "../keys/x"}), environment)


def test_the_password_of_an_address_is_not_shown(transit, provider, call):
    transit.server = Server("http://user:pass-word@127.0.0.1:1", "t")
    with pytest.raises(Unavailable, match=r"Vault at 127\.0\.0\.1:1 cannot be reached") as raised:
        provider(transit, StaticToken("t"), patience=0.2).new_data_key(call)
    assert "pass-word" not in raised.value.line(call, "a")


def test_the_local_keyring_is_not_cached(keyring, call):
    text = {"provider": "local", "local": {"keyring": str(keyring)}}
    document = {"apiVersion": "sealgate/v1alpha1", "kind": "Sealgate", "keys": text}
    keys = key_provider(parse(json.dumps(document), "config.json"))
    wrapped = keys.new_data_key(call).wrapped
    keys.unwrap(call, wrapped)
    keyring.unlink()
    with pytest.raises(NotConfigured):
        keys.unwrap(call, wrapped)
