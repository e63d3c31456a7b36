"""Key providers: where data keys come from and where the key-encryption keys that wrap them are stored."""

from sealgate.keys.provider import DataKey, KeyProvider

__all__ = ["DataKey", "KeyProvider"]
