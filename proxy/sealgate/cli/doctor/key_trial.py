"""What `sealgate doctor` tries with one key of Vault: to make, to open and to rewrap a data key."""

from __future__ import annotations

from contextlib import suppress

from sealgate.call import Call, WrappedKey
from sealgate.errors import Tampered
from sealgate.keys import DataKey
from sealgate.keys.vault.fault_rule import ContextMissing, TokenRefused, VersionTooOld
from sealgate.keys.vault.faults import underived
from sealgate.keys.vault.provider import VaultKeys
from sealgate.keys.vault.transit import DECRYPT


class KeyTrial:
    """Tries what this identity may do with one key. Each method needs the answers of those before it.

    Args:
        keys: the provider.
        name: the key.
        making: the operation by which data keys are made: `DATAKEY` or `ENCRYPT`.
    """

    def __init__(self, keys: VaultKeys, name: str, making: str) -> None:
        self._keys = keys
        self._inspection = keys.inspection()
        self._making = making
        self.name = name
        self.made: DataKey | None = None
        """The data key that `make` made."""

    def make(self, call: Call) -> DataKey | None:
        """Make a data key. Return None if this identity may not."""
        with suppress(TokenRefused):
            if self._may(call, self._making):
                self.made = self._keys.new_data_key(call, self.name)
        return self.made

    def opens(self, call: Call) -> bool:
        """Open the data key that was made, or a random one. Return whether the provider gave back what it wrapped.

        Raises:
            TokenRefused: this identity may not open data keys.
        """
        if self.made:
            return self._keys.unwrap(call, self.made.wrapped) == self.made.plaintext
        self._open_made_up(call)
        return True

    def rewrap(self, call: Call) -> None:
        """Rewrap the data key that was made, or a random one.

        Raises:
            TokenRefused: this identity may not rewrap data keys.
        """
        try:
            self._keys.rewrap(call, self.made.wrapped if self.made else self._made_up())
        except (Tampered, ContextMissing, VersionTooOld):
            if self.made:
                raise

    def rewrap_and_read(self, call: Call) -> None:
        """Rewrap a data key and read the versions of the key, as `sealgate rewrap` does.

        Raises:
            TokenRefused: this identity may not do one of both.
        """
        self.rewrap(call)
        self._keys.versions(call, self.name)

    def _open_made_up(self, call: Call) -> None:
        """Try to open a random wrapped data key, for an identity that may not make one.

        Return normally if policies allow it: the error then comes from the content.
        """
        has_context = bool(self._inspection.context)
        try:
            self._keys.unwrap(call, self._made_up())
        except Tampered:
            if has_context:
                raise underived(self.name) from None
        except ContextMissing:
            if not has_context:
                raise
        except TokenRefused:
            # A role that is bound to a context may send no request without it.
            if not has_context or not self._may(call, DECRYPT):
                raise
            with suppress(Tampered, VersionTooOld):
                self._keys.unwrap(call, self._made_up(in_context=True))
        except VersionTooOld:
            pass  # policies allowed the request; only the version is too old

    def _made_up(self, *, in_context: bool = False) -> WrappedKey:
        return self._inspection.made_up(self.name, in_context=in_context)

    def _may(self, call: Call, operation: str) -> bool:
        """Return whether policies allow `operation` in the context.

        Without this check, a refusal would be reported as a key that is not known to be derived.
        """
        context = self._inspection.context
        return not context or self._inspection.allows(call, operation, self.name, context)
