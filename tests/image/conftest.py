"""The image, built once for all processes of a run, by the steps of the Dockerfile."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest
from harness.argo import Argo
from harness.chain import write_keyring
from harness.dockerfile import ROOT, Build, Stage, overlay_works

VENDOR = "vendor/plugin:1"
VERSION, REVISION = "1.2.3", "0123456789"
TARGETS = ("sealgate", "with-vendor", "in-vendor", "default")
_SETUP = """
mount --bind "$1" "$1" && mount -o remount,ro,bind "$1"
mount --bind "$2" "$1/tmp" && mount --rbind /dev "$1/dev" && mount -t proc proc "$1/proc"
shift 2; exec "$@"
"""


class Image:
    """An image as a directory, run as a pod runs it: read-only, as any user, with no capability."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.root = stage.root

    def command(self, tmp: Path, arguments: list[str], uid: int) -> list[str]:
        for name in ("dev", "proc"):
            (self.root / name).mkdir(exist_ok=True)
        within = ["setpriv", "--no-new-privs", "--bounding-set=-all,+sys_chroot,+setuid,+setgid", "--inh-caps=-all"]
        chroot = ["chroot", f"--userspec={uid}:{uid}", str(self.root)]
        inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", _SETUP, "-"]
        return [*inside, str(self.root), str(tmp), *within, *chroot, *arguments]

    def run(self, *arguments: str, uid: int = 8737, **environment: str) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryDirectory() as tmp:
            Path(tmp).chmod(0o1777)
            command = self.command(Path(tmp), list(arguments), uid)
            return subprocess.run(
                command, env={**self.stage.environment, **environment}, capture_output=True, text=True, check=False
            )

    @contextmanager
    def served(self, uid: int, downstream: list[str], **environment: str) -> Iterator[tuple[Argo, Path]]:
        """The entrypoint, started as Argo starts it; and the image's /tmp as the machine sees it."""
        with tempfile.TemporaryDirectory(prefix="sg-") as place:
            tmp = Path(place)
            for name in ("argo/outputs", "storage", "artifact-plugins/crypt"):
                (tmp / name).mkdir(parents=True)
            write_keyring(tmp / "keyring.json")
            for path in (tmp, *tmp.rglob("*")):
                os.chown(path, uid, uid)
            settings = {
                "apiVersion": "sealgate/v1alpha1",
                "kind": "Sealgate",
                "downstream": {"command": downstream},
                "keys": {"provider": "local", "local": {"keyring": "/tmp/keyring.json"}},
            }
            given = {"SEALGATE_CONFIG_YAML": json.dumps(settings), "SEALGATE_BACKEND_URL": "file:///tmp/storage"}
            arguments = [*self.stage.entrypoint, "/tmp/artifact-plugins/crypt/socket", "--loglevel", "debug"]
            log = (tmp / "log").open("w+")
            process = subprocess.Popen(
                self.command(tmp, arguments, uid),
                env={**self.stage.environment, **given, **environment},
                stdout=log,
                stderr=log,
            )
            client = Argo(tmp / "artifact-plugins/crypt/socket")
            try:
                until = time.monotonic() + 60
                while not (tmp / "artifact-plugins/crypt/socket").exists():
                    assert process.poll() is None, (tmp / "log").read_text()
                    assert time.monotonic() < until, (tmp / "log").read_text()
                    time.sleep(0.01)
                yield client, tmp
            except BaseException as fault:
                fault.add_note((tmp / "log").read_text())
                raise
            finally:
                client.close()
                process.kill()
                process.wait()


@pytest.fixture(scope="session")
def images(tmp_path_factory, worker_id) -> dict[str, Image]:
    """Every target of the Dockerfile, by name."""
    shared = tmp_path_factory.getbasetemp()
    place = (shared if worker_id == "master" else shared.parent) / "image"
    if os.geteuid() != 0 or not overlay_works(Path(f"{place}-probe-{os.getpid()}")):
        pytest.skip("a chroot and an overlay mount need root")
    place.mkdir(exist_ok=True)
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = place / "stages.json"
        if not made.exists():
            made.write_text(json.dumps(_built(place)))
    return {
        name: Image(Stage(**{**stage, "root": Path(stage["root"])}))
        for name, stage in json.loads(made.read_text()).items()
    }


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
