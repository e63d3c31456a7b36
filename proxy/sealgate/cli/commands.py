"""The table of commands, the parser of their options, and how a failure becomes a line of text and an exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import Any, Protocol, cast

from typing_extensions import override

from sealgate.cli.exit_codes import BAD_USAGE, NOT_SO
from sealgate.cli.shared_options import obey_config_option
from sealgate.errors import BadRequest, NotConfigured, PluginError

COMMANDS = (
    "serve",
    "backend",
    "init",
    "demo",
    "seal",
    "open",
    "inspect",
    "rewrap",
    "doctor",
    "conformance",
    "policy",
    "audit",
    "completion",
)
"""The commands in the order of the help text. `sealgate NAME` is the module `sealgate.cli.NAME`, a `Command`.

The module is imported only if its command is called, or if the help text lists all commands.
"""

_STARTS_PROGRAM = "conformance"
"""The command that starts the program whose command line follows `--`."""


class Command(Protocol):
    """The interface of a command's module."""

    SUMMARY: str
    """One line for the list of commands."""

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options and arguments of this command to `parser`."""

    def run(self, options: argparse.Namespace) -> int:
        """Carry out the command with its parsed options, and return the exit code.

        Raises:
            PluginError: the command failed; the caller prints the fact and the remedy.
        """


def run(arguments: Sequence[str]) -> int:
    """Parse and carry out one command line, and return its exit code."""
    name = " ".join(["sealgate", *arguments[:1]])
    try:
        try:
            return _run(arguments)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except PluginError as fault:
        remedy = f" {fault.remedy}." if fault.remedy else ""
        print(f"{name}: {fault.fact} ({fault.says}).{remedy}", file=sys.stderr)
        return BAD_USAGE if isinstance(fault, BadRequest | NotConfigured) else NOT_SO
    except BrokenPipeError:
        _discard_output()  # the reader of the output has closed it
        return NOT_SO
    except OSError as error:
        _discard_output()
        reason = os.strerror(error.errno or 0).lower()
        print(f"{name}: the output cannot be written: {reason} (file system).", file=sys.stderr)
        return NOT_SO


def _run(arguments: Sequence[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a locale without UTF-8 must not end the output
    own, program = list(arguments), []
    if own[:1] == [_STARTS_PROGRAM] and "--" in own:
        own, program = own[: own.index("--")], own[own.index("--") + 1 :]
    options = command_parser(own).parse_args(own, argparse.Namespace(program=program))
    obey_config_option(options)
    return int(options.run(options))


def _discard_output() -> None:
    """Send the rest of the output nowhere. Otherwise the interpreter writes it at exit and fails again."""
    if sys.stdout is not None:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """A parser, also for the commands in it, that takes no abbreviated options: one could become ambiguous."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **{"allow_abbrev": False, **options})

    @override
    def format_help(self) -> str:
        """Return the help with the examples and the variables of this command."""
        from sealgate.cli.help_texts import shown_below  # noqa: PLC0415 - needed for a help alone

        return super().format_help() + shown_below(self.prog)

    @override
    def _print_message(self, message: str, file: Any = None) -> None:
        """Print `message`. The library would ignore that it cannot be written."""
        if message:
            (file or sys.stderr).write(message)


class _PrintVersion(argparse.Action):
    """Look up the version only when `--version` is given, because the lookup is slow."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the version, and exit."""
        from sealgate import program_version  # noqa: PLC0415 - needed for this option alone

        print(parser.prog, program_version())
        parser.exit()


def command_parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return a parser with the options of the command that `arguments` begin with, or else of every command."""
    parser = _Parser(
        prog="sealgate",
        description="An artifact plugin for Argo Workflows that encrypts what another artifact plugin stores.",
        epilog="Exit codes: 0 success, 1 failure or a check that does not hold, 2 bad usage or configuration, "
        "130 interrupted.",
    )
    parser.add_argument("--version", action=_PrintVersion, nargs=0, help="print the version of this program")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in _to_import(arguments):
        command = cast("Command", importlib.import_module(f"sealgate.cli.{name}"))
        subparser = subparsers.add_parser(name, help=command.SUMMARY)
        command.add_options(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def _to_import(arguments: Sequence[str]) -> Sequence[str]:
    """Return the commands whose options this command line needs."""
    first = arguments[0] if arguments else ""
    if first == "--version":
        return ()
    return (first,) if first in COMMANDS else COMMANDS
