"""What `sealgate doctor` asks of directories: those of the socket and of the spool."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sealgate.call import Call
from sealgate.cli.doctor.checks import Check, CheckResult, failed, not_checked, ok, warning
from sealgate.compose.downstream import downstream_socket
from sealgate.config import Settings
from sealgate.errors import BadRequest
from sealgate.layers.sealed import SPARE_SPACE
from sealgate.storage.local_paths import local_errors

_LONGEST_SOCKET = 107
"""What the kernel takes as the path of a Unix socket, in bytes."""


class PlaceChecks:
    """The questions about one plugin's directories."""

    def __init__(self, settings: Settings, socket: Path | None) -> None:
        self._settings = settings
        self._socket = socket

    def checks(self) -> list[Check]:
        """The directory of the socket, then the spool."""
        return [Check("socket directory", self._socket_directory), Check("spool", self._spool)]

    def _socket_directory(self, _: Call) -> Iterator[CheckResult]:
        if self._socket is None:
            yield not_checked("which one it is depends on the plugin", "Name it by --plugin, or its socket by --socket")
            return
        longest = self._longest_socket(self._socket)
        size = len(os.fsencode(longest))
        if size > _LONGEST_SOCKET:
            yield failed(
                f"the socket's path {longest} has {size} bytes, {_LONGEST_SOCKET} are the most",
                "Give the plugin a shorter name",
            )
            return
        place = _existing(self._socket.parent)
        free = _writable(place, "the socket's directory")
        use = "written to" if place == self._socket.parent else "made"
        yield _guarded(place, f"{self._socket.parent} can be {use}, {_size(free)} free")

    def _longest_socket(self, socket: Path) -> Path:
        """Behind the plugin's own socket there is the downstream's, where it is a child."""
        own = self._settings.downstream is not None and self._settings.downstream.command
        return downstream_socket(socket) if own else socket

    def _spool(self, _: Call) -> Iterator[CheckResult]:
        spool = self._settings.spool
        if spool.transfer == "stream":
            yield ok("it is not used: spool.transfer is stream")
            return
        directory = spool.directory or (self._socket.parent if self._socket else None)
        if directory is None:
            yield not_checked("it is beside the socket", "Name the plugin by --plugin, or its socket by --socket")
            return
        free = _writable(_existing(directory), "the spool")
        if free >= SPARE_SPACE:
            fact = f"{directory} can be used, {_size(free)} free"
            yield _guarded(_existing(directory), fact) if spool.directory else ok(fact)
            return
        fact = f"{directory} has {_size(free)} free, and {_size(SPARE_SPACE)} more than an artifact are needed"
        remedy = "Give spool.directory a larger file system"
        if spool.transfer == "file":
            yield failed(fact, f"{remedy}, or set spool.transfer to auto")
        else:
            yield warning(f"{fact}: artifacts go by stream, if the downstream takes one", remedy)


def _existing(directory: Path) -> Path:
    """The directory, or the nearest one above it that is there: what is missing below is made."""
    return next(place for place in (directory, *directory.parents) if os.path.lexists(place))


def _guarded(place: Path, fact: str) -> CheckResult:
    """The fact; or a warning if anybody may put something else in place of what this process makes there."""
    mode = place.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return warning(
            f"{place} has mode {stat.S_IMODE(mode):04o}: whoever sees it may replace what lies in it",
            "Take others the right to write; in a pod, where only the plugin and Argo mount it, leave it",
        )
    return ok(f"{fact}, mode {stat.S_IMODE(mode):04o}")


def _writable(place: Path, what: str) -> int:
    """Write a nameless file there, and tell how many bytes are free.

    Raises:
        PluginError: it cannot be.
    """
    with local_errors(f"{what} {place}"):
        if not place.is_dir():
            raise BadRequest(f"{what} cannot be made: {place} is no directory", remedy="Name another place")
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0" * 4096)
            file.flush()
        facts = os.statvfs(place)
    return facts.f_bavail * facts.f_frsize


def _size(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):.1f} MiB"
