"""Two tenants with keys and roles of their own in Vault, set up by the commands of the page on Vault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from cluster.scene import BUCKET, PREFIX, ROOT, TENANTS, Scene
from cluster.test_cluster_placements import upgrade
from cluster.thieves import failed, hidden_treasure, no_admission, own_configuration, thief, tried, variables
from cluster.workflows import plugin, step, steps

from sealgate.envelope.header import read_header

CARELESS = "team-b/careless/it"
"""A key of team-b under which a policy admits objects that are sealed under the key of team-a."""
SERVER = "auth/kubernetes/role/argo-artifacts-server"
_OF_A_ROLE = ("bound_service_account_names", "bound_service_account_namespaces", "token_policies", "token_ttl")


@pytest.fixture(scope="module")
def isolated(installed: Scene) -> Iterator[Scene]:
    """The installation, upgraded to a key and a role for each tenant."""
    for tenant in TENANTS:
        page = installed.page.other(ROOT / "docs/vault.md", ROOT, {"team-a": tenant})
        page.run_block("vault write -f transit/keys/tenant-")
    found = installed.vault.api("GET", SERVER)["data"]
    server = {name: found[name] for name in _OF_A_ROLE}
    of_all = [f"tenant-{tenant}-{name}" for tenant in TENANTS for name in ("saver", "loader")]
    installed.vault.post(SERVER, server | {"token_policies": server["token_policies"] + of_all})
    before, first = installed.values(), installed.clone / "first/values.yaml"
    first_before = first.read_text()
    values = installed.values()
    auth = {"role": "artifacts-${identity.namespace}", "roles": {"server": "argo-artifacts-server"}}
    values["configuration"]["keys"]["vault"]["auth"] = auth
    values["vault"] = {"setup": False}
    generated = yaml.safe_load(first_before)
    (policy,) = generated["configuration"]["policies"]
    policy["spec"]["encryption"] = [_careless(), *map(_sealed_by, TENANTS)]
    installed.write_values(values)
    first.write_text(yaml.safe_dump(generated))
    try:
        upgrade(installed)
        yield installed
    finally:
        installed.write_values(before)
        first.write_text(first_before)
        installed.vault.post(SERVER, server)


def _sealed_by(tenant: str) -> dict[str, Any]:
    match = {"keys": [f"{tenant}/**", f"uploads/{tenant}/**"]}
    return {"name": tenant, "match": match, "key": f"transit/keys/tenant-{tenant}"}


def _careless() -> dict[str, Any]:
    rule = _sealed_by("team-b") | {"name": "careless", "match": {"keys": ["team-b/careless/**"]}}
    return rule | {"readKeys": ["transit/keys/tenant-team-a"]}


@pytest.fixture(scope="module")
def treasure(isolated: Scene) -> str:
    return hidden_treasure(isolated)


@pytest.fixture(scope="module")
def without_admission(isolated: Scene, treasure: str) -> Iterator[None]:
    with no_admission(isolated):
        yield


def key_of(content: bytes) -> str:
    """Return the name of the key in Vault that a stored object names."""
    header, _ = read_header(lambda size, offset: content[offset : offset + size])
    return header.key.key_name


@pytest.mark.parametrize("tenant", ["team-a", "team-b"])
def test_each_tenant_saves_and_loads_under_its_own_key(isolated: Scene, tenant: str):
    write = step("write", "echo x > /tmp/out", outputs={"it": "/tmp/out"})
    read = step("read", "test $(cat /tmp/in) = x", inputs={"it": "/tmp/in"})
    workflow = isolated.submit(tenant, *steps(write, read, passes={"it": "it"})).succeeded()
    for name in ("it", "main-logs"):
        assert key_of(isolated.content(workflow.key("write", name))) == f"tenant-{tenant}"
    used = [each["unmapped"]["crypto"] for each in workflow.trail() if each.get("unmapped", {}).get("crypto")]
    assert used
    assert all(f"tenant-{tenant}" in str(crypto) for crypto in used), used


def test_the_policy_refuses_an_object_that_was_copied_from_the_other_tenant(isolated: Scene, treasure: str):
    _copy(isolated, treasure, "team-b/stolen")
    message = failed(isolated.submit("team-b", thief("team-b/stolen")).ended())
    assert 'the object was sealed under the key "tenant-team-a"' in message, message


def test_vault_refuses_the_other_tenants_key_where_a_policy_admits_it(isolated: Scene, treasure: str):
    _copy(isolated, treasure, CARELESS)
    since = isolated.vault.audit_size("calls")
    message = failed(isolated.submit("team-b", thief(CARELESS)).ended())
    assert "Vault does not allow this role to use key tenant-team-a" in message, message
    asked = [each for each in isolated.vault.audit("calls", since) if each["type"] == "response"]
    refusals = [each.get("error", "") for each in asked if each["request"]["path"] == "transit/decrypt/tenant-team-a"]
    assert refusals
    assert all("permission denied" in refusal for refusal in refusals), refusals


@pytest.mark.usefixtures("without_admission")
def test_vault_refuses_the_login_by_the_role_of_the_other_tenant(isolated: Scene, treasure: str):
    message = failed(tried(isolated, treasure, env=variables(SEALGATE_NAMESPACE="team-a")))
    assert "Vault refuses the login" in message, message


@pytest.mark.usefixtures("without_admission")
@pytest.mark.parametrize(
    ("role", "refusal"),
    [
        ("artifacts-team-a", "Vault refuses the login"),
        ("artifacts-team-b", "Vault does not allow this role to use key tenant-team-a"),
        ("argo-artifacts", "Vault does not allow this role to use key tenant-team-a"),
    ],
    ids=["role of the other", "own role", "role of all"],
)
def test_a_configuration_of_the_authors_opens_nothing_of_the_other_tenant(
    isolated: Scene, treasure: str, role: str, refusal: str
):
    own = own_configuration(isolated, auth={"method": "kubernetes", "role": role})
    message = failed(tried(isolated, treasure, env=variables(SEALGATE_CONFIG_YAML=own)))
    assert refusal in message, message


def test_a_tenant_does_not_seal_under_the_key_of_the_other(isolated: Scene):
    wanted = plugin("team-b/wanted", configuration='{"sealgate": {"key": "transit/keys/tenant-team-a"}}')
    write = step("write", "echo x > /tmp/out", outputs={"it": {"path": "/tmp/out", **wanted}})
    message = failed(isolated.submit("team-b", write).ended())
    assert "tenant-team-a" in message, message
    assert not isolated.keys("team-b/wanted")


def _copy(scene: Scene, source: str, target: str) -> None:
    """Copy an object, as everyone can who may write to the bucket."""
    copied = {"Bucket": BUCKET, "Key": f"{PREFIX}/{source}"}
    scene.s3.client.copy_object(Bucket=BUCKET, Key=f"{PREFIX}/{target}", CopySource=copied)
