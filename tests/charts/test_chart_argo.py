"""The same texts, parsed by Argo's own types and taken by argo-helm: where the environment names copies of them.

SEALGATE_TEST_ARGO_SOURCE is a checkout of Argo Workflows, SEALGATE_TEST_ARGO_HELM argo-helm's chart argo-workflows.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from argo_types import require_kubernetes
from harness.golang import built
from rendering import MATRIX, ROOT

pytestmark = pytest.mark.timeout(1800, func_only=False)


@pytest.fixture(scope="session")
def parse(tmp_path_factory):
    source = os.environ.get("SEALGATE_TEST_ARGO_SOURCE")
    if not source:
        pytest.skip("SEALGATE_TEST_ARGO_SOURCE names no checkout of Argo Workflows")
    place = tmp_path_factory.mktemp("go") / "argo-parser"
    shutil.copytree(Path(__file__).with_name("argo"), place)
    # Argo's own versions of everything that it needs.
    module = (Path(source) / "go.mod").read_text().partition("\n")[2]
    argo = "github.com/argoproj/argo-workflows/v4"
    own = f"module argo-parser\n{module}\nrequire {argo} v4.0.0\nreplace {argo} => {Path(source).absolute()}\n"
    (place / "go.mod").write_text(own)
    shutil.copy(Path(source) / "go.sum", place)
    program = built(place, "-mod=mod")

    def parse(kind, document):
        done = subprocess.run(
            [program, kind], input=yaml.safe_dump(document), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    return parse


@pytest.mark.parametrize("case", MATRIX)
def test_argo_parses_the_controller_s_configuration(parse, of, case):
    parse("Config", of(case).controller())


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_argo_parses_the_examples(parse, path):
    for document in yaml.safe_load_all(path.read_text()):
        if document["apiVersion"].startswith("argoproj.io/"):
            parse(document["kind"], document)


def test_it_refuses_what_argo_does_not_know(parse):
    with pytest.raises(AssertionError, match="nothingOfArgo"):
        parse("Config", {"nothingOfArgo": 1})


@pytest.mark.parametrize("case", MATRIX)
def test_argo_helm_makes_a_server_of_its_values(helm, of, case, tmp_path):
    """Where SEALGATE_TEST_ARGO_HELM names argo-helm's chart argo-workflows."""
    chart = os.environ.get("SEALGATE_TEST_ARGO_HELM")
    if not chart:
        pytest.skip("SEALGATE_TEST_ARGO_HELM names no copy of argo-helm's chart argo-workflows")
    values = tmp_path / "values.yaml"
    values.write_text(of(case).the("ConfigMap", "-fragments")["data"]["argo-helm-values.yaml"])
    namespace = of(case).the("ConfigMap", "-fragments")["metadata"]["namespace"]
    theirs = helm.of_chart(chart).rendered("--namespace", namespace, "--values", str(values))
    server = theirs.the("Deployment", "-server")["spec"]["template"]["spec"]
    require_kubernetes(theirs.the("Deployment", "-server"))
    own, *others = server["containers"]
    assert others == of(case).server()["extraContainers"]
    mounted = {mount["mountPath"] for mount in own["volumeMounts"]}
    for driver in of(case).controller()["artifactDrivers"]:
        if driver["name"] != "plain-s3":
            assert f"/tmp/artifact-plugins/{driver['name']}" in mounted
    volumes = {volume["name"] for volume in server["volumes"]}
    for container in server["containers"]:
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    # Ours is the one that the controller reads, and theirs writes no other.
    if of(case).has("ConfigMap", "workflow-controller-configmap"):
        (controller,) = theirs.the("Deployment", "-controller")["spec"]["template"]["spec"]["containers"]
        name = of(case).the("ConfigMap", "workflow-controller-configmap")["metadata"]["name"]
        assert name in controller["args"]
        assert not theirs.has("ConfigMap", "workflow-controller-configmap")
