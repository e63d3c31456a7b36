"""`sealgate completion`: print a script that completes command lines in a shell (docs/command-line.md)."""

from __future__ import annotations

import argparse
from pathlib import Path

from sealgate.cli.exit_codes import DONE

SUMMARY = "print a script that completes command lines in bash, zsh or fish"
_SHELLS = ("bash", "zsh", "fish")
_PATHS = {"FILE", "FILE|DIR", "FILE|DIR|-", "IN", "OUT", "PEM", "SOCKET", "TRAIL"}
_DIRECTORIES = {"DIRECTORY"}
"""What help texts call arguments that are paths."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate completion` to `parser`."""
    parser.add_argument("shell", metavar="|".join(_SHELLS), choices=_SHELLS, help="the shell")


def run(options: argparse.Namespace) -> int:
    """Print the script of the shell that the options name. It contains every command with its options."""
    import shtab  # noqa: PLC0415 - needed for the script alone, and not for the help

    from sealgate.cli.commands import command_parser  # noqa: PLC0415 - it imports this module

    parser = command_parser()
    _mark_paths(parser, shtab.FILE, shtab.DIRECTORY)
    print(shtab.complete(parser, options.shell))
    return DONE


def _mark_paths(parser: argparse.ArgumentParser, file: object, directory: object) -> None:
    """Mark every argument that is a path, as the library expects it: by an attribute `complete`."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other list, and the library reads this one
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - the library finds commands by it, too
            for command in action.choices.values():
                _mark_paths(command, file, directory)
        elif action.metavar in _DIRECTORIES:
            action.complete = directory  # type: ignore[attr-defined] # the library's own attribute
        elif action.metavar in _PATHS or action.type is Path:
            action.complete = file  # type: ignore[attr-defined] # the library's own attribute
