"""The page on Helm, followed in a cluster whose Argo came from its manifests."""

from __future__ import annotations

import statistics

from cluster.kubernetes import until
from cluster.report import Report
from cluster.scene import SEALED, TENANTS, Scene
from cluster.test_cluster_resources import PODS, span_of
from cluster.workflows import Workflow, step


def test_pods_before_the_installation(bare: Scene, report: Report):
    """Not a bound: the time to compare with that of pods with the plugin."""
    bare.client.new_namespace("before")
    rule = {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]}
    api, role = "rbac.authorization.k8s.io", {"kind": "Role", "name": "executor"}
    bare.client.apply(
        {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": {"name": "executor"}, "rules": [rule]},
        {
            "apiVersion": f"{api}/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "executor"},
            "roleRef": {"apiGroup": api, **role},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "before"}],
        },
        namespace="before",
    )
    spans = [span_of(bare.submit("before", step("write", "echo x > /tmp/out")).succeeded()) for _ in range(PODS)]
    report.facts[f"pod without a plugin, median of {PODS}"] = f"{statistics.median(spans):.0f} s"


def test_the_commands_of_the_page_install_sealgate(installed: Scene):
    for deployment in ("workflow-controller", "argo-server"):
        found = installed.client.get("deployment", deployment, "argo")
        assert found["status"]["readyReplicas"] == found["spec"]["replicas"] == 1, deployment
    server = installed.client.get("deployment", "argo-server", "argo")
    assert "sealgate-crypt" in [each["name"] for each in server["spec"]["template"]["spec"]["containers"]]


def test_helm_test_and_the_first_workflow_of_the_page_succeed(installed: Scene):
    printed = installed.page.run_block("helm test sealgate")
    assert "Phase:          Succeeded" in printed
    (name,) = [line.split()[0].rpartition("/")[2] for line in printed.splitlines() if line.endswith("created")]
    workflow = Workflow(installed.client, "team-a", name).succeeded()
    key = workflow.key("train", "model")
    assert installed.content(key).startswith(SEALED)


def test_helm_test_reports_success_in_each_namespace_of_the_tenants(installed: Scene):
    printed = installed.page.run_block("helm test sealgate")
    assert printed.count("sealgate-doctor") >= len(TENANTS)
    assert "warning" not in printed.lower(), printed


def test_the_api_server_checks_the_types_of_the_admission_policies(installed: Scene):
    def checked() -> None:
        for policy in policies():
            assert policy["status"]["observedGeneration"] == policy["metadata"]["generation"]

    def policies() -> list[dict]:
        return installed.client.list("validatingadmissionpolicies")

    until("the policies are checked", checked)
    assert policies()
    for policy in policies():
        assert "typeChecking" in policy["status"], policy["metadata"]["name"]
