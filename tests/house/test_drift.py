"""What is generated and committed is what its source generates now."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_what_runs_after_a_failed_run_begins_with_the_checks_as_that_run_does():
    for target in ("test", "test-again"):
        command = ["make", "--dry-run", "--no-print-directory", "--assume-old=.venv/.installed", target]
        steps = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
        tools = [Path(step.split()[0]).name for step in steps]
        assert tools[:4] == ["ruff", "ruff", "mypy", "lint-imports"]
        assert tools[-1] == "python"


def test_the_stubs_are_those_of_the_protos(tmp_path):
    sources = ["sealgate/rpc/artifact.proto", "sealgate/envelope/envelope.proto"]
    folders = ["-Isealgate/rpc=proto", "-Isealgate/envelope=proto"]
    protoc = [sys.executable, "-m", "grpc_tools.protoc", *folders]
    subprocess.run(
        [*protoc, f"--python_out={tmp_path}", f"--mypy_out=quiet:{tmp_path}", *sources],
        cwd=ROOT,
        check=True,
        env={"PATH": str(Path(sys.executable).parent)},
    )
    for name in ("sealgate/rpc/artifact_pb2", "sealgate/envelope/envelope_pb2"):
        for suffix in (".py", ".pyi"):
            assert (ROOT / "proxy" / (name + suffix)).read_text() == (tmp_path / (name + suffix)).read_text(), (
                "run `make stubs`"
            )


@pytest.mark.parametrize(
    ("lock", "source"),
    [
        ("requirements.lock", ["pyproject.toml"]),
        ("requirements-dev.lock", ["pyproject.toml", "--group", "dev"]),
        ("requirements-build.lock", ["--group", "pyproject.toml:build"]),
    ],
)
def test_the_lock_is_current(lock, source, tmp_path):
    # Resolving with the committed lock as its own preference changes it only if it does not fit any more.
    fresh = tmp_path / lock
    shutil.copy(ROOT / lock, fresh)
    terms = "--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet"
    command = [sys.executable, "-m", "uv", "pip", "compile", *source, *terms.split()]
    subprocess.run([*command, "-o", str(fresh)], cwd=ROOT, check=True)
    assert fresh.read_text() == (ROOT / lock).read_text(), "run `make lock`"


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock", "requirements-build.lock"])
def test_every_locked_package_has_a_hash(lock):
    packages = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / lock).read_text())
    assert len(packages) > 5
    assert all("--hash=sha256:" in package for package in packages)
