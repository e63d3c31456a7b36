"""The cluster of the suite. `make test-cluster` starts it; elsewhere these tests are not collected."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.daemons import Daemons
from cluster.report import Report
from cluster.scene import Scene, scene

_ROOM = os.environ.get("SEALGATE_CLUSTER_ROOM")
collect_ignore_glob = [] if _ROOM else ["test_*.py"]


@pytest.fixture(scope="session")
def place() -> Path:
    return Path(os.environ["SEALGATE_CLUSTER_ROOM"])


@pytest.fixture(scope="session")
def report(place: Path, request: pytest.FixtureRequest) -> Iterator[Report]:
    """What the run saw. It is written into the documents if the command asks for that."""
    found = Report(json.loads((place / "seconds.json").read_text()))
    yield found
    whole = found.keep()
    if request.config.getoption("write_docs"):
        whole.write()


@pytest.fixture(scope="session")
def daemons(place: Path, report: Report) -> Iterator[Daemons]:
    running = Daemons(place)
    try:
        yield running
    finally:
        report.facts["memory of the daemons"] = f"{running.memory() >> 20} MiB"
        running.stop()


@pytest.fixture(scope="session")
def bare(daemons: Daemons, place: Path, report: Report) -> Iterator[Scene]:
    """The cluster with Argo, Vault and a bucket, without Sealgate."""
    began = time.monotonic()
    client = daemons.start()
    report.seconds["daemons, until the node is ready"] = time.monotonic() - began
    began = time.monotonic()
    with scene(client, place) as made:
        report.seconds["Argo, Vault and the bucket"] = time.monotonic() - began
        yield made


@pytest.fixture(scope="session")
def installed(bare: Scene, report: Report) -> Scene:
    """Sealgate, installed by the commands of the page."""
    began = time.monotonic()
    page = bare.page
    page.run_block("sealgate init")
    page.run_block("helm lint")
    page.run_block("sh first/vault.sh")
    page.run_block("kubectl -n argo get configmap workflow-controller-configmap")
    page.run_block("kubectl -n argo delete pod --selector app=workflow-controller")
    page.run_block(
        "kubectl -n argo get configmap sealgate-fragments", below="For an Argo that was installed from manifests"
    )
    bare.client.rolled_out("argo-server", "argo")
    report.seconds["the page, until Argo's server runs"] = time.monotonic() - began
    return bare


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    outcome = yield
    found = item.funcargs.get("report") if hasattr(item, "funcargs") else None
    if found is not None and (outcome.when == "call" or outcome.failed):
        found.results[item.name] = (item.path.stem, outcome.outcome, outcome.duration)
    return outcome


@pytest.fixture(autouse=True)
def _each_is_reported(report: Report) -> None:
    """Every test of the suite is a line of the report."""
