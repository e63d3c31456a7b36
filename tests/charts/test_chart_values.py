"""Wrong values are refused, and the error names them."""

import copy
import json
import re
import typing

import msgspec
import pytest
import yaml
from harness.chart_readme import resolved
from harness.rendering import CHART

from sealgate import config

pytestmark = pytest.mark.timeout(900, func_only=False)


def section(**vault):
    return {"configuration": {"plugins": {"crypt": {"keys": {"vault": vault}}}}}


def policy(**rule):
    spec = {"encryption": [{"name": "everything", **rule}]}
    document = {"apiVersion": "sealgate/v1alpha1", "kind": "ArtifactPolicy", "metadata": {"name": "p"}, "spec": spec}
    return {"configuration": {"policies": [document]}}


def defaults(**spec):
    return {"argo": {"controller": {"config": {"workflowDefaults": {"spec": spec}}}}}


def roles(**names):
    return {"configuration": {"keys": {"vault": {"auth": {"roles": names}}}}}


EXECUTOR = {"tenants": {"serviceAccounts": {"executor": "x"}}}
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
    ({"downstream": {"placement": "imageVolume", "image": "vendor:1", "command": ["/vendor/x"]}}, "initless"),
    ({"downstream": {"placement": "imageVolume", "image": "vendor:1"}}, "/vendor"),
    ({"downstream": {"command": None}}, "command"),
    ({"downstream": {"command": ["/vendor/plugin"]}}, "set downstream.placement: child"),
    ({"downstream": {"placement": "child", "image": "vendor:1"}}, "docs/install-image.md"),
    ({"configuration": {"spool": {"transfer": "file"}}}, "uses no spool"),
    ({"vault": {"tokenTtl": None}}, "tokenTtl"),
    ({"plugin": {"name": "vendor"}}, "plugin.name: vendor is taken"),
    ({"plugin": {"name": "downstream"}}, "plugin.name: downstream is taken"),
    ({"admission": {"actions": ["Deny", "Warn"]}}, "admission.actions"),
    ({"argo": {"executor": {"securityContext": {"readOnlyRootFilesystem": True}}}}, "readOnlyRootFilesystem"),
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
    (roles(server="argo-artifacts"), "two of role and roles are argo-artifacts,"),
    (roles(gc="argo-artifacts-server"), "two of role and roles are argo-artifacts-server,"),
    ({**roles(init="argo-artifacts-gc"), **EXECUTOR}, "two of role and roles are argo-artifacts-gc,"),
    (roles(sidecar="x"), "roles.sidecar"),
    (roles(gc="gc-${identity.namespace}"), "cannot create the role gc-${identity.namespace} of each namespace"),
    (
        {"configuration": {"keys": {"vault": {"auth": {"role": "${identity.namespace}"}}}}},
        "cannot create the role ${identity.namespace} of each namespace",
    ),
    (roles(gc="gc-${identity.workflow}"), "gc"),
    (roles(init="x"), "roles.init"),
    ({**roles(init="x"), **EXECUTOR, "argo": {"layout": "initless"}}, "roles.init"),
    (roles(init="x") | {"tenants": {"serviceAccounts": {"executor": "argo-workflow"}}}, "roles.init"),
    (roles(sidcar="x"), "sidcar"),
    (roles(gc="a'; id; '"), "gc"),
    (
        {"argo": {"controller": {"config": {"executor": {"env": [{"name": "SEALGATE_CONFIG_YAML", "value": "x"}]}}}}},
        "executor.env",
    ),
    ({"argo": {"controller": {"config": {"initlessPod": {"enabled": True}}}}}, "argo.layout"),
    ({"argo": {"controller": {"serviceAccount": ""}}}, "serviceAccount"),
    ({"configuration": {"keys": {"vault": None}}}, "vault"),
    ({"configuration": {"keys": {"vault": {"auth": {"method": "token"}}}}}, "role: null"),
    (
        {"configuration": {"keys": {"vault": {"auth": {"method": "token", "role": None, "roles": {"gc": "x"}}}}}},
        "no role",
    ),
    ({"configuration": {"keys": {"vault": {"adress": "https://v"}}}}, "adress"),
    ({"configuration": {"keys": {"cahce": {"ttl": "1m"}}}}, "cahce"),
    ({"configuration": {"audit": {"sigingKey": "a"}}}, "sigingKey"),
    ({"configuration": {"keys": {"vault": {"address": "https://$(id)"}}}}, "address"),
    # The section of a plugin goes into the script for Vault, too.
    (section(key="pci; touch /tmp/x;"), "key"),
    (section(key="pci\ntouch /tmp/x"), "key"),
    (section(mount="a'; id; '"), "mount"),
    (section(mount="other"), "configuration.plugins.crypt.keys.vault.mount: the script"),
    (section(context="c"), "configuration.plugins.crypt.keys.vault.context: the script"),
    (section(address="https://other"), "configuration.plugins.crypt.keys.vault.address: the script"),
    (section(auth={"method": "kubernetes", "role": "x"}), "configuration.plugins.crypt.keys.vault.auth: Argo's server"),
    ({"configuration": {"plugins": {"crypt": {"audit": {"signingKey": "x"}}}}}, "crypt.audit.signingKey: the script"),
    (policy(key="tenant-${identity.namespace}"), "names the key tenant-${identity.namespace}"),
    (policy(authorKeys=["$(id)"]), "$("),
    (policy(authorKeys=["a b"]), "names the key a b"),
    # These would silently override what the chart sets.
    (defaults(serviceAccountName="x"), "workflowDefaults has serviceAccountName"),
    (defaults(executor={"serviceAccountName": "x"}), "workflowDefaults has executor.serviceAccountName"),
    (defaults(artifactGC={"serviceAccountName": "x"}), "workflowDefaults has artifactGC.serviceAccountName"),
    (
        {"argo": {"controller": {"config": {"executor": {"securityContext": {"runAsUser": 1}}}}}},
        "use argo.executor.securityContext",
    ),
    (
        {"argo": {"controller": {"config": {"executor": {"resources": {"limits": {"memory": "1Gi"}}}}}}},
        "use argo.executor.resources",
    ),
    # These would be readable in ConfigMaps.
    (
        {"environment": [{"name": "VAULT_TOKEN", "value": "s.x"}]},
        "VAULT_TOKEN would be readable in ConfigMaps and pods",
    ),
    ({"environment": [{"name": "AWS_SECRET_ACCESS_KEY", "value": "x"}]}, "secretKeyRef"),
    ({"environment": [{"name": "OTEL_EXPORTER_OTLP_HEADERS", "value": "a=b"}]}, "secretKeyRef"),
    ({"environment": [{"name": "HTTPS_PROXY", "value": "http://u:pw@proxy:3128"}]}, "secretKeyRef"),
    ({"environment": [{"name": "X", "value": "secret_access_key: abc"}]}, "secretKeyRef"),
    ({"downstream": {"environment": [{"name": "PASSWORD", "value": "x"}]}}, "downstream.environment: PASSWORD"),
    ({"argo": {"server": {"environment": [{"name": "A_KEY", "value": "x"}]}}}, "argo.server.environment: A_KEY"),
    (
        {"argo": {"controller": {"config": {"executor": {"env": [{"name": "VAULT_TOKEN", "value": "x"}]}}}}},
        "executor.env: VAULT_TOKEN",
    ),
    ({"configuration": {"keys": {"vault": {"address": "https://root:x@vault"}}}}, "remove the part before the @"),
    (section(address="https://root:x@vault"), "remove the part before the @"),
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


def test_a_secret_by_reference_and_what_is_no_secret_are_taken(helm, tmp_path):
    by_reference = {"name": "VAULT_TOKEN", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}
    plain = [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}, {"name": "AWS_ACCESS_KEY_ID", "value": "AKIA"}]
    (tmp_path / "values.yaml").write_text(yaml.safe_dump({"environment": [by_reference, *plain]}))
    rendered = helm.rendered("--values", str(CHART / "ci/default.yaml"), "--values", str(tmp_path / "values.yaml"))
    assert by_reference in rendered.controller()["executor"]["env"]


def test_an_image_volume_is_refused_where_kubernetes_has_none(helm):
    done = helm.run("template release-name", "--values", str(CHART / "ci/image-volume.yaml"), kubernetes="1.30.0")
    assert "imageVolume needs Kubernetes 1.31" in done.stderr


def test_the_schema_has_the_configuration_fields_of_the_program():
    schema = json.loads((CHART / "values.schema.json").read_text())
    of_the_chart = {"apiVersion", "kind", "builtin", "command", "socket"}

    def require(kind, part):
        part = resolved(schema, part)
        fields = {field.encode_name: field.type for one in kinds(kind) for field in msgspec.structs.fields(one)}
        tags = {one.__struct_config__.tag_field for one in kinds(kind)} - {None}
        known = set(fields) | tags
        assert set(part["properties"]) - {"plugins"} == known - of_the_chart, kind
        assert part["additionalProperties"] is False, kind
        for name in set(fields) - of_the_chart:
            if kinds(fields[name]):
                below = part["properties"][name]
                require(fields[name], below.get("items", below))

    require(config.Settings, schema["properties"]["configuration"])
    require(config.Settings, schema["definitions"]["section"])


def kinds(annotated):
    """Return the structs in a type."""
    found = [annotated, *typing.get_args(annotated)]
    found += [inner for one in found[1:] for inner in typing.get_args(one)]
    return [one for one in found if isinstance(one, type) and issubclass(one, msgspec.Struct)]


def test_a_value_that_is_set_to_null_is_refused():
    import jsonschema  # noqa: PLC0415 - takes 1.4 s, which each test process would spend

    schema = jsonschema.Draft7Validator(json.loads((CHART / "values.schema.json").read_text()))
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    may_be_null = {"argo.executor.securityContext", "argo.executor.resources"}
    free = {"configuration", "argo.controller.config"}

    def paths(mapping, above=()):
        for name, value in mapping.items():
            path = ".".join((*above, name))
            if path in may_be_null or path in free:
                continue
            yield (*above, name)
            if isinstance(value, dict) and not path.endswith(("dns", "labels", "securityContext", "resources")):
                yield from paths(value, (*above, name))

    found = list(paths(values))
    assert len(found) > 60
    for *above, last in found:
        without = copy.deepcopy(values)
        part = without
        for name in above:
            part = part[name]
        del part[last]
        assert not schema.is_valid(without), (*above, last)


def test_every_value_is_explained_and_in_the_schema():
    import jsonschema  # noqa: PLC0415 - as in the test above

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
