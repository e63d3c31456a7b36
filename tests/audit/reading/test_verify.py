"""The verification finds each kind of change to a trail, and accepts an unchanged one."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tracemalloc

import msgspec
import pytest
from harness.trails import (
    IDENTITY,
    Authority,
    Memory,
    flaws,
    log_of,
    shown_call,
    trail_of,
    verdict_on,
    verdict_on_text,
)
from hypothesis import given
from hypothesis import strategies as st

from sealgate.audit.accesses import Access, session
from sealgate.audit.audit_log import AuditLog, AuditOptions
from sealgate.audit.chain import Chain
from sealgate.audit.reading.chain_state import ExpectedRecord
from sealgate.audit.reading.trail_lines import TrailLine, parse_record, read_lines
from sealgate.audit.reading.verify import verify
from sealgate.audit.records import Phase, SessionInfo, actor
from sealgate.call import Call, Operation
from sealgate.identity import Identity
from sealgate.plugin import Artifact

AUTHORITY = Authority()
TRAIL = trail_of(40, AUTHORITY)


def flipped(line: bytes, bit: int) -> bytes:
    return line[: bit // 8] + bytes([line[bit // 8] ^ (1 << bit % 8)]) + line[bit // 8 + 1 :]


def test_an_untouched_trail_is_verified():
    verdict = verdict_on(TRAIL, AUTHORITY, expect_closed=True)
    assert verdict.good, verdict.findings
    (chain,) = verdict.chains
    assert (chain.records, chain.closed, chain.certified_by) == (42, True, "audit version 1")


def test_each_flipped_bit_of_a_record_is_found():
    short = trail_of(1, AUTHORITY)
    line = short[1].rstrip(b"\n")
    for bit in range(0, len(line) * 8, 29):
        # A flipped bit may make a line break, which splits the line in two.
        touched = b"".join([short[0], flipped(line, bit), b"\n", short[2]])
        trail = read_lines([("trail", io.BytesIO(touched))])
        found = {finding.flaw.value for finding in verify(trail, [AUTHORITY.public]).findings}
        assert "altered" in found or "removed" in found, (bit, found)
        assert "forged" not in found, (bit, found)


@given(st.integers(0, len(TRAIL) - 2), st.data())
def test_a_flipped_bit_anywhere_is_reported_as_altered(number, data):
    bit = data.draw(st.integers(0, 8 * (len(TRAIL[number]) - 1) - 1))
    assert "altered" in flaws([*TRAIL[:number], flipped(TRAIL[number], bit), *TRAIL[number + 1 :]], AUTHORITY)


def test_a_changed_field_with_a_new_fingerprint_is_forged():
    touched = json.loads(TRAIL[5])
    touched["resource"]["uid"] = "ns/another"
    record = parse_record(TrailLine("trail", 6, json.dumps(touched).encode()))
    (attestation,) = touched["attestation_list"]
    unsealed = {name: value for name, value in attestation.items() if name not in {"fingerprint", "signatures"}}
    digest = hashlib.sha256(
        msgspec.json.encode({**touched, "attestation_list": [unsealed]}, order="sorted")
    ).hexdigest()
    attestation["fingerprint"]["value"] = digest
    assert record is not None
    assert not record.intact
    assert "forged" in flaws([*TRAIL[:5], json.dumps(touched).encode(), *TRAIL[6:]], AUTHORITY)


@given(st.integers(0, len(TRAIL) - 2))
def test_a_removed_line_is_reported_as_missing(number):
    found = verdict_on([*TRAIL[:number], *TRAIL[number + 1 :]], AUTHORITY)
    assert ("removed", f"record {number} is missing") in {(f.flaw.value, f.text) for f in found.findings}


@given(st.integers(0, len(TRAIL) - 2))
def test_two_swapped_lines_are_reported_as_reordered_only(number):
    touched = [*TRAIL[:number], TRAIL[number + 1], TRAIL[number], *TRAIL[number + 2 :]]
    assert flaws(touched, AUTHORITY) == {"reordered"}


def test_a_duplicate_line_is_reported_as_repeated():
    assert flaws([*TRAIL[:9], TRAIL[8], *TRAIL[9:]], AUTHORITY) == {"repeated"}


def test_a_session_certified_by_an_untrusted_key_is_forged():
    assert flaws(trail_of(3, Authority()), AUTHORITY) == {"forged"}
    assert flaws([*TRAIL, *trail_of(3, Authority())], AUTHORITY) == {"forged"}


def test_a_certificate_of_another_chain_is_detected():
    first, another = json.loads(TRAIL[0]), json.loads(trail_of(1, AUTHORITY)[0])
    first["unmapped"]["session"]["certified"] = another["unmapped"]["session"]["certified"]
    assert flaws([json.dumps(first).encode(), *TRAIL[1:]], AUTHORITY) >= {"altered"}


def test_a_chain_without_a_certificate_is_accepted_only_on_request():
    unsigned = trail_of(3, None)
    assert flaws(unsigned, AUTHORITY) == {"unsigned"}
    assert flaws(unsigned, allow_unsigned=True) == set()
    assert flaws([*unsigned[:2], flipped(unsigned[2], 900), *unsigned[3:]], allow_unsigned=True) == {"altered"}


def test_a_truncated_tail_leaves_the_chain_open():
    verdict = verdict_on(TRAIL[:-5], AUTHORITY)
    assert verdict.good
    assert not verdict.chains[0].closed
    assert flaws(TRAIL[:-5], AUTHORITY, expect_closed=True) == {"open"}


def saved(operation=Operation.SAVE, *, authority=AUTHORITY):
    """Return the trail of one access, in which record 1 is the attempt, and the id of its chain."""
    sink = Memory()
    log = log_of(sink, authority=authority)
    access = Access(shown_call(operation), Artifact("ns/model"))
    log.attempt(access)
    log.outcome(access, None)
    log.close()
    return sink.lines, sink.records()[0]["attestation_list"][0]["chain_uid"]


@pytest.mark.parametrize("operation", [Operation.SAVE, Operation.SAVE_STREAM])
def test_the_record_that_an_object_names_is_required_and_its_key_reported(operation):
    trail, chain = saved(operation)
    verdict = verdict_on(trail, AUTHORITY, anchors=[ExpectedRecord("an object", chain, 1)])
    assert verdict.good, verdict.findings.listed
    assert [(one.file, one.place, one.key) for one in verdict.objects] == [("an object", "trail:2", "ns/model")]
    assert flaws(trail[:1], AUTHORITY, anchors=[ExpectedRecord("an object", chain, 1)]) == {"removed"}


def test_each_of_several_objects_that_name_one_record_is_reported():
    trail, chain = saved()
    both = [ExpectedRecord("one", chain, 1), ExpectedRecord("another", chain, 1)]
    assert [one.file for one in verdict_on(trail, AUTHORITY, anchors=both).objects] == ["one", "another"]
    both = [ExpectedRecord("one", chain, 1), ExpectedRecord("another", chain, 1)]
    missing = verdict_on(trail[:1], AUTHORITY, anchors=both).findings
    assert [finding.text for finding in missing] == [
        "record 1, which one names, is missing",
        "record 1, which another names, is missing",
    ]


def test_an_object_is_not_confirmed_by_another_kind_of_record():
    trail, chain = saved()
    assert flaws(trail, AUTHORITY, anchors=[ExpectedRecord("an object", chain, 2)]) == {"forged"}, "an outcome"
    trail, chain = saved(Operation.LOAD)
    assert flaws(trail, AUTHORITY, anchors=[ExpectedRecord("an object", chain, 1)]) == {"forged"}, "an attempt to load"


def test_an_object_is_not_confirmed_by_an_unsigned_record():
    trail, chain = saved(authority=None)
    assert "forged" in flaws(trail, AUTHORITY, anchors=[ExpectedRecord("an object", chain, 1)])
    assert flaws(trail, anchors=[ExpectedRecord("an object", chain, 1)], allow_unsigned=True) == set()


def test_two_processes_interleaved_are_two_chains():
    one, another = trail_of(20, AUTHORITY), trail_of(20, AUTHORITY)
    order = random.Random(1)
    mixed, left = [], [list(one), list(another)]
    while any(left):
        mixed.append(order.choice([rest for rest in left if rest]).pop(0))
    verdict = verdict_on(mixed, AUTHORITY, expect_closed=True)
    assert verdict.good, verdict.findings
    assert sorted(chain.records for chain in verdict.chains) == [22, 22]
    chain = json.loads(one[5])["attestation_list"][0]["chain_uid"]
    mixed.remove(one[5])
    (finding,) = verdict_on(mixed, AUTHORITY).findings
    assert (finding.flaw, finding.chain) == ("removed", chain)


def test_a_duplicate_name_in_a_record_is_reported_as_altered():
    line = TRAIL[3].replace(b'"api":{', b'"api":{"operation":"Load","operation":"Load"},"api":{', 1)
    assert "altered" in flaws([*TRAIL[:3], line, *TRAIL[4:]], AUTHORITY)


def test_json_that_a_collector_rewrote_is_verified():
    rewritten = [json.dumps(json.loads(line), indent=None, separators=(", ", ": ")).encode() for line in TRAIL]
    assert flaws(rewritten, AUTHORITY, expect_closed=True) == set()


def test_other_lines_and_the_prefix_of_a_container_runtime_are_skipped():
    text = b"".join(b"2026-11-24T10:00:00.1Z stdout F " + line + b"level=info msg=hello\n" for line in TRAIL)
    assert verdict_on_text(text, AUTHORITY, expect_closed=True).good


def test_a_line_that_a_full_disk_cut_short_is_a_note_if_no_record_is_missing():
    verdict = verdict_on([*TRAIL[:5], TRAIL[5][:200], *TRAIL[5:]], AUTHORITY)
    assert verdict.good
    assert verdict.cut_short.listed == ["trail:6"]
    assert flaws([*TRAIL[:5], TRAIL[5][:200], *TRAIL[6:]], AUTHORITY) == {"altered", "removed"}


def test_an_incomplete_line_is_a_note_only_if_a_later_record_replaces_it():
    for cut in (25, 200, len(TRAIL[-1]) - 30):
        assert flaws([*TRAIL[:-1], TRAIL[-1][:cut] + b"\n"], AUTHORITY) == {"altered"}, cut
        assert flaws([*TRAIL[:6], TRAIL[5][:cut] + b"\n", *TRAIL[6:]], AUTHORITY) == (
            {"altered"} if b'"sequence"' in TRAIL[5][:cut] else set()
        ), cut
        assert flaws([*TRAIL[:5], TRAIL[5][:cut] + b"\n", *TRAIL[5:]], AUTHORITY) == set(), cut


def test_an_incomplete_first_record_is_replaced_by_that_of_a_new_chain():
    torn = trail_of(1, AUTHORITY)[0][:700] + b"\n"
    assert flaws([torn, *TRAIL], AUTHORITY) == set()
    assert flaws([*TRAIL, torn], AUTHORITY) == {"altered"}


def test_a_file_that_ends_within_a_line_is_a_note():
    verdict = verdict_on_text(b"".join(TRAIL)[:-100], AUTHORITY)
    assert verdict.good, verdict.findings.listed
    assert (verdict.cut_short.listed, verdict.cut_off.listed) == ([], ["trail:42"])
    assert not verdict.chains[0].closed


def test_a_record_behind_an_incomplete_one_in_the_same_line_is_read():
    other = trail_of(3, AUTHORITY)
    data = b"".join([*TRAIL[:5], TRAIL[5][:300], other[0], *other[1:], *TRAIL[5:]])
    verdict = verdict_on_text(data, AUTHORITY, expect_closed=True)
    assert verdict.good, verdict.findings.listed
    assert (len(verdict.chains), verdict.cut_short.listed) == (2, ["trail:6"])


@pytest.mark.parametrize("data", [b"", b"level=info msg=hello\n" * 9, b'{"log":"hello"}\n', bytes(100_000)])
def test_a_trail_without_records_is_empty_and_not_verified(data):
    verdict = verdict_on_text(data, AUTHORITY)
    assert verdict.empty
    assert not verdict.good


def made(sequence, chain="a" * 32, **content):
    """Return a line with a matching fingerprint and without a signature, which needs no secret."""
    record = {"sealgate_audit": 1, "metadata": {"sequence": sequence}, "time": 1, "unmapped": {"phase": "outcome"}}
    record |= {"attestation_list": [{"chain_uid": chain}], **content}
    fingerprint = hashlib.sha256(msgspec.json.encode(record, order="sorted")).hexdigest()
    record["attestation_list"][0]["fingerprint"] = {"algorithm": "SHA-256", "algorithm_id": 3, "value": fingerprint}
    return msgspec.json.encode(record, order="sorted") + b"\n"


def test_all_findings_of_a_hostile_trail_are_counted_and_the_first_are_kept():
    verdict = verdict_on_text(b'{"sealgate_audit":1,x}\n' * 5000, AUTHORITY)
    assert (len(verdict.findings), len(verdict.findings.listed), verdict.findings.more) == (5000, 1000, 4000)


def test_an_overlong_record_is_altered_and_not_kept_in_memory():
    data = (b'{"sealgate_audit":1,' + b"x" * 60_000 + b"\n") * 500
    tracemalloc.start()
    verdict = verdict_on_text(data, AUTHORITY)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(verdict.findings) == 500
    assert most < len(data) // 8, "30 MB were read"


def test_signatures_that_were_not_checked_are_reported():
    long = trail_of(7000, AUTHORITY)
    assert flaws(long[1:], AUTHORITY) == {"removed", "unsigned"}
    verdict = verdict_on([*long[1:], long[0]], AUTHORITY)
    assert [finding.flaw.value for finding in verdict.findings] == ["reordered", "unread"]


@pytest.mark.parametrize(
    "content",
    [{"time": -62135596800000}, {"time": 253402300799999}, {"actor": json.loads('{"pod":' * 400 + "1" + "}" * 400)}],
)
def test_a_made_up_record_gets_a_verdict(content):
    assert {finding.flaw for finding in verdict_on_text(made(0, **content), AUTHORITY).findings} <= {
        "unsigned",
        "altered",
    }


def test_a_record_that_names_another_actor_than_the_certificate_is_forged():
    authority = Authority()
    chain = Chain()
    certified = chain.certify(IDENTITY, lambda text: authority.certify(Call(Operation.LOAD), text))
    texts = []
    for number, (identity, phase) in enumerate(
        [(IDENTITY, Phase.START), (Identity("payroll", "ceo", attested=True), Phase.END)]
    ):
        signed = chain.signed_line(
            session(number, identity, phase, SessionInfo(certified=certified if not number else None))
        )
        chain.advance(signed)
        texts.append(signed.line)
    verdict = verdict_on(texts, authority)
    (finding,) = verdict.findings
    assert (finding.flaw, finding.place) == ("forged", "trail:2")
    assert "another actor than the certificate" in finding.text
    assert verdict.chains[0].actor == actor(IDENTITY)


@pytest.mark.parametrize("length", [10, 119, 120, 121, 300, 2000])
@pytest.mark.parametrize("letter", ["a", "\x01", "é"])
def test_a_long_name_is_the_same_actor_wherever_it_is_cut(length, letter):
    identity = Identity(*["a" * length] * 7, letter * length)

    class LongNamed(Authority):
        def identify(self, call):
            return identity

    sink, authority = Memory(), LongNamed()
    log = AuditLog([sink], lambda: identity, AuditOptions(), authority)
    log.outcome(Access(shown_call(Operation.LOAD), Artifact("ns/a")), None)
    log.close()
    assert flaws(sink.lines, authority) == set()


@given(st.lists(st.binary(max_size=300) | st.sampled_from([line.rstrip(b"\n") for line in TRAIL[:6]]), max_size=8))
def test_any_bytes_get_a_verdict(texts):
    verdict = verify(
        (TrailLine("trail", n, b'"attestation_list"' + text) for n, text in enumerate(texts)), [AUTHORITY.public]
    )
    assert not verdict.good
    assert verdict.empty == (not texts)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["attestation_list", "metadata", "sequence", "chain_uid", "signatures"]), inner
            )
        ),
    )
)
def test_any_json_gets_a_verdict(value):
    text = json.dumps(value).encode()
    assert not verify([TrailLine("trail", 1, text)], [AUTHORITY.public]).good


LENGTHS = [1_000, pytest.param(100_000, marks=[pytest.mark.large, pytest.mark.timeout(1800)])]


def written_by_two(records):
    """Return the lines of two processes, in the order in which they wrote them."""
    sink = Memory()
    logs = [log_of(sink, authority=AUTHORITY) for _ in range(2)]
    access = Access(shown_call(Operation.IS_DIRECTORY), Artifact("ns/a"))
    for number in range(records - 4):
        logs[number % 3 % 2].outcome(access, None)
    for log in logs:
        log.close()
    assert len(sink.lines) == records
    return sink.lines


@pytest.mark.parametrize("records", LENGTHS)
def test_each_flaw_in_a_long_trail_is_found_at_its_place_and_no_other_is(records):
    touched = written_by_two(records)
    middle = records // 2
    touched[middle] = flipped(touched[middle], 4000)
    removed = json.loads(touched[middle + 100])["metadata"]["sequence"]
    first, second = (number for number in range(middle + 200, middle + 206) if number % 3 == 1)  # of the same process
    touched[first], touched[second] = touched[second], touched[first]
    del touched[middle + 100]
    touched += trail_of(2, Authority())
    *kept, last = trail_of(3, AUTHORITY)
    touched += [*kept, flipped(last, 4000 % (8 * len(last) - 16))]
    verdict = verdict_on(touched, AUTHORITY)
    found = sorted((finding.flaw.value, finding.place or finding.text) for finding in verdict.findings)
    assert ("altered", f"trail:{middle + 1}") in found
    assert ("removed", f"record {removed} is missing") in found
    assert {flaw for flaw, _ in found} == {"altered", "forged", "removed", "reordered"}
    assert ("altered", f"trail:{len(touched)}") in found, "the last line"
    assert len(found) <= 8, found


@pytest.mark.parametrize("records", LENGTHS)
def test_a_changed_last_line_of_a_long_trail_is_found_and_a_truncated_tail_leaves_it_open(records):
    whole = trail_of(records - 2, AUTHORITY)
    last = whole[-1].rstrip(b"\n")
    for bit in (0, 200, 8 * len(last) - 8, 8 * len(last) - 1):
        (finding,) = verdict_on([*whole[:-1], flipped(last, bit)], AUTHORITY).findings
        assert (finding.flaw, finding.place) == ("altered", f"trail:{records}"), bit
    verdict = verdict_on(whole[:-700], AUTHORITY)
    assert (verdict.good, verdict.chains[0].closed, verdict.chains[0].records) == (True, False, records - 700)
    assert flaws(whole[:-700], AUTHORITY, expect_closed=True) == {"open"}
