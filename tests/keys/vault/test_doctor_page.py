"""docs/doctor.md shows the output of a real run on a real server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.chain import TESTS
from harness.openbao import POLICIES

PAGE = TESTS.parent / "docs/doctor.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIGURES = re.compile(
    r"[0-9a-f]{16}|\d+\.\d+\.\d+|[0-9.]+ [GM]iB|\d+ s\b|mode \d+|can be (?:created|written to)|\d+ bytes"
)


def test_the_output_on_the_page_is_that_of_a_real_run(openbao, tmp_path):
    blocks = dict(BLOCK.findall(PAGE.read_text()))
    command = blocks["console"].removeprefix("$ ").strip()
    # A namespace of its own, because the page uses the default names of mount and key.
    namespace = openbao.new_namespace()
    for path, body in (("sys/mounts/transit", {"type": "transit"}), ("transit/keys/artifacts", {})):
        openbao.post(path, body, namespace=namespace)
    for name in ("saver", "loader"):
        policy = {"policy": (POLICIES / f"{name}.hcl").read_text()}
        openbao.api("PUT", f"sys/policies/acl/{name}", policy, namespace=namespace)
    token = openbao.post("auth/token/create", {"policies": ["saver", "loader"], "ttl": "1h"}, namespace=namespace)
    settings = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "Sealgate",
        "downstream": {"command": ["sealgate", "backend"]},
        "keys": {"provider": "vault", "vault": {"auth": {"method": "token"}}},
    }
    (tmp_path / "storage").mkdir()
    with tempfile.TemporaryDirectory(prefix="sg-") as short:
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TMPDIR": short,
            "SEALGATE_CONFIG_YAML": json.dumps(settings),
            "SEALGATE_BACKEND_URL": f"file://{tmp_path}/storage",
            "VAULT_ADDR": openbao.address,
            "VAULT_NAMESPACE": namespace,
            "VAULT_TOKEN": token["auth"]["client_token"],
        }
        ran = subprocess.run(command, shell=True, env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "")
    assert FIGURES.sub("…", ran.stdout) == FIGURES.sub("…", blocks["text"])
