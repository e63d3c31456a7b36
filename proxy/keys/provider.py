"""The one protocol that every key provider speaks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from proxy.plugin import Call, WrappedKey


@dataclass(frozen=True, slots=True)
class DataKey:
    """A new data key and its wrap."""

    plaintext: bytes = field(repr=False)
    """32 bytes. Lives in memory only, for as long as the call that asked for it."""
    wrapped: WrappedKey


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

    def new_data_key(self, call: Call) -> DataKey:
        """A fresh data key, wrapped under the newest key version. One request to the provider."""

    def unwrap(self, call: Call, wrapped: WrappedKey) -> bytes:
        """The 32 bytes that `wrapped` stands for.

        Raises:
            NotConfigured: this provider is not the one that wrapped it, or does not hold that key version.
            Tampered: the wrap was changed.
        """

    def rewrap(self, call: Call, wrapped: WrappedKey) -> WrappedKey:
        """The same data key wrapped under the newest key version."""

    def sign(self, call: Call, data: bytes) -> SignedBy:
        """Sign `data` with the newest version of the key that certifies audit trails.

        Raises:
            NotConfigured: there is none.
            Denied: this process may not.
        """

    def public_keys(self, call: Call) -> dict[int, bytes]:
        """The public half of each version of that key, 32 bytes each."""

    def check(self, call: Call) -> str:
        """Prove that a data key can be made and unwrapped, and tell under which key, in a few words."""
