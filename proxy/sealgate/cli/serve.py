"""`sealgate serve` and `sealgate backend`: the one place that imports the stack late, behind the bound socket."""

from __future__ import annotations

import os

from sealgate.cli.process import run
from sealgate.compose.starting import Composed


def serve(socket: str) -> int:
    """Serve the proxy on `socket` until SIGTERM. With a broken configuration, every call answers what is wrong."""
    path = os.path.abspath(socket)

    def compose() -> Composed:
        from sealgate.compose.stack import proxy  # noqa: PLC0415 - takes longer to import than to bind the socket

        return proxy(path)

    return run(compose, path)


def serve_backend(socket: str) -> int:
    """Serve the bundled backend on `socket` until SIGTERM: the same server around another plugin."""

    def compose() -> Composed:
        from sealgate.compose.stack import backend  # noqa: PLC0415 - takes longer to import than to bind the socket

        return backend()

    return run(compose, os.path.abspath(socket))
