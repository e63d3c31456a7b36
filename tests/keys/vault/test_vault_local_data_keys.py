"""Data keys that Sealgate makes and Vault only encrypts: for keys in an HSM, and where policies allow no more."""

from __future__ import annotations

import base64
import itertools
from collections import Counter

import pytest
from harness.chain import Proxy
from harness.data_keys import make_and_open
from harness.doctor import Report
from harness.openbao import ApiError, OpenBao
from harness.outcome import outcome

from sealgate.call import Call, Operation, WrappedKey
from sealgate.cli.doctor.checks import Role, findings
from sealgate.cli.doctor.vault import VaultChecks
from sealgate.config import TokenFileAuth, VaultKeySettings
from sealgate.errors import NotConfigured, NotPermitted, PluginError, Tampered, Unavailable
from sealgate.keys.provider import BATCH, KeyVersions
from sealgate.keys.vault.login import StaticToken

NOTHING_MORE = 'path "nothing/of/this" { capabilities = ["read"] }'
ENCRYPT_ALONE = """
path "transit/encrypt/artifacts" { capabilities = ["update"] }
path "transit/decrypt/artifacts" { capabilities = ["update"] }
"""


@pytest.fixture
def external(vault, transit):
    """An engine whose key `artifacts` is in another engine, as in an HSM."""
    engine = vault.transit()
    engine.delete_key()
    engine.create_external_key("artifacts", transit)
    return engine


@pytest.fixture
def token(external):
    def make(*shipped):
        return StaticToken(external.token(*external.shipped_policies(*shipped)))

    return make


# --- saving and loading ----------------------------------------------------------------------------------


def test_a_key_in_an_hsm_wraps_data_keys_that_are_made_here(external, provider, call, token):
    saver = provider(external, token("saver-local"), wraps_local=True)
    loader = provider(external, token("loader"))
    made = [saver.new_data_key(call) for _ in range(5)]
    assert len({item.plaintext for item in made}) == 5
    for item in made:
        assert len(item.plaintext) == 32
        assert item.wrapped.key_version == 1
        assert loader.unwrap(call, item.wrapped) == external.decrypt(item.wrapped) == item.plaintext
        with pytest.raises(NotPermitted):
            saver.unwrap(call, item.wrapped)


def test_vault_cannot_make_data_keys_with_a_key_in_an_hsm_and_the_error_names_the_setting(external, provider, call):
    with pytest.raises(NotConfigured, match="Vault can only encrypt and decrypt with key artifacts") as raised:
        provider(external).new_data_key(call)
    assert "Set keys.vault.dataKeys: local" in raised.value.remedy


def test_policies_that_allow_encrypt_alone_are_enough(transit, provider, call):
    auth = StaticToken(transit.token(transit.policy(ENCRYPT_ALONE)))
    made = make_and_open(provider(transit, auth, wraps_local=True), call)
    assert provider(transit).unwrap(call, made)
    with pytest.raises(NotPermitted):
        provider(transit, auth).new_data_key(call)


def test_both_kinds_of_data_keys_open_in_both_installations(transit, provider, call):
    for one, other in itertools.product([True, False], repeat=2):
        made = provider(transit, wraps_local=one).new_data_key(call)
        assert provider(transit, wraps_local=other).unwrap(call, made.wrapped) == made.plaintext


@pytest.mark.parametrize("capabilities", ['"update"', '"create", "update"'])
def test_a_key_that_does_not_exist_is_named_and_is_not_created(transit, provider, call, capabilities):
    policy = transit.policy(f'path "transit/encrypt/*" {{ capabilities = [{capabilities}] }}')
    auth = StaticToken(transit.token(policy, no_default_policy=False))
    with pytest.raises(NotConfigured, match=f"Vault has no key artifcats in {transit.mount}"):
        provider(transit, auth, key="artifcats", wraps_local=True).new_data_key(call)
    with pytest.raises(ApiError) as raised:
        transit.server.api("GET", f"{transit.mount}/keys/artifcats")
    assert raised.value.status == 404


def test_a_context_protects_data_keys_that_are_made_here(transit, provider, call):
    transit.create_key("tenants", derived=True)
    made = [
        provider(transit, key="tenants", context=context, wraps_local=True).new_data_key(call)
        for context in (b"team-a", b"team-b")
    ]
    assert [item.wrapped.derivation_context for item in made] == [b"team-a", b"team-b"]
    keys = provider(transit, key="tenants", context=b"team-a")
    for item in made:
        assert keys.unwrap(call, item.wrapped) == item.plaintext
    one, other = (item.wrapped for item in made)
    swapped = WrappedKey("vault", one.mount, "tenants", other.wrapped_key, 1, b"team-a")
    with pytest.raises(Tampered):
        keys.unwrap(call, swapped)


def test_a_policy_that_is_bound_to_a_context_refuses_another_one_as_a_missing_right(transit, provider, call):
    transit.delete_key()
    transit.create_key("artifacts", derived=True)
    policies = transit.shipped_policies("saver-local-bound")
    token = StaticToken(transit.token(*policies, no_default_policy=False))
    assert provider(transit, token, context=b"team-a", wraps_local=True).new_data_key(call)
    with pytest.raises(NotPermitted) as raised:
        provider(transit, token, context=b"team-b", wraps_local=True).new_data_key(call)
    assert "no key" not in raised.value.fact
    assert "no such key" not in raised.value.fact


@pytest.mark.parametrize("kind", ["of Vault", "in an HSM"])
def test_a_context_needs_a_derived_key_here_too(transit, external, provider, call, kind):
    engine = transit if kind == "of Vault" else external
    with pytest.raises(NotConfigured, match="key artifacts is not derived"):
        provider(engine, context=b"team-a", wraps_local=True).new_data_key(call)


def test_no_data_key_that_is_kept_is_sent_without_its_context(openbao, own_transit, provider, call):
    own_transit.create_key("tenants", derived=True)
    made = provider(own_transit, key="tenants", context=b"team-a", wraps_local=True).new_data_key(call)
    sent = [
        record["request"]["data"]
        for record in openbao.audit("raw")
        if record["type"] == "request" and record["request"]["path"] == f"{own_transit.mount}/encrypt/tenants"
    ]
    mine = base64.b64encode(made.plaintext).decode()
    assert [("context" in data, data["plaintext"] == mine) for data in sent] == [(False, False), (True, True)]


# --- the service behind the key --------------------------------------------------------------------------


def test_a_changed_data_key_is_named(external, provider, call):
    keys = provider(external, wraps_local=True)
    wrapped = keys.new_data_key(call).wrapped
    start, text = wrapped.wrapped_key[:-8], "AAAAAAA="
    with pytest.raises(Tampered):
        keys.unwrap(call, WrappedKey("vault", wrapped.mount, "artifacts", start + text, 1))


def test_a_key_that_is_not_granted_to_the_mount_is_named(external, transit, provider, call):
    grant = f"sys/external-keys/configs/{transit.mount}/keys/hsm/grants/{external.mount}"
    external.server.api("DELETE", grant)
    with pytest.raises(NotConfigured, match="may not use the external key behind key artifacts"):
        provider(external, wraps_local=True).new_data_key(call)


@pytest.mark.large
def test_a_service_that_is_away_may_be_back_the_next_time(vault, provider, call, tmp_path):
    hsm = OpenBao(tmp_path / "hsm").start()
    try:
        engine = vault.transit()
        engine.create_external_key("pci", hsm.transit())
        keys = provider(engine, key="pci", wraps_local=True)
        wrapped = keys.new_data_key(call).wrapped
        hsm.seal()
        brief = Call(Operation.LOAD)
        with pytest.raises(Unavailable, match="the HSM or KMS behind key pci did not carry out the request"):
            keys.unwrap(brief, wrapped)
        hsm.unseal()
        assert keys.unwrap(call, wrapped)
    finally:
        hsm.stop()


# --- rotation --------------------------------------------------------------------------------------------


def rotated(engine, behind):
    engine.post(f"{engine.mount}/keys/artifacts/rotate", {"external_key_ref": f"{behind.mount}:hsm"})


@pytest.mark.parametrize("asks_first", [True, False])
def test_data_keys_of_a_key_in_an_hsm_are_decrypted_and_encrypted_again(
    external, transit, provider, call, token, asks_first
):
    saver = provider(external, token("saver-local"), wraps_local=True)
    made = [saver.new_data_key(call) for _ in range(3)]
    rotated(external, transit)
    rewrapper = provider(external, token("rewrapper-local"), wraps_local=True)
    if asks_first:
        assert rewrapper.versions(call, "artifacts") == KeyVersions(2, 1)
    moved = rewrapper.rewrap_many(call, [item.wrapped for item in made])
    for new, old in zip(moved, made, strict=True):
        assert isinstance(new, WrappedKey)
        assert new.key_version == 2
        assert external.decrypt(new) == old.plaintext


def test_a_batch_reports_what_could_not_be_moved(external, transit, provider, call):
    keys = provider(external, wraps_local=True)
    good = keys.new_data_key(call)
    changed = WrappedKey("vault", external.mount, "artifacts", good.wrapped.wrapped_key[:-8] + "AAAAAAA=", 1)
    not_a_key = external.post(f"{external.mount}/encrypt/artifacts", {"plaintext": "AAAA"})["data"]["ciphertext"]
    rotated(external, transit)
    other = WrappedKey("vault", external.mount, "artifacts", not_a_key, 1)
    first, *faults, last = keys.rewrap_many(call, [good.wrapped, changed, other, good.wrapped])
    assert [type(fault) for fault in faults] == [Tampered, Tampered]
    for moved in (first, last):
        assert isinstance(moved, WrappedKey)
        assert external.decrypt(moved) == good.plaintext


def test_without_the_setting_nothing_is_decrypted(openbao, own_transit, provider, call):
    engine = openbao.transit()
    engine.delete_key()
    engine.create_external_key("artifacts", own_transit)
    wrapped = provider(engine, wraps_local=True).new_data_key(call).wrapped
    keys = provider(engine)
    keys.versions(call, "artifacts")
    with pytest.raises(NotConfigured, match="Vault can only encrypt and decrypt with key artifacts"):
        keys.rewrap_many(call, [wrapped])
    assert openbao.calls()[f"{engine.mount}/decrypt/artifacts"] == 0


def test_the_usual_rewrapper_may_not_move_them(external, provider, call, token):
    wrapped = provider(external, wraps_local=True).new_data_key(call).wrapped
    with pytest.raises(NotPermitted):
        provider(external, token("rewrapper"), wraps_local=True).rewrap_many(call, [wrapped])


@pytest.mark.parametrize("count", [1, BATCH + 1])
def test_other_keys_are_rewrapped_by_vault_with_the_setting_too(openbao, own_transit, provider, call, count):
    wrapped = provider(own_transit, wraps_local=True).new_data_key(call).wrapped
    own_transit.rotate()
    before = openbao.calls()
    auth = StaticToken(own_transit.token(*own_transit.shipped_policies("rewrapper")))
    moved = provider(own_transit, auth, wraps_local=True).rewrap_many(call, [wrapped] * count)
    assert not any(isinstance(each, PluginError) for each in moved)
    asked = Counter({path: number for path, number in (openbao.calls() - before).items() if own_transit.mount in path})
    assert asked == {f"{own_transit.mount}/rewrap/artifacts": -(-count // BATCH)}


# --- through the socket ---------------------------------------------------------------------------------


@pytest.mark.process
def test_argo_saves_and_loads_with_a_key_in_an_hsm(external, tmp_path):
    token = external.token(*external.shipped_policies("saver-local", "loader"))
    vault = {"mount": external.mount, "auth": {"method": "token"}, "timeout": "20s"}
    environment = {"VAULT_ADDR": external.server.address, "VAULT_TOKEN": token}
    answers = []
    for data_keys in ("vault", "local"):
        home = tmp_path / data_keys
        home.mkdir()
        keys = {"provider": "vault", "vault": {**vault, "dataKeys": data_keys}}
        proxy = Proxy(home, settings={"keys": keys}, environment=environment).start()
        source, target = proxy.work / "source", proxy.work / "target"
        source.write_bytes(b"some plaintext")
        answers.append(outcome(lambda: proxy.argo().save("a/b", source)))  # noqa: B023 - called at once
        if answers[-1].code == "OK":
            proxy.argo().load("a/b", target)
            assert target.read_bytes() == b"some plaintext"
        proxy.stop()
    refused, accepted = answers
    assert refused.code == "PERMISSION_DENIED", refused
    assert accepted.code == "OK", accepted


# --- sealgate doctor -------------------------------------------------------------------------------------


@pytest.fixture
def examine(tmp_path):
    """Make the checks of `sealgate doctor` on an engine with a token that has `policies`, within the test's process."""

    def run(engine, *policies, role="both", data_keys="vault", **changed):
        (tmp_path / "token").write_text(engine.token(*policies, no_default_policy=False))
        vault = {"address": engine.server.address, "mount": engine.mount, "data_keys": data_keys, **changed}
        settings = VaultKeySettings(TokenFileAuth(tmp_path / "token"), **vault)
        found = list(findings(VaultChecks(settings, Role(role)).checks(), 60))
        lines = [
            {"check": each.check, "state": each.state.value, "fact": each.fact, "remedy": each.remedy} for each in found
        ]
        policy = next((each.policy for each in found if each.policy), "")
        return Report(int(any(line["state"] == "FAILED" for line in lines)), str(lines), lines, policy)

    return run


LOCAL = {
    "saver": ["saver-local"],
    "loader": ["loader"],
    "both": ["saver-local", "loader"],
    "rewrapper": ["rewrapper-local"],
}


@pytest.mark.parametrize("role", LOCAL)
def test_doctor_finds_the_policies_for_a_key_in_an_hsm_enough_and_not_too_much(external, examine, role):
    report = examine(external, *external.shipped_policies(*LOCAL[role]), role=role, data_keys="local")
    assert (report.code, report.of("warning")) == (0, set()), report.output
    assert report.state("vault: other rights") == "ok"
    assert report.state("data key: rewrap") == "ok"


@pytest.mark.parametrize("role", LOCAL)
@pytest.mark.parametrize("kind", ["of Vault", "in an HSM"])
def test_doctor_prints_the_policy_that_such_a_role_lacks(external, transit, examine, role, kind):
    engine = external if kind == "in an HSM" else transit
    name = engine.policy(NOTHING_MORE)
    lacking = examine(engine, name, role=role, data_keys="local")
    assert lacking.code == 1
    # A rewrapper learns the type of the key only once it may read it, so its policy may come in a second step.
    for _ in range(2):
        engine.write_policy(name, lacking.policy or NOTHING_MORE)
        lacking = examine(engine, name, role=role, data_keys="local")
        if not lacking.policy:
            break
    assert (lacking.code, lacking.of("warning")) == (0, set()), lacking.output


def test_doctor_proposes_the_setting_where_only_encrypt_works(transit, examine):
    policy = transit.policy(ENCRYPT_ALONE)
    report = examine(transit, policy)
    assert report.of("FAILED") == {"data key: make"}
    assert "Vault makes no data keys for this identity with key artifacts, but encrypts with it" in report.line(
        "data key: make"
    )
    assert "Set keys.vault.dataKeys: local" in report.line("data key: make")
    assert examine(transit, policy, data_keys="local").code == 0


def test_doctor_proposes_the_setting_for_a_key_in_an_hsm(external, examine):
    reading = external.policy('path "transit/keys/artifacts" { capabilities = ["read"] }')
    report = examine(external, *external.shipped_policies("saver", "loader"), reading)
    for check in ("data key: make", "vault: key"):
        assert report.state(check) == "FAILED"
        assert "Set keys.vault.dataKeys: local" in report.line(check)
    local = examine(external, *external.shipped_policies("saver-local", "loader"), reading, data_keys="local")
    assert (local.code, local.of("warning")) == (0, set()), local.output
    assert "the key has type external-key" in local.line("vault: key")


def test_doctor_reports_the_right_to_make_data_keys_where_they_are_made_here(transit, examine):
    policies = transit.shipped_policies("saver", "saver-local", "loader")
    report = examine(transit, *policies, data_keys="local")
    assert report.of("warning") == {"vault: other rights"}
    assert f"update {transit.mount}/datakey/plaintext/artifacts" in report.line("vault: other rights")


@pytest.mark.parametrize("role", ["saver", "loader"])
@pytest.mark.parametrize(("setting", "name"), [("key", "artifcats"), ("mount", "transti")])
def test_doctor_says_what_may_be_used_where_a_name_is_mistyped(transit, examine, role, setting, name):
    report = examine(transit, *transit.shipped_policies("saver", "loader"), role=role, **{setting: name})
    line = report.line("data key: make" if role == "saver" else "data key: open")
    assert f"or there is no such key; it may use {transit.mount}/artifacts" in line
    assert "Correct keys.vault.mount and keys.vault.key" in line


# --- what a caller reads about a mistyped name ----------------------------------------------------------


@pytest.mark.parametrize(("operation", "role"), [("new_data_key", "saver"), ("unwrap", "loader")])
def test_the_error_for_a_mistyped_key_names_those_that_work(transit, provider, call, operation, role):
    token = StaticToken(transit.token(*transit.shipped_policies(role), no_default_policy=False))
    keys = provider(transit, token, key="artifcats")
    wrapped = WrappedKey("vault", transit.mount, "artifcats", "vault:v1:" + "A" * 80, 1)
    with pytest.raises(NotPermitted) as raised:
        keys.new_data_key(call) if operation == "new_data_key" else keys.unwrap(call, wrapped)
    expected = "key artifcats in {0} for this operation, or there is no such key; it may use {0}/artifacts"
    assert expected.format(transit.mount) in raised.value.fact
    assert "Check keys.vault.mount" in raised.value.remedy


def test_without_the_right_to_ask_the_error_says_that_the_key_may_be_absent(transit, provider, call):
    token = StaticToken(transit.token(*transit.shipped_policies("saver")))
    with pytest.raises(NotPermitted, match="or there is no such key"):
        provider(transit, token, key="artifcats").new_data_key(call)


def test_a_right_that_is_missing_for_a_key_that_exists_is_not_called_absent(transit, provider, call):
    token = StaticToken(transit.token(*transit.shipped_policies("loader"), no_default_policy=False))
    with pytest.raises(NotPermitted) as raised:
        provider(transit, token).new_data_key(call)
    assert "no such key" not in raised.value.fact
