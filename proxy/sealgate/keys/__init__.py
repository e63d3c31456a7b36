"""Key providers: who holds the keys that data keys are wrapped under."""

from sealgate.keys.provider import DataKey, KeyProvider

__all__ = ["DataKey", "KeyProvider"]
