"""Values that are wrong are refused, and the refusal names them."""

import json
import re

import jsonschema
import pytest
import yaml
from rendering import CHART

pytestmark = pytest.mark.timeout(900, func_only=False)

REFUSED = [
    ({"plugin": {"name": "Crypt"}}, "plugin"),
    ({"plugin": {"name": "x" * 48}}, "plugin"),
    ({"plugin": {"nmae": "crypt"}}, "nmae"),
    ({"image": {"digest": "sha256:short"}}, "digest"),
    ({"image": {"repository": ""}}, "repository"),
    ({"downstream": {"placement": "sidecar"}}, "placement"),
    ({"downstream": {"command": []}}, "command"),
    ({"configuration": {"downstream": {"command": ["x"]}}}, "command"),
    ({"configuration": {"keys": {"provider": "aws"}}}, "provider"),
    ({"configuration": {"keys": {"vault": {"mount": "transit; rm -rf /"}}}}, "mount"),
    ({"configuration": {"keys": {"vault": {"key": "a b"}}}}, "key"),
    ({"configuration": {"keys": {"vault": {"auth": {"role": "$(id)"}}}}}, "role"),
    ({"configuration": {"nothing": 1}}, "nothing"),
    ({"tenants": {"namespaces": ["Team_A"]}}, "namespaces"),
    ({"argo": {"layout": "sidecar"}}, "layout"),
    ({"argo": {"repository": {"configuration": ""}}}, "configuration"),
    ({"admission": {"actions": ["deny"]}}, "actions"),
    ({"admission": {"inputs": ["s3"]}}, "inputs"),
    ({"networkPolicy": {"storage": {"to": [], "port": 443}}}, "storage"),
    ({"unknown": 1}, "unknown"),
    ({"environment": [{"name": "SEALGATE_CONFIG_YAML", "value": "x"}]}, "SEALGATE_CONFIG_YAML is set by the chart"),
    ({"configuration": {"spool": {"directory": "/{{pod.name}}"}}}, "{{"),
    ({"configuration": {"spool": {"directory": "/$(HOME)"}}}, "$("),
    ({"downstream": {"placement": "nativeSidecar"}}, "downstream.image"),
    ({"downstream": {"image": "vendor:1"}}, "downstream.image"),
    ({"downstream": {"placement": "imageVolume", "image": "vendor:1"}}, "initless"),
    ({"configuration": {"plugins": {"crypt-pci": {}}}}, "crypt-pci"),
    ({"argo": {"controller": {"config": {"artifactDrivers": [{"name": "crypt", "image": "x"}]}}}}, "crypt already"),
    ({"argo": {"controller": {"config": {"artifactRepository": {"s3": {}}}}}}, "artifactRepository"),
    ({"tenants": {"namespaces": []}}, "tenants.namespaces"),
    ({"configuration": {"keys": {"vault": {"auth": {"method": "jwt"}}}}}, "vault.audience"),
    (
        {
            "configuration": {"keys": {"vault": {"auth": {"method": "jwt"}}}},
            "vault": {"audience": "a"},
            "tenants": {"serviceAccounts": {"executor": "x"}},
        },
        "tenants.serviceAccounts.executor",
    ),
    ({"argo": {"server": {"vaultRole": "argo-artifacts"}}}, "argo.server.vaultRole"),
    (
        {"argo": {"controller": {"config": {"executor": {"env": [{"name": "SEALGATE_CONFIG_YAML", "value": "x"}]}}}}},
        "executor.env",
    ),
    ({"argo": {"controller": {"config": {"initlessPod": {"enabled": True}}}}}, "argo.layout"),
    ({"admission": {"enabled": True}}, "argo.controller.serviceAccount"),
]


@pytest.mark.parametrize(("values", "named"), REFUSED, ids=[json.dumps(values) for values, _ in REFUSED])
def test_a_value_that_is_wrong_is_named(helm, tmp_path, values, named):
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    default = ("--values", str(CHART / "ci" / "default.yaml"))
    done = helm.run("template release-name", *default, "--values", str(tmp_path / "values.yaml"))
    assert done.returncode != 0
    assert named in done.stderr


def test_a_patch_that_the_controller_has_already_is_not_overwritten(helm, tmp_path):
    ours = yaml.safe_load((CHART / "ci" / "native-sidecar.yaml").read_text())
    ours["argo"]["controller"] = {"config": {"workflowDefaults": {"spec": {"podSpecPatch": "volumes: []"}}}}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(ours))
    done = helm.run("template release-name", "--values", str(tmp_path / "values.yaml"))
    assert done.returncode != 0
    assert "podSpecPatch" in done.stderr


def test_every_value_is_explained_and_in_the_schema():
    schema = json.loads((CHART / "values.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.Draft7Validator(schema).validate(values)
    assert set(schema["properties"]) - {"global"} == set(values)
    text = (CHART / "values.yaml").read_text()
    for name in values:
        before = text[: re.search(rf"^{name}:", text, re.MULTILINE).start()].rstrip().splitlines()[-1]
        assert before.startswith("#"), f"{name} has no comment"


def test_every_value_is_used_by_a_template():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    templates = "".join(path.read_text() for path in (CHART / "templates").rglob("*") if path.is_file())
    free = {"configuration", "controller", "securityContext", "resources", "dns", "labels", "annotations"}

    def names(mapping):
        for name, value in mapping.items():
            yield name
            if isinstance(value, dict) and name not in free and name not in {"kubernetesApi", "vault", "storage"}:
                yield from names(value)

    for name in names(values):
        assert re.search(rf"\.{name}\b", templates), name
