"""What one run of the bench works with: its sizes, and a place to work in."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
MIB = 1 << 20
_MEMORY = Path("/dev/shm")
_BLOCK = 16 * MIB


@dataclass(frozen=True)
class Setting:
    """The options of a run, and `place`, a directory that is removed at its end."""

    runs: int
    size: int
    large: int
    files: int
    calls: int
    starts: int
    slow: int
    """Bytes a second that a slow storage takes."""
    install: bool
    place: Path
    load: float = field(default_factory=lambda: round(os.getloadavg()[0], 1))
    """How many processes others kept running before this run."""

    def directory(self, name: str) -> Path:
        """A new directory in the place."""
        made = self.place / name
        made.mkdir()
        return made

    def touch_memory(self) -> None:
        """Use as much memory as a transfer of the file does, and let go of it.

        A virtual machine's host takes back memory that lies idle, and giving it again takes longer than
        any copy: whoever happens to be next must not pay for that.
        """
        if in_memory(self.place):
            random_file(self.place / "touched", 2 * self.size).unlink()


@contextmanager
def working_place(needed: int) -> Iterator[Path]:
    """A directory in memory if `needed` bytes fit there with room to spare, else on disk."""
    fits = os.access(_MEMORY, os.W_OK) and min(_free(_MEMORY), _available_memory()) > needed * 1.2
    # Sockets lie beneath it, and the path of one may have 107 bytes.
    place = Path(tempfile.mkdtemp(prefix="sgb-", dir=_MEMORY if fits else None))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def in_memory(place: Path) -> bool:
    return place.is_relative_to(_MEMORY)


def _free(directory: Path) -> int:
    return shutil.disk_usage(directory).free


def _available_memory() -> int:
    facts = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(facts["MemAvailable"].split()[0]) * 1024


def random_file(path: Path, size: int) -> Path:
    """A file that no peer can compress: one random block, repeated."""
    block = random.randbytes(min(size, _BLOCK))
    with path.open("wb") as file:
        left = size
        while left:
            left -= file.write(block[:left])
    return path


def sparse_file(path: Path, size: int) -> Path:
    """A file of zeros that takes no room, for what measures room and not time."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def tree(path: Path, files: int, size: int, *, a_directory: int = 100) -> Path:
    """A directory with `files` files of `size` random bytes, `a_directory` in each of its own."""
    for number in range(files):
        directory = path / f"{number // a_directory:04d}"
        if number % a_directory == 0:
            directory.mkdir(parents=True)
        (directory / f"{number:06d}").write_bytes(random.randbytes(size))
    return path


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
