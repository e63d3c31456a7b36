"""Which accesses a trail records: one row for each, filtered and written as table, JSON or CSV.

The rows repeat what the records claim; only `verify` checks the records.
"""

from __future__ import annotations

import csv
import json
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import islice
from typing import TextIO

from sealgate.audit.reading.trail_lines import (
    TrailLine,
    TrailRecord,
    number_at,
    parse_record,
    text_at,
    texts_at,
    value_at,
)
from sealgate.audit.records import Phase
from sealgate.errors import one_line

UNFINISHED = "UNFINISHED"
"""The status of an access whose outcome is not in the trail."""
_MOST_OPEN = 20_000
"""Attempts that wait for their outcome at one time."""
_MOST_REMEMBERED = 200_000
"""Attempts that were too many to wait for, of which only a hash is kept."""
_LAST_MOMENT = 253_402_214_400_000
"""The last day of the year 9999, in milliseconds since 1970."""
EXACT = {
    "namespace": "the namespace of the pod",
    "service_account": "the service account of the pod",
    "workflow": "the name of the workflow",
    "component": "init, sidecar, gc or server",
    "rule": "the rule that decided",
    "code": "the code of the decision, such as NO_RULE",
    "proposed": "the decision if every rule were enforced: allow, deny, skip or unknown",
}
"""Fields of a row that a filter compares as they are, and what each one is."""
VERSION = 1
"""The version of the rows in JSON. It changes if a field changes its meaning or is removed."""
_TABLE_COLUMNS = (
    "time",
    "operation",
    "key",
    "decision",
    "code",
    "status",
    "plaintext_bytes",
    "namespace",
    "service_account",
    "workflow",
    "pod",
    "rule",
    "would_deny",
    "record",
    "id",
)
_WIDEST = 60
_ROWS_AT_ONCE = 500
"""Rows of a table that are aligned together, so that a long listing starts before its end is known."""


@dataclass(frozen=True, slots=True)
class Row:
    """One access: its outcome, or its attempt if it has no outcome."""

    time: str
    """UTC, ISO 8601, milliseconds."""
    operation: str
    key: str
    """As the record shows it: a key that was refused or is long may be shown in part, and a hidden key as its HMAC."""
    key_sha256: str
    """SHA-256 of the whole key, in hexadecimal, if the record shows the key in part; else empty."""
    decision: str
    """`allowed` or `denied`."""
    status: str
    code: str
    policy: str
    rule: str
    proposed: str
    """The decision if every rule were enforced: `allow`, `deny`, `skip` or `unknown`."""
    would_deny: str
    """The first rules on trial that would deny, each as POLICY/RULE."""
    plaintext_bytes: int
    stored_bytes: int
    files: int
    key_name: str
    key_version: int
    namespace: str
    service_account: str
    attested: bool
    """Whether the key service proved namespace and service account, as the record claims."""
    workflow: str
    pod: str
    component: str
    milliseconds: int
    trace_id: str
    vault_request_id: str
    id: str
    chain: str
    sequence: int
    record: str
    """`altered` if the fingerprint does not match the content, else `intact`. No signature is checked for it."""


@dataclass(frozen=True, slots=True)
class Period:
    """Selects the accesses of a time. A side that is None has no end."""

    since: datetime | None = None
    until: datetime | None = None
    """The first moment that does not belong to the period any more."""

    @property
    def is_empty(self) -> bool:
        """Whether no moment is in the period."""
        return self.since is not None and self.until is not None and self.since >= self.until

    def contains(self, row: Row) -> bool:
        """Return whether the period contains the end of an access, or its attempt if it has no outcome."""
        moment = datetime.fromisoformat(row.time)
        return (self.since is None or moment >= self.since) and (self.until is None or moment < self.until)


@dataclass(frozen=True, slots=True)
class AccessFilter:
    """Selects accesses. An empty field matches everything."""

    key: str = ""
    """A glob in which `*` and `?` also match `/`."""
    operations: frozenset[str] = frozenset()
    """The names of RPCs."""
    exact: Mapping[str, str | int] = field(default_factory=dict)
    """The value that a field of the row must have, by the name of the field. An empty value matches everything."""
    period: Period = Period()

    def matches(self, row: Row) -> bool:
        """Return whether the filter selects `row`."""
        return (
            (not self.key or fnmatchcase(row.key, self.key))
            and (not self.operations or row.operation in self.operations)
            and all(value in {"", getattr(row, name)} for name, value in self.exact.items())
            and self.period.contains(row)
        )


class AccessRows:
    """Joins attempt and outcome of each access into one row, while lines are read.

    At most 20,000 attempts wait for their outcome. Beyond that, the oldest is returned as unfinished.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, str], Row] = OrderedDict()
        self._returned_early: set[int] = set()
        self.unread = 0
        """The number of lines that start like a record and cannot be read."""
        self.counted_twice = 0
        """The number of accesses that were returned as unfinished, and again when their outcome came."""

    def add(self, line: TrailLine) -> Row | None:
        """Return the row that is complete with this line, if there is one."""
        record = parse_record(line)
        if record is None:
            self.unread += 1
            return None
        if record.phase not in {Phase.ATTEMPT, Phase.OUTCOME}:
            return None
        row = _row(record)
        access = row.chain, row.id
        if record.phase == Phase.OUTCOME:
            self.counted_twice += self._open.pop(access, None) is None and hash(access) in self._returned_early
            return row
        self._open[access] = row
        if len(self._open) <= _MOST_OPEN:
            return None
        access, row = self._open.popitem(last=False)
        if len(self._returned_early) < _MOST_REMEMBERED:
            self._returned_early.add(hash(access))
        return row

    def unfinished(self) -> Iterable[Row]:
        """Return, after the last line, the accesses without an outcome."""
        return self._open.values()


def accesses(trail: Iterable[TrailLine], rows: AccessRows) -> Iterator[Row]:
    """Return one row for each access, in the order of the outcomes; those without an outcome come last.

    Args:
        trail: the lines.
        rows: joins the records, and counts the lines that it could not use.
    """
    for line in trail:
        row = rows.add(line)
        if row is not None:
            yield row
    yield from rows.unfinished()


def write_table(rows: Iterable[Row], out: TextIO) -> None:
    """Write an aligned table. Unprintable characters become `?`, so that no text in it can control a terminal."""
    remaining = iter(rows)
    lines = [[name.replace("_", " ") for name in _TABLE_COLUMNS]]
    widths = [0] * len(_TABLE_COLUMNS)
    while block := _block(remaining) or lines:
        # A column is as wide as its widest cell so far.
        lines += block if block is not lines else []
        widths = [max(width, *map(len, column)) for width, column in zip(widths, zip(*lines, strict=True), strict=True)]
        for cells in lines:
            print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip(), file=out)
        lines = []


def _block(rows: Iterator[Row]) -> list[list[str]]:
    return [[_cell(getattr(row, name)) for name in _TABLE_COLUMNS] for row in islice(rows, _ROWS_AT_ONCE)]


def write_json(rows: Iterable[Row], out: TextIO) -> None:
    """Write one JSON object for each row, on a line of its own."""
    for row in rows:
        print(json.dumps({"version": VERSION, **asdict(row)}, ensure_ascii=True), file=out)


def write_csv(rows: Iterable[Row], out: TextIO) -> None:
    """Write CSV with a header line. No cell can control a terminal or be taken for a formula by a spreadsheet."""
    names = [each.name for each in fields(Row)]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_csv_cell(getattr(row, name)) for name in names])


WRITERS: dict[str, Callable[[Iterable[Row], TextIO], None]] = {
    "table": write_table,
    "json": write_json,
    "csv": write_csv,
}


def _row(parsed: TrailRecord) -> Row:
    record = parsed.record
    unmapped = record.get("unmapped")
    status = text_at(unmapped, "grpc_status") if parsed.phase == Phase.OUTCOME else UNFINISHED
    return Row(
        time=moment(number_at(record, "time")).isoformat(timespec="milliseconds"),
        operation=text_at(record, "api", "operation"),
        key=text_at(record, "resource", "uid"),
        key_sha256=text_at(unmapped, "key_sha256"),
        decision="denied" if number_at(record, "action_id") == 2 else "allowed",  # noqa: PLR2004 - OCSF's number
        status=status,
        code=text_at(unmapped, "decision", "code"),
        policy=text_at(record, "policy", "name"),
        rule=text_at(record, "policy", "rule"),
        proposed=text_at(unmapped, "decision", "proposed"),
        would_deny=" ".join(texts_at(unmapped, "decision", "would_deny")),
        plaintext_bytes=number_at(unmapped, "io", "plaintext_bytes"),
        stored_bytes=number_at(unmapped, "io", "stored_bytes"),
        files=number_at(unmapped, "io", "files"),
        key_name=text_at(unmapped, "crypto", "key"),
        key_version=number_at(unmapped, "crypto", "key_version"),
        namespace=text_at(record, "actor", "namespace"),
        service_account=text_at(record, "actor", "service_account"),
        attested=value_at(record, "actor", "attested") is True,
        workflow=text_at(record, "actor", "workflow"),
        pod=text_at(record, "actor", "pod"),
        component=text_at(record, "actor", "component"),
        milliseconds=number_at(record, "duration"),
        trace_id=text_at(unmapped, "trace", "trace_id"),
        vault_request_id=text_at(unmapped, "vault", "request_id"),
        id=text_at(record, "metadata", "correlation_uid"),
        chain=parsed.chain,
        sequence=parsed.sequence,
        record="intact" if parsed.intact else "altered",
    )


def moment(milliseconds: int) -> datetime:
    """Return the time of a record in UTC. A time before 1970 or after the year 9999 becomes the start of 1970."""
    return datetime.fromtimestamp(milliseconds / 1000 if 0 <= milliseconds <= _LAST_MOMENT else 0, UTC)


def latest_first(rows: Sequence[Row]) -> list[Row]:
    """Return the rows by their time, the latest first. Of the same time, the one that came last is first."""
    return sorted(rows, key=lambda row: row.time)[::-1]


def shown_time(time: str) -> str:
    """Return the time of a row to the second, as a person reads it."""
    return time.replace("T", " ")[:19]


def _cell(value: object) -> str:
    text = printable(str(value))
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _csv_cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        return value
    text = printable(value)
    # Some spreadsheets take the full-width forms of these signs for the signs.
    first = unicodedata.normalize("NFKC", text.lstrip()[:1])
    return f"'{text}" if first[:1] in {"=", "+", "-", "@"} else text


def printable(text: str) -> str:
    """Return `text` with `?` for each unprintable character, so that it cannot control a terminal."""
    return one_line(text, "?")
