"""`--config` and `--output` mean the same in every command that has them, and no option can be abbreviated."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from harness.argo import Argo
from harness.chain import SEALGATE, eventually, write_keyring
from harness.command_lines import all_parsers
from harness.trails import write_trail

from sealgate.cli.commands import run
from sealgate.keys.local import LocalKeys

PARSERS = [pytest.param(parser, id=parser.prog) for parser in all_parsers()]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The current directory: with a configuration, a plain file, and a trail. No variable names the configuration."""
    keyring = write_keyring(tmp_path / "keyring.json")
    write_trail(tmp_path / "audit.jsonl", LocalKeys(keyring))
    settings = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "Sealgate",
        "downstream": {"command": [*SEALGATE, "backend"]},
        "keys": {"provider": "local", "local": {"keyring": str(keyring)}},
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "plain").write_text("plaintext")
    monkeypatch.chdir(tmp_path)
    for name in ("SEALGATE_CONFIG", "SEALGATE_CONFIG_YAML"):
        monkeypatch.setenv(name, "")
    return tmp_path


COMMANDS = {
    "seal": ["seal", "plain", "sealed", "--unbound"],
    "doctor": ["doctor", "--offline"],
    "rewrap": ["rewrap", "ns"],
    "policy check": ["policy", "check"],
    "audit verify": ["audit", "verify", "audit.jsonl"],
    "audit report": ["audit", "report", "audit.jsonl", "--to", "page.html"],
    "audit public-key": ["audit", "public-key"],
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_config_names_the_configuration(words, home, capsys):
    assert run([*words, "--config", "absent.yaml"]) == 2
    assert "the configuration absent.yaml cannot be read" in "".join(capsys.readouterr())
    done = run([*words, "--config", "config.json"])
    shown = "".join(capsys.readouterr())
    assert done == 0 or words[0] in {"policy", "rewrap"}, shown  # there is no policy, and no storage
    assert "cannot be read" not in shown


def test_config_takes_the_place_of_both_variables(home, monkeypatch):
    monkeypatch.setenv("SEALGATE_CONFIG", "absent.yaml")
    monkeypatch.setenv("SEALGATE_CONFIG_YAML", "not: valid")
    assert run(["audit", "public-key", "--config", "config.json"]) == 0


@pytest.mark.process
def test_serve_takes_config_before_the_socket(home):
    with tempfile.TemporaryDirectory(prefix="sg-") as short:
        socket = Path(short) / "socket"
        command = [*SEALGATE, "serve", "--config", "config.json", str(socket)]
        environment = {**os.environ, "SEALGATE_BACKEND_URL": f"file://{home}"}
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            try:
                assert eventually(socket.exists)
                with closing(Argo(socket)) as argo:
                    assert argo.list_objects("ns") == []
            finally:
                process.terminate()


@pytest.mark.parametrize("parser", PARSERS)
def test_no_option_can_be_abbreviated(parser):
    assert not parser.allow_abbrev


@pytest.mark.parametrize("parser", PARSERS)
def test_an_option_has_one_meaning_and_output_has_a_short_form(parser):
    for action in parser._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), (parser.prog, action.dest)
        if "--output" in action.option_strings:
            assert action.option_strings == ["-o", "--output"]
            assert action.default == action.choices[0]
        if "--config" in action.option_strings:
            assert action.dest == "config"
