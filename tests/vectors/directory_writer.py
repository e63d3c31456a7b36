"""A second writer of directory artifacts, made from docs/format.md, "Directories". It uses no code of the program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from tests.vectors.writer import (
    FILE_LABEL,
    MANIFEST_LABEL,
    NONE,
    Recipe,
    associated_data,
    fixed,
    u32,
)

MANIFEST = ".sealgate-manifest"
MAGIC = b"SGM1"
FILE, EMPTY_DIRECTORY = 1, 2
DIRECTORY_KEY = "models/7"
FILES = {"config.json": b'{"layers": 2}\n', "weights/0.bin": fixed("weights 0", 64), "weights/1.bin": b""}
EMPTY = ("logs",)


def entry(path: str | bytes, size: int | None = 0, *, kind: int | None = None) -> bytes:
    """Return one entry; without a size, that of an empty directory."""
    encoded = path.encode() if isinstance(path, str) else path
    kind = kind if kind is not None else EMPTY_DIRECTORY if size is None else FILE
    tail = b"" if size is None else size.to_bytes(8, "big")
    return bytes([kind]) + len(encoded).to_bytes(2, "big") + encoded + tail


def listing(entries: Iterable[bytes], *, count: int | None = None, magic: bytes = MAGIC) -> bytes:
    """Return the plaintext of a manifest with these entries, in the given order."""
    entries = list(entries)
    return magic + u32(len(entries) if count is None else count) + b"".join(entries)


@dataclass(frozen=True)
class Member(Recipe):
    """One sealed object of a directory: a file, or the manifest."""

    purpose: str = ""
    """The salt and the nonce prefix are derived from it and from the label; the data key from the label alone."""
    data_label: bytes = FILE_LABEL

    @property
    def salt(self) -> bytes:
        return fixed(f"salt {self.label}: {self.purpose}", 32)

    @property
    def prefix(self) -> bytes:
        return fixed(f"nonce prefix {self.label}: {self.purpose}", 7)

    def associated_data(self) -> bytes:
        context = b"" if self.binding == NONE else self.artifact_key.encode()
        return associated_data(self.authenticated(), context, self.data_label)


@dataclass(frozen=True)
class Saved:
    """One Save of a directory. `dataclasses.replace` changes one property of it."""

    recipe: Member = field(default_factory=lambda: Member("saved directory", artifact_key=DIRECTORY_KEY))
    """The header of all objects."""
    files: Mapping[str, bytes] = field(default_factory=lambda: FILES)
    empty: tuple[str, ...] = EMPTY

    @property
    def key(self) -> str:
        return self.recipe.artifact_key

    def entries(self) -> list[bytes]:
        """Return the entries in canonical order."""
        named = [(path.encode(), entry(path, len(content))) for path, content in self.files.items()]
        named += [(path.encode(), entry(path, None)) for path in self.empty]
        return [written for _, written in sorted(named)]

    def file(self, path: str) -> Member:
        plaintext = self.files[path]
        return replace(self.recipe, purpose=path, artifact_key=f"{self.key}/{path}", plaintext=plaintext)

    def manifest(self, plaintext: bytes | None = None) -> Member:
        """Return the manifest, or one with another plaintext."""
        plaintext = listing(self.entries()) if plaintext is None else plaintext
        return replace(self.recipe, purpose="manifest", plaintext=plaintext, data_label=MANIFEST_LABEL)

    def objects(self, *, manifest: bytes | Member | None = None) -> dict[str, bytes]:
        """Return the stored objects by their paths beneath the key, with another manifest if one is given."""
        manifest = self.manifest() if manifest is None else manifest
        stored = {path: self.file(path).file() for path in self.files}
        return stored | {MANIFEST: manifest if isinstance(manifest, bytes) else manifest.file()}

    @property
    def data_keys(self) -> dict[str, bytes]:
        return {self.recipe.wrapped: self.recipe.data_key}


@dataclass(frozen=True)
class DirectoryVector:
    """The stored objects of one directory, and the result that a reader must give."""

    name: str
    what: str
    objects: Mapping[str, bytes]
    """The stored bytes by the path beneath the artifact key."""
    data_keys: Mapping[str, bytes]
    """The data key for each wrapped key."""
    artifact_key: str = DIRECTORY_KEY
    error: str = ""
    """The name of the error that it must give; empty if it must open."""
    saved: Saved | None = None
    """For a directory that must open: its contents."""
    left_out: int = 0
    """How many objects are not part of the directory."""
