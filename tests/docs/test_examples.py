"""What the documents show works as they show it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness.chain import write_keyring
from harness.trails import write_trail

from proxy import config
from proxy.keys.local import LocalKeys

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BIN = Path(sys.executable).parent


def blocks(language):
    found = [(page, text) for page in PAGES for kind, text in BLOCK.findall(page.read_text()) if kind == language]
    return [pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}") for number, (page, text) in enumerate(found)]


@pytest.mark.parametrize("text", [case for case in blocks("yaml") if "kind: Sealgate" in case.values[0]])
def test_a_configuration_is_valid(text):
    for plugin in (None, "crypt-pci"):
        assert config.parse(text, "the document", plugin).downstream


@pytest.mark.parametrize("text", blocks("console"))
def test_the_commands_of_a_walk_through_succeed_in_turn(text, tmp_path):
    (tmp_path / "report.txt").write_bytes(os.urandom(100_000))
    keyring = write_keyring(tmp_path / "keyring.json")
    write_trail(tmp_path / "audit.jsonl", LocalKeys(keyring))
    settings = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "Sealgate",
        "keys": {"provider": "local", "local": {"keyring": str(keyring)}},
    }
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "SEALGATE_CONFIG_YAML": json.dumps(settings)}
    for line in text.splitlines():
        command = line.removeprefix("$ ")
        result = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert result.returncode == 0, (command, result.stderr)


@pytest.mark.parametrize("text", blocks("python"))
def test_the_python_of_a_walk_through_opens_a_sealed_body(text, tmp_path):
    from proxy.envelope import new_header, read_header, seal_stream  # noqa: PLC0415 - only this example needs it
    from proxy.plugin import WrappedKey  # noqa: PLC0415 - only this example needs it

    data_key, plaintext = os.urandom(32), os.urandom(2_500_000)
    header = new_header(data_key, WrappedKey("local", "", "default", "local:v1:", 1), sealed_at=1)
    sealed = tmp_path / "sealed"
    sealed.write_bytes(b"".join(bytes(chunk) for chunk in seal_stream(header, data_key, "ns/a", iter([plaintext]))))
    names: dict = {}
    exec(text, names)
    with sealed.open("rb") as file:
        _, start = read_header(lambda size, offset: os.pread(file.fileno(), size, offset))
        file.seek(start)
        assert names["open_body"](data_key, header.associated_data("ns/a"), file).read() == plaintext


@pytest.mark.parametrize("text", blocks("sh"))
def test_every_make_target_and_sealgate_command_that_is_named_exists(text):
    for target in re.findall(r"^make ([a-z-]+)", text, re.MULTILINE):
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)
    for command in re.findall(r"^sealgate ([a-z]+)", text, re.MULTILINE):
        subprocess.run([BIN / "sealgate", command, "--help"], check=True, capture_output=True)


def test_every_link_between_the_documents_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} -> {target}"
