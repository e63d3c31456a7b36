"""Generates the test vectors: `python -m tests.vectors.generate [DIRECTORY]`, or `make vectors`."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.vectors import body_faults, directories, header_faults, opened
from tests.vectors.directory_writer import DirectoryVector
from tests.vectors.writer import KEYRING, NONE, VAULT, Piece, Recipe, Vector, commitment


def write(vectors: Iterable[Vector], trees: Iterable[DirectoryVector], directory: Path) -> None:
    """Write the list of vectors and their files into `directory`, and replace those that exist."""
    files: dict[str, str] = {}
    entries = []
    for folder in ("opened", "refused", "directories"):
        shutil.rmtree(directory / folder, ignore_errors=True)
        (directory / folder).mkdir(parents=True)
    for vector in vectors:
        if isinstance(vector.content, bytes):
            file = f"{'refused' if vector.error else 'opened'}/{vector.name}.sealed"
            (directory / file).write_bytes(vector.content)
            files[vector.name] = file
        entries.append(_entry(vector, files))
    objects = _Objects(directory)
    listed = [_directory(vector, objects) for vector in trees]
    names = [entry["name"] for entry in (*entries, *listed)]
    assert len(set(names)) == len(names), "each vector has a name of its own"
    document = {"format": 1, "keyring": KEYRING, "vectors": entries, "directories": listed}
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (directory / "vectors.json").write_text(text + "\n", encoding="utf-8")


def _entry(vector: Vector, files: dict[str, str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": vector.name, "what": vector.what}
    if isinstance(vector.content, bytes):
        entry["pieces"] = [{"file": files[vector.name]}]
    else:
        entry["pieces"] = [_piece(piece, files) for piece in vector.content]
    entry |= {"artifact_key": vector.artifact_key, "data_key": vector.data_key.hex()}
    if vector.error:
        entry["error"] = [vector.error] if isinstance(vector.error, str) else list(vector.error)
        of, size = vector.released
        entry["released"] = {"vector": of, "size": size} if size else None
    if vector.recipe:
        entry["plaintext"] = {
            "size": len(vector.recipe.plaintext),
            "sha256": hashlib.sha256(vector.recipe.plaintext).hexdigest(),
        }
        entry["header"] = _header(vector.recipe)
    return entry


def _piece(piece: Piece | bytes, files: dict[str, str]) -> dict[str, Any]:
    if isinstance(piece, bytes):
        return {"hex": piece.hex()}
    return {"file": files[piece.vector], "at": piece.at, "size": piece.size}


def _header(recipe: Recipe) -> dict[str, Any]:
    return {
        "binding": "NONE" if recipe.binding == NONE else "ARTIFACT_KEY",
        "key_commitment": commitment(recipe.data_key).hex(),
        "sealed_at": recipe.sealed_at,
        "context": recipe.context,
        "audit_chain": recipe.audit_chain,
        "audit_sequence": recipe.audit_sequence,
        "key": {
            "provider": "vault" if recipe.provider == VAULT else "local",
            "mount": recipe.mount,
            "key_name": recipe.key_name,
            "wrapped_key": recipe.wrapped,
            "key_version": recipe.key_version,
            "derivation_context": recipe.derivation_context.hex(),
        },
    }


class _Objects:
    """Writes the stored objects of directories, each content once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[bytes, str] = {}

    def file_of(self, content: bytes, vector: str) -> str:
        """Return the file with this content, which is named after the first vector that has it."""
        if content not in self._files:
            number = sum(file.startswith(f"directories/{vector}.") for file in self._files.values()) + 1
            self._files[content] = f"directories/{vector}.{number}.sealed"
            (self._directory / self._files[content]).write_bytes(content)
        return self._files[content]


def _directory(vector: DirectoryVector, objects: _Objects) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": vector.name,
        "what": vector.what,
        "objects": {path: objects.file_of(content, vector.name) for path, content in vector.objects.items()},
        "artifact_key": vector.artifact_key,
        "data_keys": {wrapped: data_key.hex() for wrapped, data_key in vector.data_keys.items()},
    }
    if vector.error:
        return entry | {"error": vector.error}
    assert vector.saved
    return entry | {
        "files": {
            path: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for path, content in vector.saved.files.items()
        },
        "empty_directories": list(vector.saved.empty),
        "left_out": vector.left_out,
    }


def main(arguments: list[str]) -> None:
    directory = Path(arguments[0]) if arguments else Path(__file__).parent
    files = [*opened.vectors(), *header_faults.vectors(), *body_faults.vectors()]
    write(files, directories.vectors(), directory)


if __name__ == "__main__":
    main(sys.argv[1:])
