"""A trail that was touched is told from one that was not, and how it was touched."""

from __future__ import annotations

import io
import json
import random

import pytest
from harness.trails import Authority, Memory, flaws, log_of, trail_of, verdict_on
from hypothesis import given
from hypothesis import strategies as st

from proxy.plugin import Artifact, Call, Operation
from proxy.telemetry.accesses import Access
from proxy.telemetry.trail import Line, entry, lines
from proxy.telemetry.verify import verify

AUTHORITY = Authority()
TRAIL = trail_of(40, AUTHORITY)


def flipped(line: bytes, bit: int) -> bytes:
    return line[: bit // 8] + bytes([line[bit // 8] ^ (1 << bit % 8)]) + line[bit // 8 + 1 :]


def test_an_untouched_trail_is_verified():
    verdict = verdict_on(TRAIL, AUTHORITY, expect_closed=True)
    assert verdict.good, verdict.findings
    (chain,) = verdict.chains
    assert (chain.records, chain.closed, chain.certified_by) == (42, True, "audit version 1")


def test_each_bit_of_a_record_that_is_flipped_shows():
    short = trail_of(1, AUTHORITY)
    line = short[1].rstrip(b"\n")
    for bit in range(0, len(line) * 8, 29):
        # A line break in a line makes two of it.
        touched = b"".join([short[0], flipped(line, bit), b"\n", short[2]])
        read = lines([("trail", io.BytesIO(touched))])
        found = {finding.flaw.value for finding in verify(read, [AUTHORITY.public]).findings}
        assert "altered" in found or "removed" in found, (bit, found)
        assert "forged" not in found, (bit, found)


@given(st.integers(0, len(TRAIL) - 2), st.data())
def test_a_flipped_bit_anywhere_is_an_alteration(number, data):
    bit = data.draw(st.integers(0, 8 * (len(TRAIL[number]) - 1) - 1))
    assert "altered" in flaws([*TRAIL[:number], flipped(TRAIL[number], bit), *TRAIL[number + 1 :]], AUTHORITY)


def test_a_changed_field_with_its_fingerprint_made_anew_is_forged():
    touched = json.loads(TRAIL[5])
    touched["resource"]["uid"] = "ns/another"
    found = entry(Line("trail", 6, json.dumps(touched).encode()))
    import hashlib  # noqa: PLC0415 - what the forger needs

    import msgspec  # noqa: PLC0415 - what the forger needs

    attestation = touched["attestation"]
    unsealed = {name: value for name, value in attestation.items() if name not in {"fingerprint", "signatures"}}
    digest = hashlib.sha256(msgspec.json.encode({**touched, "attestation": unsealed}, order="sorted")).hexdigest()
    attestation["fingerprint"]["value"] = digest
    assert found is not None
    assert not found.intact
    assert "forged" in flaws([*TRAIL[:5], json.dumps(touched).encode(), *TRAIL[6:]], AUTHORITY)


@given(st.integers(0, len(TRAIL) - 2))
def test_a_removed_line_is_missing(number):
    found = verdict_on([*TRAIL[:number], *TRAIL[number + 1 :]], AUTHORITY)
    assert ("removed", f"record {number} is missing") in {(f.flaw.value, f.text) for f in found.findings}


@given(st.integers(0, len(TRAIL) - 2))
def test_two_swapped_lines_are_out_of_order_and_nothing_else(number):
    touched = [*TRAIL[:number], TRAIL[number + 1], TRAIL[number], *TRAIL[number + 2 :]]
    assert flaws(touched, AUTHORITY) == {"reordered"}


def test_a_line_that_is_there_twice_is_repeated():
    assert flaws([*TRAIL[:9], TRAIL[8], *TRAIL[9:]], AUTHORITY) == {"repeated"}


def test_a_session_that_another_key_certified_is_forged():
    assert flaws(trail_of(3, Authority()), AUTHORITY) == {"forged"}
    assert flaws([*TRAIL, *trail_of(3, Authority())], AUTHORITY) == {"forged"}


def test_a_certificate_of_another_chain_is_forged():
    first, another = json.loads(TRAIL[0]), json.loads(trail_of(1, AUTHORITY)[0])
    first["unmapped"]["session"]["certified"] = another["unmapped"]["session"]["certified"]
    assert flaws([json.dumps(first).encode(), *TRAIL[1:]], AUTHORITY) >= {"altered"}


def test_a_chain_that_nobody_signed_is_no_evidence():
    unsigned = trail_of(3, None)
    assert flaws(unsigned, AUTHORITY) == {"unsigned"}
    assert flaws(unsigned, allow_unsigned=True) == set()
    assert flaws([*unsigned[:2], flipped(unsigned[2], 900), *unsigned[3:]], allow_unsigned=True) == {"altered"}


def test_a_truncated_tail_leaves_the_chain_open():
    verdict = verdict_on(TRAIL[:-5], AUTHORITY)
    assert verdict.good
    assert not verdict.chains[0].closed
    assert flaws(TRAIL[:-5], AUTHORITY, expect_closed=True) == {"open"}


def test_what_an_object_names_must_be_there():
    chain = json.loads(TRAIL[0])["attestation"]["chain_uid"]
    assert flaws(TRAIL, AUTHORITY, anchors={(chain, 7): "an object"}) == set()
    assert flaws(TRAIL[:-5], AUTHORITY, anchors={(chain, len(TRAIL) - 2): "an object"}) == {"removed"}


def test_two_processes_interleaved_are_two_chains():
    one, another = trail_of(20, AUTHORITY), trail_of(20, AUTHORITY)
    order = random.Random(1)
    mixed, left = [], [list(one), list(another)]
    while any(left):
        mixed.append(order.choice([lines for lines in left if lines]).pop(0))
    verdict = verdict_on(mixed, AUTHORITY, expect_closed=True)
    assert verdict.good, verdict.findings
    assert sorted(chain.records for chain in verdict.chains) == [22, 22]
    chain = json.loads(one[5])["attestation"]["chain_uid"]
    mixed.remove(one[5])
    (finding,) = verdict_on(mixed, AUTHORITY).findings
    assert (finding.flaw, finding.chain) == ("removed", chain)


def test_a_name_given_twice_is_an_alteration():
    line = TRAIL[3].replace(b'"api":{', b'"api":{"operation":"Load","operation":"Load"},"api":{', 1)
    assert "altered" in flaws([*TRAIL[:3], line, *TRAIL[4:]], AUTHORITY)


def test_a_collector_may_write_the_json_anew():
    rewritten = [json.dumps(json.loads(line), indent=None, separators=(", ", ": ")).encode() for line in TRAIL]
    assert flaws(rewritten, AUTHORITY, expect_closed=True) == set()


def test_other_lines_and_a_container_runtimes_prefix_do_no_harm():
    text = b"".join(b"2026-11-24T10:00:00.1Z stdout F " + line + b"level=info msg=hello\n" for line in TRAIL)
    assert verify(lines([("log", io.BytesIO(text))]), [AUTHORITY.public], expect_closed=True).good


def test_a_line_that_a_full_disk_cut_short_is_a_note_where_nothing_is_missing():
    verdict = verdict_on([*TRAIL[:5], TRAIL[5][:200], *TRAIL[5:]], AUTHORITY)
    assert verdict.good
    assert verdict.cut_short == ["trail:6"]
    assert flaws([*TRAIL[:5], TRAIL[5][:200], *TRAIL[6:]], AUTHORITY) == {"altered", "removed"}


@given(st.lists(st.binary(max_size=300) | st.sampled_from([line.rstrip(b"\n") for line in TRAIL[:6]]), max_size=8))
def test_any_bytes_get_a_verdict(texts):
    verdict = verify((Line("trail", n, b'"attestation"' + text) for n, text in enumerate(texts)), [AUTHORITY.public])
    assert verdict.good == (not texts)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["attestation", "metadata", "sequence", "chain_uid", "signatures"]), inner
            )
        ),
    )
)
def test_any_json_gets_a_verdict(value):
    text = json.dumps(value).encode()
    assert not verify([Line("trail", 1, text)], [AUTHORITY.public]).good


def written_by_two(records):
    """The lines of two processes, in the order in which they wrote them."""
    sink = Memory()
    logs = [log_of(sink, authority=AUTHORITY) for _ in range(2)]
    access = Access(Call(Operation.IS_DIRECTORY), Artifact("ns/a"))
    for number in range(records - 4):
        logs[number % 3 % 2].outcome(access, None)
    for log in logs:
        log.close()
    assert len(sink.lines) == records
    return sink.lines


@pytest.mark.parametrize("records", [5_000, pytest.param(100_000, marks=pytest.mark.large)])
def test_each_flaw_in_a_long_trail_is_found_where_it_is_and_nothing_else(records):
    touched = written_by_two(records)
    middle = records // 2
    touched[middle] = flipped(touched[middle], 4000)
    removed = json.loads(touched[middle + 100])["metadata"]["sequence"]
    first, second = (number for number in range(middle + 200, middle + 206) if number % 3 == 1)  # one process's own
    touched[first], touched[second] = touched[second], touched[first]
    del touched[middle + 100]
    touched += trail_of(2, Authority())
    verdict = verdict_on(touched, AUTHORITY)
    found = sorted((finding.flaw.value, finding.place or finding.text) for finding in verdict.findings)
    assert found[0] == ("altered", f"trail:{middle + 1}")
    assert ("removed", f"record {removed} is missing") in found
    assert {flaw for flaw, _ in found} == {"altered", "forged", "removed", "reordered"}
    assert len(found) <= 6, found
