"""The one protocol that every key provider speaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sealgate.call import Call, WrappedKey
from sealgate.errors import PluginError

BATCH = 100
"""Data keys to a rewrap request (docs/vault.md): OpenBao takes at most 1000 strings in one."""


@dataclass(frozen=True, slots=True)
class DataKey:
    """A new data key and its wrap."""

    plaintext: bytes = field(repr=False)
    """32 bytes. Lives in memory only, for as long as the call that asked for it."""
    wrapped: WrappedKey


@dataclass(frozen=True, slots=True)
class KeyVersions:
    """Which versions of a key-encryption key there are."""

    newest: int
    """New data keys are wrapped under it."""
    oldest: int
    """Data keys that are wrapped under an older one cannot be opened (Vault: `min_decryption_version`)."""


@dataclass(frozen=True, slots=True)
class SignedBy:
    """An Ed25519 signature, and which version of which key made it."""

    key: str
    version: int
    signature: bytes


class KeyProvider(Protocol):
    """Makes data keys and unwraps them, and vouches for audit trails.

    Its errors are `PluginError`s that carry no key material.
    """

    def new_data_key(self, call: Call, key: str = "") -> DataKey:
        """A fresh data key, wrapped under the newest version of `key`. One request to the provider.

        `key` is a name in the keyring or mount; empty: the one that the settings name.
        """

    def unwrap(self, call: Call, wrapped: WrappedKey) -> bytes:
        """The 32 bytes that `wrapped` stands for.

        Raises:
            NotConfigured: this provider is not the one that wrapped it, or does not hold that key version.
            Tampered: the wrap was changed.
        """

    def rewrap(self, call: Call, wrapped: WrappedKey) -> WrappedKey:
        """The same data key wrapped under the newest key version."""

    def attested(self, call: Call) -> Mapping[str, str]:
        """What the login to the provider proved of this process, by the provider's own names; empty: nothing."""

    def sign(self, call: Call, data: bytes) -> SignedBy:
        """Sign `data` with the newest version of the key that certifies audit trails.

        Raises:
            NotConfigured: there is none.
            NotPermitted: this process may not.
        """

    def public_keys(self, call: Call) -> dict[int, bytes]:
        """The public half of each version of that key, 32 bytes each."""

    def check(self, call: Call) -> str:
        """Prove that a data key can be made and unwrapped, and tell under which key, in a few words."""


class Rewrapper(Protocol):
    """What else a rotation asks of a provider."""

    def require_own(self, wrapped: WrappedKey) -> None:
        """Hold a header to what this provider could have written, without asking anybody.

        Raises:
            NotConfigured: this provider is not the one that wrapped it.
            Tampered: the header contradicts itself.
        """

    def versions(self, call: Call, key: str) -> KeyVersions:
        """Which versions of a key there are. Needs no right to open data keys.

        Raises:
            NotConfigured: there is no such key.
        """

    def rewrap_many(self, call: Call, wrapped: Sequence[WrappedKey]) -> list[WrappedKey | PluginError]:
        """Each data key wrapped under the newest version of its key, or why it cannot be; in the same order.

        Raises:
            PluginError: none could be, for a reason that is not in what is wrapped.
        """
