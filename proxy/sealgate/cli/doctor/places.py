"""What `sealgate doctor` checks of directories: that of the socket and that of the spool."""

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
from sealgate.layers.sealing import SPARE_SPACE
from sealgate.storage.local_paths import local_errors

_LONGEST_SOCKET = 107
"""The longest path of a Unix socket that the kernel accepts, in bytes."""


class PlaceChecks:
    """Checks that one plugin can use its directories."""

    def __init__(self, settings: Settings, socket: Path | None) -> None:
        self._settings = settings
        self._socket = socket

    def checks(self) -> list[Check]:
        """Return the checks: the directory of the socket, then the spool."""
        return [Check("socket directory", self._socket_directory), Check("spool", self._spool)]

    def _socket_directory(self, _: Call) -> Iterator[CheckResult]:
        if self._socket is None:
            yield not_checked("the directory depends on the plugin", "Add --plugin or --socket")
            return
        longest = self._longest_socket(self._socket)
        size = len(os.fsencode(longest))
        if size > _LONGEST_SOCKET:
            yield failed(
                f"the path of the socket, {longest}, has {size} bytes; the kernel accepts {_LONGEST_SOCKET}",
                "Give the plugin a shorter name",
            )
            return
        place = _existing(self._socket.parent)
        free = _writable(place, "the socket's directory")
        use = "written to" if place == self._socket.parent else "created"
        yield _guarded(place, f"{self._socket.parent} can be {use}, {_size(free)} free")

    def _longest_socket(self, socket: Path) -> Path:
        """Return the downstream's socket, whose path is longer, if Sealgate starts the downstream; else its own."""
        starts_it = self._settings.downstream is not None and self._settings.downstream.command
        return downstream_socket(socket) if starts_it else socket

    def _spool(self, _: Call) -> Iterator[CheckResult]:
        spool = self._settings.spool
        if spool.transfer == "stream":
            yield ok("not used, because spool.transfer is stream")
            return
        directory = spool.directory or (self._socket.parent if self._socket else None)
        if directory is None:
            yield not_checked(
                "the spool is in the directory of the socket, which depends on the plugin", "Add --plugin or --socket"
            )
            return
        free = _writable(_existing(directory), "the spool")
        if free >= SPARE_SPACE:
            fact = f"{directory} can be used, {_size(free)} free"
            yield _guarded(_existing(directory), fact) if spool.directory else ok(fact)
            return
        fact = (
            f"{directory} has {_size(free)} free; a Save needs the size of the artifact and {_size(SPARE_SPACE)} more"
        )
        remedy = "Put spool.directory on a larger file system"
        if spool.transfer == "file":
            yield failed(fact, f"{remedy}, or set spool.transfer to auto")
        else:
            yield warning(f"{fact}. Artifacts are streamed if the downstream accepts streams", remedy)


def _existing(directory: Path) -> Path:
    """Return `directory` or its nearest parent that exists. Sealgate creates what is missing below."""
    return next(place for place in (directory, *directory.parents) if os.path.lexists(place))


def _guarded(place: Path, fact: str) -> CheckResult:
    """Return ok with `fact`, or a warning if every user may replace the files that this process creates in `place`."""
    mode = place.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return warning(
            f"{place} has mode {stat.S_IMODE(mode):04o}: every user can replace the files in it",
            "Remove write permission for others; leave it in a pod where only the plugin and Argo mount it",
        )
    return ok(f"{fact}, mode {stat.S_IMODE(mode):04o}")


def _writable(place: Path, what: str) -> int:
    """Write a temporary file without a name to `place`, and return how many bytes are free.

    Raises:
        PluginError: `place` cannot be written to.
    """
    with local_errors(f"{what} {place}"):
        if not place.is_dir():
            raise BadRequest(f"{what} cannot be created: {place} is not a directory", remedy="Choose another path")
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"\0" * 4096)
            file.flush()
        facts = os.statvfs(place)
    return facts.f_bavail * facts.f_frsize


def _size(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):.1f} MiB"
