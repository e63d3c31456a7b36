"""The page that answers who read one artifact."""

from __future__ import annotations

import hashlib

import pytest
from harness.auditor_pages import NOW, cells, read, row
from harness.trails import Authority, trail_of, verdict_on

from sealgate.audit.reading import readers
from sealgate.audit.reading.page import Origin
from sealgate.audit.reading.readers import ArtifactAccesses

AUTHORITY = Authority()
KEY = "team-a/train/model"
READS, CHANGES, ACCOUNTS = "Reads", "Writes and deletions", "Accounts that read it, or tried to"


def page_of(*rows, key=KEY, lines=None):
    found = ArtifactAccesses(key)
    for each in rows:
        found.add(each)
    return readers.page(found, verdict_on(lines or trail_of(3, AUTHORITY), AUTHORITY), Origin(["audit.jsonl"], NOW))


def by(namespace, account, **facts):
    return row(namespace=namespace, service_account=account, **{"key": KEY, **facts})


def test_each_account_that_read_the_artifact_is_shown_with_its_reads_and_bytes():
    text = page_of(
        by("team-a", "trainer", plaintext_bytes=1000),
        by("team-a", "trainer", operation="OpenStream", plaintext_bytes=500),
        by("team-b", "ci", decision="denied", code="NO_RULE", status="PERMISSION_DENIED"),
        by("team-a", "writer", operation="Save", plaintext_bytes=1000),
        by("team-a", "trainer", key="team-a/train/other"),
    )
    accounts = cells(text, ACCOUNTS)
    assert [one[:7] for one in accounts] == [
        ["team-a/trainer", "asserted", "2", "0", "0", "0", "1,500"],
        ["team-b/ci", "asserted", "0", "0", "1", "0", "0"],
    ]
    assert [one[1] for one in cells(text, READS)] == ["team-b/ci", "team-a/trainer", "team-a/trainer"]
    assert cells(text, READS)[0][6] == "denied NO_RULE"
    assert [one[1] for one in cells(text, CHANGES)] == ["team-a/writer"]


@pytest.mark.parametrize("key", [KEY, f"{KEY}/weights/1", "team-a/train", "team-a"])
def test_a_read_of_the_artifact_of_a_part_of_it_or_of_a_directory_around_it_is_shown(key):
    assert [one[5] for one in cells(page_of(by("team-a", "trainer", key=key)), READS)] == [key]


@pytest.mark.parametrize("key", ["team-a/train/model2", "team-a/tra", "team-b/train/model", ""])
def test_a_read_of_a_neighbour_is_not_shown(key):
    assert "The trail records no read of this artifact." in page_of(by("team-a", "trainer", key=key))


def test_reads_are_shown_by_their_time_with_the_latest_first():
    times = ["2026-11-24T12:00:02", "2026-11-24T12:00:03", "2026-11-24T12:00:01"]
    shown = cells(page_of(*(by("a", "b", time=f"{time}.000+00:00") for time in times)), READS)
    assert [one[0][-1] for one in shown] == ["3", "2", "1"]


@pytest.mark.parametrize("operation", ["ListObjects", "IsDirectory"])
def test_a_listing_is_no_read(operation):
    assert "The trail records no read of this artifact." in page_of(by("team-a", "trainer", operation=operation))


def test_a_key_that_a_record_shows_in_part_is_found_by_its_digest():
    long = "team-a/" + "x" * 1000
    shown = by("team-a", "trainer", key=f"{long[:120]}…", key_sha256=hashlib.sha256(long.encode()).hexdigest())
    assert len(cells(page_of(shown, key=long), READS)) == 1


def test_accesses_with_hidden_keys_are_counted_and_found_by_their_hmac():
    hidden = f"hmac-sha256:{'ab' * 32}"
    rows = [by("team-a", "trainer", key=hidden), by("team-a", "trainer", key="withheld")]
    assert "<b>Accesses with a hidden key: 2.</b>" in page_of(*rows)
    assert len(cells(page_of(*rows, key=hidden), READS)) == 1


def test_an_access_that_may_have_read_a_part_is_shown_with_its_end():
    text = page_of(
        by("a", "b", status="UNFINISHED"),
        by("a", "b", operation="OpenStream", status="DATA_LOSS", plaintext_bytes=7, record="altered"),
    )
    assert [one[6] for one in cells(text, READS)] == ["failed DATA_LOSS, record altered", "unfinished"]
    assert cells(text, ACCOUNTS)[0][2:7] == ["0", "1", "0", "1", "7"]


def test_the_page_begins_with_the_verdict_and_the_period_of_the_whole_trail():
    lines = trail_of(5, AUTHORITY)
    text = page_of(row(key="other/artifact"), lines=[*lines[:2], *lines[3:]])
    assert "<b>Not verified.</b>" in text
    assert "<b>Period:</b> 2026-11-24 12:00:00 to 2026-11-24 12:00:00 UTC" in text


def test_text_from_the_trail_never_becomes_markup():
    hostile = '"><script>alert(1)</script>\x1b'
    text = page_of(by(hostile, hostile, workflow=hostile, pod=hostile, key=f"{KEY}/{hostile}", id=hostile))
    reader = read(text)
    assert (reader.fetched, reader.scripts, reader.open) == ([], 0, [])
    assert "\x1b" not in text
