"""`sealgate completion`: each shell completes what a user has typed, and no other command loads the library for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from harness.chain import SEALGATE
from harness.terminal import Terminal

from sealgate.cli.commands import run

SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(cat script)"; sealgate() { echo "<$*>"; }'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -Uz compinit; compinit -u -d dump; eval "$(cat script)"; sealgate() { echo "<$*>"; }',
    ),
    "fish": (["fish", "--no-config", "-i"], 'source script; function sealgate; echo "<$argv>"; end'),
}
COMPLETED = {
    "sealgate compl": "<completion>",
    "sealgate audit ver": "<audit verify>",
    "sealgate doctor --off": "<doctor --offline>",
    "sealgate policy check -o js": "<policy check -o json>",
    "sealgate inspect pla": "<inspect plain>",
    "sealgate seal --config pla": "<seal --config plain>",
    "sealgate policy check pla": "<policy check plain>",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_commands_options_values_and_files(shell, tmp_path, capsys):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert run(["completion", shell]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "plain").touch()
    command, setup = SHELLS[shell]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    with Terminal(command, tmp_path, environment) as terminal:
        terminal.press(f"{setup}; echo rea''dy\r")
        assert terminal.shows("ready"), terminal.text
        for typed, called in COMPLETED.items():
            terminal.press(f"{typed}\t\r")
            assert terminal.shows(called), (typed, terminal.text[-500:])


def test_another_shell_is_bad_usage():
    done = subprocess.run([*SEALGATE, "completion", "tcsh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "choose from 'bash', 'zsh', 'fish'" in done.stderr


def test_the_help_of_all_commands_does_not_load_the_library():
    script = (
        "import sys, contextlib; from sealgate.cli import main; sys.argv = ['sealgate', '--help']\n"
        "with contextlib.suppress(SystemExit): main()\n"
        "assert 'shtab' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
