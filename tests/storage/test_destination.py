"""What a killed Load leaves beside its destination: removed by the next Load there, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from sealgate.storage.destination import remove_leftovers_beside
from sealgate.storage.local_paths import Roots

FILL = """
import os, sys, time
from pathlib import Path
from sealgate.storage.local_paths import Roots
root, kind = Path(sys.argv[1]), sys.argv[2]
with Roots([root]).destination(root / "killed") as destination, getattr(destination, f"new_{kind}")(0o755) as fd:
    os.write(os.open("inner", os.O_CREAT | os.O_WRONLY, dir_fd=fd) if kind == "directory" else fd, b"plaintext")
    print("filled", flush=True)
    time.sleep(600)
"""
pytestmark = pytest.mark.process


@contextmanager
def filling(root: Path, kind: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that fills a destination beneath `root` and does not end."""
    process = subprocess.Popen([sys.executable, "-c", FILL, str(root), kind], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"filled\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def load_another(root: Path) -> None:
    with Roots([root]).destination(root / "new") as destination, destination.new_file(0o644):
        pass


def names(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()}


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_the_next_load_removes_what_a_killed_one_left(tmp_path, kind):
    with filling(tmp_path, kind) as process:
        process.kill()
        process.wait()
    assert len(names(tmp_path)) == 1
    load_another(tmp_path)
    assert names(tmp_path) == {"new"}


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_another_process_is_filling_stays(tmp_path, kind):
    with filling(tmp_path, kind):
        (before,) = names(tmp_path)
        load_another(tmp_path)
        assert names(tmp_path) == {before, "new"}


def test_files_of_other_programs_stay_whatever_their_names(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    root = tmp_path / "root"
    root.mkdir()
    (root / ".sealgate-load-0123456789abcdef").symlink_to(outside)
    os.mkfifo(root / ".sealgate-load-pipe")
    (root / ".new.0123456789ab").write_text("another program's")
    before = names(root)
    load_another(root)
    assert names(root) == before | {"new"}
    assert (outside / "precious").read_text() == "precious"


def test_loads_side_by_side_never_remove_each_others_files(tmp_path):
    roots = Roots([tmp_path])

    def load(number: int) -> None:
        for turn in range(50):
            path = tmp_path / f"{number}-{turn}"
            with roots.destination(path) as destination, destination.new_file(0o644) as fd:
                os.write(fd, str(path).encode())
            assert path.read_bytes() == str(path).encode()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(load, range(8)))
    assert len(names(tmp_path)) == 8 * 50


def test_a_directory_that_another_load_took_for_a_leftover_is_created_again(tmp_path, monkeypatch):
    """The other Load comes between the creation of the directory and its lock."""
    create, taken = os.mkdir, []

    def create_and_lose(name: str, mode: int, *, dir_fd: int) -> None:
        create(name, mode, dir_fd=dir_fd)
        if not taken:
            taken.append(remove_leftovers_beside(dir_fd))

    monkeypatch.setattr(os, "mkdir", create_and_lose)
    with Roots([tmp_path]).destination(tmp_path / "new") as destination, destination.new_directory(0o755) as fd:
        os.close(os.open("inner", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    assert taken == [1]
    assert names(tmp_path) == {"new"}
    assert names(tmp_path / "new") == {"inner"}
