"""The image, built once for all processes of a run, by the steps of the Dockerfile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
from harness.argo import Argo
from harness.chain import write_keyring
from harness.dockerfile import ROOT, Build, Stage, overlay_works
from harness.once import made_once

VENDOR = "vendor/plugin:1"
VERSION, REVISION = "1.2.3", "0123456789"
TARGETS = ("sealgate", "with-vendor", "in-vendor", "default")
_SETUP = """
root=$1; shift
mount --bind "$root" "$root" && mount -o remount,ro,bind "$root"
mount --rbind /dev "$root/dev" && mount -t proc proc "$root/proc"
while [ "$1" != -- ]; do mount --bind "$2" "$root$1"; shift 2; done
shift; exec "$@"
"""
_INSIDE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", _SETUP, "-")
_NOT_PRIVILEGED = ("setpriv", "--no-new-privs", "--bounding-set=-all,+sys_chroot,+setuid,+setgid", "--inh-caps=-all")


class Image:
    """An image as a directory, run as a pod runs it: read-only, as any user, with no capability."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.root = stage.root

    def command(self, mounts: Mapping[str, Path], arguments: Sequence[str], uid: int) -> list[str]:
        for name in ("/dev", "/proc", *mounts):
            (self.root / name[1:]).mkdir(parents=True, exist_ok=True)
        pairs = [str(part) for pair in mounts.items() for part in pair]
        chroot = ["chroot", f"--userspec={uid}:{uid}", str(self.root)]
        return [*_INSIDE, str(self.root), *pairs, "--", *_NOT_PRIVILEGED, *chroot, *arguments]

    def run(self, *arguments: str, uid: int = 8737) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as tmp:
            Path(tmp).chmod(0o1777)
            command = self.command({"/tmp": Path(tmp)}, arguments, uid)
            return subprocess.run(command, env=self.stage.environment, capture_output=True, text=True, check=False)

    @contextmanager
    def started(
        self,
        mounts: Mapping[str, Path],
        arguments: Sequence[str],
        environment: Mapping[str, str],
        socket: Path,
        uid: int = 8737,
    ) -> Iterator[None]:
        """A container of it, once its socket is there. What the machine has of `mounts` becomes the user's."""
        for path in (found for place in mounts.values() for found in (place, *place.rglob("*"))):
            os.chown(path, uid, uid)
        with tempfile.TemporaryFile() as log:
            command = self.command(mounts, arguments, uid)
            process = subprocess.Popen(command, env={**self.stage.environment, **environment}, stdout=log, stderr=log)
            try:
                until = time.monotonic() + 60
                while not socket.exists():
                    assert process.poll() is None, "it ended"
                    assert time.monotonic() < until, "there is no socket"
                    time.sleep(0.01)
                yield
            except BaseException as fault:
                log.seek(0)
                fault.add_note(log.read().decode(errors="replace"))
                raise
            finally:
                process.kill()
                process.wait()

    @contextmanager
    def served(self, uid: int, downstream: list[str], **environment: str) -> Iterator[tuple[Argo, Path]]:
        """The entrypoint, started as Argo starts it; and the image's /tmp as the machine sees it."""
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


@contextmanager
def shared_tmp() -> Iterator[Path]:
    """What a container has at /tmp: a keyring, a store, and the directories that Argo makes."""
    with tempfile.TemporaryDirectory(prefix="sg-") as place:
        tmp = Path(place)
        for name in ("argo/outputs", "storage", "artifact-plugins/crypt"):
            (tmp / name).mkdir(parents=True)
        write_keyring(tmp / "keyring.json")
        yield tmp


@pytest.fixture
def shared() -> Iterator[Path]:
    """A container's /tmp, as the machine sees it."""
    with shared_tmp() as tmp:
        yield tmp


@pytest.fixture(scope="session")
def images(tmp_path_factory, worker_id) -> dict[str, Image]:
    """Every target of the Dockerfile, by name."""
    if os.geteuid() != 0 or not overlay_works(tmp_path_factory.mktemp("probe")):
        pytest.skip("a chroot and an overlay mount need root")
    stages = made_once(tmp_path_factory, worker_id, "image", _built)
    return {name: Image(Stage(**{**stage, "root": Path(stage["root"])})) for name, stage in stages.items()}


def _built(place: Path) -> dict[str, object]:
    vendor = place / "vendor"
    shutil.rmtree(vendor, ignore_errors=True)
    (vendor / "usr/share/vendor").mkdir(parents=True)
    (vendor / "usr/share/vendor/data").write_text("the vendor's own")
    # A program that needs an interpreter, and finds one only where ours is: what a file of the vendor's would be.
    program = (ROOT / "tests/harness/vendor.py").read_text()
    (vendor / "artifact-server").write_text(f"#!/opt/sealgate/bin/python3\n{program}")
    (vendor / "artifact-server").chmod(0o755)
    arguments = {"VENDOR": VENDOR, "VERSION": VERSION, "REVISION": REVISION}
    build = Build(place / "stages", ROOT, {VENDOR: vendor}, arguments)
    return {name: {**asdict(build.stage(name)), "root": str(build.stage(name).root)} for name in TARGETS}
