"""Generates the test vectors: `python -m tests.vectors.generate [DIRECTORY]`, or `make vectors`."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.vectors import body_faults, header_faults, opened
from tests.vectors.writer import KEYRING, NONE, VAULT, Piece, Recipe, Vector, commitment


def write(vectors: Iterable[Vector], directory: Path) -> None:
    """Write the manifest and the files into `directory`, and replace those that exist."""
    files: dict[str, str] = {}
    entries = []
    for folder in ("opened", "refused"):
        shutil.rmtree(directory / folder, ignore_errors=True)
        (directory / folder).mkdir(parents=True)
    for vector in vectors:
        if isinstance(vector.content, bytes):
            file = f"{'refused' if vector.error else 'opened'}/{vector.name}.sealed"
            (directory / file).write_bytes(vector.content)
            files[vector.name] = file
        entries.append(_entry(vector, files))
    names = [entry["name"] for entry in entries]
    assert len(set(names)) == len(names), "each vector has a name of its own"
    document = {"format": 1, "keyring": KEYRING, "vectors": entries}
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


def main(arguments: list[str]) -> None:
    directory = Path(arguments[0]) if arguments else Path(__file__).parent
    write([*opened.vectors(), *header_faults.vectors(), *body_faults.vectors()], directory)


if __name__ == "__main__":
    main(sys.argv[1:])
