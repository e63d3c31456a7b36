"""What `sealgate doctor` checks of Vault: the server, the login, the rights of this identity, the key."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from msgspec.structs import replace

from sealgate import identity
from sealgate.call import Call
from sealgate.cli.doctor.checks import (
    LOGIN,
    MAKE,
    OPEN,
    POLICIES,
    POLICY_KEYS,
    Check,
    CheckResult,
    Role,
    failed,
    not_checked,
    ok,
    warning,
)
from sealgate.cli.doctor.key_facts import key_facts
from sealgate.cli.doctor.key_trial import KeyTrial
from sealgate.cli.doctor.policy_keys import FindPolicyKeys, PolicyKeys, no_policy_keys
from sealgate.cli.doctor.rights import Needs, granted_rights
from sealgate.compose.keys import role_of, vault_keys
from sealgate.compose.policies import identity_resolver
from sealgate.config import JwtAuth, KubernetesAuth, TokenAuth, TokenFileAuth, VaultKeySettings
from sealgate.errors import DataLoss, NotConfigured, NotPermitted, PluginError, Unavailable
from sealgate.keys.vault.fault_rule import TokenRefused
from sealgate.keys.vault.inspection import Inspection
from sealgate.keys.vault.provider import VaultKeys
from sealgate.keys.vault.rewrapping import EXTERNAL_KEY
from sealgate.keys.vault.transit import DATAKEY, DECRYPT, ENCRYPT
from sealgate.keys.vault.usable_keys import shown

_REWRAP = "data key: rewrap"
_SERVER = "vault: server"
_LONG_LOGIN = 86400.0
"""The lifetime in seconds above which a login's token is reported."""
_LESS = "Give its role the policy below and no other"
_GIVE = "Give its role the policy below"
_OTHER_CONTEXT = b"sealgate-doctor-no-such-context"


class VaultChecks:
    """Checks Vault in order. A check uses what the checks before it found out."""

    def __init__(
        self,
        settings: VaultKeySettings,
        role: Role,
        *,
        find_policy_keys: FindPolicyKeys = no_policy_keys,
        signing_key: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        self._now = now
        self._settings = settings
        self._role = role
        self._find_policy_keys = find_policy_keys
        self._identity = identity.asserted()
        self._signing_key = signing_key
        self._wraps_local = settings.data_keys == "local"
        self._making = ENCRYPT if self._wraps_local else DATAKEY
        self._is_external = False
        """Whether data keys are made here because the key is in an HSM or KMS, once that is known."""
        self._mistyped: set[str] = set()
        """Keys of policies whose names are probably mistyped."""
        self._is_mistyped = False
        """Whether this identity may use other keys and not the configured one."""

    def checks(self) -> list[Check]:
        """Return the checks, in the order in which a process needs what they check."""
        return [
            Check(_SERVER, self._reach),
            Check(LOGIN, self._log_in, needs=(_SERVER,)),
            Check(MAKE, self._make, needs=(LOGIN,)),
            Check(OPEN, self._open, needs=(LOGIN,)),
            Check(_REWRAP, self._rewrap, needs=(LOGIN,)),
            *([Check("vault: context", self._context, needs=(LOGIN,))] if self._settings.context else []),
            Check(POLICY_KEYS, self._try_policy_keys, needs=(LOGIN, POLICIES)),
            Check("vault: key", self._look, needs=(LOGIN,)),
            Check("vault: other rights", self._other_rights, needs=(LOGIN,)),
        ]

    @cached_property
    def _keys(self) -> VaultKeys:
        return vault_keys(self._settings)

    @property
    def _inspection(self) -> Inspection:
        return self._keys.inspection()

    @cached_property
    def _without_login(self) -> Inspection:
        """What asks the server alone. A token that is not there is a fault of the login."""
        return vault_keys(replace(self._settings, auth=TokenFileAuth(Path(os.devnull)))).inspection()

    @cached_property
    def _trial(self) -> KeyTrial:
        return KeyTrial(self._keys, self._settings.key, self._making)

    @property
    def _policy_keys(self) -> PolicyKeys:
        return self._find_policy_keys(self._identity)

    def _reach(self, call: Call) -> Iterator[CheckResult]:
        try:
            server = self._without_login.reach(min(call.remaining() or 0.001, self._settings.timeout))
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
                "Use https; put the certificate of a private authority into keys.vault.caBundle",
            )

    def _log_in(self, call: Call) -> Iterator[CheckResult]:
        auth = self._settings.auth
        method = auth.__struct_config__.tag
        seconds = self._inspection.log_in(call)
        self._identity = identity_resolver(self._keys)(call)
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
        with suppress(PluginError):  # another check reports it
            self._is_external = self._wraps_local and self._inspection.look(call).type == EXTERNAL_KEY
        made = self._trial.make(call)
        if made is None:
            yield self._cannot_make(call)
            return
        under = f"key {made.wrapped.key_name} version {made.wrapped.key_version}"
        yield self._allowed(Role.SAVER, "make data keys", f"made a data key under {under}")

    def _cannot_make(self, call: Call) -> CheckResult:
        """Return the result for an identity that may not make data keys. It may be allowed to encrypt them."""
        verb = "have data keys encrypted" if self._wraps_local else "make data keys"
        if self._wraps_local or Role.SAVER not in self._role.parts or not self._inspection.encrypts(call):
            return self._refused(call, Role.SAVER, verb)
        return failed(
            f"Vault makes no data keys for this identity with key {self._settings.key}, but encrypts with it",
            "Set keys.vault.dataKeys: local, if policies are to allow encrypt alone; or give its role the policy below",
            self.policy,
        )

    def _open(self, call: Call) -> Iterator[CheckResult]:
        try:
            same = self._trial.opens(call)
        except TokenRefused:
            yield self._refused(call, Role.LOADER, "open data keys")
            return
        if not same:
            yield failed("Vault returned another data key than the one it wrapped", "Ask Vault's operator")
            return
        made_up = "this identity may open data keys; tried with a random one"
        yield self._allowed(Role.LOADER, "open data keys", "opened the data key" if self._trial.made else made_up)

    def _rewrap(self, call: Call) -> Iterator[CheckResult]:
        try:
            self._trial.rewrap(call)
        except TokenRefused:
            yield self._refused(call, Role.REWRAPPER, "rewrap data keys")
            return
        made_up = "this identity may rewrap data keys; tried with a random one"
        fact = "rewrapped the data key" if self._trial.made else made_up
        yield self._allowed(Role.REWRAPPER, "rewrap data keys", fact)

    def _context(self, call: Call) -> Iterator[CheckResult]:
        loose = [
            verb
            for operation, verb in ((self._making, "make"), (DECRYPT, "open"))
            if self._inspection.allows(call, operation, self._settings.key, _OTHER_CONTEXT)
        ]
        if loose:
            yield warning(
                f"this identity may {' and '.join(loose)} data keys in any context: no policy binds it to its own",
                f"{_LESS}: without it, contexts do not separate tenants",
                self.policy,
            )
        else:
            yield ok("this identity may neither make nor open data keys in another context")

    def _allowed(self, role: Role, verb: str, fact: str) -> CheckResult:
        if role in self._role.parts or self._is_implied(role):
            return ok(fact)
        fact = f"this identity may {verb}, which a {self._role.shown} does not need"
        # The right to read artifacts is a failure. Rights that only allow needless work are a warning.
        return (failed if role is Role.LOADER else warning)(fact, _LESS, self.policy)

    def _is_implied(self, role: Role) -> bool:
        """Return whether the rights of this identity include those of `role`.

        Data keys under a key in an HSM or KMS are rewrapped by opening them and wrapping them again.
        """
        return self._is_external and (self._role is Role.REWRAPPER or (role, self._role) == (Role.REWRAPPER, Role.BOTH))

    def _refused(self, call: Call, role: Role, verb: str) -> CheckResult:
        if role not in self._role.parts:
            return ok(f"this identity may not {verb}, which a {self._role.shown} does not need")
        fact = f"this identity may not {verb} with key {self._settings.key} in {self._settings.mount}"
        usable = self._inspection.usable_keys(call)
        if usable is None or any(key.covers(self._settings.mount, self._settings.key) for key in usable):
            return failed(fact, f"{_GIVE}; if it already has this policy, the token has expired", self.policy)
        fact += f", or there is no such key; it may use {shown(usable) or 'no key'}"
        named = self._policy_keys.all_but(self._settings.key)
        self._is_mistyped = any(key.key not in named for key in usable)
        if self._is_mistyped:  # no policy to paste, because it would contain the mistake
            return failed(fact, "Correct keys.vault.mount and keys.vault.key, or allow this key to its role")
        return failed(fact, f"Check keys.vault.mount and keys.vault.key first. {_GIVE} if both are right", self.policy)

    @property
    def _needs(self) -> Needs:
        named = self._policy_keys
        return Needs(
            self._role,
            self._settings.mount,
            self._settings.key,
            self._inspection.context,
            frozenset(named.seal) - self._mistyped,
            frozenset(named.read) - self._mistyped,
            self._signing_key,
            self._wraps_local,
            self._is_external,
        )

    @property
    def policy(self) -> str:
        """The policy that this identity needs, to paste into Vault; empty if the key's name is probably mistyped."""
        return "" if self._is_mistyped else self._needs.policy

    # --- keys of policies ---------------------------------------------------------------------------------

    def _try_policy_keys(self, call: Call) -> Iterator[CheckResult]:
        named = self._policy_keys
        for name, rule in named.all_but(self._settings.key).items():
            try:
                yield from self._try_policy_key(call, name, rule, seals=name in named.seal)
            except (NotConfigured, NotPermitted, DataLoss) as fault:
                remedy = (
                    "Correct the key in this rule, or create it with the type and the settings of the configured one"
                )
                yield failed(f"key {name} of the encryption rule {rule}: {fault.fact}", remedy)
        for text, rule in named.unknown.items():
            yield not_checked(f"key {text} of the encryption rule {rule} has a variable that has no value here")

    def _try_policy_key(self, call: Call, name: str, rule: str, *, seals: bool) -> Iterator[CheckResult]:
        trial, parts, done = KeyTrial(self._keys, name, self._making), self._role.parts, []
        if Role.SAVER in parts and seals:
            if trial.make(call) is None:
                yield self._policy_key_refused(call, name, rule, "make")
                return
            done.append("make")
        for role, verb, attempt in (
            (Role.LOADER, "open", trial.opens),
            (Role.REWRAPPER, "rewrap", trial.rewrap_and_read),
        ):
            if role in parts:
                try:
                    if attempt(call) is False:
                        raise DataLoss("Vault returned another data key than the one it wrapped")
                except TokenRefused:
                    yield self._policy_key_refused(call, name, rule, verb)
                    return
                done.append(verb)
        if done:
            yield ok(f"this identity may {' and '.join(done)} data keys with key {name}, as rule {rule} needs")

    def _policy_key_refused(self, call: Call, name: str, rule: str, verb: str) -> CheckResult:
        mount = self._settings.mount
        fact = (
            f"this identity may not {verb} data keys with key {name} in {mount}, which the encryption rule {rule} names"
        )
        usable = {key.key for key in self._inspection.usable_keys(call) or () if key.mount == mount}
        if name not in usable and (close := get_close_matches(name, usable, 1)):
            self._mistyped.add(name)
            return failed(fact, f"Correct the name in the rule, if {close[0]} is meant; or allow this key to its role")
        return failed(fact, f"{_GIVE}, or correct the rule if there is no such key", self.policy)

    # --- rights and facts that are only read --------------------------------------------------------------

    def _look(self, call: Call) -> Iterator[CheckResult]:
        try:
            key = self._inspection.look(call)
        except TokenRefused:
            where = f"{self._settings.mount}/keys/{self._settings.key}"
            if Role.REWRAPPER in self._role.parts:
                yield failed(f"this identity may not read {where}", "Give its role the policy below", self.policy)
            elif self._settings.context:
                fact = f"this identity may not read {where}, and so cannot verify that the key is derived"
                yield warning(fact, "Give its role the policy below", self.policy)
            else:
                yield not_checked(f"this identity may not read {where} and does not need to", "Read it as an operator")
            return
        yield from key_facts(key, self._settings, self._now())

    def _other_rights(self, call: Call) -> Iterator[CheckResult]:
        if self._is_mistyped:
            yield not_checked("the rights are not compared, because the key's name or its mount is probably mistyped")
            return
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
            yield warning("the token is a root token, which may do everything", _LESS, self.policy)
        elif rights.excess:
            yield warning(f"this identity may also {'; '.join(rights.excess)}", _LESS, self.policy)
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
