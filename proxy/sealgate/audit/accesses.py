"""How a call becomes audit records: which fact of the call goes into which field (docs/audit.md)."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Callable

import msgspec

from sealgate import program_version
from sealgate.argo import SERVICE
from sealgate.audit.records import (
    LONGEST,
    Actor,
    Api,
    Crypto,
    DecisionInfo,
    Flow,
    KeyService,
    Named,
    Phase,
    PolicyInfo,
    Product,
    Record,
    RecordMetadata,
    SessionInfo,
    Trace,
    Unmapped,
    actor,
    canonical,
    printable,
)
from sealgate.call import Call, Operation, WrappedKey
from sealgate.errors import Denied, DownstreamStatus, PluginError, Refused, name_of, shown_key
from sealgate.identity import Identity
from sealgate.plugin import Artifact

_OCSF = "1.9.0"
_LARGEST_ATTESTATION = 600
"""Bytes that `chain` adds to a record, at most."""
_MOST_LISTED = 8
"""How many rules on trial and how many annotations of a decision are recorded."""
_LONGEST_LISTED = 60
"""Characters of each of them."""
_LIMITS = (1024, 120, 24)
"""Characters of a text from outside. The first limit with which the record fits into a line is used."""
_DATASTORE, _LIFECYCLE = 6005, 6002
_ACTIVITIES = {
    Operation.LOAD: (10, "Decrypt"),
    Operation.OPEN_STREAM: (10, "Decrypt"),
    Operation.SAVE: (9, "Encrypt"),
    Operation.SAVE_STREAM: (9, "Encrypt"),
    Operation.DELETE: (7, "Delete"),
    Operation.LIST_OBJECTS: (8, "List"),
    Operation.IS_DIRECTORY: (1, "Read"),
}


_PRODUCT = Product(program_version())


class Access:
    """One access to an artifact, which makes its own records.

    Args:
        call: the call. The records contain what the layers have written to it by then.
        artifact: the artifact as the caller named it.
        hmac_key: replaces the artifact's name and key by an HMAC if the key is hidden; empty without one.
    """

    def __init__(self, call: Call, artifact: Artifact, hmac_key: bytes = b"") -> None:
        self.call = call
        self._artifact = artifact
        self._hmac_key = hmac_key

    def attempt(self, sequence: int, by: Identity) -> Record:
        """Return the record to write before the access has effects.

        Args:
            sequence: its place in the chain.
            by: the identity of this process.
        """
        return _fitting(lambda limit: self._record(sequence, by, limit, Phase.ATTEMPT, "Unknown", 0))

    def outcome(self, sequence: int, by: Identity, error: BaseException | None, listed: int) -> Record:
        """Return the record to write after the access.

        Args:
            sequence: its place in the chain.
            by: the identity of this process.
            error: what the access failed with; None after a success.
            listed: the number of objects in the answer to a ListObjects.
        """
        status, number = ("Failure", 2) if error else ("Success", 1)
        return _fitting(lambda limit: self._record(sequence, by, limit, Phase.OUTCOME, status, number, error, listed))

    def _record(
        self,
        sequence: int,
        by: Identity,
        limit: int,
        phase: Phase,
        status: str,
        status_id: int,
        error: BaseException | None = None,
        listed: int = 0,
    ) -> Record:
        call, artifact = self.call, self._artifact
        ended = phase is Phase.OUTCOME
        denied = isinstance(error, Denied) or call.decision.effective == "deny"
        activity, name = _ACTIVITIES[call.operation]
        resource, key_sha256 = self._resource(limit, denied=denied)
        grpc_status = status_of(error) if ended else ""
        return Record(
            sealgate_audit=1,
            activity_id=activity,
            activity_name=name,
            actor=actor(by, limit),
            category_uid=6,
            class_uid=_DATASTORE,
            metadata=_metadata(sequence, call.id),
            severity_id=_severity(error, denied=denied),
            status=status,
            status_id=status_id,
            time=_now(),
            type_uid=_DATASTORE * 100 + activity,
            action="Denied" if denied else "Allowed",
            action_id=2 if denied else 1,
            api=Api(call.operation, Named(SERVICE)),
            databucket=Named(printable(artifact.plugin, limit)),
            disposition="Blocked" if denied else "Error" if error else "Allowed",
            disposition_id=2 if denied else 27 if error else 1,
            duration=round((time.monotonic() - call.began) * 1000) if ended else None,
            policy=_policy(call, limit),
            resource=resource,
            status_code=call.decision.code if denied and call.decision.code else grpc_status,
            status_detail=kind_of(error),
            unmapped=Unmapped(
                phase,
                decision=_decision(call, limit),
                crypto=_crypto(call.sealed.key, limit),
                io=_flow(call, listed) if ended else None,
                vault=_key_service(call, limit) if ended else None,
                trace=Trace(call.trace.trace_id, call.trace.span_id) if call.trace.trace_id else None,
                grpc_status=grpc_status,
                key_sha256=key_sha256,
            ),
        )

    def _resource(self, limit: int, *, denied: bool) -> tuple[Named, str]:
        """Return the artifact's name and key, and the digest of the key or an empty text.

        A key that is denied, unprintable or too long is shown in part; only then there is a digest. If the key is
        hidden, so is the name, which often says the same.
        """
        name, key = self._artifact.name, self._artifact.key
        if self.call.hides(key):
            return Named(self._hidden(name) if name else "", self._hidden(key)), ""
        name = printable(name, limit)
        if not denied and key.isprintable() and len(key) <= limit:
            return Named(name, key), ""
        part = shown_key(key[:limit])
        digest = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
        return Named(name, part), "" if part == key else digest

    def _hidden(self, text: str) -> str:
        """Return the HMAC of `text`: an owner of the HMAC key can search for it, and others cannot guess `text`."""
        if not self._hmac_key:
            return "withheld"
        return f"hmac-sha256:{hmac.digest(self._hmac_key, text.encode(errors='surrogatepass'), 'sha256').hex()}"


def session(sequence: int, by: Identity, phase: Phase, facts: SessionInfo) -> Record:
    """Return the record that starts or ends a chain (`phase` is START or END)."""
    activity, name = (3, "Start") if phase is Phase.START else (4, "Stop")
    return _fitting(
        lambda limit: Record(
            sealgate_audit=1,
            activity_id=activity,
            activity_name=name,
            actor=actor(by, limit),
            category_uid=6,
            class_uid=_LIFECYCLE,
            metadata=_metadata(sequence),
            severity_id=1,
            status="Success",
            status_id=1,
            time=_now(),
            type_uid=_LIFECYCLE * 100 + activity,
            unmapped=Unmapped(phase, session=_session(facts, limit)),
        )
    )


def _session(facts: SessionInfo, limit: int) -> SessionInfo:
    return msgspec.structs.replace(facts, sinks=tuple(printable(name, limit) for name in facts.sinks))


def status_of(error: BaseException | None) -> str:
    """Return the gRPC status that a call ends with, or `REFUSED` for an answer with `success: false`."""
    if error is None:
        return "OK"
    if isinstance(error, Refused):
        return "REFUSED"  # the answer has the gRPC status OK
    if isinstance(error, DownstreamStatus):
        return error.code if error.code.isidentifier() else "UNKNOWN"
    if isinstance(error, PluginError):
        return error.status
    return "CANCELLED" if isinstance(error, GeneratorExit) else "INTERNAL"


def kind_of(error: BaseException | None) -> str:
    """Return the kind of `error` as `errors.name_of` gives it; never its text, which may contain anything."""
    if error is None:
        return ""
    return "Cancelled" if isinstance(error, GeneratorExit) else name_of(error)


def _fitting(make: Callable[[int], Record]) -> Record:
    """Return a record that fits into a line.

    `make` gets the number of characters for each text from outside, less each time. If the record is still too long
    with the smallest, the parts that contain such texts are left out.
    """
    for limit in _LIMITS:
        record = make(limit)
        if len(canonical(record)) <= LONGEST - _LARGEST_ATTESTATION:
            return record
    replace = msgspec.structs.replace
    bare = replace(record.unmapped, decision=None, crypto=None, vault=None, trace=None)
    return replace(record, unmapped=bare, policy=None, actor=Actor(record.actor.attested), databucket=None)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _metadata(sequence: int, call_id: str = "") -> RecordMetadata:
    profiles = ("record_integrity", "security_control") if call_id else ("record_integrity",)
    return RecordMetadata(os.urandom(16).hex(), _PRODUCT, _OCSF, sequence, call_id, profiles)


def _severity(error: BaseException | None, *, denied: bool) -> int:
    """Return OCSF's severity: 1 informational, 3 medium, 4 high."""
    if denied:
        return 3
    return 4 if error is not None and status_of(error) == "DATA_LOSS" else 1


def _policy(call: Call, limit: int) -> PolicyInfo | None:
    facts = call.decision
    if not facts.policy and not facts.digest:
        return None
    return PolicyInfo(printable(facts.policy, limit), printable(facts.rule, limit), printable(facts.digest, limit))


def _decision(call: Call, limit: int) -> DecisionInfo | None:
    facts = call.decision
    if not facts.effective:
        return None
    short = min(limit, _LONGEST_LISTED)
    return DecisionInfo(
        printable(facts.code, limit),
        printable(facts.effective, limit),
        printable(facts.proposed, limit),
        "" if facts.mode == "enforce" else printable(facts.mode, limit),
        tuple(printable(rule, short) for rule in facts.would_deny[:_MOST_LISTED]),
        {printable(name, short): printable(value, short) for name, value in facts.annotations[:_MOST_LISTED]},
    )


def _crypto(key: WrappedKey | None, limit: int) -> Crypto | None:
    if key is None:
        return None
    return Crypto(key.provider, printable(key.key_name, limit), key.key_version, printable(key.mount, limit))


def _flow(call: Call, listed: int) -> Flow:
    facts = call.sealed
    digest = call.stored.sha256
    return Flow(
        facts.plaintext_bytes,
        facts.stored_bytes,
        facts.files,
        facts.unsealed_files,
        listed,
        digest,
        facts.left_out,
    )


def _key_service(call: Call, limit: int) -> KeyService | None:
    facts = call.keys
    if not facts.requests and not facts.remembered:
        return None
    milliseconds = round(facts.seconds * 1000)
    return KeyService(facts.requests, facts.remembered, printable(facts.request_id, limit), milliseconds)
