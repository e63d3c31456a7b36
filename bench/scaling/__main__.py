"""`python -m bench.scaling`: measure what many pods cost, write docs/scaling.md, and plan with numbers of your own."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from pathlib import Path

from bench.measure import say
from bench.scaling.measured import FULL, QUICK, count_again, kept, measure, read
from bench.scaling.model import Limits, Load, Pod
from bench.scaling.page import planned, rendered
from bench.scaling.pictures import pictures
from bench.setting import ROOT, working_place

RESULTS = Path(__file__).with_name("measured.json")
_PAGE = ROOT / "docs" / "scaling.md"
_NEEDED = 512 << 20
"""Bytes of the directory for the servers."""
_HELP = {
    "pods": "pods an hour",
    "peak": "how many times the mean the busiest second is",
    "reads": "downloads from Argo's server for each pod",
    "read_seconds": "how long a download takes",
    "token_hours": "how long a token is valid",
    "loads": "artifacts that a pod loads",
    "saves": "artifacts that a pod saves",
    "processes": "processes of Sealgate in a pod: 2 with init containers, 1 without",
    "processors": "processors of the key service",
    "trail_gigabytes": "gigabytes a day that the collector takes of each log",
    "store_reads": "reads a second that the store takes",
    "store_writes": "writes a second that the store takes",
    "streams": "large downloads at once from Argo's server",
    "rewrap_rate": "reads and writes a second of a rotation",
}


def main() -> None:
    options = _options()
    if options.command == "plan":
        print(planned(_load(options), Limits(**_given(options, Limits)), read(options.results)))
        return
    if options.command in {"measure", "count"}:
        with working_place(_NEEDED) as place:
            found = (
                count_again(place, read(options.results))
                if options.command == "count"
                else measure(place, QUICK if options.quick else FULL)
            )
        options.results.write_text(kept(found))
    write(options.results, options.to)


def write(results: Path, page: Path) -> None:
    """Write the tables of the page and the pictures beside it from the results of a run."""
    measured = read(results)
    page.write_text(rendered(_PAGE.read_text(), measured))
    beside = page.with_suffix("")
    beside.mkdir(exist_ok=True)
    for name, picture in pictures(measured).items():
        (beside / name).write_text(picture)
    say(f"wrote {page} and {beside}")


def _load(options: argparse.Namespace) -> Load:
    pod = Pod(**_given(options, Pod))
    named = {name: value for name, value in _given(options, Load).items() if name != "pod"}
    return replace(Load(**named), pod=pod)


def _given(options: argparse.Namespace, kind: type) -> dict[str, object]:
    return {each.name: getattr(options, each.name) for each in fields(kind) if hasattr(options, each.name)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure", help="measure everything, and write the page")
    measuring.add_argument("--quick", action="store_true", help="measure a little of everything")
    counting = commands.add_parser("count", help="count again what calls cost, keep the times, and write the page")
    writing = commands.add_parser("page", help="write the page from the results of the last run")
    for command in (measuring, counting, writing):
        command.add_argument("--to", type=Path, default=_PAGE, help="the page (docs/scaling.md)")
    planning = commands.add_parser("plan", help="print what pods need, from the results of the last run")
    for kind in (Load, Pod, Limits):
        for each in fields(kind):
            if each.name != "pod":
                default = None if each.name == "pods" else each.default
                planning.add_argument(
                    f"--{each.name.replace('_', '-')}",
                    type=int if each.type == "int" else float,
                    required=default is None,
                    default=default,
                    help=f"{_HELP[each.name]}{'' if default is None else f' ({default:g})'}",
                )
    for command in (measuring, counting, writing, planning):
        command.add_argument("--results", type=Path, default=RESULTS, help="file of the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
