"""An author of team-b who wants an artifact of team-a, with the chart's admission policy and without it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml
from cluster.kubernetes import NotYet, until
from cluster.scene import Scene
from cluster.workflows import Document, Workflow, plugin, step

TREASURE = "treasure"
"""The plaintext."""
LOADS = "init-artifact-crypt"
"""The container of a step's pod that loads."""


def hidden_treasure(scene: Scene) -> str:
    """Have team-a save an artifact, and return its key."""
    save = f"echo {TREASURE} > /tmp/out"
    write = step("write", save, outputs={"it": {"path": "/tmp/out", "archive": {"none": {}}}})
    return scene.submit("team-a", write).succeeded().key("write", "it")


def thief(key: str) -> Document:
    """Return a template that loads an artifact and prints it."""
    return step("read", "cat /tmp/in", inputs={"it": {"path": "/tmp/in", **plugin(key)}})


def workflow(**spec: object) -> Document:
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Workflow",
        "metadata": {"generateName": "thief-"},
        "spec": {"entrypoint": "read", **spec},
    }


def tried(scene: Scene, key: str, **patch: Any) -> Workflow:
    """Have team-b load an artifact in a pod whose loading container is patched, and return the ended workflow."""
    text = json.dumps({"initContainers": [{"name": LOADS, **patch}]})
    return scene.submit("team-b", thief(key), podSpecPatch=text).ended()


def variables(**values: str) -> list[Document]:
    """Return an environment whose entries replace those of a container, also those that a field of the pod sets."""
    return [{"name": name, "value": value, "valueFrom": None} for name, value in values.items()]


def failed(found: Workflow) -> str:
    """Require that a workflow failed without the plaintext, and return the messages of its nodes."""
    assert found.phase in {"Failed", "Error"}
    assert TREASURE not in found.logs()
    return found.messages()


def own_configuration(scene: Scene, **vault: Any) -> str:
    """Return a configuration without policies, as a thief writes it into a pod.

    Args:
        scene: knows Vault.
        vault: fields of the section `keys.vault`.
    """
    keys: Mapping[str, Any] = {
        "address": scene.vault_address,
        "caBundle": scene.authority.read_text(),
        "auth": {"method": "kubernetes", "role": "argo-artifacts"},
        **vault,
    }
    return json.dumps(
        {
            "apiVersion": "sealgate/v1alpha1",
            "kind": "Sealgate",
            "downstream": {"builtin": {}},
            "keys": {"provider": "vault", "vault": keys},
        }
    )


@contextmanager
def no_admission(scene: Scene) -> Iterator[None]:
    """Take the chart's admission policy out, as in an installation that has not enabled it."""
    bindings = scene.client.list("validatingadmissionpolicybindings")
    for binding in bindings:
        scene.client.run("delete", "validatingadmissionpolicybinding", binding["metadata"]["name"])
    # The API server looks for changes of policies now and then.
    until("the policy does not act", lambda: _accepted(scene, workflow(templates=[thief("team-a/x")])))
    try:
        yield
    finally:
        for binding in bindings:
            kept = {"name": binding["metadata"]["name"], "labels": binding["metadata"].get("labels", {})}
            kept["annotations"] = binding["metadata"].get("annotations", {})
            scene.client.apply({**{key: binding[key] for key in ("apiVersion", "kind", "spec")}, "metadata": kept})
        until("the policy acts", lambda: refused(scene, workflow(templates=[thief("team-a/x")])))


def refused(scene: Scene, manifest: Document) -> str:
    """Return the message with which the API refuses an object of team-b."""
    done = _created(scene, manifest)
    if done.returncode == 0:
        raise NotYet("it is accepted")
    return done.stderr


def _accepted(scene: Scene, manifest: Document) -> None:
    done = _created(scene, manifest)
    if done.returncode:
        raise NotYet(done.stderr)


def _created(scene: Scene, manifest: Document) -> subprocess.CompletedProcess[str]:
    create = ("create", "--dry-run=server", "--namespace", "team-b", "--filename=-")
    return scene.client.attempt(*create, text=yaml.safe_dump(manifest))
