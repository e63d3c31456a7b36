"""The report: its content, and its rendering in a real browser without a network."""

from __future__ import annotations

import html
import json
import random
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from harness.auditor_pages import NOW, cells, read, row
from harness.chain import TESTS
from harness.trails import Authority, trail_of, verdict_on, verdict_on_text
from hypothesis import given
from hypothesis import strategies as st

from sealgate.audit.reading import readers
from sealgate.audit.reading.denials import REASONS
from sealgate.audit.reading.figures import Figures
from sealgate.audit.reading.page import Origin
from sealgate.audit.reading.readers import ArtifactAccesses
from sealgate.audit.reading.report import page

AUTHORITY = Authority()
OPERATIONS = ["Load", "OpenStream", "Save", "SaveStream", "Delete", "ListObjects", "IsDirectory"]


def a_week(counts=None):
    figures, chance = counts or Figures(), random.Random(7)
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
                key=f"team-{chance.choice('ab')}/train-{chance.randrange(30)}/main/model.safetensors",
                policy="tenants",
                rule=chance.choice(["own-prefix", "no-delete", "size"]),
                code=chance.choice(["NO_RULE", "LIMIT_BYTES"]),
                namespace=chance.choice(["team-a", "team-b", "data-platform-production"]),
                service_account=chance.choice(["default", "argo-workflow", "trainer-of-the-nightly-models"]),
                attested=chance.random() < 0.9,
                id=f"{chance.getrandbits(64):016x}",
                pod=f"train-{number}-main-{chance.getrandbits(32)}",
                component=chance.choice(["init", "sidecar", "server"]),
                key_name=chance.choice(["artifacts", "pci"]),
                key_version=chance.choice([3, 4, 4, 4]),
                plaintext_bytes=chance.randrange(1 << 24),
                workflow=f"train-{chance.randrange(30)}",
            )
        )
    return figures


def made(figures, authority=AUTHORITY, lines=None):
    return page(figures, verdict_on(lines or trail_of(5, AUTHORITY), authority), Origin(["audit.jsonl"], NOW))


def test_a_page_holds_every_part_and_loads_nothing():
    text = made(a_week())
    reader = read(text)
    assert (reader.fetched, reader.scripts, reader.open) == ([], 0, [])
    assert "url(" not in text
    assert "@import" not in text
    shown = re.sub(r"</?(span|wbr)[^>]*>", "", text)
    for part in (
        "Accesses over time",
        "By operation and outcome",
        "Who accessed artifacts",
        "What was denied, and why",
        "Key versions in use",
        "Verified.",
        "PCI DSS 4.0 10.2.2",
        "HIPAA 164.312(b)",
        "SOC 2 CC7.2",
        "NIST SP 800-53 AU-9(3)",
        "The person.",
        "artifacts version 4",
        "tenants/own-prefix",
        "no rule allows it",
        "data-platform-production/argo-workflow",
        "<b>Period:</b> 2026-11-17 ",
    ):
        assert part in shown, part


def test_a_page_begins_with_the_verdict_on_a_trail_with_flaws():
    lines = trail_of(5, AUTHORITY)
    text = made(a_week(), lines=[*lines[:2], *lines[3:]])
    assert "<b>Not verified.</b>" in text
    assert "1 removed" in text
    assert "record 2 is missing" in text


def test_accounts_are_shown_with_what_they_did_and_what_they_were_denied():
    figures = Figures()
    for number, facts in enumerate(
        [
            {"operation": "Load"},
            {"operation": "OpenStream", "status": "DATA_LOSS"},
            {"operation": "Save", "decision": "denied", "code": "NO_RULE"},
            {"operation": "IsDirectory", "status": "UNFINISHED"},
        ]
    ):
        figures.add(row(number, namespace="team-a", service_account="trainer", attested=True, **facts))
    figures.add(row(5, namespace="team-a", service_account="trainer", operation="Delete"))
    (account, *shown), other = cells(made(figures), "Who accessed artifacts")
    assert account == "team-a/trainer"
    assert shown[:8] == ["attested", "1", "0", "0", "0", "1", "1", "1"]
    assert other[:6] == ["team-a/trainer", "asserted", "0", "0", "1", "0"]


def test_a_denial_is_shown_with_its_rule_its_reason_and_its_decision():
    figures = Figures()
    denied = {"decision": "denied", "policy": "tenants", "rule": "own-prefix", "code": "LIMIT_BYTES"}
    for number in range(150):
        figures.add(row(number, key=f"team-a/{number}", namespace="team-b", service_account="ci", **denied))
    kinds, latest = cells(made(figures), "What was denied, and why", tables=2)
    assert kinds == [
        ["150", "team-b/ci", "Load", "tenants/own-prefix", "LIMIT_BYTES", REASONS["LIMIT_BYTES"]],
    ]
    assert [one[4] for one in latest] == [f"team-a/{number}" for number in range(149, 49, -1)]
    assert latest[0][-1] == "149"
    assert "The latest 100 of 150" in made(figures)


def test_every_code_of_a_refusal_has_a_reason():
    documents = "".join(page.read_text() for page in (TESTS.parent / "docs").glob("*.md"))
    statuses = "PERMISSION_DENIED|INVALID_ARGUMENT|FAILED_PRECONDITION"
    rows = re.findall(rf"^\| (`[A-Z_`, ]+`) \| `(?:{statuses})` \|$", documents, re.MULTILINE)
    assert {code for row in rows for code in re.findall(r"[A-Z_]+", row)} == set(REASONS)


def test_a_page_says_that_lines_could_not_be_read():
    verdict = verdict_on_text(b"msg=" + json.dumps(trail_of(1, AUTHORITY)[0].decode()).encode(), AUTHORITY)
    assert "Records in 1 line have a form that is not known." in page(Figures(), verdict, Origin(["trail"], NOW))


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


def test_each_of_a_few_columns_has_its_label_with_the_year():
    figures = Figures()
    for minute in range(2):
        figures.add(row(minute, time=(NOW + timedelta(minutes=minute)).isoformat()))
    labels = '<p class="moments each"><span>2026-11-24 12:00</span><span>2026-11-24 12:01</span></p>'
    assert labels in made(figures)
    assert '<rect x="22.00%"' in made(figures), "a column is not in the middle of its half, above its label"


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
    text = page(Figures(), verdict_on([], AUTHORITY), Origin(["empty"], NOW))
    assert "<b>Not verified.</b> The trail contains no record." in text
    assert "No access was denied." in text
    assert read(text).open == []


MEASURE = """
const broken = [], small = [], wide = [];
for (const frame of document.querySelectorAll("iframe")) {
  const page = frame.contentDocument, root = page.documentElement, width = frame.clientWidth;
  if (root.scrollWidth > width) wide.push(`${frame.title} at ${width}: ${root.scrollWidth}`);
  const texts = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  for (let text; text = texts.nextNode();) {
    if (parseFloat(page.defaultView.getComputedStyle(text.parentElement).fontSize) < 12) small.push(text.data);
    for (const word of text.data.matchAll(/[^\\s/-]+/g)) {
      if (word[0].length > 24) continue;
      const range = page.createRange();
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map(one => one.top)).size > 1) broken.push(`${word[0]} at ${width}`);
    }
  }
}
for (const frame of document.querySelectorAll("iframe"))
  for (const name of frame.contentDocument.querySelectorAll("td .name"))
    if (name.getClientRects().length > 1) broken.push(`${name.textContent} at ${frame.clientWidth}`);
const names = [...document.querySelectorAll("iframe")].map(frame =>
  frame.contentDocument.querySelectorAll("td .name").length);
const shapes = [...document.querySelectorAll("iframe")].map(frame =>
  [...frame.contentDocument.querySelectorAll("rect")].filter(one => one.getBoundingClientRect().height > 5).length);
const words = [...document.querySelectorAll("iframe")].map(frame => frame.contentDocument.body.innerText.length);
document.body.textContent = JSON.stringify({broken, small, wide, shapes, words, names});
"""
"""Runs in a page with frames. Writes what is hard to read in them: broken words, small text, and parts that are cut."""


@pytest.mark.process
def test_a_browser_without_a_network_shows_every_word_whole_on_wide_and_on_narrow_screens(tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium here: the page was not rendered")
    found = a_week(ArtifactAccesses("team-a/train-7"))
    long_line = trail_of(5, AUTHORITY)
    (tmp_path / "report.html").write_text(made(a_week()))
    (tmp_path / "readers.html").write_text(
        readers.page(found, verdict_on(long_line, AUTHORITY), Origin(["audit.jsonl"], NOW))
    )
    frames = "".join(
        f'<iframe title="{name}" src="{name}.html" style="width:{width}px;height:900px;border:0"></iframe>'
        for name in ("report", "readers")
        for width in (1280, 500)
    )
    measuring = tmp_path / "measuring.html"
    measuring.write_text(f"<!doctype html><body>{frames}<script>onload = () => {{{MEASURE}}}</script></body>")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    command += [f"--user-data-dir={tmp_path}/profile", "--allow-file-access-from-files", "--dump-dom"]
    no_network = ["unshare", "--net"] if shutil.which("unshare") else []
    if no_network and subprocess.run([*no_network, "true"], capture_output=True, check=False).returncode:
        no_network = []
    done = subprocess.run(
        [*no_network, *command, measuring.as_uri()],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={"HOME": str(tmp_path)},
    )
    measured = re.search(r"<body>(\{.*\})", done.stdout)
    assert measured, done
    result = json.loads(html.unescape(measured[1]))
    assert (result["broken"], result["small"], result["wide"]) == ([], [], [])
    assert min(result["shapes"][:2]) > 50, "the plots of the report are empty"
    assert min(result["words"]) > 2000, "a page is nearly empty"
    assert min(result["names"]) > 50, "no short name with a hyphen is kept on one line"
