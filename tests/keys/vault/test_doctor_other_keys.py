"""`sealgate doctor` tries each key that serve will use on a real server: those of policies, and the one that signs."""

from __future__ import annotations

import pytest
from harness.doctor import doctor_at
from harness.doctor_faults import POLICY_KEYS as CHECK
from harness.doctor_faults import SIGNATURE, Scene, TlsServer
from harness.openbao import POLICIES

ROLES = {"saver": ["make"], "loader": ["open"], "both": ["make", "open"], "rewrapper": ["rewrap"]}
ONE = {"name": "pci", "match": {"keys": ["pci/**"]}, "key": "pci"}
RULES = [
    {**ONE, "readKeys": ["before"]},
    {"name": "theirs", "match": {"keys": ["b/**"], "identity": {"namespaces": ["team-b"]}}, "key": "team-b"},
    {"name": "own", "match": {"keys": ["own/**"]}, "key": "of-${identity.namespace}"},
    {"name": "rest"},
]
NAMESPACE = {"SEALGATE_NAMESPACE": "team-a"}


@pytest.fixture
def scene(tmp_path, openbao, transit):
    with doctor_at(tmp_path) as doctor:
        yield Scene(doctor, openbao, transit, TlsServer({}, tmp_path))


@pytest.fixture
def examine(scene):
    """Run doctor for a role whose policies allow the configured key and `keys`, with the rules above."""

    def run(role, *keys, rules=RULES, environment=NAMESPACE, audit=None, further=()):
        names = ["saver", "loader"] if role == "both" else [role]
        policies = scene.shipped(*names)
        for name in names:
            text = (POLICIES / f"{name}.hcl").read_text()
            policies += [scene.transit.policy(text.replace('/artifacts"', f'/{key}"')) for key in keys]
        document = {
            "apiVersion": "sealgate/v1alpha1",
            "kind": "ArtifactPolicy",
            "metadata": {"name": "keys"},
            "spec": {"encryption": rules},
        }
        more = {"policies": [document], "audit": audit or {}}
        policies += map(scene.transit.policy, further)
        return scene.vault(*policies, arguments=("--role", role), environment=environment, more=more)

    return run


@pytest.mark.parametrize("role", ROLES)
def test_each_key_that_a_rule_for_this_process_names_is_tried_as_the_role_uses_it(scene, examine, role):
    for key in ("pci", "before", "of-team-a"):
        scene.transit.create_key(key)
    report = examine(role, "pci", "before", "of-team-a")
    assert report.code == 0, report.output
    verbs = " and ".join(ROLES[role])
    for key, rule in (("pci", "pci"), ("of-team-a", "own")):
        assert f"this identity may {verbs} data keys with key {key}, as rule keys/{rule} needs" in report.line(CHECK)
    assert ("with key before" in report.line(CHECK)) is (role != "saver"), "nothing is sealed under it"
    assert "team-b" not in report.line(CHECK), "its rule is for another namespace"


@pytest.mark.parametrize("role", ROLES)
def test_a_key_that_the_role_may_not_use_fails_and_the_policy_to_paste_allows_it(scene, examine, role):
    scene.transit.create_key("pci")
    rules = [ONE, RULES[-1]]
    report = examine(role, rules=rules)
    assert (report.code, report.of("FAILED")) == (1, {CHECK})
    assert "Give its role the policy below" in report.line(CHECK)
    for verb in ROLES[role][:1]:
        assert (
            f"may not {verb} data keys with key pci in {scene.transit.mount}, which the encryption rule keys/pci"
            in (report.line(CHECK))
        )
    token = scene.transit.token(scene.transit.policy(report.policy), no_default_policy=False)
    assert examine(role, rules=rules, environment={"VAULT_TOKEN": token}).code == 0


def test_a_key_whose_name_is_close_to_one_that_may_be_used_is_taken_for_a_mistake(scene, examine):
    report = examine("both", rules=[{**ONE, "key": "artifcats"}, RULES[-1]])
    assert report.of("FAILED") == {CHECK}
    assert "Correct the name in the rule, if artifacts is meant" in report.line(CHECK)
    assert report.policy == "", "a policy to paste would contain the mistake"


def test_a_key_that_cannot_wrap_data_keys_is_named_with_its_rule(scene, examine):
    scene.transit.create_key("pci", type="ed25519")
    report = examine("both", "pci", rules=[ONE, RULES[-1]])
    assert report.of("FAILED") == {CHECK}
    assert "key pci of the encryption rule keys/pci" in report.line(CHECK)
    assert "Correct the key in this rule" in report.line(CHECK)


def test_a_key_whose_name_depends_on_an_identity_that_is_unknown_is_not_checked(scene, examine):
    report = examine("both", rules=[RULES[2], RULES[-1]], environment={})
    assert report.state(CHECK) == "not checked"
    assert "key of-${identity.namespace} of the encryption rule keys/own" in report.line(CHECK)


# --- a name that is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"key": "artifcats"}, {"key": "data"}, {"mount": "trasnit"}])
def test_a_name_that_is_wrong_is_not_in_a_policy_to_paste(scene, wrong):
    report = scene.vault(*scene.shipped("saver", "loader"), **wrong)
    assert report.code == 1
    assert f"it may use {scene.transit.mount}/artifacts" in report.line("data key: make")
    assert "Correct keys.vault.mount and keys.vault.key" in report.line("data key: make")
    assert report.policy == ""
    assert report.state("vault: other rights") == "not checked"


# --- the key that signs ----------------------------------------------------------------------------------


def test_a_key_that_signs_is_tried_once(scene):
    scene.transit.create_key("audit", type="ed25519")
    report = scene.signing("audit", 'path "transit/sign/audit" { capabilities = ["update"] }')
    assert (report.code, report.of("warning")) == (0, set()), report.output
    assert "the audit trail is signed: key audit version 1 signed a random text" in report.line(SIGNATURE)


def test_a_trail_that_is_not_signed_is_one_clear_line(scene):
    report = scene.vault(*scene.shipped("saver", "loader"))
    assert (report.code, report.of("warning")) == (0, {SIGNATURE})
    assert "the audit trail is not signed: any program could have written it" in report.line(SIGNATURE)
    assert "Set audit.signingKey" in report.line(SIGNATURE)


@pytest.mark.parametrize("exists", [True, False])
def test_a_key_that_the_role_may_not_sign_with_is_corrected_by_the_policy_to_paste(scene, exists):
    if exists:
        scene.transit.create_key("audit", type="ed25519")
    report = scene.signing("audit")
    assert (report.code, report.of("FAILED")) == (1, {SIGNATURE})
    assert "Check audit.signingKey" in report.line(SIGNATURE)
    if exists:
        token = scene.transit.token(scene.transit.policy(report.policy), no_default_policy=False)
        corrected = scene.vault(environment={"VAULT_TOKEN": token}, more={"audit": {"signingKey": "audit"}})
        assert (corrected.code, corrected.of("warning")) == (0, set()), corrected.output


@pytest.mark.parametrize("kind", ["aes256-gcm96", "ecdsa-p256", "rsa-2048"])
def test_a_key_of_another_type_does_not_sign_a_trail(scene, kind):
    scene.transit.create_key("audit", type=kind)
    report = scene.signing("audit", 'path "transit/sign/audit" { capabilities = ["update"] }')
    assert (report.code, report.of("FAILED")) == (1, {SIGNATURE})
    assert "type ed25519" in report.line(SIGNATURE)
