"""The chart as helm renders it, and the documents inside its objects."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "sealgate"
MATRIX = sorted(path.stem for path in (CHART / "ci").glob("*.yaml"))
KUBERNETES = ("1.34.0", "1.30.0", "1.37.0")
"""The default of these tests, the oldest version that the chart accepts, and the newest with a published schema."""


@dataclass(frozen=True)
class Rendered:
    """A rendering of the chart."""

    text: str

    def objects(self) -> list[dict[str, Any]]:
        return [found for found in yaml.safe_load_all(self.text) if found]

    def the(self, kind: str, name: str = "") -> dict[str, Any]:
        (found,) = [one for one in self.objects() if one["kind"] == kind and one["metadata"]["name"].endswith(name)]
        return found

    def has(self, kind: str, name: str = "") -> bool:
        return any(one["kind"] == kind and one["metadata"]["name"].endswith(name) for one in self.objects())

    def fragment(self, name: str) -> Any:
        return yaml.safe_load(self.the("ConfigMap", "-fragments")["data"][name])

    def controller(self) -> dict[str, Any]:
        """Return the controller's configuration, from its ConfigMap or from the fragment to merge."""
        if "controller.yaml" in self.the("ConfigMap", "-fragments")["data"]:
            return self.fragment("controller.yaml")
        return yaml.safe_load(self.the("ConfigMap", "workflow-controller-configmap")["data"]["config"])

    def server(self) -> dict[str, Any]:
        """Return the value `server` for the chart of argo-helm."""
        return self.fragment("argo-helm-values.yaml")["server"]

    def texts_of_configurations(self) -> Iterable[str]:
        """Yield every value of SEALGATE_CONFIG_YAML."""
        containers = [self.controller()["executor"], *self.server()["extraContainers"]]
        for pod in (one for one in self.objects() if one["kind"] == "Pod"):
            containers += pod["spec"]["containers"]
        for container in containers:
            yield from (one["value"] for one in container.get("env", []) if one["name"] == "SEALGATE_CONFIG_YAML")


def patched(document: dict[str, Any], patch: str, place: Path) -> dict[str, Any]:
    """Return `document` with a strategic merge patch, by the code that the API server and Argo use."""
    (place / "document.yaml").write_text(yaml.safe_dump(document))
    (place / "patch.yaml").write_text(patch)
    files = ["--filename", place / "document.yaml", "--patch-file", place / "patch.yaml"]
    command = [
        Path(sys.executable).with_name("kubectl"),
        "patch",
        "--local",
        *files,
        "--type",
        "strategic",
        "-o",
        "yaml",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(done.stdout)


class Helm:
    """The program helm, and a chart."""

    def __init__(self, program: Path, chart: Path = CHART) -> None:
        self._program = program
        self._chart = chart

    def of_chart(self, chart: str) -> Helm:
        """Return the same program with another chart."""
        return Helm(self._program, Path(chart))

    def run(self, verb: str, *arguments: str, kubernetes: str = KUBERNETES[0]) -> subprocess.CompletedProcess[str]:
        command = [self._program, *verb.split(), self._chart, "--kube-version", kubernetes, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def rendered(self, *arguments: str, kubernetes: str = KUBERNETES[0]) -> Rendered:
        done = self.run("template release-name", "--namespace", "sealgate", *arguments, kubernetes=kubernetes)
        assert done.returncode == 0, done.stderr
        return Rendered(done.stdout)

    def of(self, case: str) -> Rendered:
        return self.rendered("--values", str(CHART / "ci" / f"{case}.yaml"))
