"""The images of the Dockerfile, built once for all processes of a test run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from harness.container import Image, shared_tmp
from harness.dockerfile import ROOT, Build, Stage, overlay_works
from harness.once import made_once

VENDOR = "vendor/plugin:1"
VENDOR_PATH = "/usr/share/vendor/bin:/usr/bin"
VERSION, REVISION = "1.2.3", "0123456789"
TARGETS = ("sealgate", "with-vendor", "in-vendor", "default")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A container's /tmp, as a directory of this machine."""
    with shared_tmp() as tmp:
        yield tmp


@pytest.fixture(scope="session")
def images(tmp_path_factory, worker_id) -> dict[str, Image]:
    """Return the image of every target of the Dockerfile by name."""
    if os.geteuid() != 0 or not overlay_works(tmp_path_factory.mktemp("probe")):
        pytest.skip("a chroot and an overlay mount need root")
    stages = made_once(tmp_path_factory, worker_id, "image", _built)
    return {name: Image(Stage(**{**stage, "root": Path(stage["root"])})) for name, stage in stages.items()}


def _built(place: Path) -> dict[str, object]:
    vendor = place / "vendor"
    shutil.rmtree(vendor, ignore_errors=True)
    (vendor / "usr/share/vendor").mkdir(parents=True)
    (vendor / "usr/share/vendor/data").write_text("the vendor's own")
    # The vendor's program is a script that runs with the only interpreter in the image, that of Sealgate.
    program = (ROOT / "tests/harness/vendor.py").read_text()
    (vendor / "artifact-server").write_text(f"#!/opt/sealgate/bin/python3\n{program}")
    (vendor / "artifact-server").chmod(0o755)
    arguments = {"VENDOR": VENDOR, "VERSION": VERSION, "REVISION": REVISION}
    image = Stage(vendor, "", {"PATH": VENDOR_PATH})
    build = Build(place / "stages", ROOT, {VENDOR: image}, arguments)
    return {name: {**asdict(build.stage(name)), "root": str(build.stage(name).root)} for name in TARGETS}
