"""The policies in policies/library with their test cases, and the text of each refusal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sealgate.call import Call, Operation
from sealgate.documents.reader import read
from sealgate.layers.ruling import refusal
from sealgate.policy import cases, load
from sealgate.policy.decision import Measures, Request
from sealgate.policy.engine import ProcessPolicy
from sealgate.policy.load import DocumentSource, PolicySet
from sealgate.policy.rules import Process

LIBRARY = Path(__file__).parents[2] / "policies" / "library"
_ID = re.compile(r"\[d=[0-9a-f]{16}\]")


def scaled(text: str) -> str:
    """Return `text` with sizes in KiB instead of GiB, so that a test can move the bytes."""
    return text.replace("GiB", "KiB")


@dataclass(frozen=True)
class Row:
    """One case of the library."""

    policy: str
    case: cases.Case
    request: Request
    measures: Measures
    process: Process
    documents: PolicySet

    @property
    def name(self) -> str:
        return self.case.name

    @property
    def number(self) -> str:
        return self.name.partition(" ")[0]

    def refusal(self) -> str:
        """Return the text that the author reads; empty if the case is not refused."""
        verdict = ProcessPolicy(self.documents, self.process).decide(self.request, self.measures).effective
        if verdict.outcome != "deny":
            return ""
        return without_id(refusal(verdict).line(Call(Operation(self.request.operation)), self.request.key))


def without_id(text: str) -> str:
    return _ID.sub("[d=53e1c0de53e1c0de]", text)


def policy_text(name: str, *, small: bool = False) -> str:
    text = (LIBRARY / f"{name}.yaml").read_text()
    return scaled(text) if small else text


def rows(*, small: bool = False) -> list[Row]:
    """Return every case of the library, in the order of their numbers."""
    result = []
    for path in LIBRARY.glob("*.test.yaml"):
        text = scaled(path.read_text()) if small else path.read_text()
        test, faults = cases.converted(read(text).value, cases.ArtifactPolicyTest, cases.schema.decode)
        assert test, faults
        name = path.name.removesuffix(".test.yaml")
        documents = load.loaded([DocumentSource(name, read(policy_text(name, small=small)))])
        result += [Row(name, case, *cases.inputs_of(case, test.defaults), documents) for case in test.cases]
    return sorted(result, key=lambda row: row.name)
