"""The forms of what goes to Vault and comes from it, and the errors where something has another."""

from __future__ import annotations

import base64
import binascii
import re

from sealgate.errors import NotConfigured, PluginError, shown_key
from sealgate.keys.vault import faults
from sealgate.keys.vault.faults import Unanswered, VaultRequest

_NAME = re.compile(r"\w(?:[\w.-]*\w)?", re.ASCII)
"""What Vault takes as the name of a key, and so nothing that would lead out of the path."""
_MOUNT = re.compile(r"\w[\w-]*(?:/\w[\w-]*)*", re.ASCII)
_WRAP = re.compile(r"vault:v([1-9][0-9]{0,9}):([A-Za-z0-9+/]+={0,2})", re.ASCII)


def unproven(request: VaultRequest) -> NotConfigured:
    """Nobody can tell whether a context protects anything."""
    return NotConfigured(
        f"nothing proves that key {request.key} is derived: the role may neither use it without a context "
        "nor look at it",
        says="vault",
        remedy=f"Give the role's policy read on {request.mount}/keys/{request.key}",
    )


def underived(key: str) -> NotConfigured:
    """A context would protect nothing."""
    return NotConfigured(
        f"key {key} is not derived, and so Vault would ignore the context",
        says="vault",
        remedy="Create a key with derived=true, or remove keys.vault.context",
    )


def check_name(name: str) -> None:
    """Refuse what no key is named."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise NotConfigured(
            f'"{shown_key(name)}" is no name that a key in Vault can have', remedy="Letters, digits, _, - and . inside"
        )


def check_mount(mount: str) -> None:
    """Refuse what is no mount."""
    if not _MOUNT.fullmatch(mount):
        raise NotConfigured(f'"{shown_key(mount)}" is no mount in Vault', remedy="Check keys.vault.mount")


def version_of(text: object) -> int:
    """The key version that a wrapped data key names; 0 if the text is none."""
    found = _WRAP.fullmatch(text) if isinstance(text, str) else None
    return int(found[1]) if found and int(found[1]) < 1 << 32 else 0


def context_field(context: bytes) -> dict[str, str]:
    """What a request says of the context; nothing where there is none."""
    return {"context": base64.b64encode(context).decode()} if context else {}


def decoded(text: object) -> bytes:
    """The bytes that base64 stands for; none if it is something else."""
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        return b""


def not_vault(server: str) -> PluginError:
    """An answer has not the form of Vault's."""
    return faults.UNANSWERED[Unanswered.NOT_VAULT].fault(VaultRequest("", server=server), Unanswered.NOT_VAULT)
