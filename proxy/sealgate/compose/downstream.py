"""Builds the downstream: in this process, a child of it, or behind a socket that another process serves."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sealgate.config import BuiltinSettings, Settings
from sealgate.errors import NotConfigured
from sealgate.plugin import ArtifactPlugin
from sealgate.rpc.child import ChildProcess
from sealgate.rpc.client import Downstream
from sealgate.rpc.endpoint import Endpoint
from sealgate.rpc.in_process import InProcess
from sealgate.rpc.memory import memory_limit
from sealgate.rpc.server import LONGEST_SOCKET
from sealgate.rpc.streams import spare_memory
from sealgate.storage.absence import Absence
from sealgate.storage.spool import Spool
from sealgate.storage.stored_objects import StoredObjects, Transfer

_NAME = "socket"
_TEMPORARY = "sealgate-"
"""The beginning of the name of a child's directory among the temporary files."""


def downstream_source(
    settings: Settings, socket: Path, shown: Callable[[Any], Any] | None = None
) -> Downstream | InProcess:
    """Build the downstream of the plugin that serves on `socket`.

    Args:
        settings: must have the section `downstream`.
        socket: the plugin's own socket. The socket of a child is created beside it, if its path is not too long there.
        shown: wraps the channel to observe every call to the downstream (`telemetry.reporting.Telemetry.calling`).

    Raises:
        NotConfigured: the path of the downstream's socket is longer than the kernel accepts.
    """
    downstream = settings.required_downstream()
    if downstream.builtin is not None:
        return _builtin(downstream.builtin)
    return Downstream(_endpoint(settings, socket), downstream.plugin_name, instrument=shown)


def transfer(settings: Settings) -> Transfer:
    """Return how ciphertext travels to the downstream: as `spool.transfer` says, and by stream in this process."""
    if settings.downstream and settings.downstream.builtin:
        return Transfer.STREAM
    return Transfer(settings.spool.transfer)


def stored_objects(settings: Settings, downstream: ArtifactPlugin, spool: Spool) -> StoredObjects:
    """Return the objects in `downstream`, which are read and written as the settings require."""
    return StoredObjects(downstream, spool, transfer(settings), absence(settings))


def absence(settings: Settings) -> Absence:
    """Return what recognizes the downstream's answers by which it says that nothing is stored."""
    return Absence(settings.downstream.absent_texts if settings.downstream else ())


def child_directory(socket: Path) -> Path:
    """Return the directory for the socket of a downstream that is a child of the plugin that serves on `socket`.

    It is beside `socket`. If the path of a socket there would be too long, it is among the temporary files; its name
    there ends in `XXXXXXXX`, for which random characters have to be put.

    Raises:
        NotConfigured: the path of a socket would be too long there, too, or there is no place for temporary files.
    """
    beside = socket.parent / ".sealgate-downstream"
    fault = too_long(beside / _NAME)
    if fault is None:
        return beside
    fact = f"the path of the downstream's socket, {beside / _NAME}, {fault}"
    longest = LONGEST_SOCKET - len(os.fsencode(beside / _NAME)) + len(os.fsencode(socket))
    remedy = f"Serve on a socket whose path has at most {longest} bytes, or set TMPDIR to a short path"
    try:
        temporary = Path(tempfile.gettempdir()) / f"{_TEMPORARY}XXXXXXXX"
    except OSError:
        raise NotConfigured(f"{fact}, and no directory for temporary files can be written to", remedy=remedy) from None
    if fault := too_long(temporary / _NAME):
        raise NotConfigured(f"{fact}; in the directory for temporary files it {fault}", remedy=remedy)
    return temporary


def too_long(path: Path) -> str | None:
    """Return what is wrong with `path` as the path of a Unix socket; None if it is not too long."""
    size = len(os.fsencode(path))
    return f"has {size} bytes; the kernel accepts {LONGEST_SOCKET}" if size > LONGEST_SOCKET else None


def _builtin(settings: BuiltinSettings) -> InProcess:
    from sealgate.backend import ObjectStoreBackend  # noqa: PLC0415 - the store library is large, and few stacks need it
    from sealgate.backend.settings import URL  # noqa: PLC0415 - part of the same library

    environment = {**os.environ, URL: settings.url} if settings.url else os.environ
    return InProcess(ObjectStoreBackend(environment, spare_memory(memory_limit())))


def _endpoint(settings: Settings, socket: Path) -> Endpoint:
    downstream = settings.required_downstream()
    if downstream.socket is not None:
        if fault := too_long(downstream.socket):
            fact = f"the path of downstream.socket, {downstream.socket}, {fault}"
            raise NotConfigured(fact, remedy="Mount the directory of that socket at a shorter path")
        return Endpoint(downstream.socket, downstream.start_timeout)
    directory = _make_directory(child_directory(socket))
    return ChildProcess(downstream.command, directory / _NAME, downstream.start_timeout, directory=directory)


def _make_directory(directory: Path) -> Path:
    """Create the result of `child_directory`, to which only this user has access; return its path."""
    if directory.name.startswith(_TEMPORARY):
        return Path(tempfile.mkdtemp(prefix=_TEMPORARY))
    directory.mkdir(mode=0o700, exist_ok=True)
    directory.chmod(0o700)  # whatever the umask
    return directory
