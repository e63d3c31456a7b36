"""What `sealgate doctor` checks of a local keyring."""

from __future__ import annotations

from collections.abc import Iterator

from sealgate.call import Call
from sealgate.cli.doctor.checks import MAKE, OPEN, Check, CheckResult, failed, ok
from sealgate.config import LocalKeySettings
from sealgate.keys import DataKey
from sealgate.keys.local import LocalKeys


class KeyringChecks:
    """Checks that a local keyring makes and opens data keys."""

    def __init__(self, settings: LocalKeySettings) -> None:
        self._settings = settings
        self._keys = LocalKeys(settings.keyring, settings.key)
        self._made: DataKey | None = None

    def checks(self) -> list[Check]:
        """Return the checks, in order."""
        return [Check(MAKE, self._make), Check(OPEN, self._open, needs=(MAKE,))]

    def _make(self, call: Call) -> Iterator[CheckResult]:
        made = self._made = self._keys.new_data_key(call)
        under = f"key {made.wrapped.key_name} version {made.wrapped.key_version}"
        yield ok(f"only its owner can read the keyring {self._settings.keyring}; made a data key under {under}")

    def _open(self, call: Call) -> Iterator[CheckResult]:
        if self._made and self._keys.unwrap(call, self._made.wrapped) == self._made.plaintext:
            yield ok("opened the data key")
        else:
            yield failed("the keyring returned another data key than the one it wrapped", "Create a new keyring")
