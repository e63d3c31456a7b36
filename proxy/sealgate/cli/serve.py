"""`sealgate serve`, and the process of `sealgate backend`: the one module that imports the stack late."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sealgate.cli.process import run as serve_until_signal
from sealgate.compose.starting import Composed
from sealgate.plugin import Capabilities

if TYPE_CHECKING:
    import argparse

SUMMARY = "run the plugin: serve on SOCKET, in front of the downstream"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate serve` to `parser`."""
    from sealgate.cli.shared_options import add_config_option  # noqa: PLC0415 - not on the path to the socket

    add_config_option(parser)
    add_socket(parser)


def add_socket(parser: argparse.ArgumentParser) -> None:
    """Add the argument that `sealgate serve` and `sealgate backend` share."""
    import argparse  # noqa: PLC0415 - not on the path to the socket

    parser.add_argument("socket", metavar="SOCKET", help="the path that Argo passes; arguments after it are ignored")
    parser.add_argument("ignored", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Serve on the socket that the options name."""
    return serve(options.socket)


def serve(socket: str) -> int:
    """Serve the proxy on `socket` until SIGTERM. If the configuration is broken, every call is answered with the fault.

    `sealgate.cli.main` calls this without a parser: Argo waits for the socket of every pod.
    """
    path = os.path.abspath(socket)

    def compose() -> Composed:
        from sealgate.compose.stack import proxy  # noqa: PLC0415 - takes longer to import than to bind the socket

        return proxy(path)

    return serve_until_signal(compose, path, Capabilities(save_stream=True))


def serve_backend(socket: str) -> int:
    """Serve the bundled backend on `socket` until SIGTERM, on the same server as the proxy."""

    def compose() -> Composed:
        from sealgate.compose.backend import backend  # noqa: PLC0415 - takes longer to import than to bind the socket

        return backend()

    capabilities = Capabilities(save_stream=True, replaces_whole=True, creates=True)
    return serve_until_signal(compose, os.path.abspath(socket), capabilities)
