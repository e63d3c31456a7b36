"""What `sealgate doctor` checks of the audit trail: each sink of it, and the key that signs it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

from sealgate.audit.sinks import NotWritten
from sealgate.call import Call
from sealgate.cli.doctor.checks import Check, CheckResult, failed, ok, warning
from sealgate.compose.audit import SIGN_IT, UNSIGNED, audit_copies, audit_options, audit_sinks, authority, signs
from sealgate.compose.keys import key_provider
from sealgate.config import Settings
from sealgate.errors import NotConfigured, NotPermitted

_NO_CERTIFICATE = b"sealgate doctor: this is no certificate\0"
"""The beginning of what is signed. It begins as neither a certificate nor a record does."""
_WRITABLE = (
    "Let the plugin's user write to a directory there, on a writable volume with free space; or correct audit.sinks"
)
_UNSIGNED = "the audit trail would not be signed"


class TrailChecks:
    """Checks that records can be written and signed, and leaves nothing that could be taken for a record.

    Args:
        settings: the settings.
        needs: the name of the check that must have passed before the signing key is tried.
        policy: returns the policy that lets this identity sign, to paste into Vault; empty if none is needed.
    """

    def __init__(self, settings: Settings, needs: str, policy: Callable[[], str]) -> None:
        self._settings = settings
        self._needs = needs
        self._policy = policy

    def checks(self) -> list[Check]:
        """Return the checks: the sinks, then the signing key."""
        needs = (self._needs,) if signs(self._settings) else ()
        return [Check("audit: sinks", self._sinks), Check("audit: signature", self._sign, needs=needs)]

    def _sinks(self, _: Call) -> Iterator[CheckResult]:
        options = audit_options(self._settings)
        for sink in audit_sinks(self._settings):
            try:
                yield ok(f"{sink.name}: {sink.try_out(options.wait)}")
            except NotWritten as fault:
                yield failed(f"{sink.name}: no record can be written: {fault}", _WRITABLE)
            finally:
                sink.close()
        for copy in audit_copies(self._settings):
            try:
                copy.try_out()
                yield ok("otlp: the collector accepted an empty export")
            except NotWritten as fault:
                yield warning(f"otlp: {fault}", "Check OTEL_EXPORTER_OTLP_ENDPOINT, and that the collector takes logs")
            finally:
                copy.close()

    def _sign(self, call: Call) -> Iterator[CheckResult]:
        if not signs(self._settings):
            yield warning(UNSIGNED, SIGN_IT)
            return
        try:
            made = authority(key_provider(self._settings)).certify(call, _NO_CERTIFICATE + secrets.token_bytes(16))
        except (NotPermitted, NotConfigured) as fault:
            yield failed(f"{_UNSIGNED}: {fault.fact}", self._remedy(fault), self._policy())
            return
        yield ok(f"the audit trail is signed: key {made.key} version {made.key_version} signed a random text")

    def _remedy(self, fault: NotPermitted | NotConfigured) -> str:
        """Return what to do if the key refuses to sign."""
        name = self._settings.audit.signing_key
        if not name or not isinstance(fault, NotPermitted):
            return fault.remedy
        return f"Check audit.signingKey; if {name} is right, give this identity's role the policy below"
