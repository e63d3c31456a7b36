"""The documents that ship with Sealgate: the policy library with its tests, and policies for Vault.

A checkout has them in `policies/`, an installed wheel in `sealgate/policies/`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_FOLDERS = (("library", "", ".yaml"), ("vault", "vault/", ".hcl"))
"""The folders of `directory()`: each one's name, the prefix of its documents' names, and the ending of its files."""


@dataclass(frozen=True, slots=True)
class LibraryDocument:
    """A document that ships with Sealgate."""

    name: str
    """`pci`, `pci.test` or `vault/saver`."""
    path: Path
    comment: str
    """The first line without its `#`, if it is a comment; otherwise empty."""


def directory() -> Path:
    """Return the directory that contains `library/` and `vault/`."""
    installed = Path(__file__).parent / "policies"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "policies"


def documents() -> list[LibraryDocument]:
    """Return every document, the policy library first, each folder in the order of the names."""
    return [
        LibraryDocument(prefix + path.name.removesuffix(ending), path, _comment(path))
        for folder, prefix, ending in _FOLDERS
        for path in sorted((directory() / folder).glob(f"*{ending}"), key=lambda path: path.name.removesuffix(ending))
    ]


def vault_policy(name: str) -> str:
    """Return the text of `vault/NAME.hcl`."""
    return (directory() / "vault" / f"{name}.hcl").read_text(encoding="utf-8")


def _comment(path: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
