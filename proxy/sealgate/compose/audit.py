"""The audit trail as the settings describe it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from sealgate import identity
from sealgate.audit.audit_log import AuditLog, AuditOptions, Authority, Mode, Phases, Require
from sealgate.audit.chain import Certification
from sealgate.audit.sinks import Copy, File, Sink, Stdout
from sealgate.call import Call
from sealgate.compose.keys import provider_kind
from sealgate.compose.policies import known_by
from sealgate.compose.telemetry import or_none
from sealgate.config import FileSink, OtlpSink, Settings
from sealgate.errors import NotConfigured
from sealgate.keys import KeyProvider
from sealgate.telemetry.environment import Signal, disabled, endpoint
from sealgate.telemetry.reporting import Telemetry

log = logging.getLogger("sealgate")

_LEAST_SECRET, _LARGEST_SECRET = 32, 1 << 16


def audit_log(settings: Settings, keys: KeyProvider, watch: Telemetry | None = None) -> AuditLog:
    """The trail of this process. Nothing is written before the first access.

    Raises:
        NotConfigured: the secret that hides artifact keys cannot be read.
    """
    audit = settings.audit
    sinks: list[Sink] = []
    copies: list[Copy] = []
    for place in audit.sinks:
        if isinstance(place, OtlpSink):
            copies.extend(_collector())
        else:
            sinks.append(File(place.path) if isinstance(place, FileSink) else Stdout())
    terms = AuditOptions(
        Mode(audit.mode), Require(audit.require), Phases(audit.phases), audit.wait, _secret(audit.hmac_key_file)
    )
    certifies = provider_kind(settings).signs_by_default or bool(audit.signing_key)
    return AuditLog(
        sinks, identity.asserted(), terms, authority(keys) if certifies else None, copies=copies, telemetry=watch
    )


def authority(keys: KeyProvider) -> Authority:
    """Who vouches for trails: the key provider, which also knows whom it gave its token to."""

    def certify(call: Call, text: bytes) -> Certification:
        made = keys.sign(call, text)
        return Certification(made.key, made.version, made.signature)

    return Authority(certify, known_by(keys))


def _collector() -> list[Copy]:
    if variable := disabled(Signal.LOGS, os.environ):
        log.warning("no copies of the audit trail are exported: %s wants none", variable)
        return []
    if not endpoint(Signal.LOGS, os.environ):
        raise NotConfigured(
            "audit.sinks names otlp, and nothing says where the collector is",
            says="configuration",
            remedy="Set OTEL_EXPORTER_OTLP_ENDPOINT",
        )

    def made() -> Copy:
        from sealgate.audit.sinks.otlp import OtlpCopy  # noqa: PLC0415 - only if it is configured

        return OtlpCopy()

    copy = or_none("copies of the audit trail", made)
    return [copy] if copy else []


def _secret(path: Path | None) -> bytes:
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
            f"the secret in {path} has fewer than {_LEAST_SECRET} bytes", remedy="Write a longer one, at random"
        )
    return secret
