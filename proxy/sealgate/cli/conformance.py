"""`sealgate conformance`: whether any artifact plugin keeps Argo's contract (docs/conformance.md)."""

from __future__ import annotations

import argparse
import json
import logging
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from sealgate.cli import author
from sealgate.cli.exit_codes import DONE, NOT_SO
from sealgate.cli.foreign_text import shown
from sealgate.cli.option_types import as_in_policies, seconds
from sealgate.cli.progress import Progress
from sealgate.cli.shared_options import add_output_option
from sealgate.conformance.catalogue import CHECKS
from sealgate.conformance.checks import ContractCheck, ContractResult, ContractState, run_checks, with_needs
from sealgate.conformance.client import ArgoClient
from sealgate.conformance.program import Program
from sealgate.conformance.workspace import Extent, Workspace
from sealgate.errors import BadRequest
from sealgate.policy import canonical_keys
from sealgate.policy.schema import Size
from sealgate.rpc.child_output import words_of
from sealgate.storage.local_paths import local_errors

SUMMARY = "check whether an artifact plugin keeps Argo's contract"
_LONGEST_FOUND = 400
"""Characters of what was found, which can contain a text of the plugin."""
_PAGE = "docs/argo-contract.md"
_WORK = "a directory that the plugin sees at the same path and may use; default: the system's for temporary files"
_EMPTY = "{}"
"""The default configuration. Argo takes an artifact whose configuration is empty as one without a plugin."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate conformance` to `parser`."""
    parser.usage = "sealgate conformance [OPTION ...] (SOCKET | -- COMMAND [ARGUMENT ...])"
    parser.description = (
        "Checks the plugin that serves on SOCKET, or starts COMMAND with the path of a socket appended. Exit codes: "
        "0 no check failed, 1 a check failed, 2 bad usage."
    )
    extent = Extent()
    parser.add_argument("socket", nargs="?", metavar="SOCKET", help="the socket of a plugin that is running")
    author.add_option(parser)
    parser.add_argument("--plugin", default="conformance", metavar="NAME", help="the plugin's name in each artifact")
    parser.add_argument(
        "--prefix",
        default=".sealgate-conformance",
        metavar="KEY",
        help="the prefix of every key that is saved and deleted; default .sealgate-conformance",
    )
    parser.add_argument("--work", type=Path, metavar="DIRECTORY", help=_WORK)
    parser.add_argument(
        "--only",
        action="append",
        choices=[check.name for check in CHECKS],
        metavar="CHECK",
        help="run this check, and those that it needs; may be repeated",
    )
    parser.add_argument("--list", action="store_true", help="list the checks, and run none")
    parser.add_argument(
        "--largest",
        type=_size,
        default=extent.largest,
        metavar="SIZE",
        help="the largest artifact, such as 300MiB; default 33 MiB and 17 bytes",
    )
    parser.add_argument(
        "--files", type=_count, default=extent.files, metavar="N", help="files of the largest directory; default 1000"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=extent.seconds,
        metavar="SECONDS",
        help="the time limit of each call and of a start; default 60",
    )
    add_output_option(parser, "text", "json")


def _size(text: str) -> int:
    if not (size := as_in_policies(Size)(text)):
        raise argparse.ArgumentTypeError("must be at least 1 byte")
    return size


def _count(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) <= 1_000_000):  # noqa: PLR2004 - what the message says
        raise argparse.ArgumentTypeError("must be a number from 1 to 1000000")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Make the checks that `options` name, print a line for each, and return the exit code.

    Raises:
        BadRequest: neither a socket nor a command was given, or an option is not valid. Nothing was checked.
    """
    checks = with_needs(CHECKS, options.only) if options.only else list(CHECKS)
    as_json = options.output == "json"
    if options.list:
        _print_list(checks, as_json=as_json)
        return DONE
    configuration = author.author_configuration(options.configuration)
    workspace = _workspace(options, configuration or _EMPTY)
    logging.getLogger("grpc").addHandler(logging.NullHandler())  # it logs what a check provokes
    secrets = words_of(configuration)
    try:
        with Progress("checking") as progress:
            results = _print_results(progress.each(run_checks(checks, workspace)), secrets, as_json=as_json)
    except BaseException:  # also an interruption by the user
        _print_left(workspace.close(), sys.stderr)
        raise
    left = workspace.close()
    failed = any(result.state is ContractState.FAIL for result in results)
    if as_json:
        facts = [_facts(result, secrets) for result in results]
        print(json.dumps({"ok": not failed, "checks": facts, "left": left}, indent=2))
    else:
        _print_left(left, sys.stdout)
        counts = Counter(result.state for result in results)
        print(", ".join(f"{counts[state]} {state.value}" for state in ContractState))
    return NOT_SO if failed else DONE


def _workspace(options: argparse.Namespace, configuration: str) -> Workspace:
    command: Sequence[str] = options.program
    if bool(command) == bool(options.socket):
        raise BadRequest("give either the socket of a running plugin, or -- and the plugin's command")
    if fault := canonical_keys.fault_of(f"{options.prefix}/x"):
        raise BadRequest(fault, remedy="Give --prefix a canonical key")
    if not options.plugin.isprintable():
        raise BadRequest("the plugin's name is not one line of printable text", remedy="Give --plugin another name")
    if options.socket and not _is_socket(options.socket):
        raise BadRequest(f"{options.socket} is not a socket", remedy="Start the plugin, or give its command after --")
    extent = Extent(options.largest, options.files, options.timeout)

    def connect(socket: str) -> ArgoClient:
        return ArgoClient(socket, configuration, options.plugin, options.timeout)

    with local_errors("the directory for local files"):
        workspace = Workspace(extent, options.work, options.prefix, connect)
        workspace.program = Program(command, options.timeout) if command else None
    if options.socket:
        workspace.use(options.socket)
    return workspace


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(Path(path).stat().st_mode)
    except OSError:  # Path.is_socket raises some of them
        return False


# --- the report ------------------------------------------------------------------------------------------


def _print_list(checks: Sequence[ContractCheck], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([_described(check) for check in checks], indent=2))
        return
    for check in checks:
        print(f"{check.name:<26} {check.asks}. Otherwise {check.argo}. {_numbers(check)}")


def _print_results(
    results: Iterable[ContractResult], secrets: frozenset[str], *, as_json: bool
) -> list[ContractResult]:
    """Print each result as soon as it is known, unless the report is JSON; return them all."""
    done = []
    for result in results:
        done.append(result)
        if not as_json:
            check, found = result.check, shown(result.found, secrets, _LONGEST_FOUND)
            argo = f". Under Argo: {check.argo}. See {_PAGE}" if result.state is ContractState.FAIL else ""
            print(f"{result.state.value:<15} {check.name:<26} {found}{argo} {_numbers(check)}", flush=True)
    return done


def _print_left(left: Iterable[str], stream: TextIO) -> None:
    for text in left:
        print(f"{'left':<15} {shown(text, frozenset())}", file=stream)


def _facts(result: ContractResult, secrets: frozenset[str]) -> dict[str, object]:
    return {
        **_described(result.check),
        "state": result.state.value,
        "found": shown(result.found, secrets, _LONGEST_FOUND),
    }


def _described(check: ContractCheck) -> dict[str, object]:
    return {"check": check.name, "facts": list(check.facts), "asks": check.asks, "argo": check.argo}


def _numbers(check: ContractCheck) -> str:
    return f"[{', '.join(map(str, check.facts))}]"
