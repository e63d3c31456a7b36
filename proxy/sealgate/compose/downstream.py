"""Builds the client of the downstream: behind a socket that another process serves, or a child of this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sealgate.config import Settings
from sealgate.rpc.child import ChildProcess
from sealgate.rpc.client import Downstream
from sealgate.rpc.endpoint import Endpoint


def downstream_client(settings: Settings, socket: Path, shown: Callable[[Any], Any] | None = None) -> Downstream:
    """Build the client of the downstream behind the plugin that serves on `socket`.

    Args:
        settings: must have the section `downstream`.
        socket: the plugin's own socket. The socket of a child is created beside it.
        shown: wraps the channel to observe every call to the downstream (`telemetry.watch.Telemetry.calling`).
    """
    return Downstream(_endpoint(settings, socket), settings.required_downstream().plugin_name, instrument=shown)


def downstream_socket(socket: Path) -> Path:
    """Return the path of the socket of a downstream that is a child, beside the plugin's own `socket`."""
    return socket.parent / ".sealgate-downstream" / "socket"


def _endpoint(settings: Settings, socket: Path) -> Endpoint:
    downstream = settings.required_downstream()
    if downstream.socket is not None:
        return Endpoint(downstream.socket, downstream.start_timeout)
    child_socket = downstream_socket(socket)
    child_socket.parent.mkdir(mode=0o700, exist_ok=True)
    child_socket.parent.chmod(0o700)  # whatever the umask
    return ChildProcess(downstream.command, child_socket, downstream.start_timeout)
