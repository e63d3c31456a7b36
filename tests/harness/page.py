"""A page of the documents with a table that tests write. Each test owns the rows that begin with its name."""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from pathlib import Path


class Table:
    """The only table of a page. The text around it is written by hand."""

    def __init__(self, page: Path, names: Sequence[str]) -> None:
        self._page = page
        self._names = names

    def rows(self, name: str) -> list[list[str]]:
        """Return the cells after `name` of each of its rows."""
        return [cells[1:] for cells in self._cells() if cells[0] == name]

    def names(self) -> list[str]:
        """Return the first cells of the rows in their order, without repetitions."""
        return list(dict.fromkeys(cells[0] for cells in self._cells()))

    def replace(self, name: str, rows: Sequence[Sequence[str]]) -> None:
        """Replace the rows of `name`. Tests in other processes may write the page at the same time."""
        with self._page.open("r+") as page:
            fcntl.flock(page, fcntl.LOCK_EX)
            lines = page.read().splitlines()
            first = next(number for number, line in enumerate(lines) if line.startswith("| ---")) + 1
            length = sum(line.startswith("|") for line in lines[first:])
            found = [self._split(line) for line in lines[first : first + length]]
            by_name = {each: [cells for cells in found if cells[0] == each] for each in self._names}
            by_name[name] = [[name, *cells] for cells in rows]
            table = [f"| {' | '.join(cells)} |" for each in self._names for cells in by_name[each]]
            page.seek(0)
            page.truncate()
            page.write("\n".join([*lines[:first], *table, *lines[first + length :]]) + "\n")

    def _cells(self) -> list[list[str]]:
        with self._page.open() as page:
            fcntl.flock(page, fcntl.LOCK_SH)
            lines = [line for line in page.read().splitlines() if line.startswith("|")]
        return [self._split(line) for line in lines[2:]]

    @staticmethod
    def _split(line: str) -> list[str]:
        return [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
