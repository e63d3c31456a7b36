"""`sealgate policy explain`: decide a request as each component of Argo, and say why (docs/policy-reference.md)."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from sealgate.cli.exit_codes import DONE, NOT_SO
from sealgate.cli.option_types import as_in_policies
from sealgate.cli.shared_options import add_output_option
from sealgate.documents.validate import printable
from sealgate.errors import shown_key
from sealgate.policy import load
from sealgate.policy.contact import OWNER, RUNBOOK
from sealgate.policy.decision import ALIASES, OPERATIONS, Decision, Measures, Request
from sealgate.policy.engine import ProcessPolicy
from sealgate.policy.load import PolicySet
from sealgate.policy.rules import Process, operations_named
from sealgate.policy.schema import Age, Component, Instant, Size
from sealgate.policy.trace import RuleTrace, selected, traced

SUMMARY = "decide one request, and say why"
_COMPONENTS = get_args(Component)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate policy explain` to `parser`."""
    parser.add_argument("--policy", type=Path, required=True, metavar="FILE|DIR", help="the policies that decide")
    parser.add_argument(
        "--op",
        required=True,
        choices=(*ALIASES, "*", *sorted(OPERATIONS)),
        metavar="OPERATION",
        help=f"as policies name it: {', '.join(ALIASES)}, * or the name of an RPC",
    )
    parser.add_argument("--key", required=True, help="the artifact key")
    parser.add_argument(
        "--component",
        choices=(*_COMPONENTS, ""),
        metavar="NAME",
        help=f'{", ".join(_COMPONENTS)}, or "" for one that is not known; default: each of the four',
    )
    for name, meaning in (
        ("namespace", "the namespace of the process"),
        ("service-account", "the service account of the process"),
        ("workflow", "the name of the workflow"),
        ("plugin", "the plugin's name"),
        ("artifact", "the artifact's name"),
        ("path", "the local path of a Load or a Save"),
    ):
        parser.add_argument(f"--{name}", default="", help=meaning)
    parser.add_argument("--attested", action="store_true", help="namespace and service account are attested")
    parser.add_argument(
        "--size", type=as_in_policies(Size), metavar="SIZE", help="the object's plaintext, such as 6GiB"
    )
    parser.add_argument(
        "--total", type=as_in_policies(Size), metavar="SIZE", help="that of the whole request; default: --size"
    )
    parser.add_argument("--files", type=int, metavar="N", help="the number of files in the request")
    parser.add_argument("--listing", type=int, metavar="N", help="the number of names that a listing returns")
    parser.add_argument(
        "--age", type=as_in_policies(Age), metavar="AGE", help="the time since the object was sealed, such as 30d"
    )
    parser.add_argument(
        "--time",
        type=as_in_policies(Instant),
        metavar="TIME",
        help="when the call begins, such as 2026-12-01T18:00:00Z; default: now",
    )
    parser.add_argument("--exists", action="store_true", help="an object is stored under the key already")
    parser.add_argument("--plaintext", action="store_true", help="the stored object is plaintext")
    add_output_option(parser, "text", "json")


@dataclass(frozen=True, slots=True)
class _Explanation:
    """The decision on one operation, as one component of Argo."""

    request: Request
    component: str
    decision: Decision
    rules: list[RuleTrace]

    @property
    def answer(self) -> tuple[str, ...]:
        """Outcome and code, and then the lines that explain them."""
        effective, proposed = self.decision.effective, self.decision.proposed
        width = max((len(line.rule) for line in self.rules), default=0)
        text = []
        if effective.fact:
            advice = f" {effective.advice}." if effective.advice else ""
            text.append(f"  {effective.fact} ({effective.says}).{advice}")
        for line in self.rules:
            trial = f" [{line.mode}]" if line.mode != "enforce" else ""
            text.append(f"  {line.effect:<7} {line.rule:<{width}}  {line.state:<6}  {line.reason}{trial}")
        same = "same" if proposed == effective else f"{proposed.says}: {proposed.fact or proposed.code}"
        return (effective.outcome, effective.code, *text, f"  proposed: {proposed.outcome.upper()} ({same})")


def run(options: argparse.Namespace) -> int:
    """Print the decisions, and return the exit code: 0 if all of them allow.

    Raises:
        Invalid: a policy is not valid.
    """
    documents = load.loaded(load.sources_at(options.policy))
    found = list(_explanations(options, documents))
    if options.output == "json":
        print(json.dumps({"decisions": [_facts(documents, one) for one in found]}, indent=2, default=sorted))
    else:
        print("\n".join(map(printable, _text(documents, found, attested=options.attested))))
    return DONE if all(one.decision.effective.allows for one in found) else NOT_SO


def _explanations(options: argparse.Namespace, documents: PolicySet) -> Iterator[_Explanation]:
    measures = Measures(
        bytes=options.size,
        total=options.total if options.total is not None else options.size,
        files=options.files,
        listing=options.listing,
        sealed=False if options.plaintext else None,
        exists=options.exists,
        age=options.age,
        complete=options.size is not None,
    )
    now = int(time.time()) if options.time is None else options.time
    for component in _COMPONENTS if options.component is None else (options.component,):
        identity = {
            "namespace": options.namespace,
            "serviceAccount": options.service_account,
            "workflow": options.workflow,
            "component": component,
        }
        policy = ProcessPolicy(documents, Process(identity, options.attested))
        for operation in sorted(operations_named(options.op)):
            request = Request(operation, options.key, options.plugin, options.artifact, options.path, now)
            rules = [*traced(policy, request, measures), *selected(policy, request)]
            yield _Explanation(request, component, policy.decide(request, measures), rules)


def _text(documents: PolicySet, found: list[_Explanation], *, attested: bool) -> Iterator[str]:
    """Yield the lines of all explanations. Operations and components that have the same answer share one."""
    answers: dict[tuple[str, ...], list[_Explanation]] = {}
    for one in found:
        answers.setdefault(one.answer, []).append(one)
    for (outcome, code, *lines), group in answers.items():
        components: dict[str, list[str]] = {}
        for one in group:
            components.setdefault(one.request.operation, []).append(one.component or "an unknown component")
        operations: dict[str, list[str]] = {}
        for operation, named in components.items():
            operations.setdefault(", ".join(named), []).append(operation)
        for named_components, names in operations.items():
            subject = f'{", ".join(names)} "{shown_key(group[0].request.key)}"'
            yield f"{outcome.upper()}  {subject}   {code}   as {named_components}"
            yield from lines
            if code == "IDENTITY" and not attested:
                yield "  --attested decides the request as after a login that proves namespace and service account"
            for document, notes in _notes(documents, group[0]).items():
                yield from (f"  {name} of {document}: {text}" for name, text in notes.items())


def _notes(documents: PolicySet, one: _Explanation) -> dict[str, dict[str, str]]:
    """Return the owner and the runbook of the document that decided, or of all documents if none did."""
    return {
        document.metadata.name: {
            name: text for name, text in document.metadata.annotations.items() if name in {OWNER, RUNBOOK}
        }
        for document in documents.documents
        if one.decision.effective.policy in {"", document.metadata.name}
    }


def _facts(documents: PolicySet, one: _Explanation) -> dict[str, Any]:
    facts = asdict(one.decision)
    # These fields say which facts the engine still waits for. Here every fact is an option.
    del facts["awaits"], facts["needs"]
    return {
        "operation": one.request.operation,
        "component": one.component,
        **facts,
        "rules": [asdict(line) for line in one.rules],
        "annotations": _notes(documents, one),
    }
