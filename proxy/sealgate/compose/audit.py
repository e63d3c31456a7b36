"""Builds the audit trail from the section `audit` of the settings (docs/audit.md)."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from sealgate.audit.audit_log import AuditLog, AuditOptions, Authority, Mode, Phases, Require
from sealgate.audit.chain import Certification
from sealgate.audit.sinks import Copy, File, Sink, Stdout
from sealgate.call import Call
from sealgate.compose.keys import provider_kind
from sealgate.compose.policies import identity_resolver, known_identity
from sealgate.compose.telemetry import build_exporter
from sealgate.config import FileSink, OtlpSink, Settings
from sealgate.errors import NotConfigured
from sealgate.keys import KeyProvider
from sealgate.log_event import LogEvent
from sealgate.telemetry.environment import Signal, disabled, endpoint
from sealgate.telemetry.reporting import Telemetry

log = logging.getLogger("sealgate")

_LEAST_SECRET, _LARGEST_SECRET = 32, 1 << 16
"""Bytes."""
UNSIGNED, SIGN_IT = (
    "the audit trail is not signed: any program could have written it",
    "Set audit.signingKey (docs/audit.md)",
)
"""How the log and `sealgate doctor` say it, and the remedy."""


def audit_log(settings: Settings, keys: KeyProvider, watch: Telemetry | None = None) -> AuditLog:
    """Build the audit trail of this process. Nothing is written before the first access.

    Raises:
        NotConfigured: the secret for hiding artifact keys cannot be read, or a sink needs a collector that is not set.
    """
    copies, options = audit_copies(settings), audit_options(settings)
    certifies = authority(keys) if signs(settings) else None
    if certifies is None:
        log.warning(LogEvent(UNSIGNED, remedy=SIGN_IT))
    return AuditLog(audit_sinks(settings), known_identity(keys), options, certifies, copies=copies, telemetry=watch)


def audit_sinks(settings: Settings) -> list[Sink]:
    """Build the sinks of the trail. Nothing is opened before the first record."""
    return [
        File(sink.path) if isinstance(sink, FileSink) else Stdout()
        for sink in settings.audit.sinks
        if not isinstance(sink, OtlpSink)
    ]


def audit_copies(settings: Settings) -> list[Copy]:
    """Build what exports copies of the trail to the collector; [] if none are configured.

    Raises:
        NotConfigured: the address of the collector is not set.
    """
    wants = any(isinstance(sink, OtlpSink) for sink in settings.audit.sinks)
    return _collector_copies() if wants else []


def audit_options(settings: Settings) -> AuditOptions:
    """Build the options of the trail.

    Raises:
        NotConfigured: the secret for hiding artifact keys cannot be read.
    """
    audit = settings.audit
    return AuditOptions(
        Mode(audit.mode), Require(audit.require), Phases(audit.phases), audit.wait, _hmac_key(audit.hmac_key_file)
    )


def signs(settings: Settings) -> bool:
    """Return whether trails are to be signed: with `audit.signingKey`, or always with a local keyring."""
    return provider_kind(settings).signs_by_default or bool(settings.audit.signing_key)


def authority(keys: KeyProvider) -> Authority:
    """Build the authority that certifies audit trails: the key provider signs, and its login proves the identity."""

    def certify(call: Call, text: bytes) -> Certification:
        signed = keys.sign(call, text)
        return Certification(signed.key, signed.version, signed.signature)

    return Authority(certify, identity_resolver(keys))


def _collector_copies() -> list[Copy]:
    """Build the exporter of copies to the OpenTelemetry collector; [] if a variable disables it or it fails."""
    if variable := disabled(Signal.LOGS, os.environ):
        log.warning(
            LogEvent("telemetry is not exported", part="copies of the trail", reason=f"{variable} disables them")
        )
        return []
    if not endpoint(Signal.LOGS, os.environ):
        raise NotConfigured(
            "audit.sinks contains otlp, and the address of the collector is not set",
            says="configuration",
            remedy="Set OTEL_EXPORTER_OTLP_ENDPOINT",
        )

    def collector() -> Copy:
        from sealgate.audit.sinks.otlp import OtlpCopy  # noqa: PLC0415 - loads OpenTelemetry, only if it is configured

        return OtlpCopy()

    copy = build_exporter("copies of the audit trail", collector)
    return [copy] if copy else []


def _hmac_key(path: Path | None) -> bytes:
    """Read the secret that hides artifact keys in records; empty without a file."""
    if path is None:
        return b""
    try:
        with path.open("rb") as file:
            secret = file.read(_LARGEST_SECRET)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise NotConfigured(f"the secret in {path} cannot be read: {reason}", remedy="Check its path") from None
    if len(secret) < _LEAST_SECRET:
        raise NotConfigured(
            f"the secret in {path} has fewer than {_LEAST_SECRET} bytes", remedy="Write a longer, random secret"
        )
    return secret
