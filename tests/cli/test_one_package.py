"""The product is one import package: no folder with a common name can take the place of a part of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "proxy" / "sealgate"
COMMON_NAMES = ["backend", "compose", "config", "policies", "policy", "proxy", "storage"]
COMMANDS = [
    ["--version"],
    ["--help"],
    *([command, "--help"] for command in ("serve", "backend", "init", "demo", "seal", "open", "inspect")),
    *([command, "--help"] for command in ("rewrap", "doctor", "policy", "audit")),
    ["policy", "schema"],
    ["demo"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_works_beside_packages_with_common_names(command, tmp_path):
    for name in COMMON_NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text('raise ImportError("another program\'s package")\n')
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PACKAGE.parent}"}
    ran = subprocess.run(
        [sys.executable, "-m", "sealgate", *command],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def test_the_wheel_installs_one_top_level_package():
    assert {path.name for path in PACKAGE.parent.iterdir() if path.is_dir() and path.name != "__pycache__"} == {
        "sealgate"
    }
    assert (PACKAGE / "py.typed").is_file()
