"""The admission policies, evaluated by the API server's own packages."""

import copy

import pytest

pytestmark = pytest.mark.timeout(900, func_only=False)

ELSEWHERE = {"s3": {"bucket": "b", "key": "k"}}
OURS = {"plugin": {"name": "crypt", "configuration": "{}", "key": "team-a/a"}}
THEIRS = {"plugin": {"name": "plain-s3", "configuration": "{}", "key": "team-a/a"}}


def workflow(kind="Workflow", *, template=None, **spec):
    main = {"name": "main", "container": {"image": "busybox"}, **(template or {})}
    inner = {"entrypoint": "main", "templates": [main], **spec}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": "w", "namespace": "team-a"},
        "spec": {"schedules": ["* * * * *"], "workflowSpec": inner} if kind == "CronWorkflow" else inner,
    }


def artifact(**location):
    return {"artifacts": [{"name": "a", "path": "/tmp/a", **location}]}


def step(**more):
    return {"name": "s", "template": "main", **more}


ADMITTED = {
    "no artifact at all": workflow(),
    "an output in the default repository": workflow(template={"outputs": artifact()}),
    "an output at a key of its own": workflow(template={"outputs": artifact(plugin={"key": "team-a/x"})}),
    "an output that names Sealgate": workflow(template={"outputs": artifact(**OURS)}),
    "an input given in place": workflow(template={"inputs": artifact(raw={"data": "x"})}),
    "an input from git": workflow(template={"inputs": artifact(git={"repo": "https://example.com/r"})}),
    "an input of another step": workflow(
        template={"dag": {"tasks": [step(arguments=artifact(**{"from": "{{tasks.a.outputs.artifacts.b}}"}))]}}
    ),
    "logs": workflow(template={"archiveLocation": {"archiveLogs": True}}),
    "garbage collection": workflow(artifactGC={"strategy": "OnWorkflowDeletion"}),
    "a workflow of a template": workflow(workflowTemplateRef={"name": "t"}),
    "arguments without artifacts": workflow(arguments={"parameters": [{"name": "p"}]}),
    "a key that begins with the variable": workflow(
        template={"inputs": artifact(plugin={"key": "{{workflow.namespace}}/{{inputs.parameters.p}}"})}
    ),
    "an upload": workflow(arguments=artifact(plugin={"key": "uploads/team-a/file"})),
}
FOREIGN = {"plugin": {"key": "team-b/secret"}}
FOREIGN_KEYS = {
    "an output": workflow(template={"outputs": artifact(**FOREIGN)}),
    "an output whose key begins alike": workflow(template={"outputs": artifact(plugin={"key": "team-ab/x"})}),
    "an output whose key is a variable": workflow(
        template={"outputs": artifact(plugin={"key": "{{inputs.parameters.p}}"})}
    ),
    "an upload of another namespace": workflow(template={"inputs": artifact(plugin={"key": "uploads/team-b/x"})}),
    "an input that never runs": workflow(
        template={"steps": [[step(when="false", arguments=artifact(**FOREIGN))]]},
    ),
    "an input of a template": workflow(template={"inputs": artifact(**FOREIGN)}),
    "an argument of the workflow": workflow(arguments=artifact(**FOREIGN)),
    "an argument of a task": workflow(template={"dag": {"tasks": [step(arguments=artifact(**FOREIGN))]}}),
    "an argument of a hook": workflow(hooks={"exit": {"template": "x", "arguments": artifact(**FOREIGN)}}),
    "an argument of a task's hook": workflow(
        template={"dag": {"tasks": [step(hooks={"exit": {"template": "x", "arguments": artifact(**FOREIGN)}})]}}
    ),
    "a place for logs": workflow(template={"archiveLocation": FOREIGN}),
    "a source of data": workflow(template={"data": {"source": {"artifactPaths": {"name": "a", **FOREIGN}}}}),
    "a manifest": workflow(
        template={"resource": {"action": "get", "manifestFrom": {"artifact": {"name": "a", **FOREIGN}}}}
    ),
    "defaults of templates": workflow(templateDefaults={"inputs": artifact(**FOREIGN)}),
}
REFUSED = {
    "an output elsewhere": (workflow(template={"outputs": artifact(**ELSEWHERE)}), "output"),
    "an output by another plugin": (workflow(template={"outputs": artifact(**THEIRS)}), "output"),
    "an output by http": (workflow(template={"outputs": artifact(http={"url": "https://x"})}), "output"),
    "the second of two outputs": (
        workflow(template={"outputs": {"artifacts": [{"name": "a"}, {"name": "b", **ELSEWHERE}]}}),
        "output",
    ),
    "logs elsewhere": (workflow(template={"archiveLocation": ELSEWHERE}), "archiveLocation"),
    "an input elsewhere": (workflow(template={"inputs": artifact(**ELSEWHERE)}), "input artifact"),
    "an input by another plugin": (workflow(template={"inputs": artifact(**THEIRS)}), "input artifact"),
    "a source of data elsewhere": (
        workflow(template={"data": {"source": {"artifactPaths": {"name": "a", **ELSEWHERE}}}}),
        "input artifact",
    ),
    "a manifest elsewhere": (
        workflow(template={"resource": {"action": "get", "manifestFrom": {"artifact": {"name": "a", **ELSEWHERE}}}}),
        "input artifact",
    ),
    "an argument of the workflow": (workflow(arguments=artifact(**ELSEWHERE)), "arguments"),
    "an argument of a task": (
        workflow(template={"dag": {"tasks": [step(arguments=artifact(**ELSEWHERE))]}}),
        "arguments",
    ),
    "an argument of a step": (
        workflow(template={"steps": [[step()], [step(arguments=artifact(**ELSEWHERE))]]}),
        "arguments",
    ),
    "an argument of a hook": (
        workflow(hooks={"exit": {"template": "x", "arguments": artifact(**ELSEWHERE)}}),
        "arguments",
    ),
    "an argument of a step's hook": (
        workflow(template={"steps": [[step(hooks={"exit": {"template": "x", "arguments": artifact(**ELSEWHERE)}})]]}),
        "arguments",
    ),
    "defaults of templates": (workflow(templateDefaults={"outputs": artifact(**ELSEWHERE)}), "output"),
    "a cache of outputs": (
        workflow(template={"memoize": {"key": "k", "cache": {"configMap": {"name": "authors"}}}}),
        "memoize",
    ),
    "an inline template": (workflow(template={"dag": {"tasks": [{"name": "s", "inline": {}}]}}), "inline"),
    "an inline template of a step": (workflow(template={"steps": [[{"name": "s", "inline": {}}]]}), "inline"),
    "a patch of the pod": (workflow(podSpecPatch="containers: []"), "podSpecPatch"),
    "a patch of a template's pod": (workflow(template={"podSpecPatch": "containers: []"}), "podSpecPatch"),
    "a patch of garbage collection": (workflow(artifactGC={"podSpecPatch": "x"}), "podSpecPatch"),
    "another repository": (workflow(artifactRepositoryRef={"configMap": "other"}), "artifactRepositoryRef"),
    "another repository of the usual name": (workflow(artifactRepositoryRef={"key": "k"}), "artifactRepositoryRef"),
}


@pytest.fixture(scope="module")
def policies(helm):
    on = "admission.enabled=true,tenants.namespaces={team-a},argo.controller.serviceAccount=controller"
    return helm.rendered("--set", on, "--set", "admission.maintainers={keeper}")


@pytest.fixture(scope="module")
def policy(policies):
    return policies.the("ValidatingAdmissionPolicy", "-workflows")


def test_workflows_that_use_sealgate_are_admitted(decide, policy):
    cases = [{"object": found} for found in ADMITTED.values()]
    assert dict(zip(ADMITTED, decide(policy, *cases), strict=True)) == {name: [] for name in ADMITTED}


@pytest.mark.parametrize("kind", ["Workflow", "WorkflowTemplate", "CronWorkflow", "ClusterWorkflowTemplate"])
def test_workflows_that_bypass_sealgate_are_refused_for_one_reason_in_every_kind(decide, policy, kind):
    def of_the_kind(found):
        return workflow(kind) | {"spec": {"workflowSpec": found["spec"]} if kind == "CronWorkflow" else found["spec"]}

    answers = decide(policy, *({"object": of_the_kind(found)} for found, _ in REFUSED.values()))
    for (name, (_, reason)), answer in zip(REFUSED.items(), answers, strict=True):
        assert len(answer) == 1, (name, answer)
        assert reason in answer[0], (name, answer)


def test_a_key_outside_the_namespace_is_refused_wherever_a_workflow_names_one(decide, policy):
    answers = decide(policy, *({"object": found} for found in FOREIGN_KEYS.values()))
    for name, answer in zip(FOREIGN_KEYS, answers, strict=True):
        assert len(answer) == 1, (name, answer)
        assert "does not begin with the namespace of the workflow" in answer[0], name


def test_a_key_that_all_namespaces_share_is_admitted_if_the_values_name_it(decide, of):
    policy = of("everything").the("ValidatingAdmissionPolicy", "-workflows")
    found = [workflow(template={"outputs": artifact(plugin={"key": key})}) for key in ("shared/a", "sharedx/a")]
    answers = decide(policy, *({"object": each} for each in found))
    assert [len(answer) for answer in answers] == [0, 1]


def with_node(**node):
    return workflow() | {"status": {"nodes": {"w-1": {"id": "w-1", **node}}}}


def test_only_argo_writes_foreign_keys_into_the_status_of_nodes(decide, policies):
    policy = policies.the("ValidatingAdmissionPolicy", "-workflow-status")
    foreign = [with_node(outputs=artifact(**FOREIGN)), with_node(inputs=artifact(**FOREIGN))]
    cases = [{"object": each} for each in foreign] + [{"object": each, "old": with_node()} for each in foreign]
    for answer in decide(policy, *(case | {"user": "author"} for case in cases)):
        assert len(answer) == 1
        assert "status.nodes" in answer[0]
    assert decide(policy, *(case | {"user": CONTROLLER} for case in cases)) == [[]] * 4
    labelled = foreign[0] | {"metadata": foreign[0]["metadata"] | {"labels": {"a": "b"}}}
    own = with_node(outputs=artifact(**OURS))
    admitted = [{"object": labelled, "old": foreign[0]}, {"object": own}, {"object": with_node()}]
    assert decide(policy, *(case | {"user": "author"} for case in admitted)) == [[]] * 3


@pytest.mark.parametrize("field", ["outputs", "status"])
def test_results_of_tasks_name_no_foreign_key(decide, policies, field):
    policy = policies.the("ValidatingAdmissionPolicy", "-task-results")

    def result(location):
        outputs = artifact(**location)
        written = {"outputs": outputs} if field == "outputs" else {"status": {"nodes": {"n": {"outputs": outputs}}}}
        kind = "WorkflowTaskResult" if field == "outputs" else "WorkflowTaskSet"
        metadata = {"name": "w-1", "namespace": "team-a"}
        return {"apiVersion": "argoproj.io/v1alpha1", "kind": kind, "metadata": metadata, **written}

    answers = decide(policy, {"object": result(FOREIGN)}, {"object": result(OURS)})
    assert [len(answer) for answer in answers] == [1, 0]


@pytest.mark.parametrize("kind", ["Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate"])
def test_a_decoy_specification_does_not_hide_the_one_that_argo_runs(decide, policy, kind):
    decoy = workflow(kind, template={"outputs": artifact(**ELSEWHERE)})
    decoy["spec"]["workflowSpec"] = {"templates": []}
    (answer,) = decide(policy, {"object": decoy})
    assert ["workflowSpec" in answer[0], "output" in answer[1]] == [True, True]


STATUS = {
    "artifactRepositoryRef": {"artifactRepository": {"s3": {"bucket": "b"}}},
    "storedTemplates": {"namespaced/t/main": {"outputs": artifact(**ELSEWHERE)}},
    "storedWorkflowTemplateSpec": workflow(template={"outputs": artifact(**ELSEWHERE)})["spec"],
    "compressedNodes": "H4sIAAAAAAAA",
    "offloadNodeStatusVersion": "fnv:1",
}
CONTROLLER = "system:serviceaccount:argo:controller"
SERVER = "system:serviceaccount:argo:argo-server"


@pytest.mark.parametrize("field", STATUS)
def test_status_fields_that_argo_obeys_are_written_by_argo_alone(decide, policies, field):
    policy = policies.the("ValidatingAdmissionPolicy", "-workflow-status")
    new = workflow() | {"status": {field: STATUS[field]}}
    other = workflow() | {
        "status": {field: "" if isinstance(STATUS[field], str) else {"other": "x"}, "phase": "Running"}
    }
    stopped = new | {"spec": new["spec"] | {"shutdown": "Stop"}}
    cases = [{"object": new}, {"object": new, "old": workflow()}, {"object": new, "old": other}]
    answers = decide(policy, *(case | {"user": "author"} for case in cases))
    assert [[field in text for text in answer] for answer in answers] == [[True]] * 3
    assert decide(policy, *(case | {"user": CONTROLLER} for case in cases)) == [[], [], []]
    # With the auth mode `server`, Argo's server creates every author's workflow in its own name.
    by_server = decide(policy, *(case | {"user": SERVER} for case in cases))
    assert [len(answer) for answer in by_server] == [1, 0, 0]
    as_submitted = workflow() | {"status": {"startedAt": None, "finishedAt": None}}
    admitted = [{"object": stopped, "old": new}, {"object": as_submitted}, {"object": workflow()}]
    assert decide(policy, *(case | {"user": "author"} for case in admitted)) == [[], [], []]


def test_the_controller_may_update_a_workflow_older_than_the_policy(decide, policy):
    old = REFUSED["an output elsewhere"][0]
    new = copy.deepcopy(old) | {"status": {"phase": "Running"}}
    changed = copy.deepcopy(old)
    changed["spec"]["priority"] = 1
    answers = decide(policy, {"object": new, "old": old}, {"object": changed, "old": old})
    assert answers[0] == []
    assert answers[1]


def test_an_invalid_specification_is_refused(decide, policy):
    strange = workflow() | {"spec": {"templates": "none"}}
    (answer,) = decide(policy, {"object": strange})
    assert answer


def test_the_controller_may_write_the_patch_of_the_placement_into_a_workflow(decide, of):
    # It merges its defaults into the specification, and updates the workflow with the result.
    rendered = of("native-sidecar")
    policy = rendered.the("ValidatingAdmissionPolicy", "-workflows")
    defaults = rendered.controller()["workflowDefaults"]["spec"]
    merged = workflow(podSpecPatch=defaults["podSpecPatch"], artifactGC=defaults["artifactGC"])
    other = workflow(podSpecPatch=defaults["podSpecPatch"] + "\nvolumes: []")
    collecting = workflow(artifactGC=defaults["artifactGC"] | {"podSpecPatch": "containers: []"})
    answers = decide(
        policy, {"object": merged, "old": workflow()}, {"object": other, "old": workflow()}, {"object": collecting}
    )
    assert answers[0] == []
    assert all("podSpecPatch" in answer[0] for answer in answers[1:])


def test_inputs_that_the_values_do_not_list_are_refused(decide, of):
    policy = of("everything").the("ValidatingAdmissionPolicy", "-workflows")
    raw, git = (ADMITTED[name] for name in ("an input given in place", "an input from git"))
    answers = decide(policy, {"object": raw}, {"object": git})
    assert "input artifact" in answers[0][0]
    assert answers[1] == []


def test_a_repository_that_the_values_list_and_each_name_of_the_plugin_are_admitted(decide, of):
    policy = of("everything").the("ValidatingAdmissionPolicy", "-workflows")
    listed = workflow(artifactRepositoryRef={"configMap": "sealed-repositories"})
    pci = workflow(template={"outputs": artifact(plugin={"name": "sealgate-pci", "key": "team-a/a"})})
    assert decide(policy, {"object": listed}, {"object": pci}) == [[], []]


def test_only_maintainers_write_the_configmaps_of_artifact_repositories(decide, policies):
    policy = policies.the("ValidatingAdmissionPolicy", "-artifact-repositories")
    metadata = {"namespace": "team-a"}
    repositories = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata | {"name": "artifact-repositories"}}
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata | {"name": "other"}}
    answers = decide(
        policy,
        {"object": repositories, "user": "author"},
        {"object": repositories, "user": "keeper"},
        {"object": other, "user": "author"},
    )
    assert [len(answer) for answer in answers] == [1, 0, 0]


def test_each_policy_for_argos_kinds_names_their_version(policies):
    # Kubernetes does not check the types of a policy that names no version.
    rules = [
        rule
        for found in policies.objects()
        if found["kind"] == "ValidatingAdmissionPolicy"
        for rule in found["spec"]["matchConstraints"]["resourceRules"]
    ]
    assert {(*rule["apiGroups"], *rule["apiVersions"]) for rule in rules} == {("argoproj.io", "v1alpha1"), ("", "v1")}


def test_the_admission_policies_apply_to_the_tenants_namespaces(of):
    bindings = [found for found in of("everything").objects() if found["kind"] == "ValidatingAdmissionPolicyBinding"]
    assert len(bindings) == 4
    for binding in bindings:
        (expression,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
        assert expression["values"] == ["team-a", "team-b"]
        assert binding["spec"]["validationActions"] == ["Warn", "Audit"]
