"""Sealing and opening, in memory or in a temporary directory: each reader and writer behind one function."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sealgate import envelope
from sealgate.call import WrappedKey
from sealgate.envelope import Binding, Header, Totals, Unlock
from sealgate.errors import PluginError

DATA_KEY = bytes(range(32))
OTHER_DATA_KEY = bytes(range(32, 64))
KEY = "team-a/report.csv"
DIRECTORY_KEY = "models/7"
MODES = (0o644, 0o755)
"""Of the files and the directories that a Load creates."""
FIRST, FULL = 1_048_520, 1_048_560
"""Plaintext bytes of the first segment, and of each later one."""
AROUND_BOUNDARIES = (0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + FULL - 1, FIRST + FULL, FIRST + FULL + 1)


def header(binding: Binding = Binding.ARTIFACT_KEY, data_key: bytes = DATA_KEY) -> Header:
    wrapped = WrappedKey("local", "", "default", "local:v1:not really", 1)
    return envelope.new_header(data_key, wrapped, sealed_at=1_767_225_600, binding=binding)


def unlock(_: Header) -> bytes:
    return DATA_KEY


def unlock_any(sealed: Header) -> bytes:
    """Return the data key of a header, among the two that the tests use."""
    return DATA_KEY if sealed.key_commitment == header().key_commitment else OTHER_DATA_KEY


def plaintext_of(size: int) -> bytes:
    """Return `size` bytes that repeat only after 256 KiB, quickly."""
    block = b"".join(number.to_bytes(4, "big") for number in range(65_536 + 1))
    return (block * (size // len(block) + 1))[:size]


@contextmanager
def in_memory(content: bytes = b"") -> Iterator[int]:
    """Yield a descriptor of a file in memory."""
    fd = os.memfd_create("sealed")
    try:
        os.pwrite(fd, content, 0)
        yield fd
    finally:
        os.close(fd)


def content_of(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def chunks_of(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def sealed_by_file(plaintext: bytes, head: Header | None = None, artifact_key: str = KEY) -> bytes:
    with in_memory(plaintext) as source, in_memory() as target:
        envelope.seal_file(source, target, head or header(), DATA_KEY, artifact_key)
        return content_of(target)


def sealed_by_stream(plaintext: bytes, chunk: int = 1 << 20, artifact_key: str = KEY) -> bytes:
    sealed = envelope.seal_stream(header(), DATA_KEY, artifact_key, chunks_of(plaintext, chunk))
    return b"".join(map(bytes, sealed))


@dataclass(frozen=True)
class Outcome:
    """The plaintext that a reader released, and the error that it raised after that."""

    released: bytes
    error: PluginError | None = None

    @property
    def named(self) -> str:
        return type(self.error).__name__ if self.error else ""


def opened_by_file(sealed: bytes, find: Unlock = unlock, artifact_key: str = KEY, *, consume: bool = False) -> Outcome:
    with in_memory(sealed) as source, in_memory() as target:
        try:
            envelope.open_file(source, target, find, artifact_key, consume=consume)
        except PluginError as error:
            return Outcome(content_of(target), error)
        return Outcome(content_of(target))


def opened_by_stream(sealed: bytes, find: Unlock = unlock, artifact_key: str = KEY, chunk: int = 1 << 20) -> Outcome:
    released = bytearray()
    try:
        for plaintext in envelope.open_stream(chunks_of(sealed, chunk), find, artifact_key):
            released += plaintext
    except PluginError as error:
        return Outcome(bytes(released), error)
    return Outcome(bytes(released))


# --- directories ------------------------------------------------------------------------------------------

Tree = dict[str, "bytes | Tree"]
"""A directory: the content of each file, and the tree of each directory."""


def build(path: Path, tree: Tree) -> Path:
    path.mkdir()
    for name, inner in tree.items():
        if isinstance(inner, bytes):
            (path / name).write_bytes(inner)
        else:
            build(path / name, inner)
    return path


def tree_at(path: Path) -> Tree:
    return {entry.name: tree_at(entry) if entry.is_dir() else entry.read_bytes() for entry in path.iterdir()}


@contextmanager
def directory(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def seal_directory(
    source: Path, check=lambda: None, *, key: str = DIRECTORY_KEY, data_key: bytes = DATA_KEY, into: str = "sealed"
) -> tuple[Path, Totals]:
    """Seal the directory `source` into a new directory beside it."""
    target = source.with_name(into)
    target.mkdir(mode=0o700)
    with directory(source) as plain, directory(target) as sealed:
        return target, envelope.seal_tree(plain, sealed, header(data_key=data_key), data_key, key, check)


def open_directory(
    source: Path, check=lambda: None, *, key: str = DIRECTORY_KEY, find: Unlock = unlock_any, **options: bool
) -> tuple[Path, Totals]:
    """Open the sealed directory `source` into the new directory `opened` beside it."""
    target = source.with_name("opened")
    target.mkdir(mode=0o700)
    with directory(source) as sealed, directory(target) as plain:
        return target, envelope.open_tree(sealed, plain, find, key, MODES, check, **options)
