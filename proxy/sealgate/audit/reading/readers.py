"""The page that answers who read one artifact: each access that a trail records of it, with its account and its end.

A directory is read as a whole or file by file, so an access to something beneath the key, or to a directory that
contains it, concerns the artifact, too. Listings do not: they show no content.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from html import escape

from sealgate.audit.reading.figures import (
    Account,
    AccountFigures,
    Outcome,
    account_of,
    action_of,
    count_account,
    outcome_of,
)
from sealgate.audit.reading.page import (
    MOMENT,
    NUMBER,
    PLAINTEXT_BYTES,
    Origin,
    account_table,
    made,
    table,
    verdict_on,
    whole,
)
from sealgate.audit.reading.query import Row, latest_first, printable, shown_time
from sealgate.audit.reading.verify import VerificationResult

_MOST_LISTED = 2000
_HIDDEN = ("hmac-sha256:", "withheld")
"""How the keys begin that a policy hides."""
_LIMITS = (
    """<b>The person.</b> Pods act as a service account, and Argo's server does not pass on the user that it has
authenticated. A read by the component <code>server</code> was made for a user of Argo's interface.""",
    """<b>Reads around the plugin.</b> A copy of the stored object is ciphertext. The command <code>sealgate open</code>
and every other program that may use the key leave no record here: the audit log of Vault names each use of the key.""",
    """<b>Copies.</b> A workflow that read the artifact can have stored its content under another key.""",
    """<b>Listings.</b> They show names and no content, and are left out.""",
)


class ArtifactAccesses:
    """Collects the accesses to one artifact, and what the trail may hold of it beyond them.

    Args:
        key: the artifact's key, or the HMAC of a hidden key as records show it.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._digest = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
        self.readers: dict[Account, AccountFigures] = {}
        self.reads: deque[Row] = deque(maxlen=_MOST_LISTED)
        """The last reads, also those that were denied or failed, in the order of the trail."""
        self.changes: deque[Row] = deque(maxlen=_MOST_LISTED)
        """The last writes and deletions, in the order of the trail."""
        self.accesses = 0
        """The number of all accesses to the artifact."""
        self.hidden = 0
        """The number of accesses whose key is hidden, so that they may concern this artifact."""
        self.first, self.last = "", ""
        """The times of the earliest and the latest access of the trail, to whatever artifact, as in a row."""

    def add(self, row: Row) -> None:
        """Take one access of the trail."""
        self.first = min(self.first or row.time, row.time)
        self.last = max(self.last, row.time)
        action = action_of(row)
        if action == "listings":
            return
        if not self._is_concerned(row):
            self.hidden += row.key.startswith(_HIDDEN) and not self.key.startswith(_HIDDEN)
            return
        self.accesses += 1
        if action != "reads":
            self.changes.append(row)
            return
        self.reads.append(row)
        count_account(self.readers, row)

    def _is_concerned(self, row: Row) -> bool:
        return (
            row.key == self.key
            or row.key_sha256 == self._digest
            or row.key.startswith(f"{self.key}/")
            or (bool(row.key) and self.key.startswith(f"{row.key}/"))
        )


def page(found: ArtifactAccesses, verdict: VerificationResult, origin: Origin) -> str:
    """Return the page as HTML.

    Args:
        found: the accesses to the artifact.
        verdict: the result of the verification of the whole trail.
        origin: what the page is made from.
    """
    return whole("Sealgate: who read this artifact", _parts(found, verdict, origin))


def _parts(found: ArtifactAccesses, verdict: VerificationResult, origin: Origin) -> Iterator[str]:
    yield f"<h1>Who read this artifact</h1><p><code>{escape(printable(found.key))}</code></p>"
    yield made(origin, shown_time(found.first), shown_time(found.last))
    yield verdict_on(verdict)
    if found.hidden:
        yield (
            f'<p class="verdict"><b>Accesses with a hidden key: {found.hidden:,}.</b> They may concern this artifact. '
            "Give its HMAC as the key to find those whose records contain one.</p>"
        )
    yield "<h2>Accounts that read it, or tried to</h2>" + _readers(found)
    yield "<h2>Reads</h2>" + _list(found.reads, "The trail records no read of this artifact.")
    yield "<h2>Writes and deletions</h2>" + _list(found.changes, "The trail records none.")
    yield "<h2>What this page does not show</h2>" + "".join(f"<p>{limit}</p>" for limit in _LIMITS)


def _readers(found: ArtifactAccesses) -> str:
    if not found.readers:
        return '<p class="soft">None.</p>'
    counted = ("reads", Outcome.FAILED, Outcome.DENIED, Outcome.UNFINISHED, PLAINTEXT_BYTES)
    note = (
        "Reads are accesses that succeeded. A read that failed, was denied midway or has no outcome can have delivered "
        "a part; plaintext bytes count all that was delivered and recorded."
    )
    return account_table(found.readers, counted) + f'<p class="soft">{note}</p>'


def _list(rows: deque[Row], nothing: str) -> str:
    if not rows:
        return f'<p class="soft">{escape(nothing)}</p>'
    heads = (
        ("time", MOMENT),
        ("account", ""),
        ("workflow and pod", ""),
        ("component", ""),
        ("operation", ""),
        ("key", ""),
        ("end", ""),
        (PLAINTEXT_BYTES, NUMBER),
        ("decision", ""),
    )
    cells = [
        (
            shown_time(row.time),
            account_of(row).name,
            _workflow_and_pod(row),
            row.component,
            row.operation,
            row.key,
            _end_of(row),
            f"{row.plaintext_bytes:,}",
            row.id,
        )
        for row in latest_first(rows)
    ]
    full = len(rows) == _MOST_LISTED
    note = f'<p class="soft">The latest {_MOST_LISTED:,} are listed.</p>' if full else ""
    return table(heads, cells) + note


def _workflow_and_pod(row: Row) -> str:
    """Return the pod of an access, and before it the workflow, unless the pod's name begins with that."""
    return row.pod if row.pod.startswith(row.workflow) else f"{row.workflow} {row.pod}".strip()


def _end_of(row: Row) -> str:
    """Return how an access ended, with the code or the status if it did not succeed."""
    outcome = outcome_of(row)
    why = {Outcome.DENIED: row.code, Outcome.FAILED: row.status}.get(outcome, "")
    altered = ", record altered" if row.record == "altered" else ""
    return f"{outcome} {why}".strip() + altered
