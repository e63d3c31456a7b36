"""The values that every chart has: names, labels, annotations and Secrets for the registry."""

import pytest
from harness.rendering import CHART

pytestmark = pytest.mark.timeout(900, func_only=False)

SECRETS = [{"name": "registry"}]
NOT_OURS = {"workflow-controller-configmap", "argo-workflow", "argo-artifact-gc", "steps", "artifact-gc"}
"""Names that Argo or the values choose."""


def named(helm, *values):
    options = [part for value in values for part in ("--set", value)]
    rendered = helm.rendered("--values", str(CHART / "ci/default.yaml"), *options)
    return {found["metadata"]["name"] for found in rendered.objects()} - NOT_OURS


@pytest.mark.parametrize(
    ("values", "begin"),
    [
        ((), "release-name-sealgate-"),
        (("nameOverride=sealing",), "release-name-sealing-"),
        (("nameOverride=name",), "release-name-"),
        (("fullnameOverride=sealing", "nameOverride=x"), "sealing-"),
        (("fullnameOverride=" + 53 * "x",), 53 * "x" + "-"),
    ],
)
def test_every_name_begins_as_the_values_say(helm, values, begin):
    names = named(helm, *values)
    assert len(names) >= 4
    assert {name[: len(begin)] for name in names} == {begin}


def test_every_object_has_the_common_labels_and_annotations(of):
    for found in of("everything").objects():
        assert found["metadata"]["labels"]["team"] == "platform", found["metadata"]
        assert found["metadata"]["annotations"]["example.com/contact"] == "platform", found["metadata"]
        assert found["metadata"]["labels"]["app.kubernetes.io/name"] == "sealing"


def test_common_labels_and_annotations_do_not_replace_the_charts_own(helm):
    own = (r"commonLabels.helm\.sh/chart=x", r"commonAnnotations.helm\.sh/resource-policy=delete")
    options = [part for value in own for part in ("--set-string", value)]
    rendered = helm.rendered("--values", str(CHART / "ci/default.yaml"), *options)
    assert all(found["metadata"]["labels"]["helm.sh/chart"] != "x" for found in rendered.objects())
    kept = rendered.the("ConfigMap", "workflow-controller-configmap")
    assert kept["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_every_pod_that_runs_the_image_has_the_secrets_of_its_registry(of):
    rendered = of("everything")
    for found in rendered.objects():
        if found["kind"] == "ServiceAccount":
            assert found["imagePullSecrets"] == SECRETS
        if found["kind"] == "Pod":
            assert found["spec"]["imagePullSecrets"] == SECRETS
    assert rendered.fragment("argo-helm-values.yaml")["images"]["pullSecrets"] == SECRETS
    assert rendered.fragment("argo-server-patch.yaml")["spec"]["template"]["spec"]["imagePullSecrets"] == SECRETS


def test_without_secrets_nothing_names_them(of):
    assert "imagePullSecrets" not in of("default").text
    assert "pullSecrets" not in of("default").text
