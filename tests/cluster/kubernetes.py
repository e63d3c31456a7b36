"""A client of the cluster's API: kubectl, and waiting for what kubectl shows."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")


class NotYet(Exception):
    """What is waited for has not happened, and the text says what is there instead."""


def until(what: str, check: Callable[[], T], within: float = 180) -> T:
    """Call `check` until it raises no `NotYet`, and return its result.

    Args:
        what: what must become so, for the error.
        check: raises `NotYet`, or returns.
        within: the longest wait, in seconds; generous, because a machine may be busy.
    """
    end = time.monotonic() + within
    while True:
        try:
            return check()
        except NotYet as state:
            if time.monotonic() > end:
                raise AssertionError(f"not so within {within} s: {what}; it is: {state}") from None
        time.sleep(0.25)


class Kubernetes:
    """The API, as the user of a kubeconfig."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which kubectl and helm find the cluster."""
        return os.environ | {"KUBECONFIG": str(self.kubeconfig), "HOME": str(self.kubeconfig.parent)}

    def attempt(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl, and return how it ended."""
        command = ["kubectl", *arguments]
        return subprocess.run(
            command, input=text, env=self.environment, capture_output=True, text=True, check=False, timeout=300
        )

    def run(self, *arguments: str, text: str = "") -> str:
        """Run kubectl, and return what it prints.

        Raises:
            NotYet: kubectl failed.
        """
        done = self.attempt(*arguments, text=text)
        if done.returncode:
            raise NotYet(f"kubectl {' '.join(arguments[:4])}: {done.stderr.strip()[-1500:]}")
        return done.stdout

    def list(self, kind: str, namespace: str = "", selector: str = "") -> list[dict[str, Any]]:
        """Return the objects of a kind."""
        where = ["--namespace", namespace] if namespace else ["--all-namespaces"]
        chosen = [f"--selector={selector}"] if selector else []
        return list(json.loads(self.run("get", kind, *where, *chosen, "--output=json"))["items"])

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        """Return one object."""
        return dict(json.loads(self.run("get", kind, name, "--namespace", namespace, "--output=json")))

    def apply(self, *objects: Mapping[str, Any], namespace: str = "") -> None:
        """Create or change objects."""
        where = ["--namespace", namespace] if namespace else []
        options = ["--server-side", "--force-conflicts"]
        self.run("apply", *options, *where, "--filename=-", text=yaml.safe_dump_all(objects))

    def create(self, *objects: Mapping[str, Any], namespace: str) -> list[str]:
        """Create objects, and return their names."""
        output = ["--output=jsonpath={.metadata.name}{'\\n'}"]
        made = self.run("create", "--namespace", namespace, *output, "--filename=-", text=yaml.safe_dump_all(objects))
        return made.split()

    def logs(self, pod: str, container: str, namespace: str, *options: str) -> str:
        """Return the log of a container."""
        return self.run("logs", pod, "--container", container, "--namespace", namespace, *options)

    def token(self, account: str, namespace: str) -> str:
        """Return a new token of a service account."""
        return self.run("create", "token", account, "--namespace", namespace).strip()

    def new_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels or {})}})

    def secret(self, name: str, namespace: str, values: Mapping[str, str]) -> None:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}, namespace=namespace
        )

    def rolled_out(self, deployment: str, namespace: str) -> None:
        self.run("--namespace", namespace, "rollout", "status", f"deployment/{deployment}", "--timeout=240s")
