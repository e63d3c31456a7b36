"""`sealgate demo`: every step has the result that it describes."""

import shutil
import subprocess
from pathlib import Path

import pytest
from harness.chain import SEALGATE

ROOT = Path(__file__).parents[2]


def run(*arguments):
    return subprocess.run([*SEALGATE, "demo", *arguments], capture_output=True, text=True, check=False)


def test_every_step_succeeds_and_is_explained():
    shown = run()
    assert shown.returncode == 0, shown.stdout + shown.stderr
    for word in ("Save an artifact", "in storage", "byte for byte", "DATA_LOSS", "INVALID_ARGUMENT", "Every step"):
        assert word in shown.stdout


def test_a_given_file_goes_through(tmp_path):
    (tmp_path / "mine.bin").write_bytes(b"mine" * 500_000)
    shown = run("--file", str(tmp_path / "mine.bin"))
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "2,000,000 bytes saved" in shown.stdout


def test_an_empty_file_goes_through(tmp_path):
    (tmp_path / "empty").touch()
    assert run("--file", str(tmp_path / "empty")).returncode == 0


def test_a_missing_file_is_bad_usage():
    assert run("--file", "no-such-file").returncode == 2


@pytest.mark.parametrize("environment", [".venv", ".venv-demo"])
def test_make_demo_uses_an_installed_venv_or_else_the_runtime_packages_alone(tmp_path, environment):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        (tmp_path / name).touch()
    if environment == ".venv":
        (tmp_path / environment).mkdir()
        (tmp_path / environment / ".installed").touch()
    command = ["make", "--dry-run", "demo", "PYTHON=python3"]
    commands = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert f"{environment}/bin/python -m sealgate demo" in commands
    assert ("--requirement requirements.lock" in commands) == (environment == ".venv-demo")
    assert "requirements-dev.lock" not in commands
