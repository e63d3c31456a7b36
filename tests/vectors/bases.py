"""The sealed files from which the vectors are made."""

from __future__ import annotations

from tests.vectors.writer import FIRST_PLAINTEXT, PLAINTEXT, VAULT, Recipe, Vector, fixed

BASE = Recipe()
BARE = Recipe("bare", context=(), audit_chain="", audit_sequence=0)
IN_VAULT = Recipe(
    "in vault",
    provider=VAULT,
    mount="transit",
    key_name="artifacts",
    key_version=3,
    wrapped_key="vault:v3:8SDd3WHDOjf7mq69CyCqYjBXAiQQAVZRkFM13ok481zoCmHnSeDX9vyf7w==",
)
DIRECTORY = Recipe("directory", artifact_key="models/7/weights.bin", plaintext=bytes(64))
ONE_FULL_SEGMENT = Recipe("one full segment", plaintext=fixed("one full segment", FIRST_PLAINTEXT))
FOUR_SEGMENTS = Recipe("four segments", plaintext=fixed("four segments", FIRST_PLAINTEXT + 2 * PLAINTEXT + 1))

HEADER, BODY, FILE = BASE.header(), BASE.body(), BASE.file()
BODY_AT = len(FILE) - len(BODY)


def opened(name: str, what: str, recipe: Recipe, content: bytes = b"") -> Vector:
    """Return a vector that must open to the recipe's plaintext."""
    return Vector(name, what, content or recipe.file(), recipe.data_key, recipe.artifact_key, recipe=recipe)


def refused(
    error: str,
    name: str,
    what: str,
    content: bytes | Recipe,
    *,
    artifact_key: str | None = None,
    data_key: bytes | None = None,
) -> Vector:
    """Return a vector that must give `error`. `content` is a faulty recipe, or bytes that were made from `BASE`."""
    recipe, stored = (content, content.file()) if isinstance(content, Recipe) else (BASE, content)
    artifact_key = recipe.artifact_key if artifact_key is None else artifact_key
    return Vector(name, what, stored, data_key or recipe.data_key, artifact_key, error)


def flip(data: bytes, at: int, mask: int = 1) -> bytes:
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
