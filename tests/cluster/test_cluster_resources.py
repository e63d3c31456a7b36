"""What a pod with the plugin needs: memory and processor of its container, and time.

These are figures of the run, written into its report. They bound nothing, because the machine may be busy. Only that no
container was ended for lack of memory must be so.
"""

from __future__ import annotations

import datetime as dt
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cluster.report import Report
from cluster.room import GROUPS
from cluster.scene import Scene
from cluster.workflows import Workflow, step, steps

GIGABYTE = 1 << 30
PODS = 20
NONE = {"archive": {"none": {}}}


@dataclass
class Usage:
    """The most that each container used: resident memory without page cache in bytes, and processor in seconds."""

    memory: dict[str, int] = field(default_factory=dict)
    processor: dict[str, float] = field(default_factory=dict)

    def see(self, name: str, group: Path) -> None:
        statistic = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        resident = int(statistic.get("total_rss", statistic.get("rss", 0)))
        self.memory[name] = max(self.memory.get(name, 0), resident)
        processor = Path(str(group).replace("/memory/", "/cpuacct/"), "cpuacct.usage")
        if processor.exists():
            self.processor[name] = int(processor.read_text()) / 1e9

    def shown(self, name: str) -> str:
        return f"{self.memory.get(name, 0) >> 20} MiB, {self.processor.get(name, 0):.1f} s of processor"


@contextmanager
def watched(scene: Scene, workflow: Workflow, place: Path) -> Iterator[Usage]:
    """Look at the control groups of a workflow's containers five times a second."""
    usage, ended = Usage(), threading.Event()

    def look() -> None:
        names: dict[str, str] = {}
        while not ended.wait(0.2):
            groups = {path.name: path for path in (GROUPS / "memory" / place.name).glob("**/pod*/*") if path.is_dir()}
            if set(groups) - set(names):
                names.update(_containers(workflow))
            for identity, group in groups.items():
                if identity in names:
                    try:
                        usage.see(names[identity], group)
                    except OSError:  # it has just ended
                        continue

    watching = threading.Thread(target=look, daemon=True)
    watching.start()
    try:
        yield usage
    finally:
        ended.set()
        watching.join()


def _containers(workflow: Workflow) -> dict[str, str]:
    """Return TEMPLATE/CONTAINER by the identity of a container."""
    found = {}
    for pod in workflow.pods():
        name = pod["metadata"]["name"]
        template = "only" if name == workflow.name else name.removeprefix(f"{workflow.name}-").rpartition("-")[0]
        for status in (
            *pod["status"].get("initContainerStatuses", []),
            *pod["status"].get("containerStatuses", []),
        ):
            found[status.get("containerID", "").rpartition("/")[2]] = f"{template}/{status['name']}"
    return found


def require_memory_sufficed(workflow: Workflow) -> None:
    for pod in workflow.pods():
        for status in (*pod["status"].get("initContainerStatuses", []), *pod["status"].get("containerStatuses", [])):
            ended = status["state"].get("terminated", {})
            assert ended.get("reason") != "OOMKilled", status["name"]


def measured(scene: Scene, place: Path, report: Report, name: str, make: str, look: str, outputs: int) -> None:
    given = {f"o{n}": {"path": f"/tmp/o{n}", **NONE} for n in range(outputs)}
    write = step("write", make, outputs=given)
    read = step("read", look, inputs={each: {"path": f"/tmp/{each}", "mode": 0o755} for each in given})
    workflow = scene.submit("team-a", *steps(write, read, passes={each: each for each in given}))
    with watched(scene, workflow, place) as usage:
        workflow.succeeded(1500)
    require_memory_sufficed(workflow)
    report.facts[f"{name}: the container that saves"] = usage.shown("write/artifact-plugin-crypt")
    report.facts[f"{name}: the container that loads"] = usage.shown("read/init-artifact-crypt")
    report.facts[f"{name}: Argo's container beside it"] = usage.shown("write/wait")


def test_an_idle_plugin(installed: Scene, place: Path, report: Report):
    workflow = installed.submit("team-a", step("idle", "sleep 20"))
    # The pod of a workflow without steps is named like the workflow.
    with watched(installed, workflow, place) as usage:
        workflow.succeeded()
    require_memory_sufficed(workflow)
    report.facts["idle: the plugin"] = usage.shown("only/artifact-plugin-crypt")


def test_a_gigabyte(installed: Scene, place: Path, report: Report):
    make = f"head -c {GIGABYTE} /dev/urandom > /tmp/o0"
    measured(installed, place, report, "a file of 1 GiB", make, "test -s /tmp/o0", 1)


def test_a_directory_of_ten_thousand_files(installed: Scene, place: Path, report: Report):
    make = "mkdir /tmp/o0; for n in $(seq 10000); do echo $n > /tmp/o0/$n; done"
    look = "test $(ls /tmp/o0 | wc -l) = 10000"
    measured(installed, place, report, "a directory of 10,000 files", make, look, 1)


def test_eight_artifacts_of_a_pod(installed: Scene, place: Path, report: Report):
    make = "for n in $(seq 0 7); do head -c 50000000 /dev/urandom > /tmp/o$n; done"
    measured(installed, place, report, "8 files of 50 MB", make, "test -s /tmp/o7", 8)


def test_the_time_of_a_pod_that_saves(installed: Scene, report: Report):
    note_time_of_a_pod(installed, report, "pod with the plugin and one artifact", PODS)


def note_time_of_a_pod(scene: Scene, report: Report, what: str, count: int) -> None:
    """Note how long pods that save an artifact take, of which `count` run one after the other."""
    write = step("write", "echo x > /tmp/out", outputs={"it": "/tmp/out"})
    spans = [span_of(scene.submit("team-a", write).succeeded()) for _ in range(count)]
    report.facts[f"{what}, median of {count}"] = f"{statistics.median(spans):.0f} s"


def span_of(workflow: Workflow) -> float:
    """Return the seconds from the creation of a pod to the end of its last container."""
    (pod,) = workflow.pods()
    ended = [each["state"]["terminated"]["finishedAt"] for each in pod["status"]["containerStatuses"]]
    began = dt.datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    return max((dt.datetime.fromisoformat(each) - began).total_seconds() for each in ended)
