"""The command line. `serve` imports as little as possible before it binds its socket; other commands need not hurry."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command that the arguments name, and return its exit code."""
    try:
        return _run(sys.argv[1:])
    except KeyboardInterrupt:
        from sealgate.cli.exit_codes import INTERRUPTED  # noqa: PLC0415 - not on the path to the socket

        return INTERRUPTED


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["serve"] and arguments[1:] and not arguments[1].startswith("-"):
        from sealgate.cli.serve import serve  # noqa: PLC0415 - on the path to the socket

        # Argo appends arguments of its own after the socket's path. They are ignored.
        return serve(arguments[1])
    from sealgate.cli.commands import run  # noqa: PLC0415 - not on the path to the socket

    return run(arguments)
