"""What `sealgate doctor` checks of directories: that of the socket and that of the spool."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from sealgate.call import Call
from sealgate.cli.doctor.checks import Check, CheckResult, failed, not_checked, ok, warning
from sealgate.compose.downstream import child_directory, too_long, transfer
from sealgate.config import Settings
from sealgate.errors import BadRequest, NotConfigured
from sealgate.layers.sealing import SPARE_SPACE
from sealgate.storage.local_paths import local_errors
from sealgate.storage.spool import Guard, guard
from sealgate.storage.stored_objects import Transfer


class PlaceChecks:
    """Checks that one plugin can use its directories.

    Args:
        settings: the configuration.
        socket: the socket of the plugin; None if it is not known.
        own_volumes: mount points of volumes that only this container, or another that may read its files, mounts.
    """

    def __init__(self, settings: Settings, socket: Path | None, own_volumes: Sequence[Path] = ()) -> None:
        self._settings = settings
        self._socket = socket
        self._own_volumes = own_volumes

    def checks(self) -> list[Check]:
        """Return the checks: the directory of the socket, the socket of the downstream, then the spool."""
        return [
            Check("socket directory", self._socket_directory),
            Check("second socket", self._second_socket),
            Check("spool", self._spool),
        ]

    def _socket_directory(self, _: Call) -> Iterator[CheckResult]:
        if self._socket is None:
            yield not_checked("the directory depends on the plugin", "Add --plugin or --socket")
            return
        if fault := too_long(self._socket):
            yield failed(f"the path of the socket, {self._socket}, {fault}", "Give the plugin a shorter name")
            return
        if self._socket.is_dir():
            yield failed(
                f"the path of the socket, {self._socket}, is a directory", "Remove it: the socket is put there"
            )
            return
        place = _existing(self._socket.parent)
        free = _writable(place, "the socket's directory")
        use = "written to" if place == self._socket.parent else "created"
        yield self._guarded(place, f"{self._socket.parent} can be {use}, {_size(free)} free")

    def _second_socket(self, _: Call) -> Iterator[CheckResult]:
        """Report where the socket between Sealgate and the downstream is, and whether it can be there."""
        downstream = self._settings.downstream
        if downstream is None:
            return
        if downstream.builtin is not None:
            yield ok("there is none, because the bundled backend runs in this process")
        elif downstream.socket is not None:
            yield _served_elsewhere(downstream.socket)
        elif self._socket is None:
            yield not_checked("the downstream's socket is put beside the plugin's", "Add --plugin or --socket")
        else:
            yield self._childs_socket(self._socket)

    def _childs_socket(self, own: Path) -> CheckResult:
        """Return the result for the socket of a downstream that Sealgate starts."""
        directory = child_directory(own)
        if directory.parent != own.parent:
            fact = f"the downstream's socket is put into {directory.parent}, because its path beside {own} is too long"
            _writable(directory.parent, "the directory for temporary files")
            return self._guarded(directory.parent, fact)
        if os.path.lexists(directory):
            facts = directory.stat(follow_symlinks=False)
            if not stat.S_ISDIR(facts.st_mode) or (facts.st_uid != os.geteuid() and os.geteuid() != 0):
                fact = f"the downstream's socket cannot be put into {directory}: it is not a directory of this user's"
                return failed(fact, "Remove it, and start the plugin again")
        return ok(f"the downstream's socket is put into {directory}")

    def _spool(self, _: Call) -> Iterator[CheckResult]:
        spool = self._settings.spool
        if transfer(self._settings) is Transfer.STREAM:
            is_chosen = spool.transfer == "stream"
            cause = "spool.transfer is stream" if is_chosen else "the bundled backend runs in this process"
            yield ok(f"not used, because {cause}")
            return
        directory = spool.directory or (self._socket.parent if self._socket else None)
        if directory is None:
            yield not_checked(
                "the spool is in the directory of the socket, which depends on the plugin", "Add --plugin or --socket"
            )
            return
        try:
            free = _writable(_existing(directory), "the spool")
        except NotConfigured as fault:  # it is read-only
            remedy = "Mount a volume there that can be written to, such as an emptyDir; or set spool.directory to one"
            yield failed(fault.fact, remedy)
            return
        if free >= SPARE_SPACE:
            yield self._guarded_spool(_existing(directory), f"{directory} can be used, {_size(free)} free")
            return
        fact = (
            f"{directory} has {_size(free)} free; a Save needs the size of the artifact and {_size(SPARE_SPACE)} more"
        )
        remedy = "Put spool.directory on a larger file system"
        if spool.transfer == "file":
            yield failed(fact, f"{remedy}, or set spool.transfer to auto")
        else:
            yield warning(f"{fact}. Artifacts are streamed if the downstream accepts streams", remedy)

    def _guarded_spool(self, place: Path, fact: str) -> CheckResult:
        """Return what keeps other users from replacing spooled files in `place`."""
        try:
            guarded = guard(place)
        except NotConfigured as fault:
            return failed(fault.fact, fault.remedy)
        return self._guarded(place, fact) if guarded is Guard.VOLUME else ok(fact)

    def _guarded(self, place: Path, fact: str) -> CheckResult:
        """Return ok with `fact`, or a warning if every user may replace what this process creates in `place`."""
        mode = place.stat().st_mode
        text = f"mode {stat.S_IMODE(mode):04o}"
        if not mode & stat.S_IWOTH or mode & stat.S_ISVTX:
            return ok(f"{fact}, {text}")
        if place in self._own_volumes and place.is_mount():
            return ok(f"{fact}, {text} on a volume of this pod alone")
        return warning(
            f"{place} has {text}: every user can replace the files in it",
            "Remove write permission for others; leave it in a pod where only the plugin and Argo mount it",
        )


def _served_elsewhere(socket: Path) -> CheckResult:
    """Return the result for the socket of a downstream that another process serves."""
    remedy = "Set downstream.socket to the socket of the plugin, and mount its directory here"
    if fault := too_long(socket):
        remedy = "Mount the directory of that socket at a shorter path"
        return failed(f"the path of downstream.socket, {socket}, {fault}", remedy)
    if not socket.parent.is_dir():
        return failed(f"there is no directory {socket.parent}, which downstream.socket names", remedy)
    if not socket.exists():
        return warning(f"there is no downstream.socket {socket} yet", f"Start the plugin that serves on it. {remedy}")
    if not socket.is_socket():
        return failed(f"downstream.socket {socket} is not a socket", remedy)
    return ok(f"{socket} is a socket")


def _existing(directory: Path) -> Path:
    """Return `directory` or its nearest parent that exists. Sealgate creates what is missing below."""
    return next(place for place in (directory, *directory.parents) if os.path.lexists(place))


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
