"""The values for argo-helm's chart argo-workflows, rendered by a copy of it that SEALGATE_TEST_ARGO_HELM names."""

import os

import pytest
from harness.argo_types import require_kubernetes
from harness.rendering import MATRIX

pytestmark = pytest.mark.timeout(1800, func_only=False)


@pytest.mark.parametrize("case", MATRIX)
def test_argo_helm_renders_a_server_with_the_values(helm, of, case, tmp_path):
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
    # The controller reads the ConfigMap of our chart, and argo-helm renders none.
    if of(case).has("ConfigMap", "workflow-controller-configmap"):
        (controller,) = theirs.the("Deployment", "-controller")["spec"]["template"]["spec"]["containers"]
        name = of(case).the("ConfigMap", "workflow-controller-configmap")["metadata"]["name"]
        assert name in controller["args"]
        assert not theirs.has("ConfigMap", "workflow-controller-configmap")
