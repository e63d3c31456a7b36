"""What Argo would send as `artifact.plugin.configuration`, for commands that work without Argo."""

from __future__ import annotations

import argparse
import sys

from sealgate.errors import BadRequest

_LARGEST = 1 << 20


def add_option(parser: argparse.ArgumentParser) -> None:
    """Take `--configuration`."""
    summary = "a file with what Argo sends as artifact.plugin.configuration, or -"
    parser.add_argument("--configuration", default="", metavar="FILE", help=summary)


def author_configuration(source: str) -> str:
    """The text in a file, or on standard input if `source` is `-`; nothing if it is empty. It may hold credentials.

    Raises:
        BadRequest: it cannot be read.
    """
    if not source:
        return ""
    try:
        with open(sys.stdin.fileno() if source == "-" else source, encoding="utf-8", closefd=source != "-") as file:
            text = file.read(_LARGEST + 1)
    except (OSError, UnicodeDecodeError):
        raise BadRequest("the artifact's configuration cannot be read", remedy="Check --configuration") from None
    if len(text) > _LARGEST:
        raise BadRequest(f"the artifact's configuration has more than {_LARGEST} characters")
    return text
