"""The page of a run is written from its results: each row is in a table, and each target is in the picture."""

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import picture
from bench.measure import Row, Target
from bench.table import kept, read

ROOT = Path(__file__).parents[2]


def row(figure, target, name="a row"):
    return Row(name, "a peer", target, figure, 1.0, "s", figure, "a reason", {"ours": [figure]})


ROWS = (
    row(2.0, Target(1.1, "x the time"), "Save of a file of 1 MiB on S3, by stream"),
    row(0.5, Target(1.1, "x the time"), "Save of a file of 4 MiB on S3, by stream"),
    row(4.0, Target(3, "x the speed", at_least=True)),
    row(0.0, Target(0, "x the file"), "nothing on disk"),
    row(0.5, None, "for comparison"),
)


def test_rows_that_are_kept_are_read_back():
    again, facts = read(kept(ROWS, {"processors": 2}))
    assert facts == {"processors": 2}
    for before, after in zip(ROWS, again, strict=True):
        assert (after.name, after.target, after.figure, after.met) == (
            before.name,
            before.target,
            before.figure,
            before.met,
        )


def test_a_share_of_at_most_one_is_a_target_that_is_met():
    assert [each.share for each in ROWS] == [pytest.approx(2 / 1.1), pytest.approx(0.5 / 1.1), 0.75, None, None]


def test_the_picture_has_a_mark_for_each_figure_with_a_target_within_its_edges():
    drawn = ET.fromstring(picture.drawn(ROWS))
    circles = [each for each in drawn.iter() if each.tag.endswith("circle")]
    squares = [each for each in drawn.iter() if each.get("class") == "t1"]
    assert (len(circles), len(squares)) == (2, 1)
    for x in [float(each.get("cx")) for each in circles] + [float(each.get("x")) for each in squares]:
        assert 0 < x < picture.WIDTH
    texts = [each.text for each in drawn.iter() if each.tag.endswith("text")]
    assert texts.count("Save on S3, by stream") == 1


def test_a_run_writes_each_row_into_the_page(tmp_path):
    results, page = tmp_path / "results.json", tmp_path / "performance.md"
    words = ["--quick", "--only", "packages", "decisions", "--results", str(results), "--page", str(page)]
    subprocess.run([sys.executable, "-m", "bench", *words], cwd=ROOT, check=True, capture_output=True, timeout=100)

    text = page.read_text()
    rows = json.loads(results.read_text())["rows"]
    of_packages = {each["row"] for each in rows if each["against"].startswith("all of ")}
    others = {each["row"] for each in rows} - of_packages
    assert of_packages
    assert others
    table = re.search(r"<!-- measured: rows -->(.*?)<!-- end -->", text, re.DOTALL)[1]
    assert {line.split(" | ")[0].removeprefix("| ") for line in table.strip().splitlines()[2:]} == others
    for name in ("grpc", "cryptography", "protobuf"):
        assert f"\n| {name} | " in text
    ET.fromstring((tmp_path / "performance" / "targets.svg").read_text())
