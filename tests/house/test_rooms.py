"""The import rules of docs/architecture.md hold; the contracts themselves are in pyproject.toml."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST_FILE = 400


def test_the_import_contracts_are_kept():
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_no_file_is_longer_than_a_reader_keeps_in_mind():
    for room in ("proxy",):
        for path in (ROOT / room).rglob("*.py"):
            if not path.name.endswith("_pb2.py"):
                assert len(path.read_text().splitlines()) <= LONGEST_FILE, path


def test_every_silenced_rule_has_its_reason_beside_it():
    silenced = re.compile(r"# (?:noqa: [A-Z0-9, ]+|type: ignore\[[a-z-]+\])(.*)")
    for room in ("proxy", "tests", "bench"):
        for path in (ROOT / room).rglob("*.py"):
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                for reason in silenced.findall(line):
                    assert len(reason.strip(" -#")) > 8, f"{path.relative_to(ROOT)}:{number}"
