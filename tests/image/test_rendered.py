"""Containers that run from the image with the settings that the chart renders."""

import os
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import grpc
import pytest
import yaml
from harness.argo import Argo
from harness.container import shared_tmp
from harness.golang import judge
from harness.openbao import OpenBao
from harness.rendering import CHART, Helm
from harness.vault_logins import ServiceAccount, enable_kubernetes, token_reviewer

pytestmark = pytest.mark.timeout(900, func_only=False)
LOCAL = (
    "configuration.keys.provider=local,configuration.keys.vault=null,configuration.keys.local.keyring=/tmp/keyring.json"
)
OF_THE_POD = {"metadata.namespace": "team-a", "spec.serviceAccountName": "argo-workflow"}
NATIVE = ("--values", f"{CHART}/ci/native-sidecar.yaml")
FILES = "environment[0].name=SEALGATE_BACKEND_URL,environment[0].value=file:///tmp/storage"


def variables(container):
    """Return the environment that a kubelet makes of a list of EnvVar."""
    return {
        one["name"]: one["value"] if "value" in one else OF_THE_POD[one["valueFrom"]["fieldRef"]["fieldPath"]]
        for one in container.get("env", [])
    }


def require_round_trip(argo, tmp, store):
    content = os.urandom(2_000_000)
    (tmp / "argo/outputs/a.bin").write_bytes(content)
    argo.save("team-a/a.bin", Path("/tmp/argo/outputs/a.bin"))
    stored = [path for path in store.rglob("*") if path.is_file()]
    assert len(stored) == 1
    assert stored[0].read_bytes().startswith(b"\x89SEAL")
    argo.load("team-a/a.bin", Path("/tmp/argo/outputs/b.bin"))
    assert (tmp / "argo/outputs/b.bin").read_bytes() == content
    argo.delete("team-a/a.bin")
    assert not any(path.is_file() for path in store.rglob("*"))


@pytest.fixture(scope="module")
def vault(tmp_path_factory):
    server = OpenBao(tmp_path_factory.mktemp("openbao") / "home")
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="module")
def helm():
    return Helm(judge("helm"))


@pytest.mark.parametrize("where", ["pod", "server"])
def test_a_child_in_the_image_serves_with_the_rendered_environment(images, shared, helm, where):
    rendered = helm.rendered("--values", f"{CHART}/ci/default.yaml", "--set", LOCAL, "--set", FILES)
    (server,) = rendered.server()["extraContainers"]
    container = server if where == "server" else rendered.controller()["executor"]
    arguments = [*images["default"].stage.entrypoint, *server["args"]]
    socket = shared / "artifact-plugins/crypt/socket"
    with (
        images["default"].started({"/tmp": shared}, arguments, variables(container), socket),
        closing(Argo(socket)) as argo,
    ):
        require_round_trip(argo, shared, shared / "storage")


@pytest.mark.parametrize("where", ["pod", "server"])
def test_a_vendors_container_and_sealgate_share_the_rendered_socket(images, shared, helm, where):
    rendered = helm.rendered(*NATIVE, "--set", LOCAL)
    patch = yaml.safe_load(rendered.controller()["workflowDefaults"]["spec"]["podSpecPatch"])
    containers = {one["name"]: one for one in (*patch["initContainers"], *rendered.server()["extraContainers"])}
    sealgate = containers["sealgate-crypt"]
    if where == "pod":
        (vendor,) = patch["initContainers"]
        environment = variables(rendered.controller()["executor"])
    else:
        vendor, environment = containers["sealgate-downstream"], variables(sealgate)
    (mount,) = vendor["volumeMounts"]
    meeting = shared / "meeting"
    store = shared / "vendor-storage"
    for path in (meeting, store):
        path.mkdir()
    socket = shared / "artifact-plugins/crypt/socket"
    with ExitStack() as stack:
        # The target with-vendor replaces the vendor's image: it contains the program and the shared paths.
        mounts = {"/tmp": store, mount["mountPath"]: meeting}
        entry = ["/vendor/plugin", *vendor["args"]]
        user = vendor["securityContext"]["runAsUser"]
        second = meeting / "sealgate-downstream.sock"
        given = variables(vendor) | {"VENDOR_ROOT": "/tmp"}
        stack.enter_context(images["with-vendor"].started(mounts, entry, given, second, user))
        mounts = {"/tmp": shared, mount["mountPath"]: meeting}
        arguments = [*images["default"].stage.entrypoint, *sealgate["args"]]
        user = sealgate["securityContext"]["runAsUser"]
        stack.enter_context(images["default"].started(mounts, arguments, environment, socket, user))
        require_round_trip(stack.enter_context(closing(Argo(socket))), shared, store)


@contextmanager
def pod_of(cluster, namespace, account):
    """Yield a container's /tmp and its mounts, with a token of its service account."""
    with shared_tmp() as tmp:
        token = tmp / "service-account"
        token.mkdir()
        service_account = {"namespace": namespace, "serviceaccount": {"name": account, "uid": "u1"}}
        claims = {"sub": f"system:serviceaccount:{namespace}:{account}", "kubernetes.io": service_account}
        (token / "token").write_text(cluster.token(**claims))
        (token / "namespace").write_text(namespace)
        yield tmp, {"/tmp": tmp, "/var/run/secrets/kubernetes.io/serviceaccount": token}


@pytest.fixture
def kubernetes_login(vault):
    """The auth method kubernetes of Vault, with a cluster."""
    cluster = ServiceAccount()
    with token_reviewer() as reviewer:
        enable_kubernetes(vault.post, "kubernetes", reviewer, cluster)
        yield cluster
        vault.api("DELETE", "sys/auth/kubernetes")


def installed(helm, vault, place, *more):
    """Render the chart for `vault`, run its script there, and return the rendering."""
    given = ",".join((f"configuration.keys.vault.address={vault.address}", FILES, *more))
    rendered = helm.rendered("--values", f"{CHART}/ci/default.yaml", "--set", given)
    vault.administered(rendered.the("ConfigMap", "-vault-setup")["data"]["setup.sh"], place)
    return rendered


@contextmanager
def running(image, cluster, container, account, namespace="team-a", **more):
    """Run the plugin with a service account, and yield a client and the container's /tmp."""
    with pod_of(cluster, namespace, account) as (tmp, mounts):
        socket = tmp / "artifact-plugins/crypt/socket"
        arguments = [*image.stage.entrypoint, "/tmp/artifact-plugins/crypt/socket"]
        with image.started(mounts, arguments, variables(container) | more, socket), closing(Argo(socket)) as argo:
            yield argo, tmp


def put(tmp, stored):
    """Store an object as if another pod had saved it."""
    (tmp / "storage/team-a").mkdir()
    (tmp / "storage/team-a/a.bin").write_bytes(stored)
    os.chown(tmp / "storage/team-a", 8737, 8737)


@contextmanager
def no_permission():
    with pytest.raises(grpc.RpcError) as refused:
        yield
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("executor", ["", "executor"])
def test_helm_tests_doctor_succeeds(images, helm, vault, kubernetes_login, tmp_path, executor):
    rendered = installed(helm, vault, tmp_path, f"tenants.serviceAccounts.executor={executor}")
    doctor = rendered.the("Pod", "-doctor")
    accounts = ["argo-workflow", *([executor] if executor else [])]
    for container, account in zip(doctor["spec"]["containers"], accounts, strict=True):
        with pod_of(kubernetes_login, "team-a", account) as (tmp, mounts):
            downward = tmp / "downward"
            downward.mkdir()
            configuration = doctor["metadata"]["annotations"]["sealgate/artifact-configuration"]
            (downward / "artifact-configuration").write_text(configuration)
            done = images["default"].run(
                *container["command"],
                *container["args"],
                mounts={**mounts, "/sealgate": downward},
                environment=variables(container),
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert "FAILED" not in done.stdout
            assert not any(path.is_file() for path in (tmp / "storage").rglob("*"))


def test_an_executor_loads_what_a_step_saves_and_neither_can_do_both(images, helm, vault, kubernetes_login, tmp_path):
    rendered = installed(helm, vault, tmp_path, "tenants.serviceAccounts.executor=executor")
    pod = rendered.controller()["executor"]
    step = {"ARGO_CONTAINER_NAME": "artifact-plugin-crypt", "ARGO_NODE_ID": "w-1"}
    load = {"ARGO_CONTAINER_NAME": "init-artifact-crypt", "ARGO_NODE_ID": "w-1"}
    given, got = Path("/tmp/argo/outputs/a.bin"), Path("/tmp/argo/outputs/b.bin")
    content = os.urandom(200_000)

    def started(account, component):
        return running(images["default"], kubernetes_login, pod, account, **component)

    with started("argo-workflow", step) as (argo, tmp):
        (tmp / "argo/outputs/a.bin").write_bytes(content)
        argo.save("team-a/a.bin", given)
        stored = (tmp / "storage/team-a/a.bin").read_bytes()
    with started("executor", load) as (argo, tmp):
        put(tmp, stored)
        argo.load("team-a/a.bin", got)
        assert (tmp / "argo/outputs/b.bin").read_bytes() == content
        (tmp / "argo/outputs/a.bin").write_bytes(content)
        with no_permission():
            argo.save("team-a/c.bin", given)
    # The step's account may not load, also when it claims to be the executor.
    for component in (step, load):
        with started("argo-workflow", component) as (argo, tmp):
            put(tmp, stored)
            with no_permission():
                argo.load("team-a/a.bin", got)
            assert not (tmp / "argo/outputs/b.bin").exists()


def test_an_installation_by_init_saves_loads_and_denies(images, vault, kubernetes_login, tmp_path):
    image = images["default"]
    with pod_of(kubernetes_login, "team-a", "argo-workflow") as (tmp, mounts):
        given = ("--address", vault.address, "--storage", "file:///tmp/storage")
        made = image.run("sealgate", "init", "/tmp/first", *given, mounts=mounts)  # it detects the namespace
        assert made.returncode == 0, made.stderr
        vault.administered((tmp / "first/vault.sh").read_text(), tmp_path)
        environment = {"SEALGATE_CONFIG": "/tmp/first/sealgate.yaml", "SEALGATE_BACKEND_URL": "file:///tmp/storage"}
        options = made.stdout.rpartition(" sealgate doctor ")[2].split()
        checked = image.run("sealgate", "doctor", *options, mounts=mounts, environment=environment)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        socket = tmp / "artifact-plugins/crypt/socket"
        environment |= {"ARGO_CONTAINER_NAME": "artifact-plugin-crypt", "ARGO_NODE_ID": "w-1"}  # a pod, not the server
        with (
            image.started(mounts, [*image.stage.entrypoint, "/tmp/artifact-plugins/crypt/socket"], environment, socket),
            closing(Argo(socket)) as argo,
        ):
            require_round_trip(argo, tmp, tmp / "storage")
            with pytest.raises(grpc.RpcError) as refused:
                argo.save("team-b/a.bin", Path("/tmp/argo/outputs/a.bin"))
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_each_rendered_identity_gets_its_rights_from_vault(images, helm, vault, tmp_path):
    cluster = ServiceAccount()
    vault.post("sys/auth/jwt", {"type": "jwt"})
    vault.post("auth/jwt/config", {"jwt_validation_pubkeys": [cluster.public]})
    auth = "configuration.keys.vault.auth.method=jwt,vault.audience=vault"
    rendered = installed(helm, vault, tmp_path, auth)
    pod, (server,) = rendered.controller()["executor"], rendered.server()["extraContainers"]
    image = images["default"]
    for container, namespace, account in ((pod, "team-a", "argo-workflow"), (server, "argo", "argo-server")):
        with running(image, cluster, container, account, namespace) as (argo, tmp):
            require_round_trip(argo, tmp, tmp / "storage")
    with running(image, cluster, pod, "argo-artifact-gc") as (argo, tmp):
        put(tmp, b"\x89SEAL\r\n\x1a...")
        argo.delete("team-a/a.bin")
        assert not (tmp / "storage/team-a/a.bin").exists()
        (tmp / "argo/outputs/a.bin").write_bytes(b"x")
        with no_permission():
            argo.save("team-a/a.bin", Path("/tmp/argo/outputs/a.bin"))
