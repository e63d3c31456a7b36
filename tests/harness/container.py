"""Images as directories, which tests run like a pod does: read-only, as any user, without capabilities."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
from harness.argo import Argo
from harness.chain import write_keyring
from harness.dockerfile import Stage

_SETUP = """
root=$1; shift
mount --bind "$root" "$root" && mount -o remount,ro,bind "$root"
mount --rbind /dev "$root/dev" && mount -t proc proc "$root/proc"
while [ "$1" != -- ]; do mount --bind "$2" "$root$1"; shift 2; done
shift; exec "$@"
"""
_INSIDE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", _SETUP, "-")
_CHROOT = shutil.which("chroot", path="/usr/sbin:/usr/bin:/sbin:/bin") or "chroot"
"""The path of chroot, looked up here because the PATH of an image differs from the machine's."""
_NOT_PRIVILEGED = ("setpriv", "--no-new-privs", "--bounding-set=-all,+sys_chroot,+setuid,+setgid", "--inh-caps=-all")


class Image:
    """An image in a directory, run read-only, as any user, without capabilities."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.root = stage.root

    def command(self, mounts: Mapping[str, Path], arguments: Sequence[str], uid: int) -> list[str]:
        for name in ("/dev", "/proc", *mounts):
            (self.root / name[1:]).mkdir(parents=True, exist_ok=True)
        pairs = [str(part) for pair in mounts.items() for part in pair]
        chroot = [_CHROOT, f"--userspec={uid}:{uid}", str(self.root)]
        return [*_INSIDE, str(self.root), *pairs, "--", *_NOT_PRIVILEGED, *chroot, *arguments]

    def run(
        self,
        *arguments: str,
        uid: int = 8737,
        mounts: Mapping[str, Path] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run one command in the image to its end."""
        with tempfile.TemporaryDirectory() as tmp:
            Path(tmp).chmod(0o1777)
            places = mounts or {"/tmp": Path(tmp)}
            _hand_over(places, uid)
            command = self.command(places, arguments, uid)
            given = {**self.stage.environment, **(environment or {})}
            return subprocess.run(command, env=given, capture_output=True, text=True, check=False)

    @contextmanager
    def started(
        self,
        mounts: Mapping[str, Path],
        arguments: Sequence[str],
        environment: Mapping[str, str],
        socket: Path,
        uid: int = 8737,
    ) -> Iterator[None]:
        """Run a container and yield once its socket exists. The directories in `mounts` are given to the user `uid`."""
        _hand_over(mounts, uid)
        with tempfile.TemporaryFile() as log:
            command = self.command(mounts, arguments, uid)
            process = subprocess.Popen(command, env={**self.stage.environment, **environment}, stdout=log, stderr=log)
            try:
                until = time.monotonic() + 60
                while not socket.exists():
                    assert process.poll() is None, "the container has ended"
                    assert time.monotonic() < until, "the socket does not appear"
                    time.sleep(0.01)
                yield
            except BaseException as fault:
                log.seek(0)
                fault.add_note(log.read().decode(errors="replace"))
                raise
            finally:
                # The kernel ends a container with its first process. `--kill-child` does not reach one of another user.
                for first in psutil.Process(process.pid).children():
                    first.kill()
                process.kill()
                process.wait()

    @contextmanager
    def served(self, uid: int, downstream: list[str], **environment: str) -> Iterator[tuple[Argo, Path]]:
        """Start the entrypoint like Argo does, and yield a client and the path of the container's /tmp."""
        with shared_tmp() as tmp:
            settings = {
                "apiVersion": "sealgate/v1alpha1",
                "kind": "Sealgate",
                "downstream": {"command": downstream},
                "keys": {"provider": "local", "local": {"keyring": "/tmp/keyring.json"}},
            }
            given = {"SEALGATE_CONFIG_YAML": json.dumps(settings), "SEALGATE_BACKEND_URL": "file:///tmp/storage"}
            arguments = [*self.stage.entrypoint, "/tmp/artifact-plugins/crypt/socket", "--loglevel", "debug"]
            socket = tmp / "artifact-plugins/crypt/socket"
            with (
                self.started({"/tmp": tmp}, arguments, given | environment, socket, uid),
                closing(Argo(socket)) as argo,
            ):
                yield argo, tmp


def _hand_over(mounts: Mapping[str, Path], uid: int) -> None:
    for path in (found for place in mounts.values() for found in (place, *place.rglob("*"))):
        os.chown(path, uid, uid)


@contextmanager
def shared_tmp() -> Iterator[Path]:
    """Make a directory for a container's /tmp, with a keyring, a store, and the directories that Argo creates."""
    with tempfile.TemporaryDirectory(prefix="sg-") as place:
        tmp = Path(place)
        for name in ("argo/outputs", "storage", "artifact-plugins/crypt"):
            (tmp / name).mkdir(parents=True)
        write_keyring(tmp / "keyring.json")
        yield tmp
