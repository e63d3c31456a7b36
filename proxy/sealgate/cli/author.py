"""`--configuration`: an artifact's `plugin.configuration`, for commands that work without Argo."""

from __future__ import annotations

import argparse
import sys

from sealgate.errors import BadRequest

_LARGEST = 1 << 20
"""Characters."""


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add `--configuration` to `parser`."""
    summary = "a file with the text that Argo sends as artifact.plugin.configuration; - reads standard input"
    parser.add_argument("--configuration", default="", metavar="FILE", help=summary)


def author_configuration(source: str) -> str:
    """Return the text of the file `source`, of standard input if it is `-`, or an empty text if it is empty.

    The text may contain credentials, so no error repeats it.

    Raises:
        BadRequest: the file cannot be read, or is too long.
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
