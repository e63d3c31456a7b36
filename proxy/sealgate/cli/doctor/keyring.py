"""What `sealgate doctor` checks of a local keyring."""

from __future__ import annotations

from collections.abc import Iterator

from sealgate import identity
from sealgate.call import Call
from sealgate.cli.doctor.checks import MAKE, OPEN, POLICIES, POLICY_KEYS, Check, CheckResult, failed, not_checked, ok
from sealgate.cli.doctor.policy_keys import FindPolicyKeys
from sealgate.config import LocalKeySettings
from sealgate.errors import PluginError
from sealgate.keys import DataKey
from sealgate.keys.local import LocalKeys


class KeyringChecks:
    """Checks that a local keyring makes and opens data keys."""

    policy = ""
    """A keyring needs no policy in Vault."""

    def __init__(self, settings: LocalKeySettings, find_policy_keys: FindPolicyKeys) -> None:
        self._settings = settings
        self._find_policy_keys = find_policy_keys
        self._keys = LocalKeys(settings.keyring, settings.key)
        self._made: DataKey | None = None

    def checks(self) -> list[Check]:
        """Return the checks, in order."""
        return [
            Check(MAKE, self._make),
            Check(OPEN, self._open, needs=(MAKE,)),
            Check(POLICY_KEYS, self._try_policy_keys, needs=(MAKE, POLICIES)),
        ]

    def _make(self, call: Call) -> Iterator[CheckResult]:
        made = self._made = self._keys.new_data_key(call)
        under = f"key {made.wrapped.key_name} version {made.wrapped.key_version}"
        yield ok(f"only its owner can read the keyring {self._settings.keyring}; made a data key under {under}")

    def _open(self, call: Call) -> Iterator[CheckResult]:
        if self._made and self._keys.unwrap(call, self._made.wrapped) == self._made.plaintext:
            yield ok("opened the data key")
        else:
            yield failed("the keyring returned another data key than the one it wrapped", "Create a new keyring")

    def _try_policy_keys(self, call: Call) -> Iterator[CheckResult]:
        named = self._find_policy_keys(identity.asserted())
        for name, rule in named.all_but(self._settings.key).items():
            try:
                self._keys.new_data_key(call, name)
            except PluginError as fault:
                yield failed(f"the encryption rule {rule}: {fault.fact}", "Correct the key in this rule, or add it")
            else:
                yield ok(f"made a data key under key {name}, as rule {rule} needs")
        for text, rule in named.unknown.items():
            yield not_checked(f"key {text} of the encryption rule {rule} has a variable that has no value here")
