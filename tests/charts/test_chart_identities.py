"""The rights that the chart grants: accounts, roles in Kubernetes and in Vault, the network."""

import secrets
import subprocess

import pytest
import yaml
from harness.chain import SEALGATE
from harness.openbao import POLICIES, ApiError, OpenBao
from harness.rendering import CHART
from harness.vault_logins import ServiceAccount, enable_kubernetes, token_reviewer

from sealgate import config

pytestmark = pytest.mark.timeout(900, func_only=False)
AUDIENCE = ["https://kubernetes.default.svc.cluster.local"]
"""The audience of a pod's default token."""


@pytest.fixture(scope="module")
def vault(tmp_path_factory):
    server = OpenBao(tmp_path_factory.mktemp("openbao") / "home")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def set_up(vault, tmp_path):
    """Run the chart's script as an administrator of Vault."""

    def set_up(rendered, namespace=""):
        vault.administered(rendered.the("ConfigMap", "-vault-setup")["data"]["setup.sh"], tmp_path, namespace)

    return set_up


def token(account, namespace, name):
    service_account = {"namespace": namespace, "serviceaccount": {"name": name, "uid": "u1"}}
    return account.token(
        sub=f"system:serviceaccount:{namespace}:{name}", aud=AUDIENCE, **{"kubernetes.io": service_account}
    )


def test_the_chart_grants_the_policies_that_sealgate_ships():
    in_the_chart = {path.name: path.read_text() for path in (CHART / "files" / "vault").iterdir()}
    assert in_the_chart == {path.name: path.read_text() for path in POLICIES.iterdir()}


def test_the_vault_script_grants_a_save_and_a_load_and_nothing_more(of, vault, set_up):
    name = f"ns-{secrets.token_hex(4)}"
    vault.post(f"sys/namespaces/{name}")
    account = ServiceAccount()
    vault.post("sys/auth/cluster-1", {"type": "jwt"}, namespace=name)
    vault.post("auth/cluster-1/config", {"jwt_validation_pubkeys": [account.public]}, namespace=name)
    rendered = of("everything")
    set_up(_in_namespace(rendered, name), name)
    set_up(_in_namespace(rendered, name), name)  # a second run succeeds and changes nothing

    def login(role, namespace, service_account):
        body = {"role": role, "jwt": token(account, namespace, service_account)}
        return vault.post("auth/cluster-1/login", body, namespace=name, token="none")["auth"]

    context = {"context": "dGVhbS1h"}
    for role, namespace, who in (
        ("artifacts", "team-a", "steps"),
        ("artifacts", "team-b", "steps"),
        ("artifacts-ui", "argo-system", "argo-server"),
    ):
        auth = login(role, namespace, who)
        assert set(auth["policies"]) == {"default", "sealgate-saver", "sealgate-loader", "sealgate-certifier"}
        assert auth["token_type"] == "batch"
        for key in ("workflow-artifacts", "pci"):
            path = f"sealing/transit/datakey/plaintext/{key}"
            made = vault.post(path, context, namespace=name, token=auth["client_token"])["data"]
            body = context | {"ciphertext": made["ciphertext"]}
            opened = vault.post(f"sealing/transit/decrypt/{key}", body, namespace=name, token=auth["client_token"])
            assert opened["data"]["plaintext"] == made["plaintext"]
            for refused in (f"keys/{key}/rotate", f"export/encryption-key/{key}", f"rewrap/{key}"):
                with pytest.raises(ApiError) as fault:
                    vault.post(f"sealing/transit/{refused}", body, namespace=name, token=auth["client_token"])
                assert fault.value.status in {403, 404, 405}
        signed = vault.post("sealing/transit/sign/audit", {"input": "eA=="}, namespace=name, token=auth["client_token"])
        assert signed["data"]["signature"].startswith("vault:v1:")
        with pytest.raises(ApiError, match="missing 'context'"):
            vault.post("sealing/transit/datakey/plaintext/pci", {}, namespace=name, token=auth["client_token"])
        # Sealgate reads the proven identity from metadata of these names.
        seen = {"service_account_namespace": namespace, "service_account_name": who}
        assert seen.items() <= auth["metadata"].items()

    # Garbage collection has its audit trail certified, and may use no data key.
    auth = login("artifacts-gc", "team-b", "artifact-gc")
    assert set(auth["policies"]) == {"default", "sealgate-certifier"}
    signed = vault.post("sealing/transit/sign/audit", {"input": "eA=="}, namespace=name, token=auth["client_token"])
    assert signed["data"]["signature"].startswith("vault:v1:")
    with pytest.raises(ApiError) as fault:
        vault.post("sealing/transit/datakey/plaintext/pci", context, namespace=name, token=auth["client_token"])
    assert fault.value.status == 403


@pytest.fixture(scope="module")
def guarded(of, vault, tmp_path_factory):
    """Return a namespace of Vault that the chart's script has set up, and the account whose tokens it trusts."""
    name = f"ns-{secrets.token_hex(4)}"
    vault.post(f"sys/namespaces/{name}")
    account = ServiceAccount()
    vault.post("sys/auth/cluster-1", {"type": "jwt"}, namespace=name)
    vault.post("auth/cluster-1/config", {"jwt_validation_pubkeys": [account.public]}, namespace=name)
    script = _in_namespace(of("everything"), name).the("ConfigMap", "-vault-setup")["data"]["setup.sh"]
    vault.administered(script, tmp_path_factory.mktemp("guarded"), name)
    return name, account


def test_the_account_of_a_step_gets_a_token(vault, guarded):
    name, account = guarded
    body = {"role": "artifacts", "jwt": token(account, "team-a", "steps")}
    assert vault.post("auth/cluster-1/login", body, namespace=name, token="none")["auth"]["client_token"]


@pytest.mark.parametrize(
    ("role", "namespace", "who"),
    [
        ("artifacts", "team-c", "steps"),
        ("artifacts", "argo-system", "argo-server"),
        ("artifacts-ui", "team-a", "steps"),
        ("artifacts", "team-a", "artifact-gc"),
        ("artifacts-gc", "team-a", "steps"),
    ],
)
def test_other_accounts_get_no_token(vault, guarded, role, namespace, who):
    name, account = guarded
    with pytest.raises(ApiError):
        vault.post("auth/cluster-1/login", {"role": role, "jwt": token(account, namespace, who)}, namespace=name)


@pytest.fixture
def cluster(vault):
    """Return a function that logs in with the method kubernetes, at a mount of its own."""
    account = ServiceAccount()
    mount = f"kubernetes-{secrets.token_hex(4)}"

    def login(role, name, namespace="team-a"):
        body = {"role": role, "jwt": token(account, namespace, name)}
        return vault.post(f"auth/{mount}/login", body, token="none")["auth"]

    login.mount = mount
    with token_reviewer() as reviewer:
        enable_kubernetes(vault.post, mount, reviewer, account)
        yield login


@pytest.fixture
def with_executor(helm, cluster, set_up):
    """Render the values with an executor's account and run the script for Vault."""

    def with_executor(*more):
        given = ",".join((f"configuration.keys.vault.auth.mount={cluster.mount}", *more))
        rendered = helm.rendered("--values", f"{CHART}/ci/vendor-child.yaml", "--set", given)
        set_up(rendered)
        return rendered

    return with_executor


def rights(vault, auth):
    """Return which of `make`, `open` and `sign` a token may do."""
    made = vault.post("transit/datakey/plaintext/artifacts")["data"]
    found = set()
    for what, path, body in (
        ("make", "datakey/plaintext/artifacts", {}),
        ("open", "decrypt/artifacts", {"ciphertext": made["ciphertext"]}),
        ("sign", "sign/audit", {"input": "eA=="}),
    ):
        try:
            vault.post(f"transit/{path}", body, token=auth["client_token"])
            found.add(what)
        except ApiError as fault:
            assert fault.status == 403  # noqa: PT017 - the test compares which calls are refused
    return found


@pytest.mark.parametrize("certified", [False, True])
def test_an_executor_only_opens_data_keys_and_a_step_only_makes_them(vault, cluster, with_executor, certified):
    with_executor(*([] if certified else ["configuration.audit.signingKey="]))
    sign = {"sign"} if certified else set()
    assert rights(vault, cluster("argo-artifacts", "argo-workflow")) == {"make"} | sign
    assert rights(vault, cluster("argo-artifacts-init", "executor")) == {"open"} | sign
    assert rights(vault, cluster("argo-artifacts-gc", "argo-artifact-gc")) == sign
    assert rights(vault, cluster("argo-artifacts-server", "argo-server", "argo")) == {"make", "open"} | sign


def test_each_account_logs_in_by_its_own_role_alone(cluster, with_executor):
    with_executor()
    roles = {
        "argo-artifacts": "argo-workflow",
        "argo-artifacts-init": "executor",
        "argo-artifacts-gc": "argo-artifact-gc",
        "argo-artifacts-server": "argo-server",
    }
    for role, own in roles.items():
        home = "argo" if own == "argo-server" else "team-a"
        assert cluster(role, own, home)["client_token"]
        for account in set(roles.values()) - {own}:
            with pytest.raises(ApiError):
                cluster(role, account, home)
        with pytest.raises(ApiError):
            cluster(role, own, "team-b")


def test_pods_without_init_containers_load_with_the_steps_account(vault, cluster, with_executor):
    rendered = with_executor("argo.layout=initless")
    assert rights(vault, cluster("argo-artifacts", "argo-workflow")) == {"make", "open", "sign"}
    assert "argo-artifacts-init" not in rendered.text
    with pytest.raises(ApiError):
        cluster("argo-artifacts", "executor")


def test_an_executor_with_the_steps_account_has_the_steps_role(vault, cluster, with_executor):
    rendered = with_executor("tenants.serviceAccounts.executor=argo-workflow")
    assert rights(vault, cluster("argo-artifacts", "argo-workflow")) == {"make", "open", "sign"}
    assert "argo-artifacts-init" not in rendered.text


def test_roles_have_the_names_that_the_values_give_them(vault, cluster, with_executor):
    roles = {name: f"the-{name}-s" for name in ("init", "gc", "server")}
    rendered = with_executor(*(f"configuration.keys.vault.auth.roles.{name}={role}" for name, role in roles.items()))
    assert rights(vault, cluster("the-init-s", "executor")) == {"open", "sign"}
    assert rights(vault, cluster("the-gc-s", "argo-artifact-gc")) == {"sign"}
    assert rights(vault, cluster("the-server-s", "argo-server", "argo")) == {"make", "open", "sign"}
    pod = config.parse(text(rendered.controller()["executor"]["env"]), "it").required_keys().vault.auth
    (server,) = (config.parse(text(env), "it").required_keys().vault.auth for env in _of_servers(rendered))
    assert (pod.role, pod.roles) == ("argo-artifacts", config.Roles(init="the-init-s", gc="the-gc-s"))
    assert (server.role, server.roles) == ("the-server-s", config.Roles())


def test_the_roles_of_the_method_kubernetes_are_those_of_the_accounts(of, vault, set_up):
    vault.post("sys/auth/kubernetes", {"type": "kubernetes"})
    set_up(of("default"))
    pods = vault.api("GET", "auth/kubernetes/role/argo-artifacts")["data"]
    assert pods["bound_service_account_names"] == ["argo-workflow"]
    assert pods["bound_service_account_namespaces"] == ["team-a"]
    assert pods["token_policies"] == ["sealgate-saver", "sealgate-loader", "sealgate-certifier"]
    gc = vault.api("GET", "auth/kubernetes/role/argo-artifacts-gc")["data"]
    assert gc["bound_service_account_names"] == ["argo-artifact-gc"]
    assert gc["token_policies"] == ["sealgate-certifier"], "it needs no data key"
    server = vault.api("GET", "auth/kubernetes/role/argo-artifacts-server")["data"]
    assert server["bound_service_account_names"] == ["argo-server"]
    assert server["bound_service_account_namespaces"] == ["argo"]


def test_the_configuration_asks_for_the_roles_that_the_script_makes(of):
    executor, *others = of("everything").controller()["executor"]["env"], *_of_servers(of("everything"))
    pod, *servers = (config.parse(text(env), "it").required_keys().vault.auth for env in (executor, *others))
    assert (pod.role, pod.roles) == ("artifacts", config.Roles(gc="artifacts-gc"))
    assert all((server.role, server.roles) == ("artifacts-ui", config.Roles()) for server in servers)


def test_every_key_of_an_inline_policy_is_created_and_usable(helm, vault, set_up, tmp_path):
    rules = [
        {"name": "a", "key": "a-mount/keys/tenant-a", "authorKeys": ["a-mount/keys/shared"]},
        {"name": "b", "key": "tenant-b"},
        {"name": "c"},
    ]
    document = {"apiVersion": "sealgate/v1alpha1", "kind": "ArtifactPolicy", "metadata": {"name": "p"}}
    one, other = ({**document, "spec": {"encryption": part}} for part in (rules[:2], rules[2:]))
    (tmp_path / "values.yaml").write_text(
        yaml.safe_dump(
            {
                "tenants": {"namespaces": ["team-a"]},
                "configuration": {
                    "keys": {"vault": {"mount": "a-mount", "auth": {"mount": "cluster-2"}}},
                    "policies": [other, "/etc/a-file.yaml"],
                    "plugins": {"crypt": {"policies": [one]}},
                },
            }
        )
    )
    vault.post("sys/auth/cluster-2", {"type": "kubernetes"})
    set_up(helm.rendered("--values", str(tmp_path / "values.yaml")))
    role = vault.api("GET", "auth/cluster-2/role/argo-artifacts")["data"]
    token = vault.post("auth/token/create", {"policies": role["token_policies"]})["auth"]["client_token"]
    for key in ("artifacts", "tenant-a", "tenant-b", "shared"):
        assert vault.post(f"a-mount/datakey/plaintext/{key}", token=token)["data"]["plaintext"]


def test_with_local_data_keys_a_saver_may_encrypt_and_vault_makes_none(helm, vault, set_up, tmp_path):
    keys = {"dataKeys": "local", "mount": "encrypts", "auth": {"mount": "cluster-3"}}
    values = {"tenants": {"namespaces": ["team-a"]}, "configuration": {"keys": {"vault": keys}}}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    rendered = helm.rendered("--values", str(tmp_path / "values.yaml"))
    vault.post("sys/auth/cluster-3", {"type": "kubernetes"})
    set_up(rendered)
    role = vault.api("GET", "auth/cluster-3/role/argo-artifacts")["data"]
    token = vault.post("auth/token/create", {"policies": role["token_policies"]})["auth"]["client_token"]
    assert vault.post("encrypts/encrypt/artifacts", {"plaintext": "AAAA"}, token=token)["data"]["ciphertext"]
    with pytest.raises(ApiError) as raised:
        vault.post("encrypts/datakey/plaintext/artifacts", token=token)
    assert raised.value.status == 403
    settings = config.parse(text(rendered.controller()["executor"]["env"]), "it")
    assert settings.required_keys().vault.data_keys == "local"


def test_argo_s_accounts_are_the_same_in_vault_in_argo_helm_and_in_the_admission_policy(of):
    rendered = of("everything")
    theirs = rendered.fragment("argo-helm-values.yaml")
    accounts = {who: theirs[who]["serviceAccount"]["name"] for who in ("controller", "server")}
    assert accounts == {"controller": "argo", "server": "argo-server"}
    script = rendered.the("ConfigMap", "-vault-setup")["data"]["setup.sh"]
    assert f'"system:serviceaccount:argo-system:{accounts["server"]}"' in script
    (condition,) = rendered.the("ValidatingAdmissionPolicy", "-workflow-status")["spec"]["matchConditions"]
    for account in accounts.values():
        assert f"'system:serviceaccount:argo-system:{account}'" in condition["expression"]


def text(environment):
    (found,) = [one["value"] for one in environment if one["name"] == "SEALGATE_CONFIG_YAML"]
    return found


def _of_servers(rendered):
    return [container["env"] for container in rendered.server()["extraContainers"]]


def test_without_vault_there_is_no_script(of):
    assert not of("local-keys").has("ConfigMap", "-vault-setup")
    assert not of("by-hand").has("ConfigMap", "-vault-setup")


def test_accounts_are_created_in_each_namespace_and_named_in_workflow_defaults(of):
    rendered = of("everything")
    made = {
        (found["metadata"]["namespace"], found["metadata"]["name"])
        for found in rendered.objects()
        if found["kind"] == "ServiceAccount"
    }
    assert made == {(ns, name) for ns in ("team-a", "team-b") for name in ("steps", "artifact-gc")}
    spec = rendered.controller()["workflowDefaults"]["spec"]
    assert spec["serviceAccountName"] == "steps"
    assert spec["artifactGC"]["serviceAccountName"] == "artifact-gc"
    assert not of("by-hand").has("ServiceAccount")


def test_an_executor_has_the_secret_that_argo_mounts(of):
    rendered = of("vendor-child")
    assert rendered.controller()["workflowDefaults"]["spec"]["executor"] == {"serviceAccountName": "executor"}
    secret = rendered.the("Secret", "executor.service-account-token")
    assert rendered.the("ServiceAccount", "executor")["metadata"]["namespace"] == secret["metadata"]["namespace"]
    assert secret["type"] == "kubernetes.io/service-account-token"
    assert secret["metadata"]["annotations"] == {"kubernetes.io/service-account.name": "executor"}
    assert not of("everything").has("Secret")


def test_an_account_has_the_kubernetes_rights_that_argo_needs_and_no_others(of):
    roles = {
        (found["metadata"]["namespace"], found["metadata"]["name"]): found["rules"]
        for found in of("everything").objects()
        if found["kind"] == "Role"
    }
    allowed = {
        name: {(rule["apiGroups"][0], tuple(rule["resources"]), tuple(rule["verbs"])) for rule in rules}
        for (_, name), rules in roles.items()
    }
    assert allowed == {
        "release-name-sealing-executor": {("argoproj.io", ("workflowtaskresults",), ("create", "patch"))},
        "release-name-sealing-artifact-gc": {
            ("argoproj.io", ("workflowartifactgctasks",), ("list", "watch")),
            ("argoproj.io", ("workflowartifactgctasks/status",), ("patch",)),
        },
    }
    for binding in (found for found in of("everything").objects() if found["kind"] == "RoleBinding"):
        assert (binding["metadata"]["namespace"], binding["roleRef"]["name"]) in roles
        assert all(subject["namespace"] == binding["metadata"]["namespace"] for subject in binding["subjects"])


def test_workflow_and_garbage_collection_pods_reach_only_the_listed_destinations(of):
    policies = [found for found in of("everything").objects() if found["kind"] == "NetworkPolicy"]
    assert len(policies) == 4
    for policy in policies:
        assert policy["spec"]["policyTypes"] == ["Egress"]
        assert ports(policy) == {53, 6443, 8200, 443, 4317}
        assert all(rule["to"] for rule in policy["spec"]["egress"])


def test_vault_is_reachable_where_it_is_the_key_provider(helm):
    given = ("--set", "networkPolicy.enabled=true")

    def open_to(case):
        rendered = helm.rendered("--values", f"{CHART}/ci/{case}.yaml", *given)
        found = [found for found in rendered.objects() if found["kind"] == "NetworkPolicy"]
        return {policy["metadata"]["name"] for policy in found if 8200 in ports(policy)}

    assert open_to("default") == {"release-name-sealgate-workflows", "release-name-sealgate-artifact-gc"}
    assert open_to("local-keys") == set()


def test_each_pod_is_selected_by_one_network_policy(of):
    """Pods have the labels that Argo sets. Several policies of one pod would allow the sum of their rules."""
    workflow = {"workflows.argoproj.io/workflow": "w"}
    collecting = workflow | {"workflows.argoproj.io/component": "artifact-gc"}
    agent = workflow | {"workflows.argoproj.io/component": "agent"}
    doctor = of("everything").objects()[-1]["metadata"]["labels"]
    assert of("everything").objects()[-1]["kind"] == "Pod"
    policies = [found for found in of("everything").objects() if found["kind"] == "NetworkPolicy"]
    for labels, name in (
        (workflow, "workflows"),
        (collecting, "artifact-gc"),
        (agent, "workflows"),
        (doctor, "workflows"),
    ):
        held = {one["metadata"]["name"] for one in policies if selects(one["spec"]["podSelector"], labels)}
        assert held == {f"release-name-sealing-{name}"}


def selects(selector, labels):
    for one in selector.get("matchExpressions", []):
        value = labels.get(one["key"])
        if (value is None) if one["operator"] == "Exists" else (value in one["values"]):
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


def ports(policy):
    return {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}


def _in_namespace(rendered, name):
    """Replace the namespace of the values by one of this test."""
    return type(rendered)(rendered.text.replace("VAULT_NAMESPACE='platform'", f"VAULT_NAMESPACE='{name}'"))


def test_the_vault_script_equals_that_of_sealgate_init(helm, tmp_path):
    given = ("--address", "https://vault:8200", "--storage", "s3://b", "--namespace", "team-a", "--namespace", "team-b")
    more = ("--mount", "a/mount", "--key", "reports")
    subprocess.run([*SEALGATE, "init", tmp_path / "here", *given, *more], check=True, capture_output=True)
    keys = "configuration.keys.vault.mount=a/mount,configuration.keys.vault.key=reports"
    keys += ",configuration.keys.vault.address=https://vault:8200"
    rendered = helm.rendered("--set", "tenants.namespaces={team-a,team-b}", "--set", keys)
    assert rendered.the("ConfigMap", "-vault-setup")["data"]["setup.sh"] == (tmp_path / "here/vault.sh").read_text()
