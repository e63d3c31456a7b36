"""Tests of policies, as documents beside them: what is asked, and what must come of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from sealgate.documents.validate import DocumentFault, converted, meant
from sealgate.policy import load, schema, templates
from sealgate.policy.engine import ProcessPolicy
from sealgate.policy.facts import Decision, Measures, Request
from sealgate.policy.load import DocumentSource, Invalid, PolicySet
from sealgate.policy.rules import Process
from sealgate.policy.schema import Age, DocumentPart, Size
from sealgate.policy.trace import traced

RpcName = Literal["Load", "OpenStream", "Save", "SaveStream", "Delete", "ListObjects", "IsDirectory"]


class Expect(DocumentPart, frozen=True):
    """What must come of a case; what is left out may be anything."""

    decision: Literal["allow", "deny", "skip"]
    code: str | None = None
    rule: Annotated[str | None, Meta(description="Its name, or default, builtin, encryption/NAME.")] = None
    proposed: Literal["allow", "deny", "skip"] | None = None
    key: Annotated[str | None, Meta(description="The name of the key that would seal.")] = None
    text: Annotated[str | None, Meta(description="A part of what the author reads.")] = None


class Facts(DocumentPart, frozen=True):
    """What is known of a call. exists is false unless it is given; what else is left out is not known."""

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
    identity: Annotated[
        dict[str, str | bool], Meta(description="namespace, serviceAccount, workflow, component, …; attested.")
    ] = {}  # noqa: RUF012 - the library copies it


class Case(Facts, frozen=True, kw_only=True):
    """One call, and what must come of it."""

    name: str
    expect: Expect


class ArtifactPolicyTest(DocumentPart, frozen=True):
    """A test document (docs/policies.md)."""

    api_version: Literal["sealgate/v1alpha1"]
    kind: Literal["ArtifactPolicyTest"]
    policies: Annotated[tuple[str, ...], Meta(min_length=1, description="Files, relative to this one.")]
    cases: Annotated[tuple[Case, ...], Meta(min_length=1)]
    defaults: Annotated[Facts, Meta(description="What each case has unless it says otherwise.")] = Facts()


@dataclass(frozen=True, slots=True)
class Result:
    """How one case came out."""

    name: str
    place: str
    """`file:line:column`."""
    faults: tuple[str, ...]
    """What is not as expected; empty if all is."""
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(slots=True)
class Coverage:
    """Which rules the cases of a suite have shown, and how."""

    seen: dict[str, set[str]] = field(default_factory=dict)
    effects: dict[str, str] = field(default_factory=dict)

    def add(self, policy: ProcessPolicy, request: Request, measures: Measures) -> None:
        """One more case."""
        for line in traced(policy, request, measures):
            self.effects[line.rule] = line.effect
            self.seen.setdefault(line.rule, set()).add(line.state)

    def missing(self) -> list[str]:
        """What no case has shown, a line each."""
        lines = []
        for rule, states in sorted(self.seen.items()):
            effect = self.effects[rule]
            if effect == "allow":
                wanted = {"grants": "grants nothing in any case"}
            elif effect == "deny":
                wanted = {"denies": "denies nothing in any case", "no": "is never seen not to match"}
            else:
                wanted = {"denies": "is never seen broken", "ok": "is never seen to hold"}
            lines += [f"{rule}: {text}" for state, text in wanted.items() if state not in states]
        return lines

    @property
    def covered(self) -> tuple[int, int]:
        """How many rules are shown in full, of how many."""
        lacking = {line.partition(":")[0] for line in self.missing()}
        return len(self.seen) - len(lacking), len(self.seen)


@dataclass(frozen=True, slots=True)
class Suite:
    """A test document with the policies that it tests."""

    source: DocumentSource
    test: ArtifactPolicyTest
    policies: PolicySet

    def run(self, coverage: Coverage, only: str = "") -> Iterator[Result]:
        """Each case whose name holds `only`."""
        for number, case in enumerate(self.test.cases):
            if only not in case.name:
                continue
            _, line, column = self.source.document.find(("cases", str(number)))
            faults = self._faults(case, coverage)
            yield Result(case.name, f"{self.source.name}:{line}:{column}", tuple(faults))

    def _faults(self, case: Case, coverage: Coverage) -> list[str]:
        request, measures, process = asked(case, self.test.defaults)
        policy = ProcessPolicy(self.policies, process)
        decision = policy.decide(request, measures)
        coverage.add(policy, request, measures)
        encryption = policy.encryption(request)
        found = {
            "decision": decision.effective.outcome,
            "code": decision.effective.code,
            "rule": decision.effective.rule,
            "proposed": decision.proposed.outcome,
            "key": getattr(encryption, "key", None),
        }
        expected = {name: getattr(case.expect, name) for name in found}
        faults = [
            f"{name} is {found[name]}, expected {wanted}"
            for name, wanted in expected.items()
            if wanted is not None and wanted != found[name]
        ]
        text = f"{decision.effective.fact} ({decision.effective.says}). {decision.effective.advice}"
        if case.expect.text and case.expect.text not in text:
            faults.append(f"the text is {text!r}, and does not hold {case.expect.text!r}")
        if faults:
            faults.append(explained(decision))
        return faults


def explained(decision: Decision) -> str:
    """Why a decision is what it is, in one line."""
    verdict = decision.effective
    return f"{verdict.outcome}: {verdict.fact or verdict.code} ({verdict.says})"


def suites_at(path: Path) -> list[Suite]:
    """The test documents in a file or a directory, each with its policies loaded.

    Raises:
        Invalid: with every fault of each of them.
    """
    faults: list[str] = []
    suites: list[Suite] = []
    for source in load.sources_at(path, tests=True):
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
    parts: Sequence[tuple[tuple[str, ...], Facts]] = [
        (("defaults",), test.defaults),
        *((("cases", str(number)), case) for number, case in enumerate(test.cases)),
    ]
    for path, facts in parts:
        for name, value in facts.identity.items():
            if name not in known:
                yield DocumentFault((*path, "identity", name), f"there is no identity.{name}{meant(name, known)}")
            elif isinstance(value, bool) != (name == "attested"):
                yield DocumentFault((*path, "identity", name), "attested is true or false, everything else is text")
    for path, facts in parts[1:]:
        for name in ("op", "key"):
            if getattr(facts, name) is None and getattr(test.defaults, name) is None:
                yield DocumentFault(path, f"the case has no `{name}`, nor have the defaults")


def asked(case: Facts, defaults: Facts) -> tuple[Request, Measures, Process]:
    """What a case asks, of what measures, by which process."""

    def of(name: str) -> object:
        given = getattr(case, name)
        return getattr(defaults, name) if given is None else given

    identity = {**defaults.identity, **case.identity}
    attested = identity.pop("attested", False) is True
    exists = of("exists")
    request = Request(*(str(of(name) or "") for name in ("op", "key", "plugin", "artifact", "path")))

    def number(name: str) -> int | None:
        value = of(name)
        return int(value) if isinstance(value, int) else None

    sealed = of("sealed")
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
    words = {name: value for name, value in identity.items() if isinstance(value, str)}
    return request, measures, Process(words, attested)
