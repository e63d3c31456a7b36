"""A trail is verified as log collectors export it, and a change in it is found."""

from __future__ import annotations

import csv
import io
import json

import pytest
from harness.trails import Authority, trail_of, verdict_on_text

AUTHORITY = Authority()
TRAIL = trail_of(40, AUTHORITY)


def wrapped(name, line):
    return json.dumps({name: line.decode(), "stream": "stdout"}).encode() + b"\n"


@pytest.mark.parametrize("name", ["log", "body", "message"])
def test_a_line_that_a_collector_wrapped_into_an_object_is_read(name):
    verdict = verdict_on_text(b"".join(wrapped(name, line) for line in TRAIL), AUTHORITY, expect_closed=True)
    assert verdict.good, verdict.findings.listed
    assert verdict.chains[0].records == len(TRAIL)
    touched = [*TRAIL[:-1], TRAIL[-1].replace(b"Success", b"Failure")]
    (finding,) = verdict_on_text(b"".join(wrapped(name, line) for line in touched), AUTHORITY).findings
    assert (finding.flaw, finding.place) == ("altered", f"trail:{len(TRAIL)}")
    half = wrapped(name, TRAIL[-1])[:-20] + b"\n"
    verdict = verdict_on_text(b"".join(wrapped(name, line) for line in TRAIL[:-1]) + half, AUTHORITY)
    assert not verdict.good, "a line that holds a record and cannot be read is not skipped"
    assert verdict.not_readable.listed == [f"trail:{len(TRAIL)}"]
    assert list(verdict.findings) == [], "nothing shows that it was altered"


def exported(make):
    """Return how `make` writes a trail: it takes a record as text, and returns a line as an object."""
    return lambda lines: b"".join(json.dumps(make(line.decode().rstrip())).encode() + b"\n" for line in lines)


def as_csv(lines):
    out = io.StringIO()
    csv.writer(out).writerows([["2026-11-22", "pod", line.decode().rstrip()] for line in lines])
    return out.getvalue().encode()


COLLECTORS = {
    "Loki": exported(lambda line: {"labels": {"pod": "p"}, "line": line, "timestamp": "2026-11-22T10:00:00Z"}),
    "Google's text": exported(lambda line: {"insertId": "x", "textPayload": line, "severity": "INFO"}),
    "Google's fields": exported(lambda line: {"insertId": "x", "jsonPayload": json.loads(line)}),
    "Elasticsearch": exported(lambda line: {"_index": "logs", "_source": {"message": line, "@timestamp": "t"}}),
    "Splunk": exported(lambda line: {"preview": False, "result": {"_raw": line, "source": "s"}}),
    "CloudWatch": lambda lines: json.dumps(
        {"events": [{"message": line.decode()} for line in lines]}, indent=2
    ).encode(),
    "Datadog": exported(lambda line: {"content": {"message": line, "attributes": {"service": "s"}}}),
    "Azure": exported(lambda line: {"TimeGenerated": "t", "LogMessage": json.loads(line)}),
    "the journal": exported(lambda line: {"__CURSOR": "c", "MESSAGE": line}),
    "the journal's bytes": exported(lambda line: {"__CURSOR": "c", "MESSAGE": list(line.encode())}),
    "OpenTelemetry": exported(
        lambda line: {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": line}}]}]}]}
    ),
    "merged fields": exported(lambda line: {"@timestamp": "t", **json.loads(line), "kubernetes": {"pod": "p"}}),
    "a JSON array of lines": lambda lines: json.dumps([line.decode() for line in lines]).encode(),
    "a JSON array of records": lambda lines: json.dumps([json.loads(line) for line in lines], indent=1).encode(),
    "the values of `jq .`": lambda lines: b"".join(
        json.dumps(json.loads(line), indent=2).encode() + b"\n" for line in lines
    ),
    "colours": lambda lines: b"".join(b"\x1b[32m" + line.rstrip() + b"\x1b[0m\n" for line in lines),
    "colours in a text": exported(lambda line: {"log": f"\x1b[1m{line}\x1b[0m\n"}),
    "a prefix in a text": exported(lambda line: {"log": f"2026-11-22T10:00:00.1Z stdout F {line}\n"}),
    "a text in a text": exported(lambda line: {"message": json.dumps({"log": line + "\n"})}),
    "CSV": as_csv,
}


@pytest.mark.parametrize("export", COLLECTORS.values(), ids=list(COLLECTORS))
def test_a_trail_is_verified_as_collectors_export_it_and_a_change_in_it_is_found(export):
    verdict = verdict_on_text(export(TRAIL), AUTHORITY, expect_closed=True)
    assert verdict.good, (verdict.findings.listed, verdict.not_readable.listed)
    assert verdict.chains[0].records == len(TRAIL)
    touched = [*TRAIL[:-1], TRAIL[-1].replace(b"Success", b"Failure")]
    assert [finding.flaw for finding in verdict_on_text(export(touched), AUTHORITY).findings] == ["altered"]
    lacking = verdict_on_text(export([*TRAIL[:20], *TRAIL[21:]]), AUTHORITY)
    assert {finding.flaw for finding in lacking.findings} == {"removed"}


def indented(records):
    return json.dumps(records, indent=2).encode()


RECORDS = [json.loads(line) for line in TRAIL]
FILLED = b" " * (17 << 20)


@pytest.mark.parametrize(
    "export",
    [
        indented(RECORDS)[:-20],
        indented({"hits": RECORDS})[:-20],
        b"\n" + indented(RECORDS[0]) + b"\n{\n",
        json.dumps(RECORDS, indent=2, sort_keys=True).encode()[:-20],
        indented(RECORDS) + b"\n" + FILLED,
        indented(RECORDS[0]) + b"\n" + FILLED + b"\n" + indented(RECORDS[1]),
    ],
    ids=["an array", "a field", "values", "sorted names", "too large", "values beyond what is read as a whole"],
)
def test_records_over_several_lines_that_are_no_value_as_a_whole_are_not_skipped(export):
    verdict = verdict_on_text(export, AUTHORITY)
    assert not verdict.good
    assert verdict.not_readable.count == export.count(b'"sealgate_audit"')
    assert list(verdict.findings) == []


@pytest.mark.parametrize("opening", [b"[\n]", b"{\n}"])
def test_a_value_and_many_spaces_do_not_hide_the_records_behind_them(opening):
    verdict = verdict_on_text(opening + FILLED + b"\n" + b"".join(TRAIL), AUTHORITY, expect_closed=True)
    assert verdict.good, (verdict.findings.listed, verdict.not_readable.listed)
    assert verdict.chains[0].records == len(TRAIL)


@pytest.mark.parametrize("opening", [b"[]", b"{\n}", json.dumps(["x" * 70_000]).encode()], ids=["[]", "{}", "long"])
@pytest.mark.parametrize("damage", ["another field", "the mark"])
def test_a_value_before_the_lines_of_a_trail_hides_no_change_in_them(opening, damage):
    last = TRAIL[-1]
    if damage == "the mark":
        last = last.replace(b'"sealgate_audit"', b'"sealgate_audiX"')
    else:
        last = last.rstrip()[:-1] + b',"more":1}\n'
    whole = verdict_on_text(opening + b"\n" + b"".join(TRAIL), AUTHORITY, expect_closed=True)
    assert whole.good, (whole.findings.listed, whole.not_readable.listed)
    damaged = verdict_on_text(opening + b"\n" + b"".join([*TRAIL[:-1], last]), AUTHORITY)
    assert not damaged.good
    assert [finding.place for finding in damaged.findings] == [f"trail:{len(TRAIL) + 1 + opening.count(bytes([10]))}"]


def test_a_text_that_is_no_csv_stops_no_verification():
    planted = b'a,{""sealgate_audit"":1}\rb\n'
    verdict = verdict_on_text(b"".join([*TRAIL[:7], planted, *TRAIL[7:]]), AUTHORITY)
    assert verdict.not_readable.count == 1
    assert list(verdict.findings) == []


@pytest.mark.parametrize(
    "line",
    [
        b"INFO Save 'ns/\"sealgate_audit\"' done",
        b'{"event":"Save \'ns/\\"sealgate_audit\\"\' done"}',
        b'{"event":"Save \'ns/{\\"sealgate_audit\\":1\' refused"}',
        b'{"event":"the key \\"attestation_list\\" is unknown","attestation_list":"none"}',
    ],
)
def test_a_line_that_only_mentions_records_does_not_make_a_log_unverifiable(line):
    verdict = verdict_on_text(b"".join([*TRAIL[:7], line, b"\n", *TRAIL[7:]]), AUTHORITY, expect_closed=True)
    assert verdict.good, (verdict.findings.listed, verdict.not_readable.listed)


def test_a_form_that_is_not_known_is_no_accusation():
    verdict = verdict_on_text(
        b"".join(b"msg=" + json.dumps(line.decode()).encode() + b"\n" for line in TRAIL), AUTHORITY
    )
    assert not verdict.good
    assert verdict.not_readable.count == len(TRAIL)
    assert list(verdict.findings) == []


def test_fields_that_are_given_twice_in_a_merged_record_are_reported_as_altered():
    twice = (
        TRAIL[3].rstrip()[:-1].replace(b'{"sealgate_audit"', b'{"pod":"p","sealgate_audit"') + b',"status":"Failure"}\n'
    )
    (finding,) = [
        one
        for one in verdict_on_text(b"".join([*TRAIL[:3], twice, *TRAIL[4:]]), AUTHORITY).findings
        if one.flaw == "altered"
    ]
    assert finding.place == "trail:4"


@pytest.mark.parametrize("prefix", [b"{app} ", b'{"app":"x"} ', b"progress {50%}"])
def test_a_prefix_with_a_brace_is_skipped(prefix):
    verdict = verdict_on_text(b"".join(prefix + line for line in TRAIL), AUTHORITY, expect_closed=True)
    assert verdict.good, verdict.findings.listed
