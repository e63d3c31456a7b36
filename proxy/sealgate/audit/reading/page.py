"""The frame of the pages for an auditor: one HTML file that holds no script and loads nothing from a network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape

from sealgate.audit.reading import plots
from sealgate.audit.reading.figures import Account, AccountFigures
from sealgate.audit.reading.query import Period, printable, shown_time
from sealgate.audit.reading.verify import VerificationResult

NUMBER, MOMENT = "number", "moment"
"""Kinds of columns: right-aligned numbers, and moments on one line."""
PLAINTEXT_BYTES = "plaintext bytes"
"""The name of a column."""
_LONG_WORD = re.compile(r"[^\s/-]{25}")
"""A word that is too long for a column. It may be broken anywhere; no other word is broken."""
_PARTS = re.compile(r"[^\s/]*/?|\s+")
"""Texts without a space or a slash within them, such as the segments of a key, each with the slash after it."""
_LONGEST_PART = 20
"""Characters of a part that is not broken at its hyphens."""
_STYLE = """
:root{color-scheme:light;--ink:#1d2329;--soft:#5c6670;--line:#d9dee3;--good:#25724a;--bad:#b3452c}
*{box-sizing:border-box}body{margin:0 auto;padding:2.2rem 1.4rem;max-width:76rem;color:var(--ink);background:#fff;
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;overflow-wrap:break-word}
h1{font-size:1.7rem;margin:0 0 .2rem}h2{font-size:1.15rem;margin:2.4rem 0 .6rem;padding-top:.8rem;
border-top:1px solid var(--line)}p{margin:.4rem 0}.soft{color:var(--soft)}
.verdict{margin:1.2rem 0;padding:.9rem 1.1rem;border-left:6px solid var(--soft);background:#f5f6f7;font-size:1.1rem}
.good{border-color:var(--good);background:#f4f7f5}.bad{border-color:var(--bad);background:#fbf2ef}
.facts{display:flex;flex-wrap:wrap;gap:.6rem;margin:1rem 0}.facts div{flex:1 1 8rem;border:1px solid var(--line);
border-radius:6px;padding:.6rem .8rem}.facts b{display:block;font-size:1.4rem;font-weight:600}
table{border-collapse:collapse;width:100%;font-size:13.5px}th,td{text-align:left;padding:.35rem .9rem .35rem 0;
border-bottom:1px solid var(--line);vertical-align:top}th{color:var(--soft);font-weight:600}
.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}th.number{white-space:normal}.moment{white-space:nowrap}
td .name{white-space:nowrap}td.long>span{display:block;min-width:7.5rem;overflow-wrap:anywhere}
h3{font-size:1rem;margin:1.4rem 0 .3rem}code{font-size:1em;overflow-wrap:anywhere}
@media (max-width:64rem){thead{display:none}table,tbody,tr,td{display:block}
tr{padding:.5rem 0;border-bottom:1px solid var(--line)}
td,td.number{display:grid;grid-template-columns:8rem minmax(0,1fr);column-gap:.6rem;
padding:.1rem 0;border:0;text-align:left}
td::before{content:attr(data-name);color:var(--soft)}td.long>span{min-width:0}td:has(>span:empty),td.zero{display:none}}
@media print{body{padding:0}h2{break-after:avoid}tr{break-inside:avoid}}
"""


def whole(title: str, parts: Iterable[str]) -> str:
    """Return the page with this title, and with the HTML `parts` one below the other."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}{plots.STYLE}</style></head><body>'
    )
    return head + "\n".join(parts) + "</body></html>\n"


def table(heads: Sequence[tuple[str, str]], rows: Iterable[Iterable[str]]) -> str:
    """Return a table. On a narrow screen each row becomes a list of names and values, without those that are zero.

    Args:
        heads: for each column its name, and its kind, which is empty for a column of words.
        rows: the texts of the cells.
    """
    head = "".join(f"<th{_classes(kind)}>{escape(name)}</th>" for name, kind in heads)
    body = "".join(f"<tr>{''.join(map(_cell, heads, row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def account_table(
    accounts: Mapping[Account, AccountFigures], counted: Sequence[str], *, most: int | None = None
) -> str:
    """Return a table of accounts, those with the most accesses first.

    Args:
        accounts: each account with its accesses.
        counted: names of counts, or `PLAINTEXT_BYTES`; each is a column.
        most: how many accounts are listed; None for all.
    """
    ranked = sorted(accounts.items(), key=lambda each: (-each[1].counts.total(), each[0]))
    rows = [
        (
            account.name,
            "attested" if account.attested else "asserted",
            *(f"{one.plaintext_bytes if name == PLAINTEXT_BYTES else one.counts[name]:,}" for name in counted),
            shown_time(one.first),
            shown_time(one.last),
        )
        for account, one in ranked[:most]
    ]
    numbers = ((name, NUMBER) for name in counted)
    heads = (("account", ""), ("identity", ""), *numbers, ("first access", MOMENT), ("last access", MOMENT))
    return table(heads, rows)


def _cell(head: tuple[str, str], text: str) -> str:
    name, kind = head
    long = "long" if _LONG_WORD.search(text) else ""
    zero = "zero" if kind == NUMBER and text == "0" else ""
    shown = printable(text)
    parts = escape(shown) if kind else "".join(map(_part, _PARTS.findall(shown)))
    return f'<td{_classes(kind, long, zero)} data-name="{escape(name)}"><span>{parts}</span></td>'


def _part(text: str) -> str:
    """Return a part of a cell as HTML. A name with hyphens stays on one line, and a line may end after a slash."""
    if "-" in text and len(text) <= _LONGEST_PART:
        return f'<span class="name">{escape(text)}</span><wbr>'
    return escape(text) + ("<wbr>" if text.endswith("/") else "")


def _classes(*names: str) -> str:
    given = " ".join(filter(None, names))
    return f' class="{given}"' if given else ""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a page is made from."""

    sources: Sequence[str]
    """The names of the files of the trail."""
    made_at: datetime
    """The time of the page, in UTC."""
    asked: Period = field(default_factory=Period)
    """The accesses that the page counts. The trail is verified as a whole."""


def made(origin: Origin, first: str, last: str) -> str:
    """Return the lines below a title.

    Args:
        origin: what the page is made from.
        first: the time of the earliest access that is counted; empty if there is none.
        last: that of the latest.
    """
    asked = origin.asked
    sides = (("from", asked.since), ("before", asked.until))
    limits = " and ".join(f"{word} {at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" for word, at in sides if at)
    counted = f"<p>Only accesses {limits} are counted. The verdict is on the whole trail.</p>" if limits else ""
    nothing = "No access is in this period." if limits else "The trail records no access."
    covered = f"<b>Period:</b> {escape(first)} to {escape(last)} UTC" if first else nothing
    source = f"Made {origin.made_at:%Y-%m-%d %H:%M} UTC from {escape(', '.join(origin.sources))}"
    return f'<p>{covered}</p>{counted}<p class="soft">{source}</p>'


def verdict_on(verdict: VerificationResult) -> str:
    """Return whether the trail was verified, and a warning if what follows counts records that were not."""
    warning = '<p class="soft">The figures and plots also count records that were not verified.</p>'
    return _verdict(verdict) + (warning if not verdict.good or verdict.unsigned else "")


def _verdict(verdict: VerificationResult) -> str:
    if verdict.good:
        open_chains = sum(not chain.closed for chain in verdict.chains)
        note = (
            f" {_counted_chains(open_chains)} open: the process was killed or still runs, or the end was cut off."
            if open_chains
            else ""
        )
        if verdict.unsigned:
            unsigned = _counted_chains(verdict.unsigned)
            text = (
                f"<b>Consistent, not signed:</b> {unsigned} without a certificate. Any program could have written this."
            )
            return f'<p class="verdict">{text}{note}</p>'
        return f'<p class="verdict good"><b>Verified.</b> {_counted_chains(len(verdict.chains))}, unchanged.{note}</p>'
    if count := verdict.not_readable.count:
        text = f"Records in {count:,} {'line' if count == 1 else 'lines'} have a form that is not known."
        return f'<p class="verdict bad"><b>Not verified.</b> {text} Export the trail as text.</p>'
    if verdict.empty:
        return '<p class="verdict bad"><b>Not verified.</b> The trail contains no record.</p>'
    kinds = ", ".join(f"{count} {flaw.value}" for flaw, count in sorted(verdict.findings.counts.items()))
    return f'<p class="verdict bad"><b>Not verified.</b> The trail has flaws: {escape(kinds)}.</p>'


def _counted_chains(count: int) -> str:
    return "1 chain" if count == 1 else f"{count} chains"
