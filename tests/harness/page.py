"""A page of the documents with a table that tests write. Each test owns the rows that begin with its name."""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from pathlib import Path


class Table:
    """The first table of a page, or the first one below a line of it. The text around it is written by hand.

    Args:
        page: the file.
        names: the first cells of the rows, in their order.
        below: the line that the table comes after; by default the table is the only one of the page.
    """

    def __init__(self, page: Path, names: Sequence[str], below: str = "") -> None:
        self._page = page
        self._names = names
        self._below = below

    def rows(self, name: str) -> list[list[str]]:
        """Return the cells after `name` of each of its rows."""
        return [cells[1:] for cells in self._cells() if cells[0] == name]

    def names(self) -> list[str]:
        """Return the first cells of the rows in their order, without repetitions."""
        return list(dict.fromkeys(cells[0] for cells in self._cells()))

    def hold(self, name: str, rows: list[list[str]], *, write: bool) -> None:
        """Fail unless these are the rows of `name`. With `write`, they replace those of the page first."""
        if write:
            self.replace(name, rows)
        assert self.rows(name) == rows, "run `make docs`, and check what it changed"

    def replace(self, name: str, rows: Sequence[Sequence[str]]) -> None:
        """Replace the rows of `name`. Tests in other processes may write the page at the same time."""
        with self._page.open("r+") as page:
            fcntl.flock(page, fcntl.LOCK_EX)
            lines = page.read().splitlines()
            first, length = self._place(lines)
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
            lines = page.read().splitlines()
        first, length = self._place(lines)
        return [self._split(line) for line in lines[first : first + length]]

    def _place(self, lines: Sequence[str]) -> tuple[int, int]:
        """Return the number of the first row below the head of the table, and how many rows there are."""
        start = lines.index(self._below) if self._below else 0
        first = next(number for number in range(start, len(lines)) if lines[number].startswith("| ---")) + 1
        length = next((n for n, line in enumerate(lines[first:]) if not line.startswith("|")), len(lines) - first)
        assert self._below or not any(line.startswith("|") for line in lines[first + length :])
        return first, length

    @staticmethod
    def _split(line: str) -> list[str]:
        return [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
