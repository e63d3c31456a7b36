"""What `sealgate doctor` checks of Vault: the server, the login, the rights of this identity, the key."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property

from sealgate.call import Call, WrappedKey
from sealgate.cli.doctor.checks import MAKE, OPEN, Check, CheckResult, Role, failed, not_checked, ok, warning
from sealgate.cli.doctor.rights import Needs, granted_rights
from sealgate.compose.keys import role_of, vault_keys
from sealgate.config import JwtAuth, KubernetesAuth, TokenAuth, TokenFileAuth, VaultKeySettings
from sealgate.errors import Tampered, Unavailable
from sealgate.keys.vault.faults import ContextMissing, TokenRefused, VersionTooOld, underived
from sealgate.keys.vault.inspection import DATAKEY, DECRYPT, Inspection, TransitKeyInfo
from sealgate.keys.vault.provider import VaultKeys

_REWRAP = "data key: rewrap"
_SERVER, _LOGIN = "vault: server", "vault: login"
_DAY = 86400.0
_OLD = 365 * _DAY
"""The age in seconds at which a key version should be rotated, after the cryptoperiods of NIST SP 800-57."""
_LONG_LOGIN = _DAY
"""The lifetime in seconds above which a login's token is reported."""
_WRAPS = ("aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305", "managed_key")
"""Key types that wrap data keys and detect a changed one. RSA keys do too, but cannot be derived."""
_LESS = "Give its role the policy below and no other"
_OTHER_CONTEXT = b"sealgate-doctor-no-such-context"


class VaultChecks:
    """Checks Vault in order. A check uses what the checks before it found out."""

    def __init__(
        self,
        settings: VaultKeySettings,
        role: Role,
        *,
        other_keys: frozenset[str] = frozenset(),
        read_keys: frozenset[str] = frozenset(),
        signing_key: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._now = now
        self._settings = settings
        self._role = role
        self._other_keys = other_keys
        self._read_keys = read_keys
        self._signing_key = signing_key
        self._made: WrappedKey | None = None
        self._plaintext = b""

    def checks(self) -> list[Check]:
        """Return the checks, in the order in which a process needs what they check."""
        return [
            Check(_SERVER, self._reach),
            Check(_LOGIN, self._log_in, needs=(_SERVER,)),
            Check(MAKE, self._make, needs=(_LOGIN,)),
            Check(OPEN, self._open, needs=(_LOGIN,)),
            Check(_REWRAP, self._rewrap, needs=(_LOGIN,)),
            *([Check("vault: context", self._context, needs=(_LOGIN,))] if self._settings.context else []),
            Check("vault: key", self._look, needs=(_LOGIN,)),
            Check("vault: other rights", self._other_rights, needs=(_LOGIN,)),
        ]

    @cached_property
    def _keys(self) -> VaultKeys:
        return vault_keys(self._settings)

    @property
    def _inspection(self) -> Inspection:
        return self._keys.inspection()

    def _reach(self, call: Call) -> Iterator[CheckResult]:
        try:
            server = self._inspection.reach(min(call.remaining() or 0.001, self._settings.timeout))
        except Unavailable as fault:
            yield failed(
                fault.fact, "Check keys.vault.address or VAULT_ADDR, and the firewalls and network policies on the way"
            )
            return
        if server.sealed:
            yield failed("Vault is sealed", "Ask Vault's operator to unseal it")
        else:
            yield ok(f"Vault answers{', version ' + server.version if server.version else ''}")
        if server.in_clear:
            yield warning(
                "the address begins with http://, so anyone on the network can read the token and every data key",
                "Use https; set VAULT_CACERT if a private authority issued Vault's certificate",
            )

    def _log_in(self, call: Call) -> Iterator[CheckResult]:
        auth = self._settings.auth
        method = auth.__struct_config__.tag
        seconds = self._inspection.log_in(call)
        if seconds is None:
            yield warning(
                f"cannot verify whether the token is valid, or for how long (method {method})",
                "Rely on the checks below: the token may not look itself up, or it has expired",
            )
        elif isinstance(auth, TokenAuth):
            yield ok(f"the token is valid{_lasting(seconds)} and is not renewed (method {method})")
        elif isinstance(auth, TokenFileAuth):
            yield ok(f"the token in {auth.path} is valid{_lasting(seconds)} (method {method})")
        elif seconds > _LONG_LOGIN:
            yield warning(
                f"the login works (method {method}); its token is valid{_lasting(seconds)}",
                f"Set token_ttl=1h on the role{_named(auth)}: Vault stores the token of every pod until it expires",
            )
        else:
            yield ok(f"the login works (method {method}); its token is valid{_lasting(seconds)}")

    # --- rights that are tried ----------------------------------------------------------------------------

    def _make(self, call: Call) -> Iterator[CheckResult]:
        made = None
        with suppress(TokenRefused):
            made = self._keys.new_data_key(call) if self._may(call, DATAKEY) else None
        if made is None:
            yield self._refused(Role.SAVER, "make data keys")
            return
        self._made, self._plaintext = made.wrapped, made.plaintext
        under = f"key {made.wrapped.key_name} version {made.wrapped.key_version}"
        yield self._allowed(Role.SAVER, "make data keys", f"made a data key under {under}")

    def _open(self, call: Call) -> Iterator[CheckResult]:
        try:
            opened = self._keys.unwrap(call, self._made) if self._made else self._open_made_up(call)
        except TokenRefused:
            yield self._refused(Role.LOADER, "open data keys")
            return
        if opened != self._plaintext:
            yield failed("Vault returned another data key than the one it wrapped", "Ask Vault's operator")
            return
        fact = "opened the data key" if self._made else "this identity may open data keys; tried with a random one"
        yield self._allowed(Role.LOADER, "open data keys", fact)

    def _rewrap(self, call: Call) -> Iterator[CheckResult]:
        wrapped = self._made or self._inspection.made_up()
        try:
            self._keys.rewrap(call, wrapped)
        except TokenRefused:
            yield self._refused(Role.REWRAPPER, "rewrap data keys")
            return
        except (Tampered, ContextMissing, VersionTooOld):
            if self._made:
                raise
        fact = "rewrapped the data key" if self._made else "this identity may rewrap data keys; tried with a random one"
        yield self._allowed(Role.REWRAPPER, "rewrap data keys", fact)

    def _open_made_up(self, call: Call) -> bytes:
        """Try to open a random wrapped data key, for an identity that may not make one.

        Return normally if policies allow it: the error then comes from the content.
        """
        has_context = bool(self._settings.context)
        try:
            self._keys.unwrap(call, self._inspection.made_up())
        except Tampered:
            if has_context:
                raise underived(self._settings.key) from None
        except ContextMissing:
            if not has_context:
                raise
        except TokenRefused:
            # A role that is bound to a context may send no request without it.
            if not has_context or not self._may(call, DECRYPT):
                raise
            with suppress(Tampered, VersionTooOld):
                self._keys.unwrap(call, self._inspection.made_up(in_context=True))
        except VersionTooOld:
            pass  # policies allowed the request; only the version is too old
        return b""

    def _may(self, call: Call, operation: str) -> bool:
        """Return whether policies allow `operation` in the context.

        Without this check, a refusal would be reported as a key that is not known to be derived.
        """
        return not self._settings.context or self._inspection.allows(call, operation, self._inspection.context)

    def _context(self, call: Call) -> Iterator[CheckResult]:
        loose = [
            verb
            for operation, verb in ((DATAKEY, "make"), (DECRYPT, "open"))
            if self._inspection.allows(call, operation, _OTHER_CONTEXT)
        ]
        if loose:
            yield warning(
                f"this identity may {' and '.join(loose)} data keys in any context: no policy binds it to its own",
                f"{_LESS}: without it, contexts do not separate tenants",
                self._policy,
            )
        else:
            yield ok("this identity may neither make nor open data keys in another context")

    def _allowed(self, role: Role, verb: str, fact: str) -> CheckResult:
        if role in self._role.parts:
            return ok(fact)
        fact = f"this identity may {verb}, which a {self._role.shown} does not need"
        # The right to read artifacts is a failure. Rights that only allow needless work are a warning.
        return (failed if role is Role.LOADER else warning)(fact, _LESS, self._policy)

    def _refused(self, role: Role, verb: str) -> CheckResult:
        if role not in self._role.parts:
            return ok(f"this identity may not {verb}, which a {self._role.shown} does not need")
        return failed(
            f"this identity may not {verb} with key {self._settings.key} in {self._settings.mount}",
            "Give its role the policy below; if it already has this policy, the token has expired",
            self._policy,
        )

    @property
    def _needs(self) -> Needs:
        return Needs(
            self._role,
            self._settings.mount,
            self._settings.key,
            self._inspection.context,
            self._other_keys,
            self._read_keys,
            self._signing_key,
        )

    @property
    def _policy(self) -> str:
        return self._needs.policy

    # --- rights and facts that are only read --------------------------------------------------------------

    def _look(self, call: Call) -> Iterator[CheckResult]:
        try:
            key = self._inspection.look(call)
        except TokenRefused:
            where = f"{self._settings.mount}/keys/{self._settings.key}"
            if Role.REWRAPPER in self._role.parts:
                yield failed(f"this identity may not read {where}", "Give its role the policy below", self._policy)
            elif self._settings.context:
                fact = f"this identity may not read {where}, and so cannot verify that the key is derived"
                yield warning(fact, "Give its role the policy below", self._policy)
            else:
                yield not_checked(f"this identity may not read {where} and does not need to", "Read it as an operator")
            return
        yield from self._kind(key)
        yield from self._versions(key)
        for allowed, name, danger in (
            (key.deletion_allowed, "deletion_allowed", "one request can make every artifact unreadable"),
            (key.exportable, "exportable", "the key can leave Vault"),
            (key.allow_plaintext_backup, "allow_plaintext_backup", "a backup contains the key in plaintext"),
        ):
            if allowed:
                off = (
                    f"Set {name} to false" if name == "deletion_allowed" else "Create a new key: Vault cannot undo this"
                )
                yield warning(f"{name} is true: {danger}", off)

    def _kind(self, key: TransitKeyInfo) -> Iterator[CheckResult]:
        if key.type.startswith("rsa-"):
            yield warning(
                f"the key has type {key.type}, which supports no context", "Create a key of type aes256-gcm96"
            )
        elif key.type not in _WRAPS:
            yield failed(
                f"the key has type {key.type}, which cannot wrap data keys", "Create a key of type aes256-gcm96"
            )
        elif self._settings.context and not key.derived:
            fault = underived(self._settings.key)
            yield failed(fault.fact, fault.remedy)
        elif key.derived and not self._settings.context:
            yield failed("the key is derived, but keys.vault.context is not set", "Set keys.vault.context")
        else:
            fact = (
                "is derived, as keys.vault.context requires" if key.derived else "is not derived and needs no context"
            )
            yield ok(f"the key has type {key.type} and {fact}")

    def _versions(self, key: TransitKeyInfo) -> Iterator[CheckResult]:
        age = None if key.made_at is None else max(0.0, self._now() - key.made_at)
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

    def _other_rights(self, call: Call) -> Iterator[CheckResult]:
        try:
            rights = granted_rights(call, self._inspection, self._needs)
        except TokenRefused:
            yield not_checked(
                "this identity may not ask for its capabilities, so this cannot check whether it may export, back up, "
                "change, rotate or delete the key",
                "Run vault token capabilities as an operator, or add the policy default to its role",
            )
            return
        if rights.root:
            yield warning("the token is a root token, which may do everything", _LESS, self._policy)
        elif rights.excess:
            yield warning(f"this identity may also {'; '.join(rights.excess)}", _LESS, self._policy)
        else:
            listed = (
                "the rights that Vault lists" if rights.listed else "Vault does not list the rights of this identity"
            )
            checked = f"checked {rights.asked} paths that no role needs{' and ' if rights.listed else '; '}{listed}"
            yield ok(f"found no right that is not needed: {checked}")


def _named(auth: object) -> str:
    return f" {role_of(auth)}" if isinstance(auth, KubernetesAuth | JwtAuth) else ""


def _lasting(seconds: float) -> str:
    return " without end" if seconds == float("inf") else f" for {seconds:.0f} s"


def _days(seconds: float) -> str:
    days = int(seconds // _DAY)
    return f"{days} {'day' if days == 1 else 'days'}" if days else f"{seconds / 3600:.0f} h"
