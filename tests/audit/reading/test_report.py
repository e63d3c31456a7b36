"""The report: its content, and its rendering in a real browser without a network."""

from __future__ import annotations

import random
import re
import shutil
import struct
import subprocess
import zlib
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from harness.trails import Authority, flaws, trail_of, verdict_on
from hypothesis import given
from hypothesis import strategies as st

from sealgate.audit.reading.query import Row
from sealgate.audit.reading.report import Figures, page

AUTHORITY = Authority()
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OPERATIONS = ["Load", "OpenStream", "Save", "SaveStream", "Delete", "ListObjects", "IsDirectory"]


def row(number=0, **facts) -> Row:
    plain = dict.fromkeys(Row.__dataclass_fields__, "")
    numbers = {"plaintext_bytes", "stored_bytes", "files", "key_version", "milliseconds", "sequence"}
    plain |= dict.fromkeys(numbers, 0)
    plain |= {"time": NOW.isoformat(), "operation": "Load", "decision": "allowed", "status": "OK", "id": str(number)}
    return Row(**(plain | facts))


def a_week() -> Figures:
    figures, chance = Figures(), random.Random(7)
    for number in range(4000):
        moment = NOW - timedelta(minutes=chance.triangular(0, 7 * 24 * 60, 2000))
        kind = chance.choices(["allowed", "failed", "denied"], [90, 4, 6])[0]
        operation = chance.choices(OPERATIONS, [30, 20, 25, 5, 5, 10, 5])[0]
        figures.add(
            row(
                number,
                time=moment.isoformat(),
                operation=operation,
                decision="denied" if kind == "denied" else "allowed",
                status="DATA_LOSS" if kind == "failed" else "OK",
                policy="tenants",
                rule=chance.choice(["own-prefix", "no-delete", "size"]),
                code=chance.choice(["NO_RULE", "LIMIT_BYTES"]),
                key_name=chance.choice(["artifacts", "pci"]),
                key_version=chance.choice([3, 4, 4, 4]),
                plaintext_bytes=chance.randrange(1 << 24),
                workflow=f"train-{chance.randrange(30)}",
            )
        )
    return figures


class Reader(HTMLParser):
    """Collects what a browser would fetch and run, and checks that each element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.scripts = 0
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.fetched += [value for name, value in attrs if name in {"src", "href", "data", "action"}]
        self.scripts += tag == "script" or any(name.startswith("on") for name, _ in attrs)
        if tag not in {"meta", "line", "rect", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in {"line", "rect"}:
            assert self.open.pop() == tag


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def made(figures, authority=AUTHORITY, lines=None):
    return page(figures, verdict_on(lines or trail_of(5, AUTHORITY), authority), ["audit.jsonl"], NOW)


def test_a_page_holds_every_part_and_loads_nothing():
    text = made(a_week())
    reader = read(text)
    assert (reader.fetched, reader.scripts, reader.open) == ([], 0, [])
    assert "url(" not in text
    assert "@import" not in text
    for part in (
        "Accesses over time",
        "By operation and outcome",
        "Denials by rule",
        "Key versions in use",
        "Verified.",
        "PCI DSS 4.0 10.2.2",
        "HIPAA 164.312(b)",
        "SOC 2 CC7.2",
        "NIST SP 800-53 AU-9(3)",
        "The person.",
        "artifacts version 4",
        "tenants/own-prefix NO_RULE",
    ):
        assert part in text, part


def test_a_page_begins_with_the_verdict_on_a_trail_with_flaws():
    lines = trail_of(5, AUTHORITY)
    text = made(a_week(), lines=[*lines[:2], *lines[3:]])
    assert "<b>Not verified.</b>" in text
    assert "1 removed" in text
    assert "record 2 is missing" in text


@given(st.text(), st.text())
def test_text_from_the_trail_never_becomes_markup(policy, workflow):
    figures = Figures()
    hostile = f"<script>alert(1)</script>{policy}"
    figures.add(row(policy=hostile, workflow=f'"><img src=x>{workflow}', key_name=hostile, decision="denied"))
    reader = read(made(figures))
    assert (reader.fetched, reader.scripts, reader.open) == ([], 0, [])


@given(st.lists(st.integers(0, 10**10), min_size=1, max_size=30))
def test_every_access_is_in_exactly_one_column(moments):
    figures = Figures()
    for moment in moments:
        figures.add(row(time=datetime.fromtimestamp(moment, UTC).isoformat()))
    buckets = figures.over_time()
    assert sum(counts.total() for _, counts in buckets) == len(moments)
    assert len(buckets) <= 48


def test_the_memory_for_very_many_names_is_limited():
    figures = Figures()
    for number in range(10_000):
        figures.add(row(number, workflow=f"w-{number}", decision="denied", rule=f"r-{number}"))
    assert len(figures.workflows) <= 4097
    assert figures.workflows.total() == 10_000
    assert "all others" in made(figures)


def test_unknown_operations_are_counted_together():
    figures = Figures()
    for number in range(1000):
        figures.add(row(number, operation=f"op-{number}"))
    figures.add(row(1000))
    assert sorted(figures.operations) == ["Load", "all others"]


def test_a_page_does_not_claim_that_a_certificate_proves_an_identity():
    assert "which asserts its own identity" in made(a_week())
    assert "everyone with the right to use the certifying key can have any identity certified" in made(a_week())


def test_a_page_of_an_empty_trail_is_not_verified():
    text = page(Figures(), verdict_on([], AUTHORITY), ["empty"], NOW)
    assert "<b>Not verified.</b> The trail contains no record." in text
    assert "No access was denied." in text
    assert read(text).open == []


def pixels(png: bytes) -> tuple[int, int, int]:
    """Return width and height of a picture, and its number of different lines."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    data, at = b"", 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + size]
        at += size + 12
    raw = zlib.decompress(data)
    stride = len(raw) // height
    return width, height, len({raw[line * stride : (line + 1) * stride] for line in range(height)})


@pytest.mark.process
def test_a_browser_without_a_network_shows_the_page(tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here: the page was not rendered")
    file, picture = tmp_path / "report.html", tmp_path / "report.png"
    file.write_text(made(a_week()))
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    command += [f"--user-data-dir={tmp_path}/profile", "--window-size=1000,2600", f"--screenshot={picture}"]
    no_network = ["unshare", "--net"] if shutil.which("unshare") else []
    if no_network and subprocess.run([*no_network, "true"], capture_output=True, check=False).returncode:
        no_network = []
    done = subprocess.run(
        [*no_network, *command, file.as_uri()],
        capture_output=True,
        timeout=100,
        check=False,
        env={"HOME": str(tmp_path)},
    )
    assert picture.exists(), done.stderr
    width, height, different = pixels(picture.read_bytes())
    assert (width, height) == (1000, 2600)
    assert different > 700, "the page is nearly empty"
    shown = subprocess.run(
        [*no_network, *command[:-1], "--dump-dom", file.as_uri()],
        capture_output=True,
        timeout=100,
        check=False,
        env={"HOME": str(tmp_path)},
    )
    assert re.search(rb"<svg[^>]*>.*<rect", shown.stdout), shown.stderr
    assert flaws(trail_of(5, AUTHORITY), AUTHORITY) == set()
