"""Policies as a test writes them."""

from __future__ import annotations

import json

from sealgate.documents.reader import read
from sealgate.policy.engine import ProcessPolicy
from sealgate.policy.load import DocumentSource, Installation, PolicySet, loaded
from sealgate.policy.rules import Process

HEAD = {"apiVersion": "sealgate/v1alpha1", "kind": "ArtifactPolicy"}
SPEC = "apiVersion: sealgate/v1alpha1\nkind: ArtifactPolicy\nmetadata: {name: main}\nspec:\n"
"""How a document in YAML begins, up to what it says."""


def written(rule: str) -> str:
    """A document in YAML of one rule, from its effect on."""
    return f"{SPEC}  params: {{tier: gold}}\n  rules:\n    - {{name: r, effect: {rule}}}\n"


def document(rules=(), *, name="main", encryption=(), **spec) -> dict:
    numbered = [{"name": f"r{number}", **rule} for number, rule in enumerate(rules)]
    if encryption:
        spec["encryption"] = [{"name": f"e{number}", **rule} for number, rule in enumerate(encryption)]
    return {**HEAD, "metadata": {"name": name}, "spec": {"rules": numbered, **spec}}


def documents(*found: dict, installation: Installation = Installation()) -> PolicySet:  # noqa: B008 - it is frozen
    return loaded([DocumentSource(f"{n}.json", read(json.dumps(value))) for n, value in enumerate(found)], installation)


def policy(*found: dict, attested: bool = False, **identity: str) -> ProcessPolicy:
    return ProcessPolicy(documents(*found), Process(identity, attested))
