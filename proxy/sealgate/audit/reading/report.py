"""What an auditor gets on one page: the verdict, who did what, what was denied and why, and the controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from html import escape

from sealgate.audit.reading import plots
from sealgate.audit.reading.denials import reason_of
from sealgate.audit.reading.figures import ACTIONS, OTHERS, Figures, Outcome, account_of, rule_of
from sealgate.audit.reading.page import MOMENT, NUMBER, Origin, account_table, made, table, verdict_on, whole
from sealgate.audit.reading.query import Row, latest_first, moment, shown_time
from sealgate.audit.reading.verify import VerificationResult

_SERIES = (Outcome.ALLOWED, Outcome.FAILED, Outcome.DENIED, Outcome.UNFINISHED)
_MOST_NAMES = 12
_MOST_LISTED = 200
_MOST_KINDS = 50
"""Kinds of denials that are listed."""
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


def page(figures: Figures, verdict: VerificationResult, origin: Origin) -> str:
    """Return the page as HTML.

    Args:
        figures: the counts of all accesses.
        verdict: the result of the verification.
        origin: what the page is made from.
    """
    return whole("Sealgate: audit report", _parts(figures, verdict, origin))


def _parts(figures: Figures, verdict: VerificationResult, origin: Origin) -> Iterator[str]:
    yield "<h1>Audit report</h1>"
    yield made(origin, *_ends(figures))
    yield verdict_on(verdict)
    yield _facts(figures, verdict)
    yield "<h2>Who accessed artifacts</h2>" + _accounts(figures)
    yield "<h2>What was denied, and why</h2>" + _denials(figures)
    yield "<h2>Accesses over time, in UTC</h2>" + plots.columns(figures.over_time(), _SERIES)
    yield "<h2>By operation and outcome</h2>" + plots.bars(sorted(figures.operations.items()), _SERIES)
    yield "<h2>Key versions in use</h2>" + _ranking(figures.keys, "No data key was used.")
    yield "<h2>Workflows</h2>" + _ranking(figures.workflows, "No accesses.")
    yield "<h2>The trail</h2>" + _chains(verdict)
    controls = table((("control", ""), ("requirement", ""), ("evidence", "")), _CONTROLS)
    yield "<h2>Controls that this trail supports</h2>" + controls
    yield "<h2>What this report does not show</h2>" + "".join(f"<p>{limit}</p>" for limit in _LIMITS)


def _ends(figures: Figures) -> tuple[str, str]:
    """Return the times of the earliest and the latest access, empty without one."""
    if figures.first is None:
        return "", ""
    return f"{moment(figures.first * 1000):%Y-%m-%d %H:%M:%S}", f"{moment(figures.last * 1000):%Y-%m-%d %H:%M:%S}"


def _facts(figures: Figures, verdict: VerificationResult) -> str:
    shown = {
        "accesses": f"{figures.accesses:,}",
        "accounts": f"{len(figures.accounts):,}",
        "denied": f"{figures.outcomes['denied']:,}",
        "failed": f"{figures.outcomes['failed']:,}",
        "without an outcome": f"{figures.outcomes['unfinished']:,}",
        "plaintext bytes": f"{figures.plaintext_bytes:,}",
        "processes": f"{len(verdict.chains):,}",
    }
    return f'<div class="facts">{"".join(f"<div><b>{value}</b>{name}</div>" for name, value in shown.items())}</div>'


def _accounts(figures: Figures) -> str:
    if not figures.accounts:
        return '<p class="soft">No accesses.</p>'
    has_others = any(OTHERS in one.counts for one in figures.accounts.values())
    counted = [*dict.fromkeys(ACTIONS.values()), *([OTHERS] if has_others else []), *_SERIES[1:]]
    note = (
        "Accounts are namespace and service account. Reads, writes, deletions and listings succeeded: Load and "
        "OpenStream, Save and SaveStream, Delete, ListObjects and IsDirectory. An identity is attested where the "
        "records state that the key service has proven it; an asserted one is what the environment of the pod says."
    )
    shown = account_table(figures.accounts, counted, most=_MOST_LISTED)
    return shown + f'<p class="soft">{note}</p>' + _left_out(len(figures.accounts) - _MOST_LISTED)


def _denials(figures: Figures) -> str:
    if not figures.denials:
        return '<p class="soft">No access was denied.</p>'
    ranked = figures.denials.most_common()
    kinds = [
        (f"{count:,}", kind.account, kind.operation, kind.rule, kind.code, reason_of(kind.code))
        for kind, count in ranked[:_MOST_KINDS]
    ]
    heads = (("times", NUMBER), ("account", ""), ("operation", ""), ("rule", ""), ("code", ""), ("reason", ""))
    latest = [_denial(row) for row in latest_first(figures.latest_denials)]
    names = ("account", "workflow", "operation", "key", "rule", "code", "decision")
    return (
        table(heads, kinds)
        + _left_out(len(ranked) - _MOST_KINDS)
        + f"<h3>The latest {len(latest)} of {figures.outcomes['denied']:,}</h3>"
        + table((("time", MOMENT), *((name, "") for name in names)), latest)
    )


def _denial(row: Row) -> tuple[str, ...]:
    account = account_of(row).name
    return shown_time(row.time), account, row.workflow, row.operation, row.key, rule_of(row), row.code, row.id


def _left_out(count: int) -> str:
    return f'<p class="soft">{count:,} more are not listed here.</p>' if count > 0 else ""


def _ranking(counts: Counter[str], nothing: str) -> str:
    if not counts:
        return f'<p class="soft">{escape(nothing)}</p>'
    first = counts.most_common(_MOST_NAMES)
    rest = counts.total() - sum(count for _, count in first)
    rows = [*first, (OTHERS, rest)] if rest else first
    return plots.bars([(name, {Outcome.ALLOWED: count}) for name, count in rows], (Outcome.ALLOWED,))


def _chains(verdict: VerificationResult) -> str:
    findings = [
        (finding.flaw.value, finding.place, finding.chain[:8], finding.text)
        for finding in verdict.findings.listed[:_MOST_LISTED]
    ]
    heads = (("flaw", ""), ("place", ""), ("chain", ""), ("description", ""))
    flaws = table(heads, findings) if findings else ""
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
    of_chains = (
        ("chain", ""),
        ("records", NUMBER),
        ("end", ""),
        ("certified by", ""),
        ("first", MOMENT),
        ("last", MOMENT),
        ("actor", ""),
        ("policies", ""),
    )
    left_out = max(len(verdict.chains), len(verdict.findings)) - _MOST_LISTED
    command = "<code>sealgate audit verify</code>"
    note = f'<p class="soft">{left_out} more are not listed here; {command} counts them.</p>' if left_out > 0 else ""
    return flaws + table(of_chains, chains) + note
