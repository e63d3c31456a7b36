"""The content of a record, and its length."""

from __future__ import annotations

import json
from dataclasses import fields

import msgspec
from harness.trails import IDENTITY, Authority, Memory, log_of, shown_call, trail_of
from hypothesis import given
from hypothesis import strategies as st

from sealgate.audit.accesses import Access
from sealgate.audit.audit_log import AuditLog, AuditOptions
from sealgate.audit.audit_log import Authority as CertifyingKey
from sealgate.audit.chain import Chain
from sealgate.audit.records import LONGEST
from sealgate.call import Operation, WrappedKey
from sealgate.errors import BadRequest, Denied, DownstreamStatus, Refused, Truncated
from sealgate.identity import Identity
from sealgate.plugin import Artifact

AUDITED = [operation for operation in Operation if operation is not Operation.GET_CAPABILITIES]
TEXT = st.text(max_size=2000) | st.text(alphabet='"\\\n\0é\U0001f600', max_size=2000)


@given(
    st.sampled_from(AUDITED),
    TEXT,
    TEXT,
    st.lists(TEXT, min_size=len(fields(Identity)) - 1, max_size=len(fields(Identity)) - 1),
    st.sampled_from([None, Denied("no"), Truncated("cut"), DownstreamStatus("x\n", "y"), ValueError("z")]),
)
def test_a_record_is_one_line_of_at_most_4096_bytes_for_any_input(operation, key, name, identity, error):
    call = shown_call(operation)
    call.decision.policy = call.decision.rule = call.decision.code = call.decision.effective = name
    call.sealed.key = WrappedKey("vault", name, key, "vault:v1:AAAA", 7)
    call.keys.request_id, call.keys.requests = name, 1
    chain = Chain()
    access = Access(call, Artifact(key.encode(errors="replace").decode(), name=name, plugin=name))
    for record in (access.attempt(1, Identity(*identity)), access.outcome(2, Identity(*identity), error, 10**9)):
        signed = chain.signed_line(record)
        chain.advance(signed)
        assert len(signed.line) < LONGEST
        assert signed.line.startswith(b'{"sealgate_audit":1,')
        assert signed.line.endswith(b"}\n")
        assert signed.line.count(b"\n") == 1
        assert json.loads(signed.line)["sealgate_audit"] == 1


@given(TEXT, TEXT)
def test_a_record_of_a_decision_with_long_texts_fits_into_a_line(name, value):
    call = shown_call(Operation.LOAD)
    decision = call.decision
    decision.effective = decision.proposed = decision.code = decision.policy = decision.rule = value
    decision.annotations = tuple((f"{number}{name}", value) for number in range(20))
    decision.would_deny = (value,) * 20
    identity = Identity(*[value] * (len(fields(Identity)) - 1))
    record = Access(call, Artifact(name, name=name, plugin=name)).outcome(1, identity, None, 0)
    assert len(Chain().signed_line(record).line) <= LONGEST
    sink = Memory()
    log = AuditLog([sink], lambda: identity, AuditOptions(), CertifyingKey(Authority().certify, lambda call: identity))
    log.attempt(Access(shown_call(Operation.LOAD), Artifact("ns/a")))
    assert max(len(line) for line in sink.lines) <= LONGEST


def outcome(error=None, operation=Operation.LOAD, **artifact):
    call = shown_call(operation)
    artifact = Artifact(**{"key": "ns/a", **artifact})
    return msgspec.to_builtins(Access(call, artifact).outcome(1, IDENTITY, error, 0))


def test_texts_of_a_downstream_and_of_errors_are_in_no_record():
    secret = "hunter2"
    for error in (Refused(secret), DownstreamStatus("ABORTED", secret), ValueError(secret), BadRequest(secret)):
        record = outcome(error, configuration=secret)
        assert secret not in json.dumps(record)
        assert record["status"] == "Failure"
    assert outcome(DownstreamStatus(f"no name: {secret}", ""))["status_code"] == "UNKNOWN"
    assert outcome(ValueError(secret))["status_detail"] == "Unexpected"


def test_a_wrapped_data_key_is_in_no_record():
    call = shown_call(Operation.LOAD)
    call.sealed.key = WrappedKey("vault", "transit", "artifacts", "vault:v3:c2VjcmV0", 3, b"context-of-a-tenant")
    text = json.dumps(msgspec.to_builtins(Access(call, Artifact("ns/a")).outcome(1, IDENTITY, None, 0)))
    assert "c2VjcmV0" not in text
    assert "context-of-a-tenant" not in text
    assert '"key_version": 3' in text


def test_a_denied_key_is_shown_in_part_and_identified_by_its_digest():
    call = shown_call(Operation.LOAD)
    call.decision.effective = "deny"
    key = "a/../" + "b" * 300 + "\n"
    record = msgspec.to_builtins(Access(call, Artifact(key)).outcome(1, IDENTITY, BadRequest("bad key"), 0))
    assert len(record["resource"]["uid"]) <= 121
    assert len(record["unmapped"]["key_sha256"]) == 64
    assert "key_sha256" not in outcome()["unmapped"]


def test_denial_error_and_success_are_distinguished():
    assert [outcome(error)["action_id"] for error in (None, Truncated(""), Denied(""))] == [1, 1, 2]
    assert [outcome(error)["disposition_id"] for error in (None, Truncated(""), Denied(""))] == [1, 27, 2]
    assert [outcome(error)["severity_id"] for error in (None, Truncated(""), Denied(""))] == [1, 4, 3]


def test_each_operation_has_its_activity():
    activities = {operation: outcome(operation=operation)["activity_name"] for operation in AUDITED}
    assert set(activities.values()) == {"Decrypt", "Encrypt", "Delete", "List", "Read"}
    assert all(outcome(operation=o)["type_uid"] == 600500 + outcome(operation=o)["activity_id"] for o in AUDITED)


def test_the_first_record_holds_the_settings_of_the_trail():
    sink = Memory()
    log_of(sink, authority=Authority(), mode="fail-open", require="all", phases="outcome").outcome(
        Access(shown_call(Operation.LOAD), Artifact("ns/a")), None
    )
    session = sink.records()[0]["unmapped"]["session"]
    assert (session["mode"], session["require"], session["phases"]) == ("fail-open", "all", "outcome")
    assert session["sinks"] == ["memory"]
    assert session["attestation"] == "certified"


def test_each_record_has_one_attestation_of_the_profile_record_integrity_and_names_the_record_before():
    records = [json.loads(line) for line in trail_of(3, Authority())]
    for before, record in zip([None, *records], records, strict=False):
        (attestation,) = record["attestation_list"]
        assert record["metadata"]["version"] == "1.9.0"
        assert "record_integrity" in record["metadata"]["profiles"]
        assert {signature["serialization"] for signature in attestation["signatures"]} == {"JCS"}
        if before is None:
            assert "prev_event" not in attestation
        else:
            assert attestation["prev_event"] == {
                "uid": before["metadata"]["uid"],
                "type_uid": before["type_uid"],
                "fingerprint": before["attestation_list"][0]["fingerprint"]["value"],
            }
