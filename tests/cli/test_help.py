"""The help of each command has examples that parse, and the variables that the command reads."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from harness.command_lines import all_parsers

from sealgate.cli import help_texts
from sealgate.cli.commands import command_parser

ROOT = Path(__file__).parents[2]
PARSERS = {parser.prog.partition(" ")[2]: parser for parser in all_parsers()}
LINES = [(name, line) for name, lines in help_texts.EXAMPLES.items() for line in lines]


@pytest.mark.parametrize("name", PARSERS)
def test_each_help_has_examples(name):
    shown = PARSERS[name].format_help()
    assert "\nexamples:\n" in shown
    for line in help_texts.EXAMPLES[name]:
        assert f"\n  {line}\n" in shown


@pytest.mark.parametrize(("name", "line"), LINES, ids=[line for _, line in LINES])
def test_each_example_is_a_command_line_of_its_command(name, line):
    found = re.search(r"sealgate ([^|<>]+)", line)
    words = shlex.split(found[1])
    assert words[: len(name.split())] == name.split()
    own = words[: words.index("--")] if "--" in words else words
    assert command_parser(own).parse_args(own).command == words[0]


@pytest.mark.parametrize("name", PARSERS)
def test_a_command_that_reads_a_configuration_names_its_variables(name):
    reads = any("--config" in action.option_strings for action in PARSERS[name]._actions)
    shown = PARSERS[name].format_help()
    assert not reads or re.search(r"^  SEALGATE_CONFIG  +\S", shown, re.MULTILINE)


def test_every_text_is_that_of_a_command_and_every_variable_is_read():
    assert help_texts.EXAMPLES.keys() == PARSERS.keys()
    assert help_texts.VARIABLES.keys() <= PARSERS.keys()
    own = ROOT / "proxy/sealgate/cli/help_texts.py"
    source = "".join(path.read_text() for path in (ROOT / "proxy").rglob("*.py") if path != own)
    for variable in help_texts.MEANINGS:
        assert f'"{variable}"' in source or variable.startswith("OTEL_"), variable
