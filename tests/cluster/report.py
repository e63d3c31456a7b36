"""The report of a run, and the paragraphs of the install pages that say what the run saw."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cluster.parts import ARGO, CACHE, CONTAINERD, KUBERNETES, PROMETHEUS, locked

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "cluster.md"
KEPT = CACHE / "report.json"
_MARK = "<!-- written by make test-cluster -->"
_END = "<!-- end -->"
OPERATIONS = ("save", "load", "directory", "log", "download", "list", "delete", "refusal")
_HEAD = f"""\
# In a cluster

`make test-cluster` starts a Kubernetes of one node, with Argo Workflows, OpenBao and an S3 server. It builds the image
with the Dockerfile, installs Sealgate with the commands of [the page on Helm](install-helm.md), runs the cases below,
and removes everything again. The cluster has namespaces of its own, without a network to the outside. It needs Linux,
root, Go, and the packages of Debian that it names where one is missing. What it builds stays in the user's cache.

A run of a part of the suite replaces what it repeats on this page, and leaves the rest. The cluster had Kubernetes
{KUBERNETES}, containerd {CONTAINERD} and Argo Workflows {ARGO}, installed from its manifests. Stand-ins made with
debootstrap replaced the published images of Python and Debian. The cluster has no DNS, and enforces no NetworkPolicy.
That version of Argo has no tracer, so a trace begins with Argo's call to the plugin, and no span of Argo is its root.
Prometheus {PROMETHEUS} received the metrics that the pods pushed; it ran on the node, outside the pods.
Memory in the figures is without page cache, and was read five times a second. Other programs used the
machine's two processors at the same time.
"""


@dataclass
class Report:
    """What a run saw: seconds of each part, results of each test, cells of the placements, and figures.

    It is kept in the cache. A run of a part of the suite replaces what it repeats.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    results: dict[str, tuple[str, str, float]] = field(default_factory=dict)
    """By the name of a test: its file, how it ended, and seconds."""
    cells: dict[str, dict[str, str]] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)

    def keep(self) -> Report:
        """Add this run to what is kept of others, and return the whole."""
        with locked("report"):
            whole = Report(**json.loads(KEPT.read_text())) if KEPT.exists() else Report()
            whole.seconds |= self.seconds
            whole.results |= self.results
            whole.facts |= self.facts
            for placement, cells in self.cells.items():
                whole.cells.setdefault(placement, {}).update(cells)
            KEPT.write_text(json.dumps(asdict(whole)))
        return whole

    def saw(self, placement: str, operation: str, result: str) -> None:
        """Note what an operation did in a placement."""
        assert operation in OPERATIONS
        self.cells.setdefault(placement, {})[operation] = result

    def text(self) -> str:
        """Return the page."""
        parts = [_HEAD, "## Placements\n", _placements(self.cells), "## Cases\n", _case_table(self.results)]
        parts += ["## Figures\n", _table(("figure", "value"), sorted(self.facts.items()))]
        times = [(name, f"{seconds:.0f} s") for name, seconds in self.seconds.items()]
        parts += [
            "## Time of each part\n",
            "A part that was in the cache has the time that it took when it was built.\n",
            _table(("part", "time"), times),
        ]
        return "\n".join(parts).rstrip() + "\n"

    def write(self) -> None:
        """Write the page, and the paragraphs of the install pages."""
        PAGE.write_text(self.text())
        passed = sum(result == "passed" for _, result, _ in self.results.values())
        seen = f"{passed} of {len(self.results)} cases of [the report](cluster.md) passed"
        for name in ("install-helm", "install-image", "install-vendor"):
            _replace_marked(DOCS / f"{name}.md", _paragraph(name, seen))


def _paragraph(name: str, seen: str) -> str:
    what = {
        "install-helm": f"A cluster with Kubernetes {KUBERNETES} and Argo Workflows {ARGO} from its manifests "
        "ran the commands of this page for that case: the installation, `helm test`, the upgrade and the removal.",
        "install-image": "buildah built all three targets, with stand-ins for the published bases, and Kubernetes "
        f"{KUBERNETES} ran them.",
        "install-vendor": f"Kubernetes {KUBERNETES} ran the second vendor's plugin of the tests in each placement that "
        f"Argo Workflows {ARGO} has.",
    }
    return f"{what[name]} {seen}."


def _replace_marked(page: Path, text: str) -> None:
    found = page.read_text()
    replaced = re.sub(f"{_MARK}\n.*?{_END}", f"{_MARK}\n{_wrapped(text)}\n{_END}", found, flags=re.DOTALL)
    page.write_text(replaced)


def _wrapped(text: str) -> str:
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) + 1 > 125:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


def _placements(cells: dict[str, dict[str, str]]) -> str:
    rows = [(name, *(found.get(operation, "not seen") for operation in OPERATIONS)) for name, found in cells.items()]
    return _table(("placement", *OPERATIONS), rows)


def _case_table(results: Mapping[str, tuple[str, str, float]]) -> str:
    rows = [
        (file.removeprefix("test_cluster_"), _sentence(name), result, f"{seconds:.0f} s")
        for name, (file, result, seconds) in sorted(results.items(), key=lambda found: found[1][0])
    ]
    return _table(("file", "what must be so", "result", "time"), rows)


def _sentence(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ").replace("[", ": ").removesuffix("]")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]] | list[tuple[str, str]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines) + "\n"
