"""Argo's workflows in the cluster: submitted, waited for, and looked at from outside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.images import STEP
from cluster.kubernetes import Kubernetes, NotYet, until

Document = dict[str, Any]
ENDED = {"Succeeded", "Failed", "Error"}


def step(
    name: str,
    script: str,
    inputs: Mapping[str, str | Document] | None = None,
    outputs: Mapping[str, str | Document] | None = None,
    **more: Any,
) -> Document:
    """Return a template that runs a shell script.

    Args:
        name: its name.
        script: what its container runs.
        inputs: artifacts by name: the path alone, or the fields of the artifact.
        outputs: the same.
        more: further fields of the template.
    """
    template: Document = {"name": name, "container": {"image": STEP, "command": ["sh", "-ec", script]}, **more}
    for where, artifacts in (("inputs", inputs), ("outputs", outputs)):
        if artifacts:
            template[where] = {"artifacts": [_artifact(each, facts) for each, facts in artifacts.items()]}
    return template


def _artifact(name: str, facts: str | Document) -> Document:
    return {"name": name, "path": facts} if isinstance(facts, str) else {"name": name, **facts}


def plugin(key: str, name: str = "crypt", configuration: str = "{}") -> Document:
    """Return the location of an artifact that names the plugin."""
    return {"plugin": {"name": name, "key": key, "configuration": configuration}}


def steps(*templates: Document, passes: Mapping[str, str] | None = None) -> list[Document]:
    """Return templates that run one after the other.

    Args:
        templates: the templates.
        passes: outputs of the first one, each with the input that it becomes in the others.
    """
    tasks: list[Document] = []
    for number, template in enumerate(templates):
        task: Document = {"name": template["name"], "template": template["name"]}
        if number:
            task["dependencies"] = [templates[number - 1]["name"]]
            given = [
                {"name": into, "from": f"{{{{tasks.{templates[0]['name']}.outputs.artifacts.{output}}}}}"}
                for output, into in (passes or {}).items()
            ]
            task["arguments"] = {"artifacts": given}
        tasks.append(task)
    return [{"name": "main", "dag": {"tasks": tasks}}, *templates]


@dataclass
class Workflow:
    """A workflow that was submitted."""

    client: Kubernetes
    namespace: str
    name: str

    def ended(self, within: float = 400) -> Workflow:
        """Wait until it has ended in any way."""

        def check() -> Workflow:
            phase = self.status().get("phase", "none")
            if phase not in ENDED:
                raise NotYet(f"{self.name} is {phase}: {self.messages()}")
            return self

        return until(f"the workflow {self.name} ends", check, within)

    def succeeded(self, within: float = 400) -> Workflow:
        """Wait until it has ended, and require that it succeeded."""
        self.ended(within)
        assert self.phase == "Succeeded", f"{self.name} is {self.phase}: {self.messages()}\n{self.logs()[-4000:]}"
        return self

    def status(self) -> Document:
        """Return what Argo's API shows of it."""
        return dict(self.client.get("workflow", self.name, self.namespace).get("status", {}))

    @property
    def phase(self) -> str:
        return str(self.status().get("phase", ""))

    def nodes(self) -> list[Document]:
        return list(self.status().get("nodes", {}).values())

    def messages(self) -> str:
        """Return the messages of its nodes, as Argo shows them."""
        found = [self.status().get("message", ""), *(node.get("message", "") for node in self.nodes())]
        return " | ".join(dict.fromkeys(filter(None, found)))

    def outputs(self, template: str) -> dict[str, Document]:
        """Return the outputs of a template's node by the artifact's name."""
        (node,) = [node for node in self.nodes() if node.get("templateName") == template and node["type"] == "Pod"][:1]
        return {artifact["name"]: artifact for artifact in node.get("outputs", {}).get("artifacts", [])}

    def key(self, template: str, artifact: str) -> str:
        """Return where an output is stored."""
        return str(self.outputs(template)[artifact]["plugin"]["key"])

    def pods(self) -> list[Document]:
        return self.client.list("pods", self.namespace, f"workflows.argoproj.io/workflow={self.name}")

    def pod(self, template: str) -> Document:
        """Return the pod of a template."""
        marks = "workflows.argoproj.io/node-name"
        (found,) = [
            pod for pod in self.pods() if str(pod["metadata"]["annotations"].get(marks, "")).endswith(f".{template}")
        ][:1] or [None]
        if found is None:
            raise NotYet(f"{self.name} has no pod of {template}")
        return found

    def logs(self) -> str:
        """Return the logs of all containers of all pods."""
        return "\n".join(self._container_logs())

    def _container_logs(self) -> Sequence[str]:
        found = []
        for pod in self.pods():
            name = pod["metadata"]["name"]
            for container in (*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]):
                done = self.client.attempt(
                    "logs", name, "--container", container["name"], "--namespace", self.namespace
                )
                found.append(f"== {name} {container['name']}\n{done.stdout}")
        return found

    def trail(self) -> list[Document]:
        """Return the records of the audit trail that its pods wrote."""
        return records_of(self.logs())

    def trail_text(self) -> str:
        """Return the lines of the audit trail that its pods wrote."""
        return "".join(f"{line}\n" for line in self.logs().splitlines() if line.startswith('{"sealgate_audit"'))

    def delete(self) -> None:
        self.client.run("delete", "workflow", self.name, "--namespace", self.namespace, "--timeout=240s")


def records_of(log: str) -> list[Document]:
    """Return the records of the audit trail in a log."""
    return [json.loads(line) for line in log.splitlines() if line.startswith('{"sealgate_audit"')]


def submit(client: Kubernetes, namespace: str, templates: Sequence[Document], **spec: Any) -> Workflow:
    """Create a workflow; its entrypoint is the first template."""
    manifest = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "it-", "namespace": namespace},
        "spec": {"entrypoint": templates[0]["name"], "templates": list(templates), **spec},
    }
    (name,) = client.create(manifest, namespace=namespace)
    return Workflow(client, namespace, name)
