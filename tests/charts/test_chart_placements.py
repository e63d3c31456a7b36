"""The placements of the downstream: the patches of Argo's pods, and the configuration of Sealgate."""

import pytest
import yaml
from harness.argo_types import pod, require_kubernetes
from harness.rendering import MATRIX, patched

pytestmark = pytest.mark.timeout(900, func_only=False)


def defaults(rendered):
    return rendered.controller()["workflowDefaults"]["spec"]


def merged(rendered, made, place):
    patch = defaults(rendered)["podSpecPatch"]
    return patched(made, yaml.safe_dump({"spec": yaml.safe_load(patch)}), place)


MAIN = {"name": "main", "image": "main"}
INIT = {"name": "init-artifact-crypt", "image": "sealgate"}
SIDECAR = {"name": "artifact-plugin-crypt", "image": "sealgate"}
SHARED = [{"name": "var-run-argo", "emptyDir": {}}]


@pytest.mark.parametrize("case", ["default", "local-keys", "vendor-child", "by-hand", "everything"])
def test_builtin_and_a_child_need_no_patch_of_any_pod(of, case):
    assert "podSpecPatch" not in defaults(of(case))
    assert "podSpecPatch" not in defaults(of(case))["artifactGC"]


def test_the_bundled_backend_runs_in_sealgates_own_process_unless_a_placement_is_chosen(of):
    for text in of("default").texts_of_configurations():
        assert yaml.safe_load(text)["downstream"] == {"builtin": {}}
    for text in of("vendor-child").texts_of_configurations():
        assert yaml.safe_load(text)["downstream"]["command"] == ["/vendor/plugin"]


def test_a_native_sidecar_is_the_first_init_container(of, tmp_path):
    made = merged(of("native-sidecar"), pod(MAIN, SIDECAR, initContainers=[INIT], volumes=SHARED), tmp_path)
    require_kubernetes(made)
    first, *_ = made["spec"]["initContainers"]
    assert first["name"] == "sealgate-downstream"
    assert first["restartPolicy"] == "Always"
    assert [one["name"] for one in made["spec"]["containers"]] == ["main", "artifact-plugin-crypt"]


def test_a_native_sidecar_is_in_garbage_collection_pods_too(of):
    spec = defaults(of("native-sidecar"))
    assert spec["artifactGC"]["podSpecPatch"] == spec["podSpecPatch"]


def test_a_patch_of_every_pod_names_no_container_that_a_pod_may_lack(of):
    # A patch for a missing container creates one without an image, and the API server refuses the pod.
    for found in yaml.safe_load(defaults(of("native-sidecar"))["podSpecPatch"])["initContainers"]:
        assert found["image"]
    assert "containers" not in yaml.safe_load(defaults(of("native-sidecar"))["podSpecPatch"])


def test_sealgate_and_a_native_sidecar_share_a_socket_and_a_spool(of):
    rendered = of("native-sidecar")
    (vendor,) = yaml.safe_load(defaults(rendered)["podSpecPatch"])["initContainers"]
    (server,) = [one for one in rendered.server()["extraContainers"] if one["name"] == "sealgate-downstream"]
    texts = list(rendered.texts_of_configurations())
    for text, container in ((texts[0], vendor), (texts[1], server)):
        settings = yaml.safe_load(text)
        assert container["args"] == [settings["downstream"]["socket"]]
        assert "command" not in settings["downstream"]
        (mount,) = container["volumeMounts"]
        assert settings["downstream"]["socket"].startswith(mount["mountPath"] + "/")
        assert settings["spool"]["directory"].startswith(mount["mountPath"] + "/")
    (sealgate,) = [one for one in rendered.server()["extraContainers"] if one["name"] == "sealgate-crypt"]
    assert server["volumeMounts"][0] in sealgate["volumeMounts"]


def test_an_image_volume_is_read_only_and_mounted_where_the_command_is(of, tmp_path):
    rendered = of("image-volume")
    made = merged(rendered, pod(MAIN, SIDECAR), tmp_path)
    require_kubernetes(made)
    (sidecar,) = [one for one in made["spec"]["containers"] if one["name"] == "artifact-plugin-crypt"]
    assert sidecar["volumeMounts"] == [{"name": "sealgate-vendor", "mountPath": "/vendor", "readOnly": True}]
    for text in rendered.texts_of_configurations():
        (program,) = yaml.safe_load(text)["downstream"]["command"]
        assert program.startswith("/vendor/")
    assert rendered.controller()["initlessPod"] == {"enabled": True}


@pytest.mark.parametrize("case", ["vendor-child", "image-volume"])
def test_a_vendors_program_beside_argos_server_has_a_place_for_temporary_files(of, case):
    (container,) = of(case).server()["extraContainers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {"name": "sealgate-tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    assert {"name": "sealgate-tmp", "emptyDir": {}} in of(case).server()["volumes"]


def test_a_vendor_is_not_registered_with_argo(of):
    # Argo's server would wait for the vendor's socket, and exit without it.
    assert [driver["name"] for driver in of("native-sidecar").controller()["artifactDrivers"]] == ["crypt"]


def test_the_downstreams_configuration_comes_from_argos_repository(of):
    configuration = of("vendor-child").controller()["artifactRepository"]["plugin"]["configuration"]
    assert yaml.safe_load(configuration)["bucket"] == "artifacts"


def test_the_controllers_other_configuration_is_kept(of):
    given = of("everything").controller()
    assert given["parallelism"] == 100
    assert "plain-s3" in [driver["name"] for driver in given["artifactDrivers"]]
    assert given["executor"]["env"][-1] == {"name": "REMOVE_LOCAL_ART_PATH", "value": "true"}
    assert given["workflowDefaults"]["spec"]["artifactGC"] == {
        "strategy": "OnWorkflowDeletion",
        "serviceAccountName": "artifact-gc",
    }


def test_the_servers_environment_overrides_that_of_pods(of):
    for container in of("everything").server()["extraContainers"]:
        assert {"name": "AWS_REGION", "value": "eu-west-1"} in container["env"]
    assert {"name": "AWS_REGION", "value": "eu-central-1"} in of("everything").controller()["executor"]["env"]


def test_each_name_of_the_plugin_has_a_driver_and_a_container_beside_the_server(of):
    given = of("everything")
    ours = [driver["name"] for driver in given.controller()["artifactDrivers"] if driver["name"] != "plain-s3"]
    assert ours == ["sealgate", "sealgate-pci"]
    assert [one["name"] for one in given.server()["extraContainers"]] == ["sealgate-sealgate", "sealgate-sealgate-pci"]


OWN = {
    "name": "argo-server",
    "image": "argocli",
    "args": ["server"],
    "env": [{"name": "THEIRS", "value": "1"}],
    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
}
LABELS = {"app": "argo-server"}
ARGO_SERVER = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "argo-server"},
    "spec": {
        "selector": {"matchLabels": LABELS},
        "template": {
            "metadata": {"labels": LABELS},
            "spec": {
                "containers": [OWN],
                "imagePullSecrets": [{"name": "registry"}],  # Argo's own images may need the Secret of the values, too
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            },
        },
    },
}


def server_patch(rendered, kind="patch"):
    return rendered.the("ConfigMap", "-fragments")["data"][f"argo-server-{kind}.yaml"]


@pytest.mark.parametrize("case", MATRIX)
def test_the_removal_takes_back_what_the_patch_of_argos_server_added(of, case, tmp_path):
    before = patched(ARGO_SERVER, "{}", tmp_path)
    after = patched(before, server_patch(of(case)), tmp_path)
    removal = server_patch(of(case), "removal")
    assert patched(after, removal, tmp_path) == before
    assert patched(before, removal, tmp_path) == before, "it changes nothing where the patch is not applied"


def test_after_the_removal_the_patch_of_other_values_leaves_nothing_of_the_earlier_ones(of, tmp_path):
    earlier, later = of("native-sidecar"), of("default")
    direct = patched(patched(ARGO_SERVER, "{}", tmp_path), server_patch(later), tmp_path)
    changed = patched(ARGO_SERVER, server_patch(earlier), tmp_path)
    assert patched(changed, server_patch(later), tmp_path) != direct, "a patch alone takes nothing back"
    changed = patched(changed, server_patch(earlier, "removal"), tmp_path)
    assert patched(changed, server_patch(later), tmp_path) == direct


@pytest.mark.parametrize("case", MATRIX)
def test_the_patch_of_argos_server_only_adds(of, case, tmp_path):
    own, before = OWN, ARGO_SERVER
    patch = server_patch(of(case))
    after = patched(before, patch, tmp_path)
    require_kubernetes(after)
    spec = after["spec"]["template"]["spec"]
    containers = {one["name"]: one for one in spec["containers"]}
    theirs = containers.pop("argo-server")
    assert {**theirs, "env": None, "volumeMounts": None} == {**own, "env": None, "volumeMounts": None}
    assert own["env"][0] in theirs["env"]
    assert own["volumeMounts"][0] in theirs["volumeMounts"]
    assert list(containers.values()) == of(case).server()["extraContainers"]
    assert {volume["name"] for volume in spec["volumes"]} > {"tmp"}
    assert patched(after, patch, tmp_path) == after, "a second patch changes nothing"


def test_containers_that_share_files_run_as_one_user(of):
    rendered = of("native-sidecar")
    executor = rendered.controller()["executor"]["securityContext"]["runAsUser"]
    (vendor,) = yaml.safe_load(defaults(rendered)["podSpecPatch"])["initContainers"]
    assert vendor["securityContext"]["runAsUser"] == executor
    assert len({one["securityContext"]["runAsUser"] for one in rendered.server()["extraContainers"]}) == 1


@pytest.mark.parametrize("case", MATRIX)
def test_argo_can_create_the_sockets_directory_in_an_init_container(of, case):
    security = of(case).controller()["executor"].get("securityContext", {})
    assert not security.get("readOnlyRootFilesystem")
