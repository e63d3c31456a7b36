"""`sealgate policy`: check, test and explain policies, and replay recorded traffic (docs/policies.md)."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import BinaryIO

from sealgate import config
from sealgate.call import Operation
from sealgate.cli import policy_library
from sealgate.cli import policy_output as output
from sealgate.cli.exit_codes import BAD_USAGE, DONE, NOT_SO
from sealgate.compose import policies
from sealgate.config import Settings
from sealgate.documents.validate import printable
from sealgate.errors import NotConfigured, shown_key
from sealgate.policy import cases, lint, load, schema
from sealgate.policy.decision import Measures, Request, Verdict
from sealgate.policy.engine import ProcessPolicy
from sealgate.policy.load import Installation, Invalid
from sealgate.policy.replay import lines_of, replayed
from sealgate.policy.rules import Process
from sealgate.policy.schema import Age, Size
from sealgate.policy.trace import RuleTrace, selected, traced

SUMMARY = "check, test, explain and replay policies, and print ready-made ones"
_OPERATIONS = [operation.value for operation in Operation if operation is not Operation.GET_CAPABILITIES]
_STREAM = "-"
_NOTES = ("owner", "runbook")
"""The annotations that an explanation shows, of the deciding document, or of all documents if none decided."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `sealgate policy` and their options to `parser`."""
    commands = parser.add_subparsers(dest="policy", required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="report every fault of policies, and warn of probable mistakes")
    check.add_argument(
        "path",
        type=Path,
        nargs="?",
        metavar="FILE|DIR",
        help="default: the policies of the configuration",
    )
    check.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="their configuration; default: SEALGATE_CONFIG",
    )
    check.add_argument("--plugin", metavar="NAME", help="overlay the settings of plugins.NAME")
    check.add_argument("--strict", action="store_true", help="fail on warnings, too")
    _add_output_option(check, "text", "json", "github")
    check.set_defaults(act=_check)

    test = commands.add_parser("test", help="run the test documents next to policies")
    test.add_argument("path", type=Path, metavar="FILE|DIR")
    test.add_argument("--run", dest="only", default="", metavar="TEXT", help="run only cases with TEXT in their name")
    test.add_argument("--coverage", action="store_true", help="fail if a rule is covered by no case")
    _add_output_option(test, "text", "json", "junit", "github")
    test.set_defaults(act=_test)

    explain = commands.add_parser("explain", help="decide one request, and say why")
    explain.add_argument("--policy", type=Path, required=True, metavar="FILE|DIR")
    explain.add_argument("--op", required=True, choices=_OPERATIONS)
    explain.add_argument("--key", required=True, help="the artifact key")
    for name, meaning in (
        ("namespace", "the namespace of the process"),
        ("service-account", "the service account of the process"),
        ("workflow", "the name of the workflow"),
        ("component", "init, sidecar, gc or server"),
        ("plugin", "the plugin's name"),
        ("artifact", "the artifact's name"),
        ("path", "the local path of a Load or a Save"),
    ):
        explain.add_argument(f"--{name}", default="", help=meaning)
    explain.add_argument("--attested", action="store_true", help="namespace and service account are attested")
    explain.add_argument("--size", type=_size, metavar="SIZE", help="the size of the object's plaintext, such as 6GiB")
    explain.add_argument("--total", type=_size, metavar="SIZE", help="the same of the whole request; default: --size")
    explain.add_argument("--files", type=int, metavar="N", help="the number of files in the request")
    explain.add_argument("--listing", type=int, metavar="N", help="the number of names that a listing returns")
    explain.add_argument("--age", type=_age, metavar="AGE", help="the time since the object was sealed, such as 30d")
    explain.add_argument("--exists", action="store_true", help="an object is stored under the key already")
    explain.add_argument("--plaintext", action="store_true", help="the stored object is plaintext")
    _add_output_option(explain, "text", "json")
    explain.set_defaults(act=_explain)

    replay = commands.add_parser("replay", help="report what would change for recorded calls")
    replay.add_argument("--policy", type=Path, required=True, metavar="FILE|DIR")
    replay.add_argument("trail", metavar="TRAIL", help="a file with an audit trail, or - for standard input")
    _add_output_option(replay, "text", "json")
    replay.set_defaults(act=_replay)

    shape = commands.add_parser("schema", help="print the JSON Schema of policies, for editors")
    shape.add_argument("--tests", action="store_true", help="print the schema of test documents instead")
    shape.set_defaults(act=_schema)

    library = commands.add_parser("library", help=policy_library.SUMMARY)
    policy_library.add_options(library)
    library.set_defaults(act=policy_library.run)


def run(options: argparse.Namespace) -> int:
    """Carry out one subcommand, print the faults of documents that are not valid, and return the exit code."""
    try:
        return int(options.act(options))
    except Invalid as invalid:
        print(output.faults(invalid.faults, getattr(options, "output", "text")))
        return BAD_USAGE


def _add_output_option(parser: argparse.ArgumentParser, *kinds: str) -> None:
    parser.add_argument("-o", "--output", choices=kinds, default="text")


def _size(text: str) -> int:
    try:
        return int(schema.decode(Size, int(text) if text.isdigit() else text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _age(text: str) -> int:
    try:
        return int(schema.decode(Age, text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _check(options: argparse.Namespace) -> int:
    settings = _settings(options)
    if options.path is None and settings is None:
        raise Invalid(["no policies to check: give a file or a directory, or a configuration by --config"])
    sources = (
        policies.document_sources(settings) if settings and options.path is None else load.sources_at(options.path)
    )
    if not sources:
        raise Invalid(["the configuration names no policy"])
    documents = load.loaded(sources, policies.installation(settings) if settings else Installation()).documents
    doubts = lint.warnings(sources)
    rules = sum(len(document.spec.rules) for document in documents)
    print(output.checked(len(documents), rules, doubts, options.output))
    return BAD_USAGE if doubts and options.strict else DONE


def _settings(options: argparse.Namespace) -> Settings | None:
    """Return the configuration that the policies are used with, or None if none is given."""
    environment = {"SEALGATE_CONFIG": str(options.config)} if options.config else os.environ
    if not any(environment.get(name) for name in ("SEALGATE_CONFIG", "SEALGATE_CONFIG_YAML")):
        return None
    try:
        return config.load(environment, options.plugin)
    except NotConfigured as fault:
        raise Invalid([fault.fact]) from None


def _test(options: argparse.Namespace) -> int:
    coverage = cases.Coverage()
    results = []
    for suite in cases.suites_at(options.path):
        began = time.perf_counter()
        for result in suite.run(coverage, options.only):
            ended = time.perf_counter()
            results.append(replace(result, seconds=ended - began))
            began = ended
    missing = coverage.missing() if options.coverage else []
    covered = coverage.covered if options.coverage else None
    print(output.tested(results, missing, covered, options.output))
    return NOT_SO if missing or not results or any(result.faults for result in results) else DONE


def _explain(options: argparse.Namespace) -> int:
    identity = {
        "namespace": options.namespace,
        "serviceAccount": options.service_account,
        "workflow": options.workflow,
        "component": options.component,
    }
    documents = load.loaded(load.sources_at(options.policy))
    policy = ProcessPolicy(documents, Process(identity, options.attested))
    request = Request(options.op, options.key, options.plugin, options.artifact, options.path)
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
    decision = policy.decide(request, measures)
    lines = [*traced(policy, request, measures), *selected(policy, request)]
    notes = {
        document.metadata.name: {name: text for name, text in document.metadata.annotations.items() if name in _NOTES}
        for document in documents.documents
        if decision.effective.policy in {"", document.metadata.name}
    }
    if options.output == "json":
        answer = {**asdict(decision), "rules": [asdict(line) for line in lines], "annotations": notes}
        # These fields say which facts the engine still waits for. Here every fact is an option.
        del answer["awaits"], answer["needs"]
        print(json.dumps(answer, indent=2, default=sorted))
    else:
        print(_explained(request, decision.effective, decision.proposed, lines))
        for document, annotations in notes.items():
            for name, text in annotations.items():
                print(printable(f"  {name} of {document}: {text}"))
    return DONE if decision.effective.allows else NOT_SO


def _explained(request: Request, effective: Verdict, proposed: Verdict, lines: list[RuleTrace]) -> str:
    width = max((len(line.rule) for line in lines), default=0)
    text = [f'{effective.outcome.upper()}  {request.operation} "{shown_key(request.key)}"   {effective.code}']
    if effective.fact:
        advice = f" {effective.advice}." if effective.advice else ""
        text.append(f"  {effective.fact} ({effective.says}).{advice}")
    for line in lines:
        trial = f" [{line.mode}]" if line.mode != "enforce" else ""
        text.append(f"  {line.effect:<7} {line.rule:<{width}}  {line.state:<6}  {line.reason}{trial}")
    same = "same" if proposed == effective else f"{proposed.says}: {proposed.fact or proposed.code}"
    text.append(f"  proposed: {proposed.outcome.upper()} ({same})")
    return "\n".join(map(printable, text))


def _replay(options: argparse.Namespace) -> int:
    documents = load.loaded(load.sources_at(options.policy))
    with _trail(options.trail) as file:
        result = replayed(lines_of(file), documents)
    print(output.replay(result, options.output))
    return NOT_SO if result.now_denied else DONE


@contextmanager
def _trail(path: str) -> Iterator[BinaryIO]:
    if path == _STREAM:
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb"))
        except OSError as error:
            reason = (error.strerror or "it is not a file").lower()
            raise Invalid([f"{path}: cannot be read: {reason}"]) from None
        yield file


def _schema(options: argparse.Namespace) -> int:
    kind = cases.ArtifactPolicyTest if options.tests else schema.ArtifactPolicy
    print(json.dumps(schema.json_schema(kind), indent=2))
    return DONE
