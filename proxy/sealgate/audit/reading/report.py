"""What an auditor gets on one page: the verdict, figures about accesses, and the controls that the trail supports.

The page holds no script and loads nothing from a network.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape

from sealgate.audit.reading import plots
from sealgate.audit.reading.query import UNFINISHED, Row, moment
from sealgate.audit.reading.verify import VerificationResult
from sealgate.call import Operation

_SERIES = ("allowed", "failed", "denied", "unfinished")
_COLUMNS = 48
_MOST_BUCKETS = 4096
_MOST_NAMES = 12
_MOST_LISTED = 200
_LONGEST_NAME = 120
_OTHERS = "all others"
"""The row for names beyond those that are counted or shown one by one."""
_OPERATIONS = {operation.value for operation in Operation}
_CONTROLS = (
    ("PCI DSS 4.0 10.2.1.1", "All individual access to card data", "one record before and one after each access"),
    ("PCI DSS 4.0 10.2.1.4", "Invalid access attempts", "denied accesses, with the rule that denied them"),
    ("PCI DSS 4.0 10.2.1.6", "Start and stop of the audit log", "session.start and session.end of each process"),
    ("PCI DSS 4.0 10.2.1.7", "Creation and deletion of objects", "Save, SaveStream, Delete"),
    (
        "PCI DSS 4.0 10.2.2",
        "Who, what, when, success, origin, affected data",
        "actor, operation, time, status, pod, key",
    ),
    ("PCI DSS 4.0 10.3", "Audit logs are protected from change", "fingerprints, chain, signatures; this verification"),
    ("HIPAA 164.312(b)", "Record and examine activity", "the trail, and this page"),
    (
        "SOC 2 CC7.2, CC7.3",
        "Monitoring for anomalies, and their evaluation",
        "denials, failures, and findings about chains",
    ),
    ("NIST SP 800-53 AU-3", "Content of audit records", "what, when, where, source, outcome, identity"),
    ("NIST SP 800-53 AU-5", "Response to a failure of logging", "an access that cannot be recorded does not happen"),
    ("NIST SP 800-53 AU-9(3)", "Cryptographic protection", "Ed25519 over each record, certified outside the process"),
    (
        "NIST SP 800-53 AU-10",
        "Non-repudiation",
        "in part: a signature binds records to one process, which asserts its own identity (see below)",
    ),
)
_LIMITS = (
    """<b>The person.</b> Workflow pods act as a service account, and Argo's server does not pass on the user that it
has authenticated. To find the person, search the Kubernetes audit log for the uid of the workflow, and read the label
<code>workflows.argoproj.io/creator</code>.""",
    """<b>A proven identity.</b> An identity that is not marked as attested is asserted by the environment of the pod,
and everyone with the right to patch the pod can change it. The identity in a certificate is asserted by the process:
everyone with the right to use the certifying key can have any identity certified. Compare each chain with the audit log
of Vault, which names the client of each signature by the certifying key.""",
    """<b>Records removed from the end.</b> A chain whose last records were removed looks like a chain that is open,
unless a sealed object or a trace names one of those records.""",
    """<b>Whole chains that were removed.</b> This report cannot show them. The audit log of Vault has one signature for
each chain that was certified.""",
)
_STYLE = """
:root{color-scheme:light;--ink:#1d2329;--soft:#5c6670;--line:#d9dee3;--good:#25724a;--bad:#b3452c}
*{box-sizing:border-box}body{margin:0 auto;padding:2.2rem 1.4rem;max-width:60rem;color:var(--ink);background:#fff;
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.7rem;margin:0 0 .2rem}h2{font-size:1.15rem;margin:2.4rem 0 .6rem;padding-top:.8rem;
border-top:1px solid var(--line)}p{margin:.4rem 0}.soft{color:var(--soft)}
.verdict{margin:1.2rem 0;padding:.9rem 1.1rem;border-left:6px solid var(--soft);background:#f5f6f7;font-size:1.1rem}
.good{border-color:var(--good);background:#f4f7f5}.bad{border-color:var(--bad);background:#fbf2ef}
.facts{display:flex;flex-wrap:wrap;gap:.6rem;margin:1rem 0}.facts div{flex:1 1 8rem;border:1px solid var(--line);
border-radius:6px;padding:.6rem .8rem}.facts b{display:block;font-size:1.4rem;font-weight:600}
table{border-collapse:collapse;width:100%;font-size:13.5px}th,td{text-align:left;padding:.35rem .6rem .35rem 0;
border-bottom:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}th{color:var(--soft);font-weight:600}
svg{width:100%;height:auto;display:block}svg text{font-size:12px;fill:var(--ink)}svg .label{text-anchor:end}
svg .axis{fill:var(--soft)}svg .grid{stroke:var(--line)}.legend span{margin-right:1.2rem;color:var(--soft)}
.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.4em;border-radius:2px}
code{font-size:12.5px}@media print{body{padding:0}h2{break-after:avoid}}
"""


@dataclass(slots=True)
class Figures:
    """Counts accesses. The memory that this takes does not grow with their number."""

    accesses: int = 0
    plaintext_bytes: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    operations: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    denials: Counter[str] = field(default_factory=Counter)
    keys: Counter[str] = field(default_factory=Counter)
    workflows: Counter[str] = field(default_factory=Counter)
    first: int | None = None
    """The time of the earliest access, in seconds since 1970."""
    last: int = 0
    """The time of the latest access, in seconds since 1970."""
    _width: int = 60
    """Seconds of a bucket."""
    _times: defaultdict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, row: Row) -> None:
        """Count one access."""
        outcome = _outcome(row)
        self.accesses += 1
        self.plaintext_bytes += row.plaintext_bytes
        self.outcomes[outcome] += 1
        self.operations[row.operation if row.operation in _OPERATIONS else _OTHERS][outcome] += 1
        if outcome == "denied":
            where = "/".join(part for part in (row.policy, row.rule) if part) or "no rule"
            _count(self.denials, f"{where} {row.code}".strip())
        if row.key_name:
            _count(self.keys, f"{row.key_name} version {row.key_version}")
        _count(self.workflows, row.workflow or "no workflow")
        seconds = int(datetime.fromisoformat(row.time).timestamp())
        self.first = seconds if self.first is None else min(self.first, seconds)
        self.last = max(self.last, seconds)
        self._times[seconds // self._width][outcome] += 1
        while len(self._times) > _MOST_BUCKETS:
            self._widen(self._width * 2)

    def over_time(self) -> list[tuple[str, Mapping[str, int]]]:
        """Return label and counts of at most `_COLUMNS` buckets of equal width, without gaps."""
        if self.first is None:
            return []
        while (self.last // self._width) - (self.first // self._width) >= _COLUMNS:
            self._widen(self._width * 2)
        form = "%m-%d %H:%M" if self._width < 86_400 else "%Y-%m-%d"  # noqa: PLR2004 - the seconds of a day
        return [
            (datetime.fromtimestamp(bucket * self._width, UTC).strftime(form), self._times.get(bucket, Counter()))
            for bucket in range(self.first // self._width, self.last // self._width + 1)
        ]

    def _widen(self, width: int) -> None:
        merged: defaultdict[int, Counter[str]] = defaultdict(Counter)
        for bucket, counts in self._times.items():
            merged[bucket * self._width // width].update(counts)
        self._width, self._times = width, merged


def page(figures: Figures, verdict: VerificationResult, sources: Iterable[str], made_at: datetime) -> str:
    """Return the page as HTML.

    Args:
        figures: the counts of all accesses.
        verdict: the result of the verification.
        sources: the names of the files of the trail.
        made_at: the time of the report, in UTC.
    """
    title = "Sealgate: audit report"
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
    )
    return head + "\n".join(_sections(figures, verdict, sources, made_at)) + "</body></html>\n"


def _sections(
    figures: Figures, verdict: VerificationResult, sources: Iterable[str], made_at: datetime
) -> Iterator[str]:
    yield "<h1>Audit report</h1>"
    yield f'<p class="soft">Made {made_at:%Y-%m-%d %H:%M} UTC from {escape(", ".join(sources))}</p>'
    yield _verdict(verdict)
    yield _facts(figures, verdict)
    if not verdict.good or verdict.unsigned:
        yield '<p class="soft">The figures and plots count all records, including those that were not verified.</p>'
    yield "<h2>Accesses over time</h2>" + plots.columns(figures.over_time(), _SERIES)
    yield "<h2>By operation and outcome</h2>" + plots.bars(sorted(figures.operations.items()), _SERIES)
    yield "<h2>Denials by rule</h2>" + _ranking(figures.denials, "denied", "No access was denied.")
    yield "<h2>Key versions in use</h2>" + _ranking(figures.keys, "allowed", "No data key was used.")
    yield "<h2>Workflows</h2>" + _ranking(figures.workflows, "allowed", "No accesses.")
    yield "<h2>The trail</h2>" + _chains(verdict)
    yield "<h2>Controls that this trail supports</h2>" + _table(("control", "requirement", "evidence"), _CONTROLS)
    yield "<h2>What this report does not show</h2>" + "".join(f"<p>{limit}</p>" for limit in _LIMITS)


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
    if verdict.empty:
        return '<p class="verdict bad"><b>Not verified.</b> The trail contains no record.</p>'
    kinds = ", ".join(f"{count} {flaw.value}" for flaw, count in sorted(verdict.findings.counts.items()))
    return f'<p class="verdict bad"><b>Not verified.</b> The trail has flaws: {escape(kinds)}.</p>'


def _counted_chains(count: int) -> str:
    return "1 chain" if count == 1 else f"{count} chains"


def _facts(figures: Figures, verdict: VerificationResult) -> str:
    shown = {
        "accesses": f"{figures.accesses:,}",
        "denied": f"{figures.outcomes['denied']:,}",
        "failed": f"{figures.outcomes['failed']:,}",
        "without an outcome": f"{figures.outcomes['unfinished']:,}",
        "plaintext bytes": f"{figures.plaintext_bytes:,}",
        "processes": f"{len(verdict.chains):,}",
    }
    return f'<div class="facts">{"".join(f"<div><b>{value}</b>{name}</div>" for name, value in shown.items())}</div>'


def _ranking(counts: Counter[str], series: str, nothing: str) -> str:
    if not counts:
        return f'<p class="soft">{nothing}</p>'
    first = counts.most_common(_MOST_NAMES)
    rest = counts.total() - sum(count for _, count in first)
    rows = [*first, (_OTHERS, rest)] if rest else first
    return plots.bars([(name, {series: count}) for name, count in rows], (series,))


def _chains(verdict: VerificationResult) -> str:
    findings = [
        (finding.flaw.value, finding.place, finding.chain[:8], finding.text)
        for finding in verdict.findings.listed[:_MOST_LISTED]
    ]
    flaws = _table(("flaw", "place", "chain", "description"), findings) if findings else ""
    chains = [
        (
            chain.uid[:8],
            f"{chain.records:,}",
            "closed" if chain.closed else "open",
            chain.certified_by or "not certified",
            f"{moment(chain.first):%Y-%m-%d %H:%M:%S}",
            f"{moment(chain.last):%Y-%m-%d %H:%M:%S}",
            " ".join(
                filter(None, (chain.actor.namespace, chain.actor.workflow, chain.actor.pod)) if chain.actor else ()
            ),
            ", ".join(sorted(digest[:12] for digest in chain.policies)),
        )
        for chain in verdict.chains[:_MOST_LISTED]
    ]
    heads = ("chain", "records", "end", "certified by", "first", "last", "actor", "policies")
    left_out = max(len(verdict.chains), len(verdict.findings)) - _MOST_LISTED
    command = "<code>sealgate audit verify</code>"
    note = f'<p class="soft">{left_out} more are not listed here; {command} counts them.</p>' if left_out > 0 else ""
    return flaws + _table(heads, chains) + note


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(_printable(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _outcome(row: Row) -> str:
    if row.decision == "denied":
        return "denied"
    if row.status == UNFINISHED:
        return "unfinished"
    return "allowed" if row.status == "OK" else "failed"


def _count(counts: Counter[str], name: str) -> None:
    """Count a name from outside. Beyond `_MOST_BUCKETS` different names, further ones are counted together."""
    name = name[:_LONGEST_NAME]
    counts[name if name in counts or len(counts) < _MOST_BUCKETS else _OTHERS] += 1
