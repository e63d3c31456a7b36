"""The guide docs/policies.md is followed step by step. The reference has every field, warning and command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness.chain import write_keyring
from harness.command_lines import all_parsers
from harness.trails import write_trail

from sealgate.keys.local import LocalKeys
from sealgate.policy import lint, schema
from sealgate.policy.cases import ArtifactPolicyTest

DOCS = Path(__file__).parents[2] / "docs"
GUIDE, REFERENCE = DOCS / "policies.md", DOCS / "policy-reference.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (policies/\S+)\n")
ENDS_WITH_1 = {"explain", "diff", "replay"}
"""The commands of the guide that show a denied request or a difference."""


@pytest.fixture
def place(tmp_path):
    """A directory with the files of the guide and a trail."""
    write_trail(tmp_path / "audit.jsonl", LocalKeys(write_keyring(tmp_path / "keyring.json")))
    (tmp_path / "policies").mkdir()
    for language, text in BLOCK.findall(GUIDE.read_text()):
        if language == "yaml" and (named := FILE.match(text)):
            (tmp_path / named[1]).write_text(text)
    return tmp_path


def test_every_command_of_the_guide_prints_what_the_guide_shows(place):
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(place)}
    printed, shown = "", 0
    for language, text in BLOCK.findall(GUIDE.read_text()):
        if language == "text":
            shown += 1
            assert printed.startswith(text)
        elif language == "console":
            printed = ""
            for line in text.splitlines():
                command = line.removeprefix("$ ")
                done = subprocess.run(
                    command, shell=True, cwd=place, env=environment, capture_output=True, text=True, check=False
                )
                expected = int(not ENDS_WITH_1.isdisjoint(command.split()))
                assert (done.returncode, done.stderr) == (expected, ""), command
                printed += done.stdout
    assert shown == 2


def test_the_guide_fits_on_two_printed_pages():
    assert len(GUIDE.read_text().splitlines()) <= 2 * 66


def test_the_guide_and_the_reference_lead_to_each_other():
    assert "](policy-reference.md)" in GUIDE.read_text()
    assert "](policies.md)" in REFERENCE.read_text()


@pytest.mark.parametrize("kind", [schema.ArtifactPolicy, ArtifactPolicyTest])
def test_the_reference_has_every_field(kind):
    text = REFERENCE.read_text()
    for definition in schema.json_schema(kind)["$defs"].values():
        for name in definition.get("properties", {}):
            assert re.search(rf"`(?:[\w\[\]]+\.)*{name}[`.:\[]", text), name


def test_the_reference_has_every_warning_and_no_other():
    of_code = set(re.findall(r"\bL\d{3}\b", Path(lint.__file__).read_text()))
    assert set(re.findall(r"^\| (L\d{3}) \|", REFERENCE.read_text(), re.MULTILINE)) == of_code


def test_the_reference_has_the_exit_codes_of_every_command():
    table = REFERENCE.read_text().partition("\n## Commands\n")[2].partition("\n### ")[0]
    commands = {parser.prog.removeprefix("sealgate ") for parser in all_parsers() if " policy " in parser.prog}
    assert set(re.findall(r"^\| \[?`([a-z ]+)`", table, re.MULTILINE)) == commands
