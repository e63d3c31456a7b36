"""The configurations, policies and commands in the documents work."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness.chain import write_keyring
from harness.library import LIBRARY
from harness.trails import write_trail

from sealgate import config
from sealgate.documents.reader import read
from sealgate.keys.local import LocalKeys
from sealgate.policy import cases, load

ROOT = Path(__file__).parents[2]
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent


def blocks(language):
    """Return the code blocks of all pages, except for those that test_without_sealgate.py runs."""
    found = [
        (page, text)
        for page in PAGES
        for kind, text in BLOCK.findall(page.read_text().partition("\n## Without Sealgate\n")[0])
        if kind == language
    ]
    return [pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}") for number, (page, text) in enumerate(found)]


@pytest.mark.parametrize("text", [case for case in blocks("yaml") if "kind: Sealgate" in case.values[0]])
def test_a_configuration_is_valid(text):
    for plugin in (None, "crypt-pci"):
        assert config.parse(text, "the document", plugin).downstream


@pytest.mark.parametrize("text", [case for case in blocks("yaml") if "kind: ArtifactPolicy\n" in case.values[0]])
def test_a_policy_is_valid(text):
    assert load.loaded([load.DocumentSource("the document", read(text))]).documents


@pytest.mark.parametrize("text", [case for case in blocks("yaml") if "kind: ArtifactPolicyTest" in case.values[0]])
def test_a_test_document_passes(text, tmp_path):
    policies = [case.values[0] for case in blocks("yaml") if "name: tenants\n" in case.values[0]]
    (tmp_path / "tenants.yaml").write_text(policies[0])
    (tmp_path / "tenants.test.yaml").write_text(text)
    (suite,) = cases.suites_at(tmp_path)
    assert [result.faults for result in suite.run(cases.Coverage())] == [()] * len(suite.test.cases)


WITH_VAULT = re.compile(r"^\$ vault ", re.MULTILINE)
"""Walk-throughs that need a server, which tests/keys/vault runs. test_policy_guide.py runs that of policies.md."""


@pytest.mark.parametrize(
    "text",
    [case for case in blocks("console") if not WITH_VAULT.search(case.values[0]) and "/policies.md" not in case.id],
)
def test_the_commands_of_a_walk_through_succeed_in_turn(text, tmp_path):
    (tmp_path / "report.txt").write_bytes(os.urandom(100_000))
    (tmp_path / "storage").mkdir()
    shutil.copytree(LIBRARY, tmp_path / "library")
    keyring = write_keyring(tmp_path / "keyring.json")
    write_trail(tmp_path / "audit.jsonl", LocalKeys(keyring))
    settings = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "Sealgate",
        "downstream": {"command": ["sealgate", "backend"]},
        "keys": {"provider": "local", "local": {"keyring": str(keyring)}},
    }
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "SEALGATE_CONFIG_YAML": json.dumps(settings),
        "SEALGATE_BACKEND_URL": f"file://{tmp_path}/storage",
    }
    for line in text.splitlines():
        command = line.removeprefix("$ ")
        result = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert result.returncode == 0, (command, result.stderr)


@pytest.mark.parametrize("text", blocks("sh"))
def test_every_named_make_target_and_command_exists(text):
    for target in re.findall(r"^make ([a-z-]+)", text, re.MULTILINE):
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)
    for command in re.findall(r"^sealgate ([a-z]+)", text, re.MULTILINE):
        subprocess.run([BIN / "sealgate", command, "--help"], check=True, capture_output=True)


def anchors(page):
    """Return what a link can name in a page: its headings as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(BLOCK, "", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_between_the_documents_leads_somewhere():
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
            path = page.parent / target if target else page
            assert path.exists(), f"{page.relative_to(ROOT)} -> {target}"
            assert not anchor or anchor in anchors(path), f"{page.relative_to(ROOT)} -> {target}#{anchor}"
