"""Replaying an audit trail with other policies: the outcomes that would change are counted."""

from __future__ import annotations

import io
import json

import pytest
from harness.policy import document, documents
from hypothesis import given
from hypothesis import strategies as st

from sealgate.policy.replay import lines_of, replayed

TEAM_A = {"namespace": "team-a", "service_account": "runner", "component": "sidecar", "attested": False}


def record(
    operation="Load", key="team-a/x", action="Allowed", phase="outcome", actor=TEAM_A, effective="", **flow
) -> str:
    decision = {"decision": {"effective": effective}} if effective else {}
    return json.dumps(
        {
            "sealgate_audit": 1,
            "action": action,
            "actor": actor,
            "api": {"operation": operation},
            "databucket": {"name": "crypt"},
            "resource": {"name": "main", "uid": key},
            "unmapped": {**decision, "phase": phase, "io": {"plaintext_bytes": 10, "files": 1, **flow}},
        }
    )


OWN = documents(
    document([{"effect": "allow", "match": {"keys": ["${identity.namespace}/**"]}, "limits": {"maxBytes": 50}}])
)


def test_changes_are_counted_by_rule_and_shown():
    result = replayed([record(), record(key="team-b/x"), record(plaintext_bytes=51), record(action="Denied")], OWN)
    assert (result.calls, result.now_denied, result.now_allowed) == (4, 2, 1)
    assert result.by_rule == {"default NO_RULE": 1, "main/r0 LIMIT_BYTES": 1}
    assert [(change.line, change.key, change.was) for change in result.examples] == [
        (2, "team-b/x", "allow"),
        (3, "team-a/x", "allow"),
        (4, "team-a/x", "deny"),
    ]


def test_a_call_is_decided_at_the_time_when_it_began():
    made = documents(document([{"effect": "allow", "expires": "2026-12-01T18:00:00Z"}]))
    before, at = 1_796_147_999_000, 1_796_148_000_000
    times = ({"time": before}, {"time": at}, {"time": at + 500, "duration": 501}, {}, {"time": True})
    trail = [json.dumps(json.loads(record()) | time) for time in times]
    found = replayed(trail, made)
    assert [change.line for change in found.examples] == [2, 4, 5]
    assert found.by_rule == {"main/r0 EXPIRED": 3}


def test_a_delete_that_would_begin_or_stop_to_remove_something_is_a_change():
    keeps = documents(document([{"effect": "allow"}, {"effect": "deny", "onDelete": "skip"}]))
    removes = documents(document([{"effect": "allow"}]))
    removed, kept = record("Delete"), record("Delete", effective="skip")
    results = [replayed([line], made) for line in (removed, kept) for made in (keeps, removes)]
    assert [(result.now_kept, result.now_removed) for result in results] == [(1, 0), (0, 0), (0, 0), (0, 1)]
    assert {(result.now_denied, result.now_allowed) for result in results} == {(0, 0)}


def test_a_call_that_ended_for_a_reason_outside_the_trail_is_undetermined():
    keep = {"effect": "require", "require": {"minAge": "9d", "overwrite": "deny"}, "onDelete": "skip"}
    same = documents(document([{"effect": "allow"}, keep]))
    too_large = json.dumps(json.loads(record("SaveStream", action="Denied")) | {"status_code": "LIMIT_BYTES"})
    trail = [record("Delete", effective="skip"), record("Save", action="Denied"), record("Load", action="Denied")]
    result = replayed([*trail, too_large], same)
    assert (result.undetermined, result.now_allowed, result.now_removed) == (3, 1, 0)


def test_each_call_is_decided_for_its_recorded_identity():
    other = {**TEAM_A, "namespace": "team-b"}
    result = replayed([record(), record(key="team-b/x", actor=other)], OWN)
    assert (result.calls, result.now_denied) == (2, 0)


def test_an_access_counts_once():
    assert replayed([record(phase="attempt"), record(), record(phase="session.start")], OWN).calls == 1


def test_facts_that_the_trail_lacks_do_not_deny_a_call():
    require = {"effect": "require", "require": {"overwrite": "deny", "minAge": "9d"}}
    made = documents(document([{"effect": "allow"}, require]))
    assert replayed([record("Save"), record("Delete")], made).now_denied == 0


def test_a_recorded_read_of_plaintext_denies_a_call():
    made = documents(document([{"effect": "allow"}]))
    assert replayed([record(unsealed_files=1)], made).by_rule == {"default PLAINTEXT": 1}


@pytest.mark.parametrize("key", ["withheld", "hmac-sha256:00"])
def test_a_record_without_its_key_is_unusable(key):
    result = replayed([record(key=key)], OWN)
    assert (result.calls, result.unusable) == (0, 1)


def test_a_directory_is_not_judged_by_names_that_are_not_recorded():
    made = documents(document([{"effect": "allow", "limits": {"extensions": [".csv"]}}]))
    assert replayed([record("Save", files=3)], made).now_denied == 0
    assert replayed([record("Save", files=1)], made).by_rule == {"main/r0 EXTENSION": 1}
    assert replayed([record("SaveStream", files=1)], made).by_rule == {"main/r0 EXTENSION": 1}


class Counted(io.BytesIO):
    """Records the length of the longest line that was read."""

    longest = 0

    def readline(self, size=-1):
        line = super().readline(size)
        self.longest = max(self.longest, len(line))
        return line


@pytest.mark.parametrize("end", [b"\n" + record().encode(), b""])
def test_a_line_of_any_length_is_counted_once_and_read_in_pieces(end):
    trail = Counted(record().encode() + b"\n" + b"x" * (1 << 20) + end)
    result = replayed(lines_of(trail), OWN)
    assert (result.calls, result.unusable) == (1 + bool(end), 1)
    assert trail.longest <= (1 << 16) + 1


@given(st.lists(st.text(max_size=30) | st.binary(max_size=30) | st.just("[" * 100_000), max_size=3))
def test_any_line_is_a_record_or_is_counted(lines):
    result = replayed(lines, OWN)
    assert result.calls == 0
    assert result.unusable <= len(lines)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.dictionaries(
            st.sampled_from(["api", "operation", "resource", "uid", "unmapped", "io", "files", "actor"]),
            inner,
            max_size=3,
        ),
        max_leaves=8,
    )
)
def test_any_record_is_used_or_counted(value):
    replayed([json.dumps(value)], OWN)
