"""The commands of docs/scaling.md work, its figures are those of its run, and what was counted is counted again."""

import re
import shlex
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bench.scaling.__main__ import RESULTS
from bench.scaling.measured import kept, read
from bench.scaling.page import rendered
from bench.scaling.pictures import pictures

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "scaling.md"
COMMANDS = re.findall(r"^\.venv/bin/python (-m bench\.scaling .+)$", PAGE.read_text(), re.MULTILINE)
COUNTED = ("costs", "costs_of_outcomes", "counted", "computed")
BYTES = {"trail", "key_service_log"}
"""These depend on the number of digits in times and on names. All other fields are counts."""
pytestmark = pytest.mark.timeout(900)


def run(command, *arguments):
    words = [sys.executable, *shlex.split(command), *map(str, arguments)]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """What a small run of the command on the page has measured, and the page that it wrote."""
    (command,) = (command for command in COMMANDS if " measure" in command)
    home = tmp_path_factory.mktemp("scaling")
    run(command, "--quick", "--results", home / "results.json", "--to", home / "scaling.md")
    return read(home / "results.json"), home / "scaling.md"


AGAIN = "run `python -m bench.scaling count` if a call now costs something else"


def assert_same_cost(one, another, *, bytes_within):
    found, expected = asdict(one), asdict(another)
    for name in found:
        assert found[name] == pytest.approx(expected[name], rel=bytes_within if name in BYTES else 0), (name, AGAIN)


def test_the_model_says_what_a_pod_costs(quick):
    measured, _ = quick
    assert measured.counted.keys > 0
    assert_same_cost(measured.counted, measured.computed, bytes_within=0.02)


@pytest.mark.parametrize("costs", ["costs", "costs_of_outcomes"])
def test_each_call_costs_what_the_page_says(quick, costs):
    now, then = (vars(getattr(measured, costs)) for measured in (quick[0], read(RESULTS)))
    for name, cost in now.items():
        assert_same_cost(cost, then[name], bytes_within=0.1)


def test_each_process_asks_the_key_service_as_often_as_the_page_says(quick):
    for measured in (quick[0], read(RESULTS)):
        real = measured.processes
        assert real.succeeded == real.processes
        assert real.requests == dict.fromkeys(("logins", "signatures", "data_keys"), real.processes) | {"unwraps": 0}


def test_no_client_of_a_slow_key_service_is_lost(quick):
    measured, _ = quick
    for burst in (*measured.bursts, *measured.overloaded, measured.limited):
        assert burst.succeeded + sum(burst.refused.values()) == burst.clients


def test_the_large_streams_are_those_of_the_product(quick):
    assert quick[0].streams == read(RESULTS).streams


def test_the_run_writes_the_whole_page(quick):
    measured, page = quick
    assert page.read_text() == rendered(PAGE.read_text(), measured)
    assert {path.name for path in page.with_suffix("").iterdir()} == set(pictures(measured))


def test_counting_again_keeps_the_times(quick, tmp_path):
    measured, _ = quick
    results = tmp_path / "results.json"
    results.write_text(kept(measured))
    run("-m bench.scaling count", "--results", results, "--to", tmp_path / "scaling.md")
    again = read(results)
    assert replace(again, **{name: getattr(measured, name) for name in COUNTED}) == measured
    assert_same_cost(again.counted, measured.counted, bytes_within=0.02)


def test_the_page_is_that_of_the_committed_run():
    measured = read(RESULTS)
    assert PAGE.read_text() == rendered(PAGE.read_text(), measured), "run `python -m bench.scaling page`"
    for name, picture in pictures(measured).items():
        assert (PAGE.with_suffix("") / name).read_text() == picture, "run `python -m bench.scaling page`"


def test_the_plan_of_the_page_is_printed():
    (command,) = (command for command in COMMANDS if " plan" in command)
    table = run(command).splitlines()
    assert table[0] == "| resource | needed | limit | share | what moves it |"
    assert len(table) > 10
