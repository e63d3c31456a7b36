"""How wrapped data keys move to the newest version of their key (docs/rotation.md)."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sealgate.call import Call, WrappedKey
from sealgate.errors import PluginError, Tampered
from sealgate.keys.provider import BATCH, KeyVersions
from sealgate.keys.vault import faults
from sealgate.keys.vault.derived import DerivedKeys
from sealgate.keys.vault.fault_rule import DataKeysUnsupported, TokenRefused
from sealgate.keys.vault.formats import context_field, decoded, version_of
from sealgate.keys.vault.transit import DECRYPT, ENCRYPT, NO_UPSERT, REWRAP, TransitEngine

DATA_KEY_SIZE = 32
"""Bytes."""
EXTERNAL_KEY = "external-key"
"""The type of a key that is in an HSM or a KMS behind OpenBao. OpenBao can encrypt and decrypt with it, and no more."""


@dataclass(slots=True)
class _Item:
    """A data key to move, and its outcome once that is known."""

    wrapped: WrappedKey
    outcome: WrappedKey | PluginError | None = None


class Rewrapping:
    """Moves data keys in batches.

    Vault rewraps them without revealing them. Where the type of the key does not allow that, and only if `decrypts`,
    they are decrypted and encrypted again, and so are in this process's memory for a moment.
    """

    def __init__(self, transit: TransitEngine, derived: DerivedKeys, *, decrypts: bool) -> None:
        self._transit = transit
        self._derived = derived
        self._decrypts = decrypts
        self._external: set[str] = set()
        """Names of keys of the type `EXTERNAL_KEY`."""

    def versions(self, call: Call, key: str) -> KeyVersions:
        """Return the usable versions of `key`, and remember whether its type allows to rewrap."""
        data = self._transit.read(call, key)
        newest, oldest = data.get("latest_version"), data.get("min_decryption_version")
        if not isinstance(newest, int) or not isinstance(oldest, int):
            raise self._transit.not_vault()
        if data.get("type") == EXTERNAL_KEY:
            self._external.add(key)
        return KeyVersions(newest, oldest)

    def move(
        self, call: Call, wrapped: Sequence[WrappedKey], require_own: Callable[[WrappedKey], None]
    ) -> list[WrappedKey | PluginError]:
        """Wrap each data key under the newest version of its key, as `Rewrapper.rewrap_many` says.

        Args:
            call: the call that waits.
            wrapped: the data keys.
            require_own: raises if this provider cannot have written a wrapped data key.
        """
        items = [_Item(key) for key in wrapped]
        groups: dict[tuple[str, bool], list[_Item]] = {}
        for item in items:
            try:
                require_own(item.wrapped)
            except PluginError as fault:
                item.outcome = fault
                continue
            # In one batch, either all items have a context or none has.
            groups.setdefault((item.wrapped.key_name, bool(item.wrapped.derivation_context)), []).append(item)
        for (key, has_context), group in groups.items():
            context_fault = self._derived.fault(call, key) if has_context else None
            for start in range(0, len(group), BATCH):
                batch = group[start : start + BATCH]
                if context_fault is None:
                    self._move_batch(call, key, batch)
                for item in batch:
                    item.outcome = item.outcome or context_fault
        return [item.outcome for item in items if item.outcome is not None]

    def _move_batch(self, call: Call, key: str, batch: Sequence[_Item]) -> None:
        if key not in self._external or not self._decrypts:
            try:
                self._rewrap(call, key, batch)
            except (DataKeysUnsupported, TokenRefused):
                # The policy for such a key does not allow to rewrap, so that Vault refuses before it looks at the key.
                if not self._decrypts or not self._is_external(call, key):
                    raise
            else:
                return
        self._decrypt_and_encrypt(call, key, batch)

    def _is_external(self, call: Call, key: str) -> bool:
        """Return whether Vault cannot rewrap under `key`; False if this process may not read its type."""
        with suppress(TokenRefused):
            self.versions(call, key)
        return key in self._external

    def _rewrap(self, call: Call, key: str, batch: Sequence[_Item]) -> None:
        for item, result in self._results(call, REWRAP, key, batch, [_ciphertext(item) for item in batch]):
            item.outcome = self._moved(REWRAP, item.wrapped, result)

    def _decrypt_and_encrypt(self, call: Call, key: str, batch: Sequence[_Item]) -> None:
        plaintexts: list[tuple[_Item, dict[str, str]]] = []
        for item, result in self._results(call, DECRYPT, key, batch, [_ciphertext(item) for item in batch]):
            text = result.get("plaintext")
            if error := result.get("error"):
                item.outcome = self._item_fault(DECRYPT, item.wrapped, str(error))
            elif len(decoded(text)) != DATA_KEY_SIZE:
                item.outcome = not_a_data_key(key)
            else:
                fields = {"plaintext": base64.b64encode(decoded(text)).decode()}
                plaintexts.append((item, fields | context_field(item.wrapped.derivation_context)))
        if plaintexts:
            opened = [item for item, _ in plaintexts]
            for item, result in self._results(call, ENCRYPT, key, opened, [each for _, each in plaintexts], NO_UPSERT):
                item.outcome = self._moved(ENCRYPT, item.wrapped, result)

    def _results(
        self,
        call: Call,
        operation: str,
        key: str,
        batch: Sequence[_Item],
        fields: Sequence[Mapping[str, str]],
        common: Mapping[str, str] | None = None,
    ) -> list[tuple[_Item, Mapping[str, Any]]]:
        """Send one request for `batch`, whose items have these `fields`, and return the result of each item."""
        answer = self._transit.ask(call, operation, key, {"batch_input": list(fields)} | dict(common or {}))
        results = answer.data.get("batch_results")
        if not isinstance(results, list) or len(results) != len(batch):
            raise self._transit.not_vault()
        return [(item, each if isinstance(each, dict) else {}) for item, each in zip(batch, results, strict=True)]

    def _moved(self, operation: str, old: WrappedKey, result: Mapping[str, Any]) -> WrappedKey | PluginError:
        if error := result.get("error"):
            return self._item_fault(operation, old, str(error))
        text = result.get("ciphertext")
        version = version_of(text)
        if not isinstance(text, str) or version < old.key_version:
            raise self._transit.not_vault()
        return WrappedKey("vault", old.mount, old.key_name, text, version, old.derivation_context)

    def _item_fault(self, operation: str, wrapped: WrappedKey, text: str) -> PluginError:
        return faults.item_fault(text, self._transit.request(operation, wrapped.key_name, {}, wrapped.key_version))


def _ciphertext(item: _Item) -> dict[str, str]:
    return {"ciphertext": item.wrapped.wrapped_key} | context_field(item.wrapped.derivation_context)


def not_a_data_key(key: str) -> Tampered:
    """Return the error for a wrapped data key that opens under `key`, but not to the 32 bytes of a data key."""
    return Tampered(
        f"the header's wrapped data key was decrypted with key {key}, but it is not a data key",
        says="vault",
        remedy="Restore the object from a copy that was not changed",
    )
