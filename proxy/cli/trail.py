"""The audit trail as the settings describe it."""

from __future__ import annotations

from proxy import identity
from proxy.config import FileSink, Settings
from proxy.keys import KeyProvider
from proxy.plugin import Call
from proxy.telemetry.audit import AuditLog, Mode, Phases, Require, Terms
from proxy.telemetry.chain import Certification
from proxy.telemetry.sinks import File, Sink, Stdout


def audit_log(settings: Settings, keys: KeyProvider) -> AuditLog:
    """The trail of this process. Nothing is written before the first access."""
    audit = settings.audit
    sinks: list[Sink] = [File(sink.path) if isinstance(sink, FileSink) else Stdout() for sink in audit.sinks]
    terms = Terms(Mode(audit.mode), Require(audit.require), Phases(audit.phases), audit.wait)
    known = identity.asserted()

    def certify(call: Call, text: bytes) -> Certification:
        made = keys.sign(call, text)
        return Certification(made.key, made.version, made.signature)

    certifies = settings.required_keys().provider == "local" or bool(audit.signing_key)
    return AuditLog(sinks, lambda: known, terms, certify if certifies else None)
