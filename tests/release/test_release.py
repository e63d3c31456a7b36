"""A release: reproducible bytes, a list of its parts, and one version."""

import io
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from harness.chain import SEALGATE
from harness.once import made_once

pytestmark = pytest.mark.timeout(600, func_only=False)
ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def release(place, **environment):
    """Run `make release` in a copy of the files in git, with the tools of this environment."""
    place.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, place / name)
    (place / ".venv").symlink_to(sys.prefix)
    command = ["make", "--assume-old=.venv/.installed", "release", "EPOCH=1700000000"]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def releases(tmp_path_factory, worker_id):
    def make(home):
        path = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
        release(home / "one", **path, TZ="UTC")
        release(home / "another-place", **path, TZ="Asia/Tokyo", PYTHONHASHSEED="7", LANG="C")
        return [str(home / "one/dist"), str(home / "another-place/dist")]

    places = made_once(tmp_path_factory, worker_id, "release", make)
    return [{path.name: path.read_bytes() for path in Path(place).iterdir()} for place in places]


def test_two_builds_in_two_places_give_the_same_bytes(releases):
    one, another = releases
    assert set(one) == {
        f"sealgate-{VERSION}-py3-none-any.whl",
        f"sealgate-{VERSION}.tar.gz",
        f"sealgate-{VERSION}.cdx.json",
        "SHA256SUMS",
    }
    for name in one:
        assert one[name] == another[name], name


def test_the_list_of_parts_equals_the_lock(releases):
    parts = json.loads(releases[0][f"sealgate-{VERSION}.cdx.json"])
    assert parts["bomFormat"] == "CycloneDX"
    assert parts["metadata"]["component"]["version"] == VERSION
    locked = set(re.findall(r"^([a-z0-9.-]+)==([^ ]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {(part["name"], part["version"]) for part in parts["components"]} == locked


def test_the_wheel_contains_the_program_and_its_data_files(releases):
    names = zipfile.ZipFile(io.BytesIO(releases[0][f"sealgate-{VERSION}-py3-none-any.whl"])).namelist()
    assert {"sealgate/policies/vault/saver.hcl", "sealgate/cli/__init__.py", "sealgate/py.typed"} <= set(names)
    assert {name.split("/")[0] for name in names} == {"sealgate", f"sealgate-{VERSION}.dist-info"}


def test_the_source_archive_builds_the_same_wheel(releases, tmp_path):
    with tarfile.open(fileobj=io.BytesIO(releases[0][f"sealgate-{VERSION}.tar.gz"])) as archive:
        archive.extractall(tmp_path, filter="data")
    source = tmp_path / f"sealgate-{VERSION}"
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run(
        command,
        cwd=source,
        check=True,
        capture_output=True,
        env={"SOURCE_DATE_EPOCH": "1700000000", "PATH": "/usr/bin"},
    )
    wheel = f"sealgate-{VERSION}-py3-none-any.whl"
    assert (source / "dist" / wheel).read_bytes() == releases[0][wheel]


def test_the_program_prints_its_version():
    printed = subprocess.run([*SEALGATE, "--version"], capture_output=True, text=True, check=True)
    assert printed.stdout == f"sealgate {VERSION}\n"


def test_the_changelog_begins_with_this_version():
    first = re.search(r"^## (\S+?),? ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert first
    assert first[1] == VERSION
