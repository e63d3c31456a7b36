"""What the other rooms may ask of a key provider: the protocols and the values that they exchange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sealgate.call import Call, WrappedKey
from sealgate.errors import PluginError

BATCH = 100
"""Wrapped data keys in one rewrap request (docs/rotation.md). OpenBao accepts at most 1000 strings in one request."""


@dataclass(frozen=True, slots=True)
class DataKey:
    """A new data key, in plaintext and wrapped."""

    plaintext: bytes = field(repr=False)
    """32 bytes. Kept in memory only, for as long as the call that requested it."""
    wrapped: WrappedKey


@dataclass(frozen=True, slots=True)
class KeyVersions:
    """The range of versions of a key-encryption key that can be used."""

    newest: int
    """New data keys are wrapped under this version."""
    oldest: int
    """Data keys that are wrapped under an older version cannot be unwrapped (Vault: `min_decryption_version`)."""


@dataclass(frozen=True, slots=True)
class SignedBy:
    """An Ed25519 signature, with the name and the version of the key that made it."""

    key: str
    version: int
    signature: bytes
    """64 bytes."""


class KeyProvider(Protocol):
    """Makes and unwraps data keys, and signs the certificates of audit trails.

    Every error is a `PluginError` without key material.
    """

    def new_data_key(self, call: Call, key: str = "") -> DataKey:
        """Make a data key and wrap it under the newest version of `key`, in one request to the provider.

        Args:
            call: the call that the data key is for.
            key: a name in the keyring or the mount; empty for the key that the settings name.
        """

    def unwrap(self, call: Call, wrapped: WrappedKey) -> bytes:
        """Return the 32 bytes of the data key in `wrapped`.

        Raises:
            NotConfigured: another provider wrapped it, or this one does not have that key version.
            Tampered: the wrapped data key was changed.
        """

    def attested(self, call: Call) -> Mapping[str, str]:
        """Return what the login to the provider proved about this process, under the provider's own names.

        The mapping is empty if the login proved nothing.
        """

    def attested_already(self) -> Mapping[str, str]:
        """Return what `attested` does, as far as it is known without a request: empty before the first login."""

    def sign(self, call: Call, data: bytes) -> SignedBy:
        """Sign `data` with the newest version of the key that certifies audit trails.

        Raises:
            NotConfigured: no such key exists.
            NotPermitted: this process may not sign.
        """

    def public_keys(self, call: Call) -> dict[int, bytes]:
        """Return the public half (32 bytes) of each version of the key that certifies audit trails."""


class Rewrapper(Protocol):
    """Moves wrapped data keys to a newer key version, as a rotation needs it."""

    def require_own(self, wrapped: WrappedKey) -> None:
        """Check, without a request, that this provider could have written `wrapped`.

        Raises:
            NotConfigured: another provider wrapped it.
            Tampered: its fields contradict each other.
        """

    def versions(self, call: Call, key: str) -> KeyVersions:
        """Return the usable versions of `key`. This needs no right to unwrap data keys.

        Raises:
            NotConfigured: the key does not exist.
        """

    def rewrap_many(self, call: Call, wrapped: Sequence[WrappedKey]) -> list[WrappedKey | PluginError]:
        """Wrap each data key under the newest version of its key.

        Returns:
            In the order of `wrapped`: the new wrapped data key, or the error for this one.

        Raises:
            PluginError: no data key could be rewrapped, for a reason that is not in `wrapped`.
        """
