"""Builds policy documents and prepared policies for tests, and runs `sealgate policy`."""

from __future__ import annotations

import json
import os
import subprocess

from harness.chain import SEALGATE

from sealgate.documents.reader import read
from sealgate.policy.engine import ProcessPolicy
from sealgate.policy.load import DocumentSource, Installation, PolicySet, loaded
from sealgate.policy.rules import Process

HEAD = {"apiVersion": "sealgate/v1alpha1", "kind": "ArtifactPolicy"}
SPEC = "apiVersion: sealgate/v1alpha1\nkind: ArtifactPolicy\nmetadata: {name: main}\nspec:\n"
"""The beginning of a document in YAML, up to the fields of its spec."""


def written(rule: str) -> str:
    """Return a document in YAML with one rule; `rule` begins with its effect."""
    return f"{SPEC}  params: {{tier: gold}}\n  rules:\n    - {{name: r, effect: {rule}}}\n"


def document(rules=(), *, name="main", encryption=(), **spec) -> dict:
    numbered = [{"name": f"r{number}", **rule} for number, rule in enumerate(rules)]
    if encryption:
        spec["encryption"] = [{"name": f"e{number}", **rule} for number, rule in enumerate(encryption)]
    return {**HEAD, "metadata": {"name": name}, "spec": {"rules": numbered, **spec}}


def documents(*values: dict, installation: Installation = Installation()) -> PolicySet:  # noqa: B008 - it is frozen
    return loaded(
        [DocumentSource(f"{n}.json", read(json.dumps(value))) for n, value in enumerate(values)], installation
    )


def policy(*values: dict, attested: bool = False, **identity: str) -> ProcessPolicy:
    return ProcessPolicy(documents(*values), Process(identity, attested))


def sealgate(*arguments: object, given: str = "") -> tuple[int, str]:
    """Run `sealgate policy` without a configuration, and return its exit code and its output."""
    command = [*SEALGATE, "policy", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SEALGATE_")}
    result = subprocess.run(
        command, input=given.encode(errors="surrogateescape"), capture_output=True, check=False, env=environment
    )
    assert b"Traceback" not in result.stderr, result.stderr
    return result.returncode, result.stdout.decode()
