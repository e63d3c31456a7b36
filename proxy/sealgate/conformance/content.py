"""What the checks save, and how they compare it with what comes back."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

_BLOCK = 1 << 16
_NUMBER = 8
"""The bytes at the beginning of a block that hold its number, so that no two blocks are the same."""
_LARGEST_READ = 8 << 20
"""Bytes of a file of a directory that are read back. The checks save smaller ones."""
_NAMED = 3
"""Names that one line of the report contains."""

Tree = Mapping[str, bytes | None]
"""The files of a directory by their relative paths; None is an empty directory."""


class Content:
    """Bytes that are made when they are needed, so that a large artifact takes no memory.

    Args:
        size: how many bytes.
        seed: other bytes for each number.
    """

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        base = random.Random(seed).randbytes(min(size + _NUMBER, _BLOCK))  # noqa: S311 - test data, not a key
        self._first, self._rest = int.from_bytes(base[:_NUMBER]), base[_NUMBER:]

    def at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`."""
        end = min(offset + size, self.size)
        first, last = offset // _BLOCK, max(offset, end - 1) // _BLOCK
        blocks = b"".join((self._first ^ number).to_bytes(_NUMBER) + self._rest for number in range(first, last + 1))
        return blocks[offset - first * _BLOCK : end - first * _BLOCK]

    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        """Yield everything in pieces of `size` bytes."""
        for offset in range(0, self.size, size):
            yield self.at(offset, size)

    def write(self, path: Path) -> None:
        """Write everything to a new file."""
        with path.open("xb") as file:
            file.writelines(self.chunks())

    def difference(self, chunks: Iterable[bytes]) -> str:
        """Say how `chunks` differ from this content; empty if they do not. It stops at the first difference."""
        at = 0
        for chunk in chunks:
            expected = self.at(at, len(chunk))
            if chunk != expected:
                same = next((n for n, (a, b) in enumerate(zip(chunk, expected, strict=False)) if a != b), None)
                if same is None:
                    return f"more than the {self.size} bytes that were saved"
                return f"other bytes than the {self.size} that were saved, from byte {at + same}"
            at += len(chunk)
        return "" if at == self.size else f"{at} of the {self.size} bytes that were saved"


def file_chunks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a regular file in pieces. Something else at `path` is not opened."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(fd, "rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk


def kind_of(path: Path) -> str:
    """Say what is at `path`, and follow no link: `nothing`, `a file`, `a directory`, `a symbolic link`, `a device`."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return "nothing"
    for is_kind, name in ((stat.S_ISREG, "a file"), (stat.S_ISDIR, "a directory"), (stat.S_ISLNK, "a symbolic link")):
        if is_kind(mode):
            return name
    return "a device"


def write_tree(root: Path, tree: Tree) -> None:
    """Make the directory `root` with the files of `tree`."""
    root.mkdir()
    for name, data in tree.items():
        path = root / name
        if data is None:
            path.mkdir(parents=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def read_tree(root: Path) -> dict[str, bytes | str | None]:
    """Return the files and the empty directories beneath `root`; a text says what something else is."""
    found: dict[str, bytes | str | None] = {}
    for place, directories, names in os.walk(root, followlinks=False):
        links = [name for name in directories if Path(place, name).is_symlink()]
        if not directories and not names and Path(place) != root:
            found[os.path.relpath(place, root)] = None
        for name in (*names, *links):
            path = Path(place, name)
            kind = kind_of(path)
            read = b"".join(_up_to(_LARGEST_READ, path)) if kind == "a file" else kind
            found[os.path.relpath(path, root)] = read
    return found


def _up_to(size: int, path: Path) -> Iterator[bytes]:
    for chunk in file_chunks(path):
        yield chunk
        size -= len(chunk)
        if size < 0:
            return


def file_difference(expected: Content, path: Path) -> str:
    """Say how the file at `path` differs from `expected`; empty if it does not."""
    if (kind := kind_of(path)) != "a file":
        return f"{kind} and not a file"
    return expected.difference(file_chunks(path))


def tree_difference(expected: Tree, path: Path) -> str:
    """Say how the directory at `path` differs from `expected`; empty if it does not."""
    if (kind := kind_of(path)) != "a directory":
        return f"{kind} and not a directory"
    found = read_tree(path)
    parts = {
        "missing": sorted(name for name in expected if name not in found),
        "not saved": sorted(name for name in found if name not in expected),
        "different": sorted(name for name in expected if name in found and found[name] != expected[name]),
    }
    return "; ".join(f"{what}: {named(names)}" for what, names in parts.items() if names)


def named(names: list[str]) -> str:
    """Return the first of `names`, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
