"""What `sealgate doctor` says about a key whose description it may read from Vault."""

from __future__ import annotations

from collections.abc import Iterator

from sealgate.cli.doctor.checks import CheckResult, failed, ok, warning
from sealgate.config import VaultKeySettings
from sealgate.keys.vault.faults import underived
from sealgate.keys.vault.inspection import TransitKeyInfo
from sealgate.keys.vault.rewrapping import EXTERNAL_KEY

_DAY = 86400.0
_OLD = 365 * _DAY
"""The age in seconds at which a key version should be rotated, after the cryptoperiods of NIST SP 800-57."""
_WRAPS = ("aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305", "managed_key")
"""Key types that wrap data keys and detect a changed one. RSA keys do too, but cannot be derived."""
_CREATE = "Create a key of type aes256-gcm96"


def key_facts(key: TransitKeyInfo, settings: VaultKeySettings, now: float) -> Iterator[CheckResult]:
    """Yield what is right and wrong with the key that `settings` name, at the time `now` in seconds since 1970."""
    yield _kind(key, settings)
    yield from _versions(key, now)
    for allowed, name, danger in (
        (key.deletion_allowed, "deletion_allowed", "one request can make every artifact unreadable"),
        (key.exportable, "exportable", "the key can leave Vault"),
        (key.allow_plaintext_backup, "allow_plaintext_backup", "a backup contains the key in plaintext"),
    ):
        if allowed:
            off = f"Set {name} to false" if name == "deletion_allowed" else "Create a new key: Vault cannot undo this"
            yield warning(f"{name} is true: {danger}", off)


def _kind(key: TransitKeyInfo, settings: VaultKeySettings) -> CheckResult:
    if key.type.startswith("rsa-"):
        return warning(f"the key has type {key.type}, which supports no context", _CREATE)
    if key.type == EXTERNAL_KEY and settings.data_keys != "local":
        fact = "the key is in an HSM or KMS, so Vault can only encrypt and decrypt with it"
        return failed(fact, "Set keys.vault.dataKeys: local")
    if key.type not in (*_WRAPS, EXTERNAL_KEY):
        return failed(f"the key has type {key.type}, which cannot wrap data keys", _CREATE)
    if settings.context and not key.derived:
        fault = underived(settings.key)
        return failed(fault.fact, fault.remedy)
    if key.derived and not settings.context:
        return failed("the key is derived, but keys.vault.context is not set", "Set keys.vault.context")
    fact = "is derived, as keys.vault.context requires" if key.derived else "is not derived and needs no context"
    return ok(f"the key has type {key.type} and {fact}")


def _versions(key: TransitKeyInfo, now: float) -> Iterator[CheckResult]:
    age = None if key.made_at is None else max(0.0, now - key.made_at)
    old = "" if age is None else f", {_days(age)} old"
    rotated = f"every {_days(key.auto_rotate_seconds)}" if key.auto_rotate_seconds else "only by hand"
    fact = f"the latest version is {key.latest_version}{old}; the key is rotated {rotated}"
    if age is not None and age > _OLD:
        yield warning(fact, "Rotate the key, and set auto_rotate_period")
    else:
        yield ok(fact)
    if key.min_decryption_version > 1:
        yield warning(
            f"min_decryption_version is {key.min_decryption_version}: older data keys cannot be opened",
            "Make sure that every older artifact was rewrapped, or lower min_decryption_version",
        )


def _days(seconds: float) -> str:
    days = int(seconds // _DAY)
    return f"{days} {'day' if days == 1 else 'days'}" if days else f"{seconds / 3600:.0f} h"
