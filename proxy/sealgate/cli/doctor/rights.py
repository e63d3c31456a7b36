"""Which rights an identity needs in Vault, and which others it has. Vault is asked; nothing is tried."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass

from sealgate import library
from sealgate.call import Call
from sealgate.cli.doctor.checks import Role
from sealgate.keys.vault.inspection import Inspection, Right
from sealgate.keys.vault.transit import DATAKEY, DECRYPT, ENCRYPT, REWRAP

_OTHER_KEY = "sealgate-doctor-no-such-key"
_MOST_LISTED = 8
_READ, _DELETE, _CREATE = frozenset({"read"}), frozenset({"delete"}), frozenset({"create"})
_WRITE = frozenset({"create", "update"})
_EXPORTS = tuple(
    f"export/{kind}/{{key}}{version}"
    for kind in ("encryption-key", "hmac-key", "signing-key")
    for version in ("", "/1")
)
_Rights = tuple[str, frozenset[str], tuple[str, ...]]
"""Rights in words, the capabilities that grant them, and their paths in the mount."""
_ENCRYPT: _Rights = ("wrap data keys of its own choice (encrypt)", _WRITE, ("encrypt/{key}",))
_ENCRYPT_OTHERS: _Rights = ("wrap data keys under other keys of the mount (encrypt)", _WRITE, ("encrypt/{other}",))
_NEVER: tuple[_Rights, ...] = (
    ("make new keys by encrypting (create on encrypt)", _CREATE, ("encrypt/{other}",)),
    ("make new keys", _WRITE, ("keys/{other}",)),
    ("make data keys under other keys of the mount (datakey)", _WRITE, ("datakey/plaintext/{other}",)),
    ("open data keys under other keys of the mount (decrypt)", _WRITE, ("decrypt/{other}",)),
    ("rewrap data keys under other keys of the mount (rewrap)", _WRITE, ("rewrap/{other}",)),
    ("delete the key", _DELETE, ("keys/{key}",)),
    ("soft-delete the key (soft-delete)", _DELETE, ("keys/{key}/soft-delete",)),
    ("restore a deleted key (soft-delete-restore)", _WRITE, ("keys/{key}/soft-delete-restore",)),
    ("allow the key to be deleted or exported (config)", _WRITE, ("keys/{key}/config",)),
    ("rotate the key", _WRITE, ("keys/{key}/rotate",)),
    ("destroy old versions of the key (trim)", _WRITE, ("keys/{key}/trim",)),
    (
        "import a key of its own (import)",
        _WRITE,
        ("keys/{key}/import", "keys/{key}/import_version", "keys/{other}/import"),
    ),
    ("replace the key by one from a backup (restore)", _WRITE, ("restore", "restore/{key}", "restore/{other}")),
    ("export the key", _READ, (*_EXPORTS, "byok-export/{other}/{key}")),
    ("take a backup of the key", _READ, ("backup/{key}",)),
    ("change the settings of the mount (config)", _WRITE, ("config/keys",)),
)
"""Rights that no role of Sealgate needs."""


@dataclass(frozen=True, slots=True)
class Needs:
    """The rights that a role needs in this installation."""

    role: Role
    mount: str
    key: str
    context: bytes = b""
    others: frozenset[str] = frozenset()
    """Keys that policies seal under, in addition to `key`."""
    read_keys: frozenset[str] = frozenset()
    """Keys that policies only read under."""
    signing_key: str = ""
    """The key that certifies audit trails; empty for none."""
    wraps_local: bool = False
    """Whether data keys are made here, and Vault encrypts them (`keys.vault.dataKeys: local`)."""
    is_external: bool = False
    """Whether Vault cannot rewrap under `key`, because it is in an HSM or KMS."""

    @property
    def policy(self) -> str:
        """The shipped policies that the role needs, with the names of this installation."""
        stanzas: dict[str, None] = {}
        for part in sorted(self.role.parts, reverse=True):
            for key in (self.key, *sorted(self._others_of(part))):
                stanzas |= dict.fromkeys(self._shipped(self._policy_of(part), "artifacts", key))
        if self.signing_key:
            stanzas |= dict.fromkeys(self._shipped("certifier", "audit", self.signing_key))
        return "\n\n".join(stanzas)

    def _policy_of(self, part: Role) -> str:
        """Return the name of the shipped policy for one role."""
        if part is Role.REWRAPPER:
            # A rewrapper sends batches, which no policy can bind to a context.
            return f"{part}-local" if self._rewraps_here else part
        local = "-local" if self.wraps_local and part is Role.SAVER else ""
        return f"{part}{local}{'-bound' if self.context else ''}"

    @property
    def _rewraps_here(self) -> bool:
        return self.wraps_local and self.is_external

    def _operations(self, part: Role) -> tuple[str, ...]:
        """Return the operations that one role needs."""
        if part is Role.REWRAPPER:
            return (DECRYPT, ENCRYPT) if self._rewraps_here else (REWRAP,)
        return (DECRYPT,) if part is Role.LOADER else (ENCRYPT if self.wraps_local else DATAKEY,)

    def _others_of(self, part: Role) -> frozenset[str]:
        return self.others | self.read_keys if part is Role.LOADER else self.others

    def _shipped(self, name: str, placeholder: str, key: str) -> list[str]:
        text = library.vault_policy(name)
        text = "\n".join(line for line in text.splitlines() if not line.startswith("# Put the mount"))
        text = text.replace('"transit/', f'"{self.mount}/').replace(f'/{placeholder}"', f'/{key}"')
        return text.replace("dGVhbS1h", base64.b64encode(self.context).decode()).split("\n\n")

    @property
    def never(self) -> list[tuple[str, frozenset[str], str]]:
        """The rights that are too much: in words, the capabilities that grant them, and the path in the mount."""
        return [
            (words, too_many, path.format(key=self.key, other=_OTHER_KEY))
            for words, too_many, paths in (_ENCRYPT_OTHERS if self._encrypts else _ENCRYPT, *_NEVER)
            for path in paths
        ]

    @property
    def _encrypts(self) -> bool:
        return any(ENCRYPT in self._operations(part) for part in self.role.parts)

    def covers(self, path: str) -> bool:
        """Return whether a right at this path of the mount is needed, or is checked by another check that tries it."""
        tried = {
            f"{operation}/{self.key}"
            for part in (Role.SAVER, Role.LOADER, Role.REWRAPPER)
            for operation in self._operations(part)
        } | {f"{REWRAP}/{self.key}"}
        others = {
            f"{operation}/{key}"
            for part in self.role.parts
            for operation in self._operations(part)
            for key in self._others_of(part)
        }
        signs = {f"sign/{self.signing_key}"} if self.signing_key else set()
        return path in tried | others | signs | {f"keys/{self.key}"}


@dataclass(frozen=True, slots=True)
class GrantedRights:
    """What Vault says about the rights of an identity."""

    root: bool
    """Whether the token is a root token."""
    excess: tuple[str, ...]
    """In words, what it may do but does not need."""
    asked: int
    """The number of paths that Vault was asked about."""
    listed: bool
    """Whether Vault also listed the rights of the identity."""


def granted_rights(call: Call, inspection: Inspection, needs: Needs) -> GrantedRights:
    """Ask Vault about each path that no role needs, and for the list of this identity's rights.

    The paths alone would miss a right to another key by name. The list alone would miss a path with a `+`.

    Raises:
        TokenRefused: this identity may not ask.
    """
    never = needs.never
    capabilities = inspection.capabilities(call, [path for _, _, path in never])
    if any("root" in allowed for allowed in capabilities.values()):
        return GrantedRights(root=True, excess=(), asked=len(never), listed=False)
    bad = [(words, path) for words, too_many, path in never if capabilities[path] & too_many]
    listed = inspection.listed(call)
    named = [
        text
        for right in listed or ()
        if not any(right.covers(path) for _, path in bad)
        for text in _too_much(right, needs)
    ]
    if len(named) > _MOST_LISTED:
        named[_MOST_LISTED:] = [f"{len(named) - _MOST_LISTED} more such rights"]
    words = dict.fromkeys(words for words, _ in bad)
    return GrantedRights(root=False, excess=(*words, *named), asked=len(never), listed=listed is not None)


def _too_much(right: Right, needs: Needs) -> Iterator[str]:
    """Yield `right` in words if it exceeds `needs`. Listing names and reading a key's description do no harm."""
    harmless = {"list", "deny"} | ({"read"} if right.path.startswith("keys/") else set())
    left = sorted(right.capabilities - harmless)
    if left and (right.is_prefix or not needs.covers(right.path)):
        yield f"{', '.join(left)} {needs.mount}/{right.path}{'*' if right.is_prefix else ''}"
