"""The parsers of all commands."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from sealgate.cli.commands import command_parser


def all_parsers(parser: argparse.ArgumentParser | None = None) -> Iterator[argparse.ArgumentParser]:
    """Yield `parser`, or else that of `sealgate`, and the parsers of all commands in it."""
    parser = parser or command_parser()
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from all_parsers(inner)
