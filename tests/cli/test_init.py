"""`sealgate init`: the files that it writes are valid, and its commands work against a real server."""

import os
import pty
import re
import subprocess

import msgspec
import pytest
import yaml
from harness.chain import SEALGATE
from harness.openbao import OpenBao

from sealgate import config

GIVEN = ("--address", "https://vault:8200", "--storage", "s3://artifacts/prefix", "--namespace", "team-a")
FILES = {"sealgate.yaml", "policies/own-namespace.yaml", "values.yaml", "vault.sh"}


@pytest.fixture
def run(tmp_path):
    def run(*arguments, **environment):
        command = [*SEALGATE, "init", *arguments]
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], **environment},
            check=False,
        )

    return run


def sealgate(place, *arguments):
    return subprocess.run([*SEALGATE, *arguments], cwd=place, capture_output=True, text=True, check=False)


def written(directory):
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_the_configuration_is_valid_and_commented(run, tmp_path):
    assert run("here", *GIVEN).returncode == 0
    assert written(tmp_path / "here") == FILES
    text = (tmp_path / "here/sealgate.yaml").read_text()
    settings = config.parse(text, "sealgate.yaml")
    assert settings.required_downstream().builtin == config.BuiltinSettings("s3://artifacts/prefix")
    assert settings.required_keys().vault.address == "https://vault:8200"
    assert len(re.findall(r"^ *# ", text, re.MULTILINE)) >= 6
    assert "s3://artifacts/prefix" in text


def test_a_value_that_yaml_could_take_for_another_type_stays_text(run, tmp_path):
    names = ("--mount", "null", "--key", "2026", "--signing-key", "true", "--address", "https://vault:")
    assert run("here", *GIVEN, *names, VAULT_NAMESPACE="0x10").returncode == 0
    written = yaml.safe_load((tmp_path / "here/sealgate.yaml").read_text())
    values = yaml.safe_load((tmp_path / "here/values.yaml").read_text())["configuration"]
    for settings in (written, values):
        vault = {name: settings["keys"]["vault"][name] for name in ("address", "namespace", "mount", "key")}
        assert vault == {"address": "https://vault:", "namespace": "0x10", "mount": "null", "key": "2026"}
        assert settings["audit"] == {"signingKey": "true"}


def test_the_policy_passes_a_strict_check(run, tmp_path):
    run("here", *GIVEN)
    checked = sealgate(tmp_path, "policy", "check", "--strict", "here/policies")
    assert checked.returncode == 0, checked.stdout
    (named,) = config.parse((tmp_path / "here/sealgate.yaml").read_text(), "sealgate.yaml").policies
    assert named == tmp_path / "here/policies"


@pytest.mark.parametrize(
    ("operation", "key", "namespace", "component", "more", "decision"),
    [
        ("Save", "team-a/x", "team-a", "sidecar", ("--attested",), "ALLOW"),
        ("Load", "team-a/x", "team-a", "init", ("--attested",), "ALLOW"),
        ("Save", "team-a/x", "team-a", "sidecar", (), "DENY"),
        ("Save", "team-b/x", "team-a", "sidecar", ("--attested",), "DENY"),
        ("Load", "uploads/team-a/u/x", "team-a", "init", ("--attested",), "ALLOW"),
        ("Save", "uploads/team-a/u/x", "team-a", "sidecar", ("--attested",), "DENY"),
        ("Delete", "team-a/x", "team-a", "gc", ("--attested",), "ALLOW"),
        ("Delete", "team-a/x", "team-a", "gc", (), "DENY"),
        ("Delete", "team-b/x", "team-a", "gc", ("--attested",), "DENY"),
        ("OpenStream", "team-a/x", "argo", "server", ("--attested",), "ALLOW"),
        ("OpenStream", "team-b/x", "argo", "server", ("--attested",), "DENY"),
        ("SaveStream", "uploads/team-a/u/x", "argo", "server", ("--attested",), "ALLOW"),
        ("Delete", "team-a/x", "argo", "server", ("--attested",), "DENY"),
        # A pod can pretend to be Argo's server by its environment. Vault attests the namespace that it runs in.
        ("Load", "team-a/x", "team-b", "server", ("--attested",), "DENY"),
        ("OpenStream", "team-a/x", "team-b", "server", ("--attested",), "DENY"),
        ("SaveStream", "team-a/x", "team-b", "server", ("--attested",), "DENY"),
    ],
)
def test_the_policy_decides_as_its_comments_say(run, tmp_path, operation, key, namespace, component, more, decision):
    run("here", *GIVEN)
    who = ("--namespace", namespace, "--component", component, *more)
    explained = sealgate(
        tmp_path, "policy", "explain", "--policy", "here/policies", "--op", operation, "--key", key, *who
    )
    assert explained.stdout.startswith(decision), explained.stdout


def test_a_value_in_the_environment_is_not_asked_for(run, tmp_path):
    environment = {
        "VAULT_ADDR": "https://bao:8200",
        "VAULT_NAMESPACE": "platform",
        "SEALGATE_BACKEND_URL": "gs://bucket",
        "SEALGATE_NAMESPACE": "team-b",
    }
    assert run("here", **environment).returncode == 0
    vault = config.parse((tmp_path / "here/sealgate.yaml").read_text(), "it").required_keys().vault
    assert (vault.address, vault.namespace) == ("https://bao:8200", "platform")
    script = (tmp_path / "here/vault.sh").read_text()
    assert "bound_service_account_namespaces='team-b'" in script
    assert "VAULT_NAMESPACE='platform'" in script


def test_a_missing_value_is_named_if_there_is_no_terminal(run, tmp_path):
    for number, option in enumerate(("--address", "--storage", "--namespace")):
        refused = run("here", *GIVEN[: 2 * number])
        assert refused.returncode == 2
        assert option in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
        assert not (tmp_path / "here").exists()


def test_only_a_missing_value_is_asked_for_on_a_terminal(tmp_path):
    leader, follower = pty.openpty()
    command = [*SEALGATE, "init", "here", "--storage", "s3://artifacts"]
    environment = {"PATH": os.environ["PATH"], "SEALGATE_NAMESPACE": "team-a"}
    with subprocess.Popen(
        command, stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path, env=environment
    ) as process:
        os.write(leader, b"https://asked:8200\n")
        output = process.stdout.read().decode()
        assert process.wait() == 0, output
    os.close(leader)
    os.close(follower)
    assert output.count("such as") == 1
    assert "https://asked:8200" in (tmp_path / "here/sealgate.yaml").read_text()


@pytest.mark.parametrize("name", sorted(FILES))
def test_an_existing_file_is_kept_and_no_other_file_written(run, tmp_path, name):
    (tmp_path / "here" / name).parent.mkdir(parents=True)
    (tmp_path / "here" / name).write_text("precious")
    refused = run("here", *GIVEN)
    assert refused.returncode == 2
    assert name in refused.stderr
    assert written(tmp_path / "here") == {name}
    assert (tmp_path / "here" / name).read_text() == "precious"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--address", "vault:8200"),
        ("--address", "https://vault\nx: y"),
        ("--storage", "bucket"),
        ("--namespace", "Team A"),
        ("--mount", "transit; id"),
        ("--key", "$(id)"),
        ("--key", "a'b"),
        ("--signing-key", "a'b"),
        ("--address", "https://vault/`id`"),
        ("--argo-namespace", "Argo"),
        ("--server-account", "a;id"),
    ],
)
def test_a_malformed_value_is_refused_before_any_file_is_written(run, tmp_path, option, value):
    refused = run("here", *GIVEN, option, value)
    assert refused.returncode == 2
    assert f"Give {option} as " in refused.stderr, "the remedy shows the form"
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize(
    ("option", "value"), [("--address", "https://root:hidden@vault"), ("--storage", "s3://AKIA:hidden@bucket/prefix")]
)
def test_a_password_is_refused_and_not_repeated(run, tmp_path, option, value):
    refused = run("here", *GIVEN, option, value)
    assert refused.returncode == 2
    assert f"the {option.removeprefix('--')} contains a user name" in refused.stderr
    assert "hidden" not in refused.stdout + refused.stderr
    assert not (tmp_path / "here").exists()


def allowed(place, operation, key):
    """Return whether the written policy allows an access by Argo's server."""
    who = ("--component", "server", "--namespace", "argo", "--attested")
    explained = sealgate(place, "policy", "explain", "--policy", "here/policies", "--op", operation, "--key", key, *who)
    return explained.stdout.startswith("ALLOW")


@pytest.mark.parametrize(
    ("options", "reads"),
    [
        ((), True),
        (("--namespace", "team-b"), False),
        (("--namespace", "team-b", "--shared-server"), True),
    ],
    ids=["one namespace", "several", "several, shared"],
)
def test_argos_server_reads_only_what_no_author_of_another_namespace_can_name(run, tmp_path, options, reads):
    assert run("here", *GIVEN, *options).returncode == 0
    assert sealgate(tmp_path, "policy", "check", "--strict", "here/policies").returncode == 0
    for operation in ("OpenStream", "ListObjects"):
        assert allowed(tmp_path, operation, "team-a/wf/model") == reads
        assert not allowed(tmp_path, operation, "team-c/wf/model")
    assert allowed(tmp_path, "SaveStream", "uploads/team-a/file")
    assert not allowed(tmp_path, "SaveStream", "team-a/wf/model")
    values = yaml.safe_load((tmp_path / "here/values.yaml").read_text())
    assert values["admission"] == {"enabled": "--shared-server" in options}


def test_the_given_namespace_and_account_of_argo_are_in_every_file(run, tmp_path):
    run("here", *GIVEN, "--argo-namespace", "argo-system", "--server-account", "argo-workflows-server")
    script = (tmp_path / "here/vault.sh").read_text()
    assert "bound_service_account_names='argo-workflows-server'" in script
    assert "bound_service_account_namespaces='argo-system'" in script
    values = yaml.safe_load((tmp_path / "here/values.yaml").read_text())
    assert values["argo"] == {"namespace": "argo-system", "server": {"serviceAccount": "argo-workflows-server"}}
    policy = yaml.safe_load((tmp_path / "here/policies/own-namespace.yaml").read_text())
    (rule,) = [rule for rule in policy["spec"]["rules"] if rule["name"] == "user-interface"]
    assert rule["match"]["identity"]["namespaces"] == ["argo-system"]


def test_the_script_uses_the_given_address_unless_the_environment_has_another(run, tmp_path):
    run("here", *GIVEN)
    (line,) = [line for line in (tmp_path / "here/vault.sh").read_text().splitlines() if "VAULT_ADDR" in line]
    for environment, address in (({}, "https://vault:8200"), ({"VAULT_ADDR": "https://other"}, "https://other")):
        done = subprocess.run(
            ["sh", "-c", f'{line}\necho "$VAULT_ADDR"'], capture_output=True, text=True, env=environment, check=False
        )
        assert done.stdout.strip() == address


def test_a_directory_that_cannot_be_created_is_named_in_one_line(run, tmp_path):
    (tmp_path / "file").write_text("")
    refused = run("file/here", *GIVEN)
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1


def test_the_script_for_vault_makes_a_save_and_a_load_possible(run, tmp_path):
    server = OpenBao(tmp_path / "openbao")
    try:
        server.start()
        server.post("sys/auth/kubernetes", {"type": "kubernetes"})
        run("here", *GIVEN, "--mount", "a/mount", "--key", "reports", "--namespace", "team-b")
        for _ in range(2):
            server.administered((tmp_path / "here/vault.sh").read_text(), tmp_path)
        text = (tmp_path / "here/sealgate.yaml").read_text()
        vault = config.parse(text, "it").required_keys().vault
        assert vault.auth == config.KubernetesAuth(role="argo-artifacts", roles=config.Roles(gc="argo-artifacts-gc"))
        values = yaml.safe_load((tmp_path / "here/values.yaml").read_text())["configuration"]["keys"]["vault"]
        assert msgspec.convert(values["auth"], config.KubernetesAuth) == vault.auth
        role = server.api("GET", "auth/kubernetes/role/argo-artifacts")["data"]
        assert role["bound_service_account_namespaces"] == ["team-a", "team-b"]
        body = {"policies": role["token_policies"], "no_default_policy": True}
        token = server.post("auth/token/create", body)["auth"]["client_token"]
        made = server.post("a/mount/datakey/plaintext/reports", token=token)["data"]
        opened = server.post("a/mount/decrypt/reports", {"ciphertext": made["ciphertext"]}, token=token)["data"]
        assert opened["plaintext"] == made["plaintext"]
        gc = server.api("GET", "auth/kubernetes/role/argo-artifacts-gc")["data"]
        assert gc["bound_service_account_names"] == ["argo-artifact-gc"]
        assert gc["token_policies"] == ["sealgate-certifier"], "it needs no data key"
        assert "sealgate-certifier" in role["token_policies"]
        signed = server.post("a/mount/sign/audit", {"input": ""}, token=token)["data"]
        assert signed["signature"].startswith("vault:v1:")
        assert config.parse(text, "it").audit.signing_key == "audit"
    finally:
        server.stop()
