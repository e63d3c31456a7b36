"""The examples: Argo parses them, the admission policy admits them, and their comments are correct."""

import subprocess

import pytest
import yaml
from harness.argo_types import require_workflow
from harness.chain import SEALGATE
from harness.rendering import CHART, ROOT

from sealgate.policy import canonical_keys

pytestmark = pytest.mark.timeout(900, func_only=False)
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))


def documents(path):
    return list(yaml.safe_load_all(path.read_text()))


def locations(found):
    """Yield every location of an artifact in a document."""
    if isinstance(found, dict):
        yield from ([found["plugin"]] if "plugin" in found else [])
        for value in found.values():
            yield from locations(value)
    elif isinstance(found, list):
        for value in found:
            yield from locations(value)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_argo_parses_an_example(path):
    for document in documents(path):
        require_workflow(document)


@pytest.mark.parametrize("change", ["spec.nothing", "spec.templates.0.container.nothing", "spec.templates.0.nothing"])
def test_an_unknown_field_of_an_example_is_refused(change):
    document = documents(EXAMPLES[0])[0]
    *way, last = change.split(".")
    found = document
    for name in way:
        found = (
            found[int(name) if name.isdigit() else name]
            if name != "container"
            else found.setdefault(name, {"image": "x"})
        )
    found[last] = 1
    with pytest.raises(AssertionError, match="nothing"):
        require_workflow(document)


@pytest.fixture(scope="module")
def installed(helm, tmp_path_factory):
    """The chart with the values in the comment of one-prefix.yaml."""
    comment = (ROOT / "examples" / "one-prefix.yaml").read_text().split("#\n")[1]
    values = tmp_path_factory.mktemp("values") / "values.yaml"
    values.write_text("\n".join(line.removeprefix("#   ") for line in comment.splitlines()))
    default = ("--values", f"{CHART}/ci/default.yaml", "--values", str(values))
    return helm.rendered(*default, "--set", "admission.enabled=true")


def test_every_example_passes_the_admission_policy(decide, installed):
    policy = installed.the("ValidatingAdmissionPolicy", "-workflows")
    found = [document for path in EXAMPLES for document in documents(path)]
    assert decide(policy, *({"object": document} for document in found)) == [[]] * len(found)


def test_every_plugin_that_an_example_names_is_installed_by_the_chart(installed):
    drivers = {driver["name"] for driver in installed.controller()["artifactDrivers"]}
    named = [location for path in EXAMPLES for location in locations(documents(path))]
    assert len(named) >= 3
    for location in named:
        assert location["name"] in drivers
        assert location["configuration"].strip(), "without one, Argo uses the default repository"


def test_every_key_of_an_example_is_canonical():
    for path in EXAMPLES:
        for location in locations(documents(path)):
            key = location["key"].replace("{{workflow.namespace}}", "team-a").replace("{{workflow.name}}", "w-x2k9p")
            assert not canonical_keys.fault_of(key), key


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """The policies that `sealgate init` writes."""
    place = tmp_path_factory.mktemp("init") / "first"
    given = ("--address", "https://vault:8200", "--storage", "s3://b", "--namespace", "team-a")
    subprocess.run([*SEALGATE, "init", place, *given], check=True, capture_output=True)
    return place / "policies"


@pytest.mark.parametrize("operation", ["Save", "Load", "Delete"])
def test_the_policy_of_init_allows_every_key_of_an_example(policy, operation):
    for location in [location for path in EXAMPLES for location in locations(documents(path))]:
        key = location["key"].replace("{{workflow.namespace}}", "team-a").replace("{{workflow.name}}", "w-x2k9p")
        asked = ["--op", operation, "--key", key, "--namespace", "team-a", "--component", "sidecar", "--attested"]
        command = [*SEALGATE, "policy", "explain", "--policy", policy, *asked]
        explained = subprocess.run(command, capture_output=True, text=True, check=False)
        assert explained.stdout.startswith("ALLOW"), (key, explained.stdout)


def test_the_service_account_of_garbage_collection_is_created_by_the_chart(installed):
    (document,) = documents(ROOT / "examples" / "garbage-collection.yaml")
    accounts = {found["metadata"]["name"] for found in installed.objects() if found["kind"] == "ServiceAccount"}
    assert document["spec"]["artifactGC"]["serviceAccountName"] in accounts
