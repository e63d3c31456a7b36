"""The documents that ship with Sealgate: the policy library with its tests, and policies for Vault.

They are in `policies/` of the repository, and in `sealgate/policies/` of an installed wheel.
"""

from __future__ import annotations

from pathlib import Path


def directory() -> Path:
    """Return the directory that contains `library/` and `vault/`."""
    installed = Path(__file__).parent / "policies"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "policies"


def vault_policy(name: str) -> str:
    """Return the text of `policies/vault/NAME.hcl`."""
    return (directory() / "vault" / f"{name}.hcl").read_text(encoding="utf-8")
