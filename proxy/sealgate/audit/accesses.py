"""From a call to its audit records: what was asked, by whom, what was decided, what came of it."""

from __future__ import annotations

import hashlib
import hmac
import os
import time
from collections.abc import Callable

import msgspec

from sealgate import program_version
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
    shown,
)
from sealgate.call import Call, Operation, WrappedKey
from sealgate.errors import Denied, DownstreamStatus, PluginError, Refused, name_of, shown_key
from sealgate.identity import Identity
from sealgate.plugin import Artifact

_OCSF = "1.8.0"
_LARGEST_SEAL = 600
"""What `chain` adds to a record, at most."""
_MOST_NOTED, _SHORT = 8, 60
"""How many of a decision's trials and annotations are recorded, and how many characters of each."""
_CLIPS = (1024, 120, 24)
"""Characters of a text that comes from outside: the first with which the record fits."""
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
    """One access, from which its records are made."""

    def __init__(self, call: Call, artifact: Artifact, hmac_key: bytes = b"") -> None:
        self.call = call
        self._artifact = artifact
        self._hmac_key = hmac_key

    def attempt(self, sequence: int, by: Identity) -> Record:
        """What is written before anything happens, with the decision."""
        return _fitting(lambda clip: self._record(sequence, by, clip, Phase.ATTEMPT, "Unknown", 0))

    def outcome(self, sequence: int, by: Identity, error: BaseException | None, listed: int) -> Record:
        """What is written when all has happened."""
        status, number = ("Failure", 2) if error else ("Success", 1)
        return _fitting(lambda clip: self._record(sequence, by, clip, Phase.OUTCOME, status, number, error, listed))

    def _record(
        self,
        sequence: int,
        by: Identity,
        clip: int,
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
        key, key_sha256 = self._key(clip, whole=not denied)
        grpc_status = status_of(error) if ended else ""
        return Record(
            sealgate_audit=1,
            activity_id=activity,
            activity_name=name,
            actor=actor(by, clip),
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
            api=Api(call.operation, Named("artifact.ArtifactService")),
            databucket=Named(shown(artifact.plugin, clip)),
            disposition="Blocked" if denied else "Error" if error else "Allowed",
            disposition_id=2 if denied else 27 if error else 1,
            duration=round((time.monotonic() - call.began) * 1000) if ended else None,
            policy=_policy(call, clip),
            resource=Named(shown(artifact.name, clip), key),
            status_code=call.decision.code if denied and call.decision.code else grpc_status,
            status_detail=kind_of(error),
            unmapped=Unmapped(
                phase,
                decision=_decision(call, clip),
                crypto=_crypto(call.sealed.key, clip),
                io=_flow(call, listed) if ended else None,
                vault=_key_service(call, clip) if ended else None,
                trace=Trace(call.trace.trace_id, call.trace.span_id) if call.trace.trace_id else None,
                grpc_status=grpc_status,
                key_sha256=key_sha256,
            ),
        )

    def _key(self, clip: int, *, whole: bool) -> tuple[str, str]:
        """The artifact's key, and its digest where the key is shown in part: refused, or too long for the line."""
        key = self._artifact.key
        if self.call.decision.hmac_key:
            return self._hidden(key), ""
        if whole and key.isprintable() and len(key) <= clip:
            return key, ""
        part = shown_key(key[:clip])
        return part, "" if part == key else hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()

    def _hidden(self, key: str) -> str:
        """What whoever has the HMAC's key can look for, and nobody else can guess."""
        if not self._hmac_key:
            return "withheld"
        return f"hmac-sha256:{hmac.digest(self._hmac_key, key.encode(errors='surrogatepass'), 'sha256').hex()}"


def session(sequence: int, by: Identity, phase: Phase, facts: SessionInfo) -> Record:
    """The record that begins or ends a chain."""
    activity, name = (3, "Start") if phase is Phase.START else (4, "Stop")
    return _fitting(
        lambda clip: Record(
            sealgate_audit=1,
            activity_id=activity,
            activity_name=name,
            actor=actor(by, clip),
            category_uid=6,
            class_uid=_LIFECYCLE,
            metadata=_metadata(sequence),
            severity_id=1,
            status="Success",
            status_id=1,
            time=_now(),
            type_uid=_LIFECYCLE * 100 + activity,
            unmapped=Unmapped(phase, session=_session(facts, clip)),
        )
    )


def _session(facts: SessionInfo, clip: int) -> SessionInfo:
    return msgspec.structs.replace(facts, sinks=tuple(shown(name, clip) for name in facts.sinks))


def status_of(error: BaseException | None) -> str:
    """The gRPC status that a call ends with, or `REFUSED`."""
    if error is None:
        return "OK"
    if isinstance(error, Refused):
        return "REFUSED"  # in an answer whose status is OK
    if isinstance(error, DownstreamStatus):
        return error.code if error.code.isidentifier() else "UNKNOWN"
    if isinstance(error, PluginError):
        return error.status
    return "CANCELLED" if isinstance(error, GeneratorExit) else "INTERNAL"


def kind_of(error: BaseException | None) -> str:
    """The name of an error's class where it is one of ours, never its text."""
    if error is None:
        return ""
    return "Cancelled" if isinstance(error, GeneratorExit) else name_of(error)


def _fitting(make: Callable[[int], Record]) -> Record:
    """The record with texts as long as a line has room for; at last without the parts that others wrote."""
    for clip in _CLIPS:
        record = make(clip)
        if len(canonical(record)) <= LONGEST - _LARGEST_SEAL:
            return record
    short = msgspec.structs.replace
    bare = short(record.unmapped, decision=None, crypto=None, vault=None, trace=None)
    return short(record, unmapped=bare, policy=None, actor=Actor(record.actor.attested), databucket=None)


def _now() -> int:
    return time.time_ns() // 1_000_000


def _metadata(sequence: int, call_id: str = "") -> RecordMetadata:
    profiles = ("security_control",) if call_id else ()
    return RecordMetadata(os.urandom(16).hex(), _PRODUCT, _OCSF, sequence, call_id, profiles)


def _severity(error: BaseException | None, *, denied: bool) -> int:
    """OCSF's scale: 1 informational, 3 medium, 4 high."""
    if denied:
        return 3
    return 4 if error is not None and status_of(error) == "DATA_LOSS" else 1


def _policy(call: Call, clip: int) -> PolicyInfo | None:
    facts = call.decision
    if not facts.policy and not facts.digest:
        return None
    return PolicyInfo(shown(facts.policy, clip), shown(facts.rule, clip), shown(facts.digest, clip))


def _decision(call: Call, clip: int) -> DecisionInfo | None:
    facts = call.decision
    if not facts.effective:
        return None
    short = min(clip, _SHORT)
    return DecisionInfo(
        shown(facts.code, clip),
        shown(facts.effective, clip),
        shown(facts.proposed, clip),
        "" if facts.mode == "enforce" else shown(facts.mode, clip),
        tuple(shown(rule, short) for rule in facts.would_deny[:_MOST_NOTED]),
        {shown(name, short): shown(value, short) for name, value in facts.annotations[:_MOST_NOTED]},
    )


def _crypto(key: WrappedKey | None, clip: int) -> Crypto | None:
    if key is None:
        return None
    return Crypto(key.provider, shown(key.key_name, clip), key.key_version, shown(key.mount, clip))


def _flow(call: Call, listed: int) -> Flow:
    facts = call.sealed
    digest = call.stored.sha256
    return Flow(facts.plaintext_bytes, facts.stored_bytes, facts.files, facts.unsealed_files, listed, digest)


def _key_service(call: Call, clip: int) -> KeyService | None:
    facts = call.keys
    if not facts.requests and not facts.remembered:
        return None
    milliseconds = round(facts.seconds * 1000)
    return KeyService(facts.requests, facts.remembered, shown(facts.request_id, clip), milliseconds)
