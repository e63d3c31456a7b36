"""The bench runs from beginning to end, and some groups of rows alone in every run. No test checks a speed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness.golang import for_bench

ROOT = Path(__file__).parents[2]
FILES = ("seal a file", "open a file")
DECISIONS = (
    "a decision with 100 rules",
    "a decision with 100 rules, all of which match",
    "the worst pattern on the longest key",
    "loading a policy of 500 lines",
    "comparing two policies of 200 rules",
)
CALLS = ("Delete", "IsDirectory", "ListObjects")
ROWS = (
    *FILES,
    "Save of a file",
    "Load of a file",
    "Save of a file at 200 MB/s",
    "Load of a file at 200 MB/s",
    "OpenStream of a file",
    "Save of a directory",
    "Save of a directory, 20 rules",
    *CALLS,
    *DECISIONS,
    "IsDirectory, a trail on standard output",
    "IsDirectory, a trail in a file",
    "IsDirectory, a trail and traces",
    "Delete of a missing artifact, a trail on standard output",
    "Delete of a missing artifact, a trail and traces",
    "Save of a file, a trail on standard output",
    "Load of a file, a trail and traces",
    "start to first connection",
    "memory when idle",
    "peak memory of one call",
    "peak spool of a Save, spool.transfer: file",
    "peak spool of a Save, spool.transfer: auto",
    "peak disk of a Load, spool.transfer: file",
    "peak disk of a Load, spool.transfer: auto",
)
ARGO = {"Argo's S3 driver", "Argo's S3 driver, SSE-S3", "ours, by file"}
TRANSFERS = {
    f"{operation} of {what} on S3{link}{way}"
    for operation in ("Save", "Load")
    for link, files in (("", 10), (" at 20 ms", 2), (" at 200 MB/s", 10))
    for what, way_that_auto_does_not_take in (
        ("a file of 1 MiB", ", by file"),
        ("a file of 4 MiB", ", by file"),
        (f"{files} files of 4 KiB", ", by stream"),
    )
    for way in ("", way_that_auto_does_not_take, ", builtin", ", backend alone")
} | {f"Save of a file of 1 MiB on S3{link}, by stream" for link in ("", " at 20 ms", " at 200 MB/s")}
PEERS = {"cp", "age", "rclone crypt", "tink-py"}


def measured(results, *arguments, patience=100):
    """Run the bench with tiny sizes, check its rows and its table, and return the rows."""
    command = [sys.executable, "-m", "bench", "--quick", "--results", str(results), *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=patience)
    assert run.returncode == 0, run.stderr

    rows = json.loads(results.read_text())["rows"]
    assert {row["against"] for row in rows if row["row"] == "seal a file"} in (PEERS, set())
    for row in rows:
        assert row["reason"] or row["met"], row
        assert row["target"] != "-" or row["met"] is None, row
        if row["ratio"] is None:
            assert row["against"] in PEERS | ARGO, row
            assert row["reason"].endswith("is not on this machine"), row
        else:
            assert row["ours"] is not None, row
            assert row["theirs"] > 0, row
            assert all(row["samples"].values()), row

    table = [line for line in run.stdout.splitlines() if line.startswith("| ")]
    assert re.split(r" *\| *", table[0])[1:-1] == ["row", "ours", "against", "ratio", "target", "met"]
    assert [line.split("|")[1].strip() for line in table[1:]] == [row["row"] for row in rows]
    return rows


def test_the_bench_measures_groups_that_are_named(tmp_path):
    rows = measured(tmp_path / "results.json", "--only", "files", "decisions", "calls")
    assert {row["row"] for row in rows} == {*FILES, *DECISIONS, *CALLS}


@pytest.mark.timeout(1200)  # Argo's driver is built
def test_the_bench_measures_argos_driver_on_each_link(tmp_path):
    for_bench("argo")
    rows = measured(tmp_path / "results.json", "--only", "argo", patience=400)
    assert {row["row"] for row in rows} == TRANSFERS
    assert {row["against"] for row in rows} == ARGO


@pytest.mark.large
@pytest.mark.timeout(600)
def test_the_bench_measures_every_row(tmp_path):
    rows = measured(tmp_path / "results.json", patience=500)
    assert {row["row"] for row in rows} >= set(ROWS)
    for name in ("IsDirectory", "Delete of a missing artifact", "Save of a file", "Load of a file"):
        against = {row["against"] for row in rows if row["row"] == f"{name}, a trail and traces"}
        assert against == {"no trail", "a trail on standard output"}
