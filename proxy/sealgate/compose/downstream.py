"""The downstream as the settings describe it: a socket that another process serves, or a child of this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sealgate.config import Settings
from sealgate.rpc.child import ChildProcess
from sealgate.rpc.client import Downstream
from sealgate.rpc.endpoint import Endpoint


def downstream_client(settings: Settings, socket: Path, shown: Callable[[Any], Any] | None = None) -> Downstream:
    """The client of the downstream behind the plugin that serves on `socket`.

    Args:
        settings: the section `downstream` is required.
        socket: the plugin's own socket; a child's socket is placed beside it.
        shown: observes every call to the downstream.
    """
    return Downstream(_endpoint(settings, socket), settings.required_downstream().plugin_name, instrument=shown)


def downstream_socket(socket: Path) -> Path:
    """The second socket, on which a downstream that is a child serves: beside the plugin's own."""
    return socket.parent / ".sealgate-downstream" / "socket"


def _endpoint(settings: Settings, socket: Path) -> Endpoint:
    downstream = settings.required_downstream()
    if downstream.socket is not None:
        return Endpoint(downstream.socket, downstream.start_timeout)
    own = downstream_socket(socket)
    own.parent.mkdir(mode=0o700, exist_ok=True)
    own.parent.chmod(0o700)  # whatever the umask
    return ChildProcess(downstream.command, own, downstream.start_timeout)
