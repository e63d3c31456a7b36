"""On a terminal, a command that waits shows that it runs, and Ctrl-C ends it with 130. In a pipe it shows nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from harness.chain import SEALGATE, eventually, write_keyring
from harness.terminal import Terminal
from harness.trails import write_trail

from sealgate.keys.local import LocalKeys

CTRL_C = "\x03"
SILENT_VAULT = {
    "seal": (["seal", "plain", "sealed", "--unbound"], "sealed 0 MiB"),
    "doctor": (["doctor", "--offline"], "checking"),
    "audit verify": (["audit", "verify", "audit.jsonl"], "verified 0 lines"),
    "audit report": (["audit", "report", "audit.jsonl", "--to", "page.html"], "verified 0 lines"),
    "audit public-key": (["audit", "public-key"], "asking for the public keys"),
}
SILENT_DOWNSTREAM = {
    "rewrap": (["rewrap", "ns"], "listing"),
    "conformance": (["conformance", "--", "sh", "-c", "exec sleep 600"], "checking"),
}
SILENT_INPUT = {
    "open": (["open", "-", "opened"], "opened 0 MiB"),
    "inspect": (["inspect", "-"], "read 0 MiB"),
    "audit query": (["audit", "query", "-"], "read 0 lines"),
    "policy replay": (["policy", "replay", "--policy", "policy.yaml", "-"], "replayed 0 lines"),
}
WAITING = {**SILENT_VAULT, **SILENT_DOWNSTREAM, **SILENT_INPUT}
POLICY = "apiVersion: sealgate/v1alpha1\nkind: ArtifactPolicy\nmetadata: {name: p}\nspec: {rules: []}\n"


@pytest.fixture
def home(tmp_path):
    """A directory with what the commands read, and with a configuration whose Vault and downstream never answer."""
    write_trail(tmp_path / "audit.jsonl", LocalKeys(write_keyring(tmp_path / "keyring.json")))
    (tmp_path / "plain").write_text("plaintext")
    (tmp_path / "policy.yaml").write_text(POLICY)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = {
            "apiVersion": "sealgate/v1alpha1",
            "kind": "Sealgate",
            "downstream": {"command": ["sh", "-c", "exec sleep 600"], "startTimeout": "10m"},
            "audit": {"signingKey": "audit"},
            "keys": {"provider": "vault", "vault": {"address": address, "auth": {"method": "token"}}},
        }
        (tmp_path / "config.json").write_text(json.dumps(settings))
        yield tmp_path


def environment(home):
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    return {**kept, "SEALGATE_CONFIG": str(home / "config.json"), "VAULT_TOKEN": "t"}


@pytest.mark.parametrize(("words", "line"), WAITING.values(), ids=WAITING)
def test_a_command_that_waits_shows_it_and_ends_with_130_on_ctrl_c(words, line, home):
    with Terminal([*SEALGATE, *words], home, environment(home)) as terminal:
        assert terminal.shows(line), terminal.text
        terminal.press(CTRL_C)
        assert terminal.end() == 130, terminal.text
        assert "Traceback" not in terminal.text
        assert "\r\x1b[K" in terminal.text, "the line is removed"


@pytest.mark.parametrize("command", ["serve", "backend"])
def test_a_server_ends_with_130_on_ctrl_c_and_with_0_on_sigterm(command, home):
    with tempfile.TemporaryDirectory(prefix="sg-") as short:
        for end, code in ((lambda terminal: terminal.press(CTRL_C), 130), (lambda terminal: terminal.terminate(), 0)):
            socket_path = Path(short) / str(code)
            with Terminal([*SEALGATE, command, str(socket_path)], home, environment(home)) as terminal:
                assert eventually(socket_path.exists)
                end(terminal)
                assert terminal.end() == code, terminal.text


def test_ctrl_c_ends_a_question_with_130(home):
    with Terminal([*SEALGATE, "init", "here"], home, environment(home)) as terminal:
        assert terminal.shows("such as"), terminal.text
        terminal.press(CTRL_C)
        assert terminal.end() == 130, terminal.text
        assert "Traceback" not in terminal.text


def test_ctrl_c_ends_the_demo_with_130_and_without_its_log(home):
    with Terminal([*SEALGATE, "demo"], home, environment(home)) as terminal:
        assert terminal.shows("1. Start the proxy"), terminal.text
        terminal.press(CTRL_C)
        assert terminal.end() == 130, terminal.text
        assert "Traceback" not in terminal.text
        assert "FAILED" not in terminal.text


@pytest.mark.parametrize("colours_are_off", [False, True])
def test_no_color_turns_off_the_colours_of_the_log(home, colours_are_off):
    variables = {**environment(home), "SEALGATE_CONFIG": "", "NO_COLOR": "1" if colours_are_off else ""}
    with (
        tempfile.TemporaryDirectory(prefix="sg-") as short,
        Terminal([*SEALGATE, "serve", f"{short}/socket"], home, variables) as terminal,
    ):
        assert terminal.shows("there is no configuration"), terminal.text
        assert ("\x1b[" not in terminal.text) == colours_are_off


def test_nothing_of_it_is_in_a_pipe(home):
    command = [*SEALGATE, "inspect", "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(2)
        _, shown = waiting.communicate(b"not sealed")
        assert shown.decode().count("\n") == 1, shown
        assert "MiB" not in shown.decode()
