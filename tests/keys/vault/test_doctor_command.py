"""`sealgate doctor` on a real server: missing rights, excess rights, and a printed policy that corrects both."""

from __future__ import annotations

import base64
import re
import socket
import time

import pytest
from harness import vault_logins as logins
from harness.doctor import Report, doctor_at
from harness.openbao import POLICIES
from hypothesis import example, given
from hypothesis import strategies as st

from sealgate.cli.doctor.checks import Role, findings
from sealgate.cli.doctor.rights import Needs
from sealgate.cli.doctor.vault import VaultChecks
from sealgate.config import TokenFileAuth, VaultKeySettings
from sealgate.keys.vault.inspection import Right
from sealgate.keys.vault.login import StaticToken

ROLES = {"saver": ["saver"], "loader": ["loader"], "both": ["saver", "loader"], "rewrapper": ["rewrapper"]}
NOTHING = 'path "nothing/of/this" { capabilities = ["read"] }'
TRIED = ("data key: make", "data key: open", "data key: rewrap")


@pytest.fixture
def doctor(tmp_path):
    with doctor_at(tmp_path) as made:
        yield made


@pytest.fixture
def examine(doctor, transit):
    """Run `sealgate doctor` with a token that has `policies`."""

    def run(
        *arguments,
        policies=(),
        token=None,
        vault=None,
        environment=None,
        server=transit.server,
        offline=True,
        more=None,
    ):
        given = token or transit.token(*policies, no_default_policy=False)
        doctor.secrets += [given, transit.server.root]
        settings = {"mount": transit.mount, "auth": {"method": "token"}, "timeout": "5s", **(vault or {})}
        report = doctor(
            *arguments,
            *(("--offline",) if offline else ()),
            settings={"keys": {"provider": "vault", "vault": settings}, **(more or {})},
            **{"VAULT_ADDR": server.address, "VAULT_TOKEN": given, **(environment or {})},
        )
        # Most of these tests are about data keys, and configure no key that signs.
        return report if more else report.without("audit: signature")

    return run


@pytest.fixture
def checked(transit, tmp_path):
    """Run the same checks within the test's process."""

    def run(*policies, role="both", now=time.time, bare=False, **settings):
        (tmp_path / "token").write_text(transit.token(*policies, no_default_policy=bare))
        auth = TokenFileAuth(tmp_path / "token")
        settings = VaultKeySettings(auth, address=transit.server.address, mount=transit.mount, **settings)
        found = [
            {"check": finding.check, "state": finding.state.value, "fact": finding.fact, "remedy": finding.remedy}
            for finding in findings(VaultChecks(settings, Role(role), now=now).checks(), 60)
        ]
        return Report(any(line["state"] == "FAILED" for line in found), "", found, "")

    return run


# --- correct ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_the_policies_that_are_shipped_are_enough_for_a_role_and_not_too_much(transit, examine, role):
    report = examine("--role", role, policies=transit.shipped_policies(*ROLES[role]))
    assert report.code == 0, report.output
    assert report.of("FAILED") | report.of("warning") == set()
    assert report.state("vault: other rights") == "ok"
    assert "found no right that is not needed" in report.line("vault: other rights")
    assert "version 1" in report.line("data key: make") or role not in {"saver", "both"}
    assert report.state("vault: key") == ("ok" if role == "rewrapper" else "not checked")
    assert report.policy == ""


def test_an_artifact_goes_through_the_stack_with_keys_of_vault(transit, examine):
    report = examine(policies=transit.shipped_policies("saver", "loader"), offline=False)
    assert report.code == 0, report.output
    assert "sealed under key artifacts" in report.line("storage: sealed")
    assert {report.state(f"storage: {step}") for step in ("save", "sealed", "load", "delete")} == {"ok"}


def test_a_login_says_its_method_and_how_long_its_token_lives(transit, examine, tmp_path):
    login = logins.approle(transit, tmp_path, transit.shipped_policies("saver", "loader"))
    file = str(login.secret_id_file)
    auth = {"method": "approle", "roleId": login.role_id, "secretIdFile": file, "mount": login.mount}
    report = examine(vault={"auth": auth})
    assert report.state("vault: login") == "ok"
    assert "method approle" in report.line("vault: login")
    assert any(f"for {seconds} s" in report.line("vault: login") for seconds in range(560, 601))
    role = f"auth/{login.mount}/role/{logins.ROLE}"
    transit.post(role, {"token_ttl": "48h", "token_max_ttl": "48h"})
    long = examine(vault={"auth": auth})
    assert long.state("vault: login") == "warning"
    assert "token_ttl=1h" in long.line("vault: login")
    login.secret_id_file.write_text("another")
    refused = examine(vault={"auth": auth})
    assert refused.of("FAILED") == {"vault: login"}
    assert "Check role, audience and mount in keys.vault.auth" in refused.line("vault: login")
    assert refused.of("not checked") >= set(TRIED)


def test_the_role_whose_tokens_live_too_long_is_the_one_of_the_component(transit, examine, tmp_path):
    policies = transit.shipped_policies("loader")
    long = {"token_ttl": "48h", "token_max_ttl": "48h"}
    login = logins.jwt(transit, logins.ServiceAccount(), tmp_path / "jwt", policies, **long)
    auth = {"method": "jwt", "mount": login.mount, "jwtPath": str(login.jwt_path)}
    auth |= {"role": "another", "roles": {"init": login.role}}
    within = {"ARGO_CONTAINER_NAME": "init-artifact-crypt"}
    report = examine("--role", "loader", vault={"auth": auth}, environment=within)
    assert report.state("vault: login") == "warning"
    assert f"token_ttl=1h on the role {login.role}:" in report.line("vault: login")


def test_a_token_that_may_not_look_itself_up_is_not_a_failure(transit, examine):
    token = transit.token(*transit.shipped_policies("saver", "loader"))
    report = examine(token=token)
    assert report.code == 0
    assert report.state("vault: login") == "warning"
    assert "may not ask for its capabilities" in report.line("vault: other rights")
    assert report.state("vault: other rights") == "not checked"


# --- the server ------------------------------------------------------------------------------------------


def test_an_address_without_a_server(examine):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    report = examine(environment={"VAULT_ADDR": f"http://127.0.0.1:{port}"})
    assert report.of("FAILED") == {"vault: server"}
    assert f"127.0.0.1:{port} cannot be reached" in report.line("vault: server")
    assert "Check keys.vault.address or VAULT_ADDR" in report.line("vault: server")
    assert report.of("not checked") >= {"vault: login", *TRIED, "vault: key", "vault: other rights"}


def test_a_server_that_hangs_is_given_up(examine):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        report = examine(vault={"timeout": "1s"}, environment={"VAULT_ADDR": address})
    assert report.of("FAILED") == {"vault: server"}
    assert "did not answer in time" in report.line("vault: server")


@pytest.mark.parametrize(
    ("environment", "fact"),
    [
        ({"VAULT_ADDR": ""}, "missing or not an http or https URL"),
        ({"VAULT_TOKEN": ""}, "VAULT_TOKEN is not set"),
        ({"VAULT_TOKEN": "s.\ttoken"}, "VAULT_TOKEN contains a character that no token has"),
    ],
)
def test_a_setting_that_is_missing_in_the_environment_too(examine, environment, fact):
    report = examine(environment=environment)
    check = "vault: login" if "VAULT_TOKEN" in environment else "vault: server"
    assert report.of("FAILED") == {check}
    assert fact in report.line(check)


def test_an_address_without_tls_is_a_warning_unless_it_is_this_machine(own_transit, openbao, examine):
    token = own_transit.token(*own_transit.shipped_policies("saver", "loader"), no_default_policy=False)

    def run(host):
        environment = {"VAULT_ADDR": f"http://{host}:{openbao.port}"}
        return examine(token=token, vault={"mount": own_transit.mount}, environment=environment)

    # This address leads to this machine too, but is not a loopback address.
    report = run("0.0.0.0")
    assert report.code == 0
    assert report.of("warning") == {"vault: server"}
    assert "can read the token and every data key" in report.line("vault: server")
    assert run("localhost").of("warning") == run("127.0.0.1").of("warning") == set()


def test_a_sealed_server(openbao, examine):
    openbao.seal()
    try:
        report = examine(token="s.whatever", server=openbao)
    finally:
        openbao.unseal()
    assert report.of("FAILED") == {"vault: server"}
    assert "Vault is sealed" in report.line("vault: server")
    assert "unseal it" in report.line("vault: server")


# --- rights ----------------------------------------------------------------------------------------------

MISSING = [
    ("both", ["loader"], {"data key: make"}),
    ("both", ["saver"], {"data key: open"}),
    ("both", [], {"data key: make", "data key: open"}),
    ("saver", [], {"data key: make"}),
    ("loader", [], {"data key: open"}),
    ("rewrapper", [], {"data key: rewrap", "vault: key"}),
]


@pytest.mark.parametrize(("role", "shipped", "lacking"), MISSING)
def test_a_right_that_is_missing_is_corrected_by_the_policy_that_is_printed(transit, examine, role, shipped, lacking):
    name = transit.policy(NOTHING)
    token = transit.token(name, *transit.shipped_policies(*shipped), no_default_policy=False)
    report = examine("--role", role, token=token)
    assert report.code == 1
    assert report.of("FAILED") == lacking
    for check in lacking:
        assert "Give its role the policy below" in report.line(check)
    transit.write_policy(name, report.policy)
    corrected = examine("--role", role, token=token)
    assert corrected.code == 0, corrected.output
    assert corrected.of("warning") == set()


def test_a_key_of_another_name_gets_a_policy_for_that_name(transit, examine):
    transit.create_key("pci.keys-2")
    name = transit.policy(NOTHING)
    token = transit.token(name, no_default_policy=False)
    transit.write_policy(name, examine(token=token, vault={"key": "pci.keys-2"}).policy)
    assert examine(token=token, vault={"key": "pci.keys-2"}).code == 0
    assert examine(token=token).code == 1, "and for that name alone"


TOO_MUCH = [
    ("saver", ["saver", "loader"], "data key: open", "FAILED"),
    ("rewrapper", ["rewrapper", "loader"], "data key: open", "FAILED"),
    ("loader", ["saver", "loader"], "data key: make", "warning"),
    ("saver", ["saver", "rewrapper"], "data key: rewrap", "warning"),
    ("both", ["saver", "loader", "rewrapper"], "data key: rewrap", "warning"),
]


@pytest.mark.parametrize(("role", "shipped", "check", "state"), TOO_MUCH)
def test_a_right_that_is_too_much_is_named_and_gone_with_the_policy_that_is_printed(
    transit, examine, role, shipped, check, state
):
    name = transit.policy("\n".join(_shipped(part) for part in shipped))
    token = transit.token(name, no_default_policy=False)
    report = examine("--role", role, token=token)
    assert report.of("FAILED") | report.of("warning") == {check}
    assert report.state(check) == state
    assert report.code == (1 if state == "FAILED" else 0)
    assert "and no other" in report.line(check)
    transit.write_policy(name, report.policy)
    corrected = examine("--role", role, token=token)
    assert (corrected.code, corrected.of("warning")) == (0, set())


def _shipped(name):
    return (POLICIES / f"{name}.hcl").read_text()


NEVER = [
    ("wrap data keys of its own choice", "encrypt/artifacts", "update"),
    ("make new keys by encrypting", "encrypt/*", "create"),
    ("make new keys", "keys/+", "update"),
    ("make data keys under other keys", "datakey/+/+", "update"),
    ("open data keys under other keys", "decrypt/*", "update"),
    ("rewrap data keys under other keys", "rewrap/+", "update"),
    ("delete the key", "keys/artifacts", "delete"),
    ("soft-delete the key", "keys/artifacts/soft-delete", "delete"),
    ("restore a deleted key", "keys/artifacts/soft-delete-restore", "update"),
    ("allow the key to be deleted", "keys/artifacts/config", "update"),
    ("rotate the key", "keys/artifacts/rotate", "update"),
    ("destroy old versions", "keys/artifacts/trim", "update"),
    ("import a key of its own", "keys/artifacts/import_version", "update"),
    ("import a key of its own", "keys/+/import", "update"),
    ("replace the key by one from a backup", "restore", "update"),
    ("replace the key by one from a backup", "restore/*", "update"),
    ("export the key", "export/encryption-key/*", "read"),
    ("export the key", "export/encryption-key/artifacts/*", "read"),
    ("export the key", "export/hmac-key/artifacts", "read"),
    ("export the key", "byok-export/+/+", "read"),
    ("take a backup", "backup/artifacts", "read"),
    ("change the settings of the mount", "config/*", "update"),
]


@pytest.mark.parametrize("bare", [False, True], ids=["", "and Vault lists no rights"])
@pytest.mark.parametrize(("words", "path", "capability"), NEVER)
def test_a_right_that_no_role_needs_is_a_warning_and_is_not_tried(transit, checked, words, path, capability, bare):
    extra = f'path "transit/{path}" {{ capabilities = ["{capability}"] }}\n'
    extra += 'path "sys/capabilities-self" { capabilities = ["update"] }'
    transit.configure(deletion_allowed=True)
    report = checked(*transit.shipped_policies("saver", "loader"), transit.policy(extra), bare=bare)
    assert report.code == 0
    assert report.state("vault: other rights") == "warning"
    assert words in report.line("vault: other rights")
    assert f"{transit.mount}/" not in report.line("vault: other rights"), "a right is reported once"
    # None of the rights was used: the one key exists, in its first version.
    key = transit.server.api("GET", f"{transit.mount}/keys/artifacts")["data"]
    assert (key["latest_version"], key["deletion_allowed"]) == (1, True)
    assert not key.get("soft_deleted")
    assert transit.server.api("LIST", f"{transit.mount}/keys")["data"]["keys"] == ["artifacts"]


@pytest.mark.parametrize("path", ["decrypt/payroll", "rewrap/b*", "datakey/plaintext/pay*", "hmac/artifacts"])
def test_a_right_to_an_unknown_key_name_is_reported_as_vault_lists_it(transit, checked, path):
    extra = transit.policy(f'path "transit/{path}" {{ capabilities = ["update", "list"] }}')
    shipped = transit.shipped_policies("saver", "loader")
    report = checked(*shipped, extra)
    assert report.state("vault: other rights") == "warning"
    assert f"this identity may also update {transit.mount}/{path}. " in report.line("vault: other rights")
    unlisted = checked(
        *shipped, extra, transit.policy('path "sys/capabilities-self" { capabilities = ["update"] }'), bare=True
    )
    assert unlisted.state("vault: other rights") == "ok"
    assert "Vault does not list the rights" in unlisted.line("vault: other rights"), "it claims no more than is known"


def test_reading_keys_and_denied_paths_are_not_excess_rights(transit, checked):
    harmless = """
    path "transit/keys/*" { capabilities = ["read", "list"] }
    path "transit/decrypt/payroll" { capabilities = ["deny"] }
    path "transit/*" { capabilities = ["list"] }
    path "other/decrypt/artifacts" { capabilities = ["update"] }"""
    report = checked(*transit.shipped_policies("saver", "loader"), transit.policy(harmless))
    assert report.state("vault: other rights") == "ok"


def test_a_long_list_of_rights_is_cut(transit, checked):
    many = "".join(f'path "transit/decrypt/k{number}" {{ capabilities = ["update"] }}\n' for number in range(50))
    report = checked(*transit.shipped_policies("saver", "loader"), transit.policy(many))
    assert report.line("vault: other rights").count("decrypt/k") == 8
    assert "42 more such rights" in report.line("vault: other rights")


@pytest.mark.parametrize("parent", [False, True], ids=["a token of it", "a token of its parent"])
def test_rights_in_a_namespace_are_those_of_its_mounts(openbao, provider, call, parent):
    transit = openbao.transit(openbao.new_namespace(), "transit")
    if parent:
        text = f"""
        path "{transit.namespace}/transit/decrypt/payroll" {{ capabilities = ["update"] }}
        path "transit/decrypt/elsewhere" {{ capabilities = ["update"] }}
        path "{transit.namespace}/sys/internal/ui/resultant-acl" {{ capabilities = ["read"] }}"""
        name = openbao.transit().policy(text.replace('"transit/', '"another/'))
        token = openbao.post("auth/token/create", {"policies": [name]})["auth"]["client_token"]
    else:
        text = 'path "transit/decrypt/payroll" { capabilities = ["update"] }'
        token = transit.token(transit.policy(text), no_default_policy=False)
    listed = provider(transit, StaticToken(token)).inspection().listed(call)
    assert listed == [Right("decrypt/payroll", is_prefix=False, capabilities=frozenset({"update"}))]


def test_keys_that_policies_choose_and_the_one_that_signs_trails_are_needed(transit, examine, doctor):
    transit.create_key("pci")
    transit.create_key("audit", type="ed25519")
    transit.create_key("before")
    rule = {
        "name": "pci",
        "match": {"keys": ["pci/**"]},
        "key": f"{transit.mount}/keys/${{params.tier}}",
        "readKeys": ["before"],
    }
    document = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "ArtifactPolicy",
        "metadata": {"name": "keys"},
        "spec": {"params": {"tier": "pci"}, "encryption": [rule]},
    }
    more = {"policies": [document], "audit": {"sinks": [{"type": "stdout"}], "signingKey": "audit"}}
    name = transit.policy(NOTHING)
    token = transit.token(name, no_default_policy=False)
    lacking = examine(token=token, more=more)
    assert "all policies load; documents: 1, rules: 0" in lacking.line("policies")
    assert {line[6:-3] for line in lacking.policy.splitlines() if line.startswith("path")} == {
        f"{transit.mount}/{path}"
        for path in (
            "datakey/plaintext/artifacts", "datakey/plaintext/pci",
            "decrypt/artifacts", "decrypt/before", "decrypt/pci",
            "sign/audit",
        )
    }  # fmt: skip
    transit.write_policy(name, lacking.policy)
    assert examine(token=token, more=more).of("warning") == set()
    without = examine(token=token)
    assert without.of("warning") == {"vault: other rights"}
    assert f"update {transit.mount}/decrypt/pci" in without.line("vault: other rights")


def test_a_root_token_is_a_warning(transit, examine):
    report = examine(token=transit.server.root)
    assert report.code == 0
    assert "root token" in report.line("vault: other rights")
    assert report.policy


_NAME = st.from_regex(re.compile(r"\w(?:[\w.-]{0,8}\w)?", re.ASCII), fullmatch=True)
_MOUNT = st.from_regex(re.compile(r"\w[\w-]{0,8}(?:/\w[\w-]{0,8}){0,2}", re.ASCII), fullmatch=True)


@given(st.sampled_from(Role), _MOUNT, _NAME)
@example(Role.BOTH, "transit/artifacts", "transit")
def test_a_policy_to_paste_is_about_one_key_of_one_mount(role, mount, key):
    paths = re.findall('^path "(.*)" {$', Needs(role, mount, key).policy, re.MULTILINE)
    assert len(paths) == {Role.BOTH: 2, Role.REWRAPPER: 2}.get(role, 1)
    operations = {"datakey/plaintext", "decrypt", "rewrap", "keys"}
    assert {path.removeprefix(f"{mount}/").removesuffix(f"/{key}") for path in paths} <= operations


# --- the key ---------------------------------------------------------------------------------------------


@pytest.fixture
def look(transit, checked):
    """Examine a key with the right to read it."""

    def run(role="both", key="artifacts", **more):
        policies = [transit.policy(_shipped(part).replace("/artifacts", f"/{key}")) for part in ROLES[role]]
        reading = transit.policy(f'path "transit/keys/{key}" {{ capabilities = ["read"] }}')
        return checked(*policies, reading, role=role, key=key, **more)

    return run


@pytest.mark.parametrize("role", ["both", "loader"])
def test_a_key_that_is_not_there(look, role):
    report = look(role, key="none")
    assert report.code == 1
    tried = "data key: open" if role == "loader" else "data key: make"
    assert "has no key none" in report.line(tried)
    assert "Check keys.vault.key" in report.line(tried)


@pytest.mark.parametrize("role", ["both", "loader", "saver"])
def test_a_context_with_a_key_that_is_not_derived(look, role):
    report = look(role, context="team-a")
    assert "not derived" in report.line("data key: open" if role == "loader" else "data key: make")
    assert "derived=true" in report.line("vault: key")
    assert report.state("vault: key") == "FAILED"


@pytest.mark.parametrize("role", ROLES)
def test_a_derived_key_with_a_context_is_right_and_without_one_is_not(transit, look, role):
    transit.create_key("derived", derived=True)
    assert look(role, key="derived", context="team-a").code == 0
    report = look(role, key="derived")
    assert report.code == 1
    assert report.state("vault: key") == "FAILED"
    assert "Set keys.vault.context" in report.line("vault: key")


# --- a context -------------------------------------------------------------------------------------------

BOUND = {"key": "bound", "context": "team-a"}


@pytest.fixture
def bound(transit):
    """Return the text of shipped policies, with the name of a derived key."""
    transit.create_key("bound", derived=True)
    return lambda *names: "\n".join(_shipped(name).replace("/artifacts", "/bound") for name in names)


@pytest.mark.parametrize(("role", "part"), [("saver", "saver-bound"), ("loader", "loader-bound")])
def test_a_role_that_is_bound_to_a_context_is_tried_with_it(transit, checked, bound, role, part):
    policy = transit.policy(bound(part))
    report = checked(policy, role=role, **BOUND)
    assert (report.code, report.of("warning")) == (0, set())
    assert report.state("vault: context") == "ok"
    other = checked(policy, role=role, key="bound", context="team-b")
    assert other.of("FAILED") == {"data key: make" if role == "saver" else "data key: open"}
    transit.write_policy(policy, bound(part).partition("\n# Reading the key")[0])
    unproven = checked(policy, role=role, **BOUND)
    assert "cannot verify that key bound is derived" in unproven.line("data key: make") + unproven.line(
        "data key: open"
    )
    assert unproven.state("vault: key") == "warning"


UNBOUND = [("saver", ["saver"], "make"), ("loader", ["loader"], "open"), ("both", ["saver", "loader"], "make and open")]


@pytest.mark.parametrize(("role", "shipped", "verbs"), UNBOUND)
def test_a_role_that_no_policy_binds_to_its_context_is_a_warning(transit, examine, bound, role, shipped, verbs):
    name = transit.policy(bound(*shipped))
    token = transit.token(name, no_default_policy=False)
    report = examine("--role", role, token=token, vault=BOUND)
    assert report.code == 0
    assert report.of("warning") == {"vault: context", "vault: key"}
    assert f"may {verbs} data keys in any context" in report.line("vault: context")
    transit.write_policy(name, report.policy)
    corrected = examine("--role", role, token=token, vault=BOUND)
    assert (corrected.code, corrected.of("warning")) == (0, set())


LACKING = [("both", ["saver-bound"]), ("both", ["loader-bound"]), ("both", []), ("saver", []), ("loader", [])]


@pytest.mark.parametrize(("role", "shipped"), LACKING)
def test_a_right_that_a_bound_role_lacks_is_corrected_by_a_policy_that_binds(transit, examine, bound, role, shipped):
    name = transit.policy(NOTHING)
    token = transit.token(name, transit.policy(bound(*shipped) or NOTHING), no_default_policy=False)
    report = examine("--role", role, token=token, vault=BOUND)
    lacking = {"saver": "data key: make", "loader": "data key: open"}
    parts = {"saver", "loader"} if role == "both" else {role}
    assert report.of("FAILED") == {lacking[part] for part in parts if f"{part}-bound" not in shipped}
    assert all("may not" in report.line(check) for check in report.of("FAILED"))
    transit.write_policy(name, report.policy)
    corrected = examine("--role", role, token=token, vault=BOUND)
    assert (corrected.code, corrected.of("warning")) == (0, set()), corrected.output
    assert examine("--role", role, token=token, vault={**BOUND, "context": "team-b"}).code == 1


def test_a_context_that_is_the_pods_namespace_is_in_the_policy_as_vault_compares_it(transit, examine, bound):
    vault = {"key": "bound", "context": "${identity.namespace}"}
    report = examine(policies=[transit.policy(NOTHING)], vault=vault, environment={"SEALGATE_NAMESPACE": "team-z"})
    assert report.policy.count(f'"context" = ["{base64.b64encode(b"team-z").decode()}"]') == 2


def test_a_rewrapper_sends_batches_that_no_policy_can_bind(transit, examine, bound):
    policy = transit.policy(bound("rewrapper"))
    report = examine("--role", "rewrapper", policies=[policy], vault=BOUND)
    assert (report.code, report.of("warning")) == (0, set())


# --- and more of the key ---------------------------------------------------------------------------------


def test_settings_that_make_a_key_easy_to_lose_are_a_warning(transit, look):
    transit.create_key("loose", exportable=True, allow_plaintext_backup=True)
    transit.configure("loose", deletion_allowed=True)
    report = look(key="loose")
    assert report.code == 0
    assert report.of("warning") == {"vault: key"}
    for name in ("deletion_allowed is true", "exportable is true", "allow_plaintext_backup is true"):
        assert name in report.line("vault: key")


def test_versions_rotation_and_a_raised_minimum_are_reported(transit, look):
    assert "latest version is 1, 0 h old; the key is rotated only by hand" in look().line("vault: key")
    transit.rotate()
    transit.configure(min_decryption_version=2, auto_rotate_period="720h")
    report = look()
    assert "latest version is 2" in report.line("vault: key")
    assert "rotated every 30 days" in report.line("vault: key")
    assert "min_decryption_version is 2" in report.line("vault: key")
    assert report.of("warning") == {"vault: key"}
    assert look("loader").state("data key: open") == "ok"


@pytest.mark.parametrize(
    ("kind", "state", "words"),
    [
        ("rsa-2048", "warning", "supports no context"),
        ("ed25519", "FAILED", "cannot wrap data keys"),
        ("chacha20-poly1305", "ok", "chacha20"),
    ],
)
def test_the_type_of_a_key_is_judged(transit, look, kind, state, words):
    transit.create_key("typed", type=kind)
    report = look(key="typed")
    assert report.state("vault: key") == state
    assert words in report.line("vault: key")


def test_a_version_that_is_older_than_a_year_is_to_be_rotated(look):
    report = look(now=lambda: time.time() + 400 * 86400)
    assert report.state("vault: key") == "warning"
    assert "400 days old" in report.line("vault: key")
    assert "Rotate the key" in report.line("vault: key")


def test_the_text_report_ends_with_the_policy_ready_to_paste(doctor, transit):
    token = transit.token(no_default_policy=False)
    keys = {"provider": "vault", "vault": {"mount": transit.mount, "auth": {"method": "token"}}}
    environment = {"VAULT_ADDR": transit.server.address, "VAULT_TOKEN": token}
    report = doctor("--offline", settings={"keys": keys}, **environment)
    text = doctor.text("--offline", settings={"keys": keys}, **environment).stdout
    lines, _, policy = text.partition("\n\nThe policy that a saver and loader needs in Vault:\n\n")
    assert policy == report.policy + "\n"
    assert len(lines.splitlines()) == len(report.checks)
