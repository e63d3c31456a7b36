"""The pages for an auditor: the accesses that tests put into them, and what is read back from the HTML."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser

from sealgate.audit.reading.query import Row

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def row(number=0, **facts) -> Row:
    plain = dict.fromkeys(Row.__dataclass_fields__, "")
    numbers = {"plaintext_bytes", "stored_bytes", "files", "key_version", "milliseconds", "sequence"}
    plain |= dict.fromkeys(numbers, 0)
    plain |= {"attested": False, "record": "intact"}
    plain |= {"time": NOW.isoformat(), "operation": "Load", "decision": "allowed", "status": "OK", "id": str(number)}
    return Row(**(plain | facts))


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
        if tag not in {"meta", "line", "rect", "br", "wbr"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in {"line", "rect"}:
            assert self.open.pop() == tag


class Tables(HTMLParser):
    """Collects the cells of each table by the heading above it."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, list[list[list[str]]]] = {}
        self._heading, self._in_heading, self._in_cell = "", False, False

    def handle_starttag(self, tag, attrs):
        if tag == "h2":
            self._heading, self._in_heading = "", True
        elif tag == "table":
            self.tables.setdefault(self._heading, []).append([])
        elif tag == "tr":
            self.tables[self._heading][-1].append([])
        elif tag == "td":
            self.tables[self._heading][-1][-1].append("")
        self._in_cell = self._in_cell or tag == "td"

    def handle_endtag(self, tag):
        self._in_heading = self._in_heading and tag != "h2"
        self._in_cell = self._in_cell and tag != "td"

    def handle_data(self, data):
        if self._in_heading:
            self._heading += data
        elif self._in_cell and self.tables.get(self._heading):
            self.tables[self._heading][-1][-1][-1] += data


def cells(text: str, heading: str, tables: int = 1):
    """Return the rows of the table below a heading; of each of them if there are several `tables`."""
    parser = Tables()
    parser.feed(text)
    found = [[row for row in table if row] for table in parser.tables[heading]]
    assert len(found) == tables
    return found[0] if tables == 1 else found


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader
