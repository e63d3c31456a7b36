"""The certificate of an audit trail, signed by a key that never leaves the server."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from harness import vault_logins as logins
from harness.chain import SEALGATE, Proxy
from harness.trails import read

from sealgate.call import Call, Operation
from sealgate.errors import NotConfigured, NotPermitted
from sealgate.keys.vault.login import StaticToken


@pytest.fixture
def call():
    return Call(Operation.SAVE)


def test_a_signature_is_that_of_the_keys_newest_version(transit, provider, call):
    transit.create_key("audit", type="ed25519")
    transit.rotate("audit")
    keys = provider(transit, signing_key="audit")
    made = keys.sign(call, b"a certificate")
    public = keys.public_keys(call)
    assert (made.key, made.version, set(public)) == ("audit", 2, {1, 2})
    Ed25519PublicKey.from_public_bytes(public[2]).verify(made.signature, b"a certificate")


def test_the_shipped_policies_allow_only_signing_and_only_verifying(transit, provider, call):
    transit.create_key("audit", type="ed25519")
    certifier, auditor = (
        provider(transit, StaticToken(transit.token(*transit.shipped_policies(name))), signing_key="audit")
        for name in ("certifier", "auditor")
    )
    assert certifier.sign(call, b"a certificate").version == 1
    assert auditor.public_keys(call)
    with pytest.raises(NotPermitted):
        certifier.public_keys(call)
    with pytest.raises(NotPermitted):
        auditor.sign(call, b"a certificate")


@pytest.mark.parametrize("kind", ["aes256-gcm96", "rsa-2048", None])
def test_a_key_of_another_type_or_none_certifies_nothing(transit, provider, call, kind):
    if kind:
        transit.create_key("audit", type=kind)
    keys = provider(transit, signing_key="audit")
    with pytest.raises(NotConfigured):
        keys.sign(call, b"a certificate")


def test_without_a_signing_key_no_request_is_sent(transit, provider, call):
    with pytest.raises(NotConfigured, match="no signing key for audit trails is configured"):
        provider(transit).sign(call, b"a certificate")


def test_the_provider_records_its_requests_in_the_call(transit, provider, call):
    provider(transit).new_data_key(call)
    assert call.keys.requests == 1
    assert len(call.keys.request_id) == 36
    assert call.keys.seconds > 0


@pytest.mark.parametrize("signing_key", ["audit", "absent", ""])
def test_the_trail_of_a_proxy_is_certified_by_the_server_or_says_that_it_is_not_certified(
    openbao, own_transit, tmp_path, signing_key
):
    own_transit.create_key("audit", type="ed25519")
    vault = {"mount": own_transit.mount, "auth": {"method": "token"}}
    environment = {"VAULT_ADDR": openbao.address, "VAULT_TOKEN": openbao.root}
    settings = {"keys": {"provider": "vault", "vault": vault}, "audit": {"signingKey": signing_key}}
    proxy = Proxy(tmp_path, settings=settings, environment=environment).start()
    proxy.argo().save_stream("ns/a", b"some bytes")
    assert proxy.stop() == 0
    start, _, outcome, _ = read(proxy.trail)
    session = start["unmapped"]["session"]
    assert outcome["unmapped"]["vault"]["request_id"]
    assert openbao.calls()[f"{own_transit.mount}/sign/audit"] == (signing_key == "audit")
    done = subprocess.run(
        [*SEALGATE, "audit", "verify", str(proxy.trail), "--expect-closed", "--allow-unsigned"],
        env={**os.environ, **environment, "SEALGATE_CONFIG_YAML": json.dumps(proxy.settings)}
        if signing_key == "audit"
        else {name: value for name, value in os.environ.items() if not name.startswith("SEALGATE")},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert session["attestation"] == ("certified" if signing_key == "audit" else "none")
    assert (b"certified by audit version 1" in done.stdout) == (signing_key == "audit")
    assert ("the audit trail is not signed" in proxy.output()) == (signing_key != "audit")


@pytest.fixture
def trail_of_a_save(openbao, own_transit, tmp_path):
    """Save in a process that logs in as an account that its environment does not name; return the records."""

    def run(**settings):
        policies = own_transit.shipped_policies("saver", "loader", "certifier")
        account = logins.ServiceAccount()
        with logins.token_reviewer() as address:
            login = logins.kubernetes(own_transit, address, tmp_path / "jwt", account, policies)
            auth = {"method": "kubernetes", "role": login.role, "mount": login.mount, "jwtPath": str(login.jwt_path)}
            vault = {"mount": own_transit.mount, "auth": auth}
            settings = {"keys": {"provider": "vault", "vault": vault}, **settings}
            asserted = {"SEALGATE_NAMESPACE": "another", "SEALGATE_SERVICE_ACCOUNT": "admin", "ARGO_POD_NAME": "pod-1"}
            proxy = Proxy(tmp_path, settings=settings, environment={"VAULT_ADDR": openbao.address, **asserted}).start()
            proxy.argo().save_stream("ns/a", b"some bytes")
            assert proxy.stop() == 0
        return read(proxy.trail)

    return run


def test_the_identity_of_the_login_is_recorded_as_attested_and_is_in_the_certificate(own_transit, trail_of_a_save):
    own_transit.create_key("audit", type="ed25519")
    records = trail_of_a_save(audit={"signingKey": "audit"})
    actors = [record["actor"] for record in records]
    actors += [records[0]["unmapped"]["session"]["certified"]["certificate"]["actor"]]
    assert {(actor["attested"], actor["namespace"], actor["service_account"]) for actor in actors} == {
        (True, "ns", "sa")
    }
    assert {actor["pod"] for actor in actors} == {"pod-1"}


def test_a_trail_that_is_not_signed_names_the_identity_of_the_login_from_the_login_on(own_transit, trail_of_a_save):
    session, *_, outcome, end = trail_of_a_save()
    assert session["unmapped"]["session"]["attestation"] == "none"
    assert outcome["unmapped"]["phase"] == "outcome"
    for actor in (outcome["actor"], end["actor"]):
        assert (actor["attested"], actor["namespace"], actor["service_account"]) == (True, "ns", "sa")
        assert actor["pod"] == "pod-1"
