"""`sealgate policy library`: the shipped documents are listed and printed, from a checkout and from a wheel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from harness.chain import SEALGATE

ROOT = Path(__file__).parents[2]
POLICIES = ROOT / "policies"
POLICY_NAMES = ["analytics", "hipaa", "migration", "pci", "tenants"]
NAMES = [
    *(name for policy in POLICY_NAMES for name in (policy, f"{policy}.test")),
    *(f"vault/{name}" for name in ("auditor", "certifier", "loader", "loader-bound", "rewrapper", "rewrapper-local")),
    *(f"vault/{name}" for name in ("saver", "saver-bound", "saver-local", "saver-local-bound")),
]


def library(*arguments: str, **more) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*SEALGATE, "policy", "library", *arguments], capture_output=True, check=False, **more)


def test_the_list_has_name_path_and_first_comment_line_of_every_document():
    listed = library()
    assert (listed.returncode, listed.stderr) == (0, b"")
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in listed.stdout.decode().splitlines()}
    assert list(rows) == NAMES
    assert rows["vault/saver"] == [
        str(POLICIES / "vault/saver.hcl"),
        (POLICIES / "vault/saver.hcl").read_text().partition("\n")[0].removeprefix("# "),
    ]
    assert rows["pci"][1] == (POLICIES / "library/pci.yaml").read_text().partition("\n")[0].removeprefix("# ")


def test_the_list_holds_every_file_that_ships():
    paths = {row["path"] for row in json.loads(library("--output", "json").stdout)}
    assert paths == {str(path) for path in POLICIES.rglob("*") if path.is_file()}


def test_the_json_list_has_the_same_documents():
    rows = json.loads(library("-o", "json").stdout)
    assert [row["name"] for row in rows] == NAMES
    assert {*rows[0]} == {"name", "path", "comment"}
    assert all(row["comment"] for row in rows if not row["name"].endswith(".test"))


@pytest.mark.parametrize("name", NAMES)
def test_a_document_is_printed_byte_for_byte(name):
    file = POLICIES / f"{name}.hcl" if name.startswith("vault/") else POLICIES / "library" / f"{name}.yaml"
    printed = library(name)
    assert (printed.returncode, printed.stdout) == (0, file.read_bytes())


@pytest.mark.parametrize("name", ["unknown", "", "saver", "library/pci", "pci.yaml", "../library/pci", "a\n\x1b[2J"])
def test_an_unknown_name_exits_with_2_and_lists_the_names(name):
    refused = library(name)
    assert (refused.returncode, refused.stdout) == (2, b"")
    (line,) = refused.stderr.decode().splitlines()
    assert line.isprintable()
    assert line.endswith(f"Name one of {', '.join(NAMES)}.")


def test_a_printed_policy_passes_its_printed_tests(tmp_path):
    for name in ("pci", "pci.test"):
        (tmp_path / f"{name}.yaml").write_bytes(library(name).stdout)
    command = [*SEALGATE, "policy", "test", str(tmp_path), "--coverage"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_an_installed_wheel_lists_and_prints_its_own_documents(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    install = ["pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(installed), str(wheel)]
    subprocess.run([sys.executable, "-m", *install], check=True, capture_output=True)
    within = {"env": {"PYTHONPATH": str(installed)}, "cwd": tmp_path}
    rows = json.loads(library("--output", "json", **within).stdout)
    assert [row["name"] for row in rows] == NAMES
    assert all(Path(row["path"]).is_relative_to(installed / "sealgate" / "policies") for row in rows)
    for name, file in (("pci.test", "library/pci.test.yaml"), ("vault/saver", "vault/saver.hcl")):
        assert library(name, **within).stdout == (POLICIES / file).read_bytes()
