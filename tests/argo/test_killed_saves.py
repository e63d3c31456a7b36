"""SIGKILL during a Save of a directory over an older one: a Load gives the old one, the new one, or DATA_LOSS."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.kills import Range, State, Storage, counted
from harness.s3 import Server, versitygw_at

log = logging.getLogger(__name__)
SEED = 20_261_128


@pytest.fixture(scope="module")
def buckets(tmp_path_factory) -> Iterator[tuple[Server, Path]]:
    root = tmp_path_factory.mktemp("buckets")
    with versitygw_at(root) as server:
        yield server, root


@pytest.fixture(params=["directory", "s3"])
def storage(request, tmp_path) -> Storage:
    if request.param == "directory":
        (tmp_path / "storage").mkdir()
        return Storage({"SEALGATE_BACKEND_URL": (tmp_path / "storage").as_uri()}, tmp_path / "storage", many=200)
    server, root = request.getfixturevalue("buckets")
    bucket = server.new_bucket()
    return Storage(
        {"SEALGATE_BACKEND_URL": f"s3://{bucket}", "SEALGATE_BACKEND_CONFIG": json.dumps(server.config())},
        root / bucket,
        many=60,
    )


def check(place, points):
    """Kill Saves at `points`, and check that no Load finds anything but a whole directory."""
    found = place.kill_all(points)
    log.info(counted(found))  # pytest -rP --log-level=info shows it
    for kill in found:
        if kill.save.code == "OK":
            assert kill.state is State.NEW, kill
        if kill.changes == 0:
            assert kill.state is State.OLD, kill
    assert sum(kill.in_the_middle for kill in found) >= len(found) / 2, "most kills missed the Save"
    lost = [kill.point for kill in found if kill.state is State.DATA_LOSS]
    assert lost
    place.save_again(lost[0])


@pytest.mark.timeout(300)
def test_a_killed_save_leaves_a_whole_directory_or_none(tmp_path, storage):
    place = Range(tmp_path, storage, files={"file": storage.many // 2, "stream": 12, "builtin": storage.many // 2})
    check(place, place.points(6, SEED))


@pytest.mark.large
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("transfer", ["file", "stream", "builtin"])
def test_hundreds_of_killed_saves_leave_a_whole_directory_or_none(tmp_path, storage, transfer):
    place = Range(tmp_path, storage, files={transfer: 30 if transfer == "stream" else storage.many})
    check(place, place.points(300, SEED))
