"""`sealgate backend`: the bundled storage plugin (docs/backend.md)."""

from __future__ import annotations

import argparse

from sealgate.cli import serve

SUMMARY = "run the bundled storage plugin, which stores in an object store or a directory"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate backend` to `parser`."""
    serve.add_socket(parser)


def run(options: argparse.Namespace) -> int:
    """Serve on the socket that the options name."""
    return serve.serve_backend(options.socket)
