"""`sealgate policy`: check, test, explain and compare policies, and replay recorded traffic (docs/policies.md)."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from sealgate import config
from sealgate.cli import policy_compare, policy_explain, policy_library
from sealgate.cli import policy_output as output
from sealgate.cli.exit_codes import BAD_USAGE, DONE, NOT_SO
from sealgate.cli.progress import Progress
from sealgate.cli.shared_options import add_config_option, add_output_option
from sealgate.compose import policies
from sealgate.config import Settings
from sealgate.errors import NotConfigured
from sealgate.policy import cases, lint, load, schema
from sealgate.policy.load import Installation, Invalid
from sealgate.policy.replay import lines_of, replayed

SUMMARY = "check, test, explain, compare and replay policies, and print ready-made ones"
_STREAM = "-"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `sealgate policy` and their options to `parser`."""
    commands = parser.add_subparsers(dest="policy", required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="report every fault of policies, and warn of probable mistakes")
    check.add_argument(
        "paths",
        type=_place,
        nargs="*",
        metavar="FILE|DIR|-",
        help="checked together; - is standard input; default: the policies of the configuration",
    )
    add_config_option(check)
    check.add_argument("--plugin", metavar="NAME", help="overlay the settings of plugins.NAME")
    check.add_argument("--strict", action="store_true", help="fail on warnings, too")
    add_output_option(check, "text", "json", "github")
    check.set_defaults(act=_check)

    test = commands.add_parser("test", help="run the test documents next to policies")
    test.add_argument(
        "paths",
        type=_place,
        nargs="+",
        metavar="FILE|DIR|-",
        help="of test documents; - is standard input",
    )
    test.add_argument("--run", dest="only", default="", metavar="TEXT", help="run only cases with TEXT in their name")
    test.add_argument("--coverage", action="store_true", help="fail if a rule is covered by no case")
    add_output_option(test, "text", "json", "junit", "github")
    test.set_defaults(act=_test)

    explain = commands.add_parser("explain", help=policy_explain.SUMMARY)
    policy_explain.add_options(explain)
    explain.set_defaults(act=policy_explain.run)

    replay = commands.add_parser("replay", help="report what would change for recorded calls")
    replay.add_argument("--policy", type=Path, required=True, metavar="FILE|DIR", help="the policies that decide")
    replay.add_argument("trail", metavar="TRAIL", help="a file with an audit trail, or - for standard input")
    add_output_option(replay, "text", "json")
    replay.set_defaults(act=_replay)

    diff = commands.add_parser("diff", help=policy_compare.DIFF_SUMMARY)
    policy_compare.add_diff_options(diff)
    diff.set_defaults(act=policy_compare.diff)

    prove = commands.add_parser("prove", help=policy_compare.PROVE_SUMMARY)
    policy_compare.add_prove_options(prove)
    prove.set_defaults(act=policy_compare.prove)

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


def _place(text: str) -> Path | BinaryIO:
    return sys.stdin.buffer if text == _STREAM else Path(text)


def _check(options: argparse.Namespace) -> int:
    settings = _settings(options)
    if not options.paths and settings is None:
        raise Invalid(["no policies to check: give a file or a directory, or a configuration by --config"])
    sources = load.sources_at(*options.paths) if options.paths or not settings else policies.document_sources(settings)
    if not sources:
        raise Invalid(["the configuration names no policy"])
    documents = load.loaded(sources, policies.installation(settings) if settings else Installation()).documents
    doubts = lint.warnings(sources, int(time.time()))
    rules = sum(len(document.spec.rules) for document in documents)
    print(output.checked(len(documents), rules, doubts, options.output))
    return BAD_USAGE if doubts and options.strict else DONE


def _settings(options: argparse.Namespace) -> Settings | None:
    """Return the configuration that the policies are used with, or None if none is given."""
    if not any(os.environ.get(name) for name in ("SEALGATE_CONFIG", "SEALGATE_CONFIG_YAML")):
        return None
    try:
        return config.load(plugin=options.plugin)
    except NotConfigured as fault:
        raise Invalid([fault.fact]) from None


def _test(options: argparse.Namespace) -> int:
    coverage = cases.Coverage()
    results = []
    for suite in cases.suites_at(*options.paths):
        began = time.perf_counter()
        for result in suite.run(coverage, options.only):
            ended = time.perf_counter()
            results.append(replace(result, seconds=ended - began))
            began = ended
    missing = coverage.missing() if options.coverage else []
    covered = coverage.covered if options.coverage else None
    print(output.tested(results, missing, covered, options.output))
    return NOT_SO if missing or not results or any(result.faults for result in results) else DONE


def _replay(options: argparse.Namespace) -> int:
    documents = load.loaded(load.sources_at(options.policy))
    with _trail(options.trail) as file, Progress("replayed", "lines") as progress:
        result = replayed(progress.counted(lines_of(file)), documents)
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
