"""Policy tests: documents beside a policy, with requests and the decisions that they must get."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

from msgspec import Meta

from sealgate.documents.validate import DocumentFault, converted, did_you_mean
from sealgate.policy import load, schema, templates
from sealgate.policy.decision import Decision, Measures, Request
from sealgate.policy.engine import ProcessPolicy
from sealgate.policy.load import DocumentSource, Invalid, PolicySet
from sealgate.policy.rules import Process
from sealgate.policy.schema import Age, DocumentPart, Instant, Size
from sealgate.policy.trace import traced

RpcName = Literal["Load", "OpenStream", "Save", "SaveStream", "Delete", "ListObjects", "IsDirectory"]


class Expect(DocumentPart, frozen=True):
    """The expected decision of a case. A field that is left out is not checked."""

    decision: Literal["allow", "deny", "skip"]
    code: str | None = None
    rule: Annotated[str | None, Meta(description="The name of the rule, or default, builtin, encryption/NAME.")] = None
    proposed: Literal["allow", "deny", "skip"] | None = None
    key: Annotated[str | None, Meta(description="The name of the key that seals the object.")] = None
    text: Annotated[str | None, Meta(description="A part of the text that the author reads.")] = None


class CaseInput(DocumentPart, frozen=True):
    """A request, its measures and its identity. If exists is left out it is false; other fields are unknown."""

    op: RpcName | None = None
    key: str | None = None
    plugin: str | None = None
    artifact: str | None = None
    path: str | None = None
    bytes: Size | None = None
    total: Size | None = None
    files: int | None = None
    listing: int | None = None
    sealed: bool | None = None
    exists: bool | None = None
    age: Age | None = None
    time: Annotated[Instant | None, Meta(description="When the call begins, for rules with `expires`.")] = None
    identity: Annotated[
        dict[str, str | bool],
        Meta(description="namespace, serviceAccount, workflow, component, …; attested is true or false."),
    ] = {}  # noqa: RUF012 - the library copies it


class Case(CaseInput, frozen=True, kw_only=True):
    """One request, and the decision that it must get."""

    name: str
    expect: Expect


class ArtifactPolicyTest(DocumentPart, frozen=True):
    """A test document (docs/policy-reference.md)."""

    api_version: Literal["sealgate/v1alpha1"]
    kind: Literal["ArtifactPolicyTest"]
    policies: Annotated[tuple[str, ...], Meta(min_length=1, description="Policy files, relative to this file.")]
    cases: Annotated[tuple[Case, ...], Meta(min_length=1)]
    defaults: Annotated[CaseInput, Meta(description="Values of fields that a case leaves out.")] = CaseInput()


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one case."""

    name: str
    place: str
    """`file:line:column`."""
    faults: tuple[str, ...]
    """Each difference from the expected decision; empty if the case passed."""
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(slots=True)
class Coverage:
    """The states in which the cases of all suites have shown each rule (`sealgate.policy.trace`)."""

    states: dict[str, set[str]] = field(default_factory=dict)
    effects: dict[str, str] = field(default_factory=dict)

    def add(self, policy: ProcessPolicy, request: Request, measures: Measures) -> None:
        """Record the states of all rules for one case."""
        for line in traced(policy, request, measures):
            self.effects[line.rule] = line.effect
            self.states.setdefault(line.rule, set()).add(line.state)

    def missing(self) -> list[str]:
        """Return a line for each state of a rule that no case shows."""
        lines = []
        for rule, shown in sorted(self.states.items()):
            effect = self.effects[rule]
            if effect == "allow":
                wanted = {"grants": "no case shows it granting"}
            elif effect == "deny":
                wanted = {"denies": "no case shows it denying", "no": "no case shows it not matching"}
            else:
                wanted = {"denies": "no case shows it denying", "ok": "no case shows it holding"}
            lines += [f"{rule}: {text}" for state, text in wanted.items() if state not in shown]
        return lines

    @property
    def covered(self) -> tuple[int, int]:
        """The number of rules that are shown in every state, and the number of all rules."""
        lacking = {line.partition(":")[0] for line in self.missing()}
        return len(self.states) - len(lacking), len(self.states)


@dataclass(frozen=True, slots=True)
class Suite:
    """A test document with its policies."""

    source: DocumentSource
    test: ArtifactPolicyTest
    policies: PolicySet

    def run(self, coverage: Coverage, only: str = "") -> Iterator[Result]:
        """Run each case whose name contains `only`, and yield its result."""
        for number, case in enumerate(self.test.cases):
            if only not in case.name:
                continue
            _, line, column = self.source.document.find(("cases", str(number)))
            faults = self._faults(case, coverage)
            yield Result(case.name, f"{self.source.name}:{line}:{column}", tuple(faults))

    def _faults(self, case: Case, coverage: Coverage) -> list[str]:
        request, measures, process = inputs_of(case, self.test.defaults)
        policy = ProcessPolicy(self.policies, process)
        decision = policy.decide(request, measures)
        coverage.add(policy, request, measures)
        encryption = policy.encryption(request)
        actual = {
            "decision": decision.effective.outcome,
            "code": decision.effective.code,
            "rule": decision.effective.rule,
            "proposed": decision.proposed.outcome,
            "key": getattr(encryption, "key", None),
        }
        expected = {name: getattr(case.expect, name) for name in actual}
        faults = [
            f"{name} is {actual[name]}, expected {wanted}"
            for name, wanted in expected.items()
            if wanted is not None and wanted != actual[name]
        ]
        text = f"{decision.effective.fact} ({decision.effective.says}). {decision.effective.advice}"
        if case.expect.text and case.expect.text not in text:
            faults.append(f"the text is {text!r}, and does not contain {case.expect.text!r}")
        if faults:
            faults.append(explained(decision))
        return faults


def explained(decision: Decision) -> str:
    """Describe `decision` and its reason in one line."""
    verdict = decision.effective
    return f"{verdict.outcome}: {verdict.fact or verdict.code} ({verdict.says})"


def suites_at(*places: Path | BinaryIO) -> list[Suite]:
    """Load the test documents in files, directories and open files, each with its policies.

    The policies of a document in an open file are relative to the current directory.

    Raises:
        Invalid: a test document or a policy is not valid; it has all faults of all of them.
    """
    faults: list[str] = []
    suites: list[Suite] = []
    for source in load.sources_at(*places, tests=True):
        test, found = converted(source.document.value, ArtifactPolicyTest, schema.decode)
        if test is not None:
            found = list(_faults_of(test))
        faults += [source.line(fault) for fault in found]
        if test is None or found:
            continue
        try:
            files = [Path(source.name).parent / name for name in test.policies]
            suites.append(Suite(source, test, load.loaded([s for file in files for s in load.sources_at(file)])))
        except Invalid as invalid:
            faults += invalid.faults
    if faults:
        raise Invalid(faults)
    return suites


def _faults_of(test: ArtifactPolicyTest) -> Iterator[DocumentFault]:
    known = (*templates.IDENTITY, "attested")
    inputs: Sequence[tuple[tuple[str, ...], CaseInput]] = [
        (("defaults",), test.defaults),
        *((("cases", str(number)), case) for number, case in enumerate(test.cases)),
    ]
    for path, given in inputs:
        for name, value in given.identity.items():
            if name not in known:
                yield DocumentFault(
                    (*path, "identity", name), f"unknown field identity.{name}{did_you_mean(name, known)}"
                )
            elif isinstance(value, bool) != (name == "attested"):
                yield DocumentFault(
                    (*path, "identity", name), "attested must be true or false, and all other values text"
                )
    for path, given in inputs[1:]:
        for name in ("op", "key"):
            if getattr(given, name) is None and getattr(test.defaults, name) is None:
                yield DocumentFault(path, f"neither the case nor the defaults have `{name}`")


def inputs_of(case: CaseInput, defaults: CaseInput) -> tuple[Request, Measures, Process]:
    """Return the request, the measures and the process of `case`, with `defaults` for fields that it leaves out."""

    def value_of(name: str) -> object:
        given = getattr(case, name)
        return getattr(defaults, name) if given is None else given

    identity = {**defaults.identity, **case.identity}
    attested = identity.pop("attested", False) is True
    exists = value_of("exists")

    def number(name: str) -> int | None:
        value = value_of(name)
        return int(value) if isinstance(value, int) else None

    operation, key, plugin, artifact, path = (
        str(value_of(name) or "") for name in ("op", "key", "plugin", "artifact", "path")
    )
    request = Request(operation, key, plugin, artifact, path, number("time"))
    sealed = value_of("sealed")
    measures = Measures(
        bytes=number("bytes"),
        total=number("total"),
        files=number("files"),
        listing=number("listing"),
        age=number("age"),
        sealed=sealed if isinstance(sealed, bool) else None,
        exists=exists is True,
        complete=number("bytes") is not None,
    )
    known = {name: value for name, value in identity.items() if isinstance(value, str)}
    return request, measures, Process(known, attested)
