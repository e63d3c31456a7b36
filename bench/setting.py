"""The sizes of one run of the bench, and its directory."""

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
    """The options of a run: sizes in bytes, counts, and the directory `place`, which is removed at the end."""

    runs: int
    size: int
    large: int
    files: int
    calls: int
    starts: int
    slow: int
    """Limit of the slow storage in bytes a second."""
    install: bool
    place: Path
    load: float = field(default_factory=lambda: round(os.getloadavg()[0], 1))
    """Load average before this run."""

    def directory(self, name: str) -> Path:
        """Create a new directory in `place`."""
        made = self.place / name
        made.mkdir()
        return made

    def touch_memory(self) -> None:
        """Use and free as much memory as a transfer of the file does.

        The host of a virtual machine reclaims idle memory, and returning it takes longer than a copy. Without this,
        the next side would be charged for it.
        """
        if in_memory(self.place):
            random_file(self.place / "touched", 2 * self.size).unlink()


@contextmanager
def working_place(needed: int) -> Iterator[Path]:
    """Yield a directory in memory if `needed` bytes fit there with some reserve, or else on disk."""
    fits = os.access(_MEMORY, os.W_OK) and min(_free(_MEMORY), _available_memory()) > needed * 1.2
    # It contains sockets, whose paths may have 107 bytes.
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
    """Write a file of one repeated random block, which no peer can compress."""
    block = random.randbytes(min(size, _BLOCK))
    with path.open("wb") as file:
        left = size
        while left:
            left -= file.write(block[:left])
    return path


def sparse_file(path: Path, size: int) -> Path:
    """Write a file of zeros that uses no disk space, for rows that measure space and not time."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def tree(path: Path, files: int, size: int, *, a_directory: int = 100) -> Path:
    """Write a directory tree with `files` files of `size` random bytes, `a_directory` of them in each directory."""
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
