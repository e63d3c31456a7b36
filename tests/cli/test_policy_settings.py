"""The policies that a configuration names, and the identity of the process that they decide for."""

from __future__ import annotations

import json

import pytest
from harness.policy import document

from sealgate import config
from sealgate.call import Call, Operation
from sealgate.compose.policies import load_policies, policy_identity, process_resolver
from sealgate.errors import PolicyInvalid
from sealgate.identity import Identity
from sealgate.keys.local import LocalKeys
from sealgate.policy.rules import Process

HEAD = {"apiVersion": "sealgate/v1alpha1", "kind": "Sealgate"}
CALL = Call(Operation.LOAD)


def settings(plugin: str | None = None, **written):
    return config.parse(json.dumps({**HEAD, **written}), "config.json", plugin)


def test_without_a_policy_the_baseline_applies():
    assert load_policies(settings()).documents == ()
    with pytest.raises(PolicyInvalid, match="a policy is required"):
        load_policies(settings(requirePolicy=True))


def test_a_fault_of_a_document_in_place_has_its_line_in_the_configuration():
    text = "apiVersion: sealgate/v1alpha1\nkind: Sealgate\npolicies:\n  - apiVersion: sealgate/v1alpha1\n"
    text += "    kind: ArtifactPolicy\n    metadata: {name: x}\n    spec:\n      rulez: []\n"
    with pytest.raises(PolicyInvalid, match=r"^configuration:8:7: Object contains unknown field `rulez`"):
        load_policies(config.parse(text, "config.yaml"))


def test_policies_of_a_plugin_name_replace_the_common_ones(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(document(name="from-a-file")))
    written = {"policies": [document(name="common")], "plugins": {"pci": {"policies": [str(tmp_path)]}}}
    names = [
        [found.metadata.name for found in load_policies(settings(plugin, **written)).documents]
        for plugin in (None, "pci")
    ]
    assert names == [["common"], ["from-a-file"]]


@pytest.mark.parametrize("policies", [[5], [""], [["a"]], "a"])
def test_a_policy_that_is_neither_a_path_nor_a_document_is_refused(policies):
    with pytest.raises(config.NotConfigured, match=r"config.json:1:\d+: "):
        settings(policies=policies)


def test_the_first_fault_is_reported_with_the_number_of_others():
    with pytest.raises(PolicyInvalid, match=r"\(and 1 more\)$") as raised:
        load_policies(settings(policies=[document([{"effect": "alow", "lmits": {}}])]))
    assert "policy check" in raised.value.remedy


def test_a_key_of_another_mount_is_refused():
    keys = {"provider": "vault", "vault": {"auth": {"method": "token"}, "mount": "kms/transit"}}
    good = document(encryption=[{"key": "kms/transit/keys/x"}])
    assert load_policies(settings(keys=keys, policies=[good])).documents
    with pytest.raises(
        PolicyInvalid, match="the key is in mount transit, but the configuration uses mount kms/transit"
    ):
        load_policies(settings(keys=keys, policies=[document(encryption=[{"key": "transit/keys/x"}])]))


class Proven(LocalKeys):
    """A provider whose login attests an identity."""

    def __init__(self, proven) -> None:
        self.proven = proven

    def attested(self, call):
        return self.proven


def test_an_attested_identity_replaces_that_of_the_environment():
    proven = {"service_account_namespace": "team-b", "service_account_name": "sa", "role": "r"}
    found = process_resolver(Proven(proven))(CALL)
    assert found.attested
    assert (found.identity["namespace"], found.identity["serviceAccount"]) == ("team-b", "sa")


@pytest.mark.parametrize("proven", [{}, {"role": "r"}, {"service_account_name": "sa"}])
def test_an_incomplete_attestation_is_ignored(proven):
    found = process_resolver(Proven(proven))(CALL)
    assert not found.attested
    assert found.identity.get("serviceAccount") != "sa"


def test_every_field_of_an_identity_has_a_name_in_policies():
    fields = set(Identity.__dataclass_fields__) - {"attested"}  # it says how the others are known
    found = policy_identity(Identity(**{name: name for name in fields}))
    assert sorted(found.values()) == sorted({*fields} - {"attested"})
    assert Process(found).identity is found
