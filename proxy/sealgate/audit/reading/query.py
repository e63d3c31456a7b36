"""Asking a trail: its accesses, one row each, those that match. It lists what records say; `verify` checks them."""

from __future__ import annotations

import csv
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import islice
from typing import TextIO

from sealgate.audit.reading.trail_lines import TrailLine, TrailRecord, entry, number_at, text_at
from sealgate.audit.records import Phase

UNFINISHED = "UNFINISHED"
"""The status of an access whose outcome is not in the trail."""
_MOST_OPEN = 20_000
_MOST_GIVEN_UP = 200_000
_LAST_MOMENT = 253_402_214_400_000
"""The last day of the year 9999."""
_SHOWN = (
    "time",
    "operation",
    "key",
    "decision",
    "status",
    "plaintext_bytes",
    "workflow",
    "pod",
    "rule",
    "record",
    "id",
)
_WIDEST = 60
_TOGETHER = 500
"""Rows whose columns are made equally wide before the first is shown."""


@dataclass(frozen=True, slots=True)
class Row:
    """One access: its outcome, or its attempt where there is none."""

    time: str
    """UTC, ISO 8601, milliseconds."""
    operation: str
    key: str
    decision: str
    """`allowed` or `denied`."""
    status: str
    code: str
    policy: str
    rule: str
    plaintext_bytes: int
    stored_bytes: int
    files: int
    key_name: str
    key_version: int
    namespace: str
    service_account: str
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
    """`altered` if its fingerprint is not that of its content, else `intact`. Who wrote it is not looked at."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for; what is empty matches everything. `key` may hold `*` and `?`."""

    key: str = ""
    operation: str = ""
    workflow: str = ""
    decision: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def matches(self, row: Row) -> bool:
        """Whether the row is asked for."""
        moment = datetime.fromisoformat(row.time)
        return (
            (not self.key or fnmatchcase(row.key, self.key))
            and self.operation in {"", row.operation}
            and self.workflow in {"", row.workflow}
            and self.decision in {"", row.decision}
            and (self.since is None or moment >= self.since)
            and (self.until is None or moment < self.until)
        )


class Accesses:
    """Makes one row of the records of each access, as lines come. Holds those that have no outcome yet."""

    def __init__(self) -> None:
        self._begun: OrderedDict[tuple[str, str], Row] = OrderedDict()
        self._given_up: set[int] = set()
        self.unread = 0
        """Lines that begin as a record does, and are none."""
        self.twice = 0
        """Accesses that were given up as unfinished before their outcome came."""

    def add(self, line: TrailLine) -> Row | None:
        """The row that this line completes, if it completes one."""
        found = entry(line)
        if found is None:
            self.unread += 1
            return None
        if found.phase not in {Phase.ATTEMPT, Phase.OUTCOME}:
            return None
        row = _row(found)
        place = row.chain, row.id
        if found.phase == Phase.OUTCOME:
            self.twice += self._begun.pop(place, None) is None and hash(place) in self._given_up
            return row
        self._begun[place] = row
        if len(self._begun) <= _MOST_OPEN:
            return None
        place, row = self._begun.popitem(last=False)
        if len(self._given_up) < _MOST_GIVEN_UP:
            self._given_up.add(hash(place))
        return row

    def unfinished(self) -> Iterable[Row]:
        """At the end: the accesses without an outcome."""
        return self._begun.values()


def accesses(trail: Iterable[TrailLine], found: Accesses) -> Iterator[Row]:
    """One row an access, in the order of the outcomes; last those that have none. What it could not do, `found` has."""
    for line in trail:
        row = found.add(line)
        if row is not None:
            yield row
    yield from found.unfinished()


def write_table(rows: Iterable[Row], out: TextIO) -> None:
    """Columns for a reader. A key comes from outside: nothing in it steers a terminal."""
    waiting = iter(rows)
    lines = [[name.replace("_", " ") for name in _SHOWN]]
    widths = [0] * len(_SHOWN)
    while rest := [[_cell(getattr(row, name)) for name in _SHOWN] for row in islice(waiting, _TOGETHER)] or lines:
        # A column is as wide as its widest cell so far: a long listing does not wait for its end.
        lines += rest if rest is not lines else []
        widths = [max(width, *map(len, column)) for width, column in zip(widths, zip(*lines, strict=True), strict=True)]
        for cells in lines:
            print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip(), file=out)
        lines = []


def write_json(rows: Iterable[Row], out: TextIO) -> None:
    """One object a line."""
    for row in rows:
        print(json.dumps(asdict(row), ensure_ascii=True), file=out)


def write_csv(rows: Iterable[Row], out: TextIO) -> None:
    """With a head. Nothing in a cell steers a terminal; what a spreadsheet would take for a formula is quoted."""
    names = [field.name for field in fields(Row)]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_harmless(getattr(row, name)) for name in names])


WRITERS: dict[str, Callable[[Iterable[Row], TextIO], None]] = {
    "table": write_table,
    "json": write_json,
    "csv": write_csv,
}


def _row(found: TrailRecord) -> Row:
    record = found.record
    unmapped = record.get("unmapped")
    status = text_at(unmapped, "grpc_status") if found.phase == Phase.OUTCOME else UNFINISHED
    return Row(
        time=moment(number_at(record, "time")).isoformat(timespec="milliseconds"),
        operation=text_at(record, "api", "operation"),
        key=text_at(record, "resource", "uid"),
        decision="denied" if number_at(record, "action_id") == 2 else "allowed",  # noqa: PLR2004 - OCSF's number
        status=status,
        code=text_at(unmapped, "decision", "code"),
        policy=text_at(record, "policy", "name"),
        rule=text_at(record, "policy", "rule"),
        plaintext_bytes=number_at(unmapped, "io", "plaintext_bytes"),
        stored_bytes=number_at(unmapped, "io", "stored_bytes"),
        files=number_at(unmapped, "io", "files"),
        key_name=text_at(unmapped, "crypto", "key"),
        key_version=number_at(unmapped, "crypto", "key_version"),
        namespace=text_at(record, "actor", "namespace"),
        service_account=text_at(record, "actor", "service_account"),
        workflow=text_at(record, "actor", "workflow"),
        pod=text_at(record, "actor", "pod"),
        component=text_at(record, "actor", "component"),
        milliseconds=number_at(record, "duration"),
        trace_id=text_at(unmapped, "trace", "trace_id"),
        vault_request_id=text_at(unmapped, "vault", "request_id"),
        id=text_at(record, "metadata", "correlation_uid"),
        chain=found.chain,
        sequence=found.sequence,
        record="intact" if found.intact else "altered",
    )


def moment(milliseconds: int) -> datetime:
    """A record's time. One before 1970, or that no calendar has, counts as the first."""
    return datetime.fromtimestamp(milliseconds / 1000 if 0 <= milliseconds <= _LAST_MOMENT else 0, UTC)


def _cell(value: object) -> str:
    text = _printable(str(value))
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _harmless(value: object) -> object:
    if not isinstance(value, str):
        return value
    text = _printable(value)
    return f"'{text}" if text.lstrip()[:1] in {"=", "+", "-", "@"} else text


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
