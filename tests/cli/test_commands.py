"""The table of commands: each one is a module with help, and is loaded only when it is needed."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from harness.chain import SEALGATE

from sealgate.cli.commands import COMMANDS


def shown(*command: str) -> str:
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    assert "usage: sealgate" in shown(*SEALGATE, command, "--help")


def test_the_help_lists_every_command_with_its_summary():
    text = " ".join(shown(*SEALGATE, "--help").split())
    for name in COMMANDS:
        assert f"{name} {importlib.import_module(f'sealgate.cli.{name}').SUMMARY}" in text


@pytest.mark.parametrize("command", sorted({*COMMANDS} - {"backend"}))  # backend is served by the module of serve
def test_no_other_command_is_loaded(command):
    script = (
        "import sys, contextlib; from sealgate.cli import main; sys.argv = ['sealgate', sys.argv[1], '--help']\n"
        "with contextlib.suppress(SystemExit): main()\n"
        f"print([name for name in {COMMANDS} if f'sealgate.cli.{{name}}' in sys.modules])"
    )
    assert shown(sys.executable, "-c", script, command).splitlines()[-1] == str([command])


def test_the_installed_command_and_the_module_are_the_same():
    installed = Path(sys.executable).with_name("sealgate")
    assert shown(str(installed), "--help") == shown(*SEALGATE, "--help").replace("__main__.py", "sealgate")
