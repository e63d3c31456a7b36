"""What `sealgate doctor` asks of Vault: the server, the login, the rights of this identity, the key."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property

from sealgate.call import Call, WrappedKey
from sealgate.cli.doctor.checks import Check, CheckResult, Role, failed, not_checked, ok, warning
from sealgate.cli.doctor.rights import Needs, found
from sealgate.compose.keys import role_of, vault_keys
from sealgate.config import JwtAuth, KubernetesAuth, TokenAuth, TokenFileAuth, VaultKeySettings
from sealgate.errors import Tampered, Unavailable
from sealgate.keys.vault.faults import ContextMissing, TokenRefused, VersionTooOld
from sealgate.keys.vault.formats import underived
from sealgate.keys.vault.inspection import DATAKEY, DECRYPT, Inspection, TransitKeyInfo
from sealgate.keys.vault.provider import VaultKeys

MAKE, OPEN = "data key: make", "data key: open"
"""The checks that a Save and a Load need, whoever the provider is."""
_REWRAP = "data key: rewrap"
_SERVER, _LOGIN = "vault: server", "vault: login"
_DAY = 86400.0
_OLD = 365 * _DAY
"""An age at which a key version is due for a successor, by NIST SP 800-57's years for such keys."""
_LONG_LOGIN = _DAY
_WRAPS = ("aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "xchacha20-poly1305", "managed_key")
"""Types that wrap data keys and detect a change of them; RSA wraps, too, and cannot be derived."""
_LESS = "Leave its role the policy below, and no other"
_OTHER_CONTEXT = b"sealgate-doctor-no-such-context"


class VaultChecks:
    """The questions, in order; what one learned, the next ones use."""

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
        """In the order in which a process meets them."""
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
            yield failed(fault.fact, "Check keys.vault.address or VAULT_ADDR, and what may connect to there from here")
            return
        if server.sealed:
            yield failed("it is sealed", "Have Vault's operator unseal it")
        else:
            yield ok(f"it answers{', and says that its version is ' + server.version if server.version else ''}")
        if server.in_clear:
            yield warning(
                "its address begins with http: whoever stands between reads the token and every data key",
                "Use https, with VAULT_CACERT if Vault's authority is your own",
            )

    def _log_in(self, call: Call) -> Iterator[CheckResult]:
        auth = self._settings.auth
        method = auth.__struct_config__.tag
        seconds = self._inspection.log_in(call)
        if seconds is None:
            yield warning(
                f"there is a token (method {method}), and nothing tells whether it is good, or for how long",
                "Go by what follows: the token may not look at itself, or it has ended",
            )
        elif isinstance(auth, TokenAuth):
            yield ok(f"the token is good{_lasting(seconds)}, and nobody renews it (method {method})")
        elif isinstance(auth, TokenFileAuth):
            yield ok(f"the token in {auth.path} is good{_lasting(seconds)} (method {method})")
        elif seconds > _LONG_LOGIN:
            yield warning(
                f"the login works (method {method}), and its token is good{_lasting(seconds)}",
                f"Set token_ttl=1h on the role{_named(auth)}: Vault keeps every token of every pod until it ends",
            )
        else:
            yield ok(f"the login works (method {method}), and its token is good{_lasting(seconds)}")

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
        yield self._allowed(Role.SAVER, "make data keys", f"a data key was made under {under}")

    def _open(self, call: Call) -> Iterator[CheckResult]:
        try:
            opened = self._keys.unwrap(call, self._made) if self._made else self._open_made_up(call)
        except TokenRefused:
            yield self._refused(Role.LOADER, "open data keys")
            return
        if opened != self._plaintext:
            yield failed("Vault does not give back the data key that it wrapped", "Ask Vault's operator")
            return
        how = (
            "the data key that was made is opened again" if self._made else "data keys may be opened; none was at hand"
        )
        yield self._allowed(Role.LOADER, "open data keys", how)

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
        how = (
            "the data key that was made is rewrapped" if self._made else "data keys may be rewrapped; none was at hand"
        )
        yield self._allowed(Role.REWRAPPER, "rewrap data keys", how)

    def _open_made_up(self, call: Call) -> bytes:
        """For who may make no data key: how a made-up one fails tells a refusal from anything else."""
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
            # A role that is bound to a context may try nothing without it.
            if not has_context or not self._may(call, DECRYPT):
                raise
            with suppress(Tampered, VersionTooOld):
                self._keys.unwrap(call, self._inspection.made_up(in_context=True))
        except VersionTooOld:
            pass  # it would have been opened if it were a younger one
        return b""

    def _may(self, call: Call, operation: str) -> bool:
        """Whether policies allow it in the context. Else a refusal would read as a key that nothing proves."""
        return not self._settings.context or self._inspection.allows(call, operation, self._inspection.context)

    def _context(self, call: Call) -> Iterator[CheckResult]:
        loose = [
            verb
            for operation, verb in ((DATAKEY, "make"), (DECRYPT, "open"))
            if self._inspection.allows(call, operation, _OTHER_CONTEXT)
        ]
        if loose:
            yield warning(
                f"this identity may {' and '.join(loose)} data keys in any context: it is not bound to its own",
                "Leave its role the policy below, and no other: else contexts keep nobody apart",
                self._policy,
            )
        else:
            yield ok("this identity may neither make nor open data keys in another context")

    def _allowed(self, role: Role, verb: str, fact: str) -> CheckResult:
        if role in self._role.parts:
            return ok(fact)
        fact = f"this identity may {verb}, which is not for a {self._role.shown}"
        # To read what it must not is more than to be able to do needless work.
        return (failed if role is Role.LOADER else warning)(fact, _LESS, self._policy)

    def _refused(self, role: Role, verb: str) -> CheckResult:
        if role not in self._role.parts:
            return ok(f"this identity may not {verb}, as is right for a {self._role.shown}")
        return failed(
            f"this identity may not {verb} with key {self._settings.key} in {self._settings.mount}",
            "Give its role the policy below, unless its token has ended",
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

    # --- what is only asked for ---------------------------------------------------------------------------

    def _look(self, call: Call) -> Iterator[CheckResult]:
        try:
            key = self._inspection.look(call)
        except TokenRefused:
            where = f"{self._settings.mount}/keys/{self._settings.key}"
            if Role.REWRAPPER in self._role.parts:
                yield failed(f"this identity may not read {where}", "Give its role the policy below", self._policy)
            elif self._settings.context:
                fact = f"this identity may not read {where}, which proves a derived key to who is bound to a context"
                yield warning(fact, "Give its role the policy below", self._policy)
            else:
                yield not_checked(f"this identity may not read {where}, and need not", "Look there as an operator")
            return
        yield from self._kind(key)
        yield from self._versions(key)
        for allowed, name, danger in (
            (key.deletion_allowed, "deletion_allowed", "one request destroys every artifact"),
            (key.exportable, "exportable", "the key can leave Vault"),
            (key.allow_plaintext_backup, "allow_plaintext_backup", "a backup holds the key in plaintext"),
        ):
            if allowed:
                off = "Set it to false" if name == "deletion_allowed" else "Vault cannot take that back: make a new key"
                yield warning(f"{name} is true: {danger}", off)

    def _kind(self, key: TransitKeyInfo) -> Iterator[CheckResult]:
        if key.type.startswith("rsa-"):
            yield warning(f"its type is {key.type}, which takes no context", "Make a key of type aes256-gcm96")
        elif key.type not in _WRAPS:
            yield failed(f"its type is {key.type}, which wraps no data keys", "Make a key of type aes256-gcm96")
        elif self._settings.context and not key.derived:
            fault = underived(self._settings.key)
            yield failed(fault.fact, fault.remedy)
        elif key.derived and not self._settings.context:
            yield failed("it is derived, and there is no context for it", "Set keys.vault.context")
        else:
            derived = "derived, as keys.vault.context wants" if key.derived else "not derived, and there is no context"
            yield ok(f"its type is {key.type}, {derived}")

    def _versions(self, key: TransitKeyInfo) -> Iterator[CheckResult]:
        age = None if key.made_at is None else max(0.0, self._now() - key.made_at)
        old = "" if age is None else f", {_days(age)} old"
        rotated = f"every {_days(key.auto_rotate_seconds)}" if key.auto_rotate_seconds else "when somebody does it"
        fact = f"its latest version is {key.latest_version}{old}; it is rotated {rotated}"
        if age is not None and age > _OLD:
            yield warning(fact, "Rotate it, and set auto_rotate_period")
        else:
            yield ok(fact)
        if key.min_decryption_version > 1:
            yield warning(
                f"min_decryption_version is {key.min_decryption_version}: what an older version wraps does not open",
                "Make sure that everything older has been rewrapped, or lower it",
            )

    def _other_rights(self, call: Call) -> Iterator[CheckResult]:
        try:
            rights = found(call, self._inspection, self._needs)
        except TokenRefused:
            yield not_checked(
                "this identity may not ask for its capabilities, so whether it may export, back up, change, rotate or "
                "delete the key cannot be told",
                "Ask as an operator: vault token capabilities; or run this with the policy default",
            )
            return
        if rights.root:
            yield warning("the token is a root token: it may do everything", _LESS, self._policy)
        elif rights.excess:
            yield warning(f"this identity may also {'; '.join(rights.excess)}", _LESS, self._policy)
        else:
            others = "and no other that Vault lists" if rights.listed else "and Vault lists no others"
            yield ok(
                f"of what was asked, nothing is too much: none of {rights.asked} paths that no role needs, {others}"
            )


def _named(auth: object) -> str:
    return f" {role_of(auth)}" if isinstance(auth, KubernetesAuth | JwtAuth) else ""


def _lasting(seconds: float) -> str:
    return " without end" if seconds == float("inf") else f" for {seconds:.0f} s"


def _days(seconds: float) -> str:
    days = int(seconds // _DAY)
    return f"{days} {'day' if days == 1 else 'days'}" if days else f"{seconds / 3600:.0f} h"
