"""Every file of charts/sealgate/ci, rendered and checked by linters, Kubernetes, Argo and Sealgate."""

import os
import re
import tomllib

import pytest
import yaml
from harness.argo_types import pod, require_controller, require_kubernetes
from harness.rendering import CHART, KUBERNETES, MATRIX, ROOT

from sealgate import config, identity

pytestmark = pytest.mark.timeout(900, func_only=False)
SNAPSHOTS = ROOT / "tests" / "charts" / "snapshots"
OF_OTHERS = {"PrometheusRule"}  # not an object of Kubernetes; test_chart_monitoring.py checks it


@pytest.fixture(params=MATRIX)
def case(request):
    return request.param


@pytest.fixture(params=KUBERNETES)
def kubernetes(request, case):
    if case == "image-volume" and request.param == "1.30.0":
        pytest.skip("Kubernetes 1.30 has no image volumes; test_chart_values.py checks that it is refused")
    return request.param


def test_helm_lint_finds_nothing(helm, case, kubernetes):
    done = helm.run("lint", "--strict", "--values", f"{CHART}/ci/{case}.yaml", kubernetes=kubernetes)
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


def test_the_rendering_equals_its_snapshot(of, case):
    snapshot = SNAPSHOTS / f"{case}.yaml"
    if os.environ.get("SEALGATE_UPDATE_SNAPSHOTS"):
        snapshot.write_text(of(case).text)
    assert of(case).text == snapshot.read_text(), (
        "if the change is intended, run `make snapshots` and review the difference"
    )


def test_every_object_fits_kubernetes_own_schema(of, case, kubernetes):
    objects = [found for found in of(case).objects() if found["kind"] not in OF_OTHERS]
    assert objects
    for found in objects:
        require_kubernetes(found, kubernetes.rpartition(".")[0])


def test_no_two_objects_have_one_name(of, case):
    names = [
        (found["kind"], found["metadata"].get("namespace"), found["metadata"]["name"]) for found in of(case).objects()
    ]
    assert len(names) == len(set(names))


def test_the_controllers_configmap_has_one_key(of, case):
    if of(case).has("ConfigMap", "workflow-controller-configmap"):
        assert list(of(case).the("ConfigMap", "workflow-controller-configmap")["data"]) == ["config"]


def test_an_uninstallation_leaves_the_controllers_configmap_alone(of, case):
    kept = [
        found["metadata"]["name"]
        for found in of(case).objects()
        if found["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    ]
    assert kept == (["workflow-controller-configmap"] if case != "by-hand" else [])


def test_argo_parses_the_controllers_configuration(of, case):
    require_controller(of(case).controller())


def test_an_unknown_setting_of_argo_is_refused(of):
    with pytest.raises(AssertionError, match="nothingOfArgo"):
        require_controller({**of("default").controller(), "nothingOfArgo": 1})


def test_the_values_for_argo_helms_server_make_a_valid_pod(of, case):
    server = of(case).server()
    own = {"name": "argo-server", "image": "argocli", "env": server["extraEnv"], "volumeMounts": server["volumeMounts"]}
    require_kubernetes(pod(own, *server["extraContainers"], volumes=server["volumes"]))
    _require_mounts(pod(own, *server["extraContainers"], volumes=server["volumes"])["spec"])


def test_the_patch_of_argo_server_is_the_same_as_argo_helm_s_values(of, case):
    patched = of(case).fragment("argo-server-patch.yaml")["spec"]["template"]["spec"]
    server = of(case).server()
    own, *others = patched["containers"]
    assert own["name"] == "argo-server"
    assert others == server["extraContainers"]
    assert patched["volumes"] == server["volumes"]
    assert own["volumeMounts"] == server["volumeMounts"]
    require_kubernetes(pod({**own, "image": "argocli"}, *others, volumes=patched["volumes"]))


def test_argos_server_has_a_container_for_each_driver(of, case):
    # Argo's server exits at its start if a container is missing.
    containers = of(case).server()["extraContainers"]
    for driver in of(case).controller()["artifactDrivers"]:
        if driver["name"] == "plain-s3":
            continue  # another driver; everything.yaml has it to check that it is kept
        (container,) = [one for one in containers if one["args"] == [f"/tmp/artifact-plugins/{driver['name']}/socket"]]
        assert container["image"] == driver["image"]


def test_the_configured_entrypoint_equals_that_of_the_image(of, case):
    images = of(case).controller()["images"]
    (entrypoint,) = re.findall(
        r"^ENTRYPOINT (.*)$", (ROOT / "Dockerfile").read_text().split("AS vendor")[0], re.MULTILINE
    )
    for driver in of(case).controller()["artifactDrivers"]:
        if driver["name"] != "plain-s3":
            assert images[driver["image"]]["entrypoint"] == yaml.safe_load(entrypoint)


def test_every_configuration_that_is_rendered_is_valid(of, case):
    texts = list(of(case).texts_of_configurations())
    assert len(texts) >= 2
    names = [driver["name"] for driver in of(case).controller()["artifactDrivers"]]
    for text in texts:
        for name in names:
            settings = config.parse(text, "SEALGATE_CONFIG_YAML", name)
            assert settings.required_downstream()
            assert settings.required_keys()
        assert "{{" not in text
        assert "$(" not in text


def test_identity_comes_from_the_pods_own_fields(of, case):
    environment = {one["name"]: one for one in of(case).controller()["executor"]["env"]}
    fields = {
        name: one["valueFrom"]["fieldRef"]["fieldPath"] for name, one in environment.items() if "valueFrom" in one
    }
    assert fields["SEALGATE_NAMESPACE"] == "metadata.namespace"
    assert fields["SEALGATE_SERVICE_ACCOUNT"] == "spec.serviceAccountName"


def test_no_variable_is_given_twice(of, case):
    for container in (of(case).controller()["executor"], *of(case).server()["extraContainers"]):
        names = [one["name"] for one in container.get("env", [])]
        assert len(names) == len(set(names))


def test_the_doctor_runs_in_each_namespace_with_the_workflows_own_account_and_configuration(of, case):
    values = yaml.safe_load((CHART / "ci" / f"{case}.yaml").read_text())
    doctors = [found for found in of(case).objects() if found["kind"] == "Pod"]
    wanted = [] if case == "by-hand" else values["tenants"]["namespaces"]
    assert [found["metadata"]["namespace"] for found in doctors] == wanted
    names = [driver["name"] for driver in of(case).controller()["artifactDrivers"] if driver["name"] != "plain-s3"]
    for found in doctors:
        assert found["metadata"]["annotations"]["helm.sh/hook"] == "test"
        account = of(case).controller()["workflowDefaults"]["spec"]["serviceAccountName"]
        assert found["spec"]["serviceAccountName"] == account
        written = {one["name"]: one for one in of(case).controller()["executor"]["env"]}
        # An executor's account loads, and the step's account then only saves.
        parts = [("saver", "sidecar"), ("loader", "init")] if case == "vendor-child" else [("both", "sidecar")]
        wanted = [(*part, name) for part in parts for name in names]
        for (role, component, name), container in zip(wanted, found["spec"]["containers"], strict=True):
            assert container["command"] == ["sealgate", "doctor"]
            assert {f"--plugin={name}", f"--role={role}"} <= set(container["args"])
            assert f"--scratch={found['metadata']['namespace']}/.sealgate-doctor" in container["args"]
            given = {one["name"]: one.get("value") for one in container["env"]}
            for one in container["env"]:
                assert one["name"].startswith("ARGO_") or written[one["name"]] == one
            known = identity.asserted(given | {"SEALGATE_NAMESPACE": "team-a", "SEALGATE_SERVICE_ACCOUNT": account})
            assert known.component == component, "policies and the role in Vault depend on the component"
            tokens = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "executor-token"]
            assert tokens == ([str(identity.SERVICE_ACCOUNT)] if component == "init" else [])
        _require_mounts(found["spec"])


@pytest.mark.parametrize("elsewhere", ["local-keys", "image-volume"])
def test_one_doctor_saves_and_loads_where_the_executor_has_no_role(helm, elsewhere):
    case = ("--values", f"{CHART}/ci/{elsewhere}.yaml")
    rendered = helm.rendered(*case, "--set", "tenants.serviceAccounts.executor=executor")
    (container,) = rendered.the("Pod", "-doctor")["spec"]["containers"]
    assert "--role=both" in container["args"]


def test_the_doctor_knows_each_volume_that_its_pod_alone_mounts(of, case):
    for found in of(case).objects():
        if found["kind"] == "Pod":
            empty = {volume["name"] for volume in found["spec"]["volumes"] if "emptyDir" in volume}
            for container in found["spec"]["containers"]:
                own = [f"--own-volume={one['mountPath']}" for one in container["volumeMounts"] if one["name"] in empty]
                assert own == [text for text in container["args"] if text.startswith("--own-volume=")]


def test_the_doctors_output_is_shown_after_its_pod_is_deleted(of, case):
    for found in of(case).objects():
        if found["kind"] == "Pod":
            # With --logs helm searches for them in the release's namespace, and fails.
            assert found["metadata"]["annotations"]["helm.sh/hook-output-log-policy"] == "hook-succeeded,hook-failed"


def _require_mounts(spec):
    volumes = {volume["name"] for volume in spec["volumes"]}
    for container in (*spec.get("initContainers", []), *spec["containers"]):
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes, container["name"]


def test_chart_and_program_have_the_same_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)


def test_the_chart_ships_the_policies_for_vault_that_the_program_ships():
    ours, shipped = (
        {path.name: path.read_text() for path in place.iterdir()}
        for place in (ROOT / "policies" / "vault", CHART / "files" / "vault")
    )
    assert shipped == ours
