"""`python -m bench.page`: write the tables and the picture of docs/performance.md from the results of a run."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import argo, builtin, packages, picture
from bench.blocks import filled, table
from bench.imports import AFTER, BEFORE
from bench.measure import Row, say
from bench.setting import ROOT
from bench.table import HEADS, cells, facts_line, read

RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "docs" / "performance.md"
_PICTURE = "targets.svg"
_FILES = re.compile(r"\d+ files")
"""Their number depends on the link."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the results (bench/results.json)")
    parser.add_argument("--to", type=Path, default=PAGE, help="the page (docs/performance.md)")
    options = parser.parse_args()
    write(options.results, options.to)


def write(results: Path, page: Path) -> None:
    """Write `page` and the picture in the directory beside it."""
    rows, facts = read(results.read_text())
    page.write_text(rendered(PAGE.read_text(), rows, facts))
    beside = page.with_suffix("")
    beside.mkdir(exist_ok=True)
    (beside / _PICTURE).write_text(picture.drawn(rows))
    say(f"wrote {page} and {beside / _PICTURE}")


def rendered(page: str, rows: Sequence[Row], facts: Mapping[str, Any]) -> str:
    """Return `page` with the tables of these rows."""
    parts: dict[str, list[Row]] = {name: [] for name in ("rows", "trail", "builtin", "argo", "packages")}
    for row in rows:
        parts[_part(row)].append(row)
    shown = {
        "machine": facts_line(facts),
        "argo": _argo(parts.pop("argo")),
        "packages": _packages(parts.pop("packages")),
    }
    return filled(page, shown | {name: table(HEADS, map(cells, part)) for name, part in parts.items()})


def _part(row: Row) -> str:
    """Return the name of the table that has this row."""
    if row.peer in packages.SERVERS.values():
        return "packages"
    if argo.ON_S3 in row.name:
        return "argo"
    if row.name.endswith(builtin.ONE_PROCESS):
        return "builtin"
    return "trail" if ", a trail" in row.name else "rows"


def _argo(rows: Sequence[Row]) -> str:
    """Return each ratio to Argo's driver: a line for what is moved and by which way, a column for each link.

    A ratio that misses its target is bold.
    """
    links = {how: how.removeprefix(" at ") or "no latency" for how, _, _ in argo.LINKS}
    figures: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        what, _, rest = row.name.partition(argo.ON_S3)
        how, comma, way = rest.partition(", ")
        line = (_FILES.sub("a directory of files", what) + comma + way, row.peer)
        missed = row.target is not None and not row.met
        figure = "-" if row.figure is None else f"{row.figure:.2f}"
        figures.setdefault(line, {})[how] = f"**{figure}**" if missed else figure
    lines = [(*line, *(figures[line].get(how, "-") for how in links)) for line in figures]
    return table(("", "against", *links.values()), lines)


def _packages(rows: Sequence[Row]) -> str:
    """Return what each package adds, in the order of loading: one line for both phases and both servers."""
    amounts = {(row.peer, row.name): row for row in rows}
    named = dict.fromkeys(row.name.partition(" of ")[2].rpartition(", ")[0] for row in rows)
    bare, ours = packages.SERVERS["bare"], packages.SERVERS["sealgate"]
    columns = ((bare, BEFORE), (ours, BEFORE), (ours, AFTER))

    def amount(server: str, phase: str, name: str) -> str:
        memory = amounts.get((server, f"{packages.MEMORY} of {name}, {phase}"))
        seconds = amounts.get((server, f"{packages.TIME} of {name}, {phase}"))
        if memory is None or seconds is None:
            return "-"
        return f"{memory.ours:.1f} MiB, {seconds.ours:.0f} ms"

    def whole(server: str, phase: str) -> str:
        found = [row for row in rows if row.peer == server and row.name.endswith(phase)]
        memory = sum(row.ours or 0 for row in found if row.name.startswith(packages.MEMORY))
        seconds = sum(row.ours or 0 for row in found if row.name.startswith(packages.TIME))
        return f"{memory:.1f} MiB, {seconds:.0f} ms"

    lines = [(name, *(amount(*column, name) for column in columns)) for name in named]
    lines.append(("all", *(whole(*column) for column in columns)))
    return table(("", *(f"{server.removeprefix('all of ')}, {phase}" for server, phase in columns)), lines)


if __name__ == "__main__":
    main()
