"""`python -m bench`: measure every figure of docs/performance.md in one run."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from bench import argo, builtin, chain, decisions, files, footprint, observability, packages
from bench.measure import Row, say
from bench.page import RESULTS, write
from bench.setting import MIB, Setting, working_place
from bench.table import kept, machine, shown

_GROUPS = {
    "files": files.rows,
    "chain": chain.save_and_load,
    "slow": chain.slow_storage,
    "builtin": builtin.rows,
    "directory": chain.directory,
    "argo": argo.rows,
    "calls": chain.small_calls,
    "decisions": decisions.decisions,
    "observability": observability.rows,
    "start": footprint.start,
    "packages": packages.rows,
    "large": footprint.large_calls,
}
_PLACES = 9
"""Number of copies of the file that exist at the same time: one by each peer, and those of `touch_memory`."""
_PLACES_OF_LARGE = 2.2
"""The same for the large file."""


def main() -> None:
    options = _options()
    # SIGTERM ends the run like an exception: the servers end, and the directory is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before the last row"))
    needed = int(max(options.size * _PLACES, options.large * _PLACES_OF_LARGE)) * MIB
    rows: list[Row] = []
    with working_place(needed) as place:
        setting = Setting(
            runs=options.runs,
            size=options.size * MIB,
            large=options.large * MIB,
            files=options.files,
            calls=options.calls,
            starts=options.starts,
            slow=200_000_000,
            install=not options.quick,
            place=place,
        )
        for name in options.only or _GROUPS:
            rows += _GROUPS[name](setting)
        facts = machine(setting)
    options.results.write_text(kept(rows, facts))
    say("")
    print(shown(rows, facts))
    if options.page:
        write(options.results, options.page)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, help="number of measurements of each side (5)")
    parser.add_argument("--size", type=int, help="size of the file in MiB (1024)")
    parser.add_argument("--large", type=int, help="size in MiB of the file for the rows on memory and disk (4096)")
    parser.add_argument("--files", type=int, help="number of files of 4 KiB in the directory (10000)")
    parser.add_argument("--calls", type=int, help="number of small calls in one sample (200)")
    parser.add_argument("--starts", type=int, help="number of starts of a process (15)")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=_GROUPS,
        metavar="GROUP",
        help=f"groups of rows to measure: {', '.join(_GROUPS)} (all)",
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="file for the samples (bench/results.json)")
    parser.add_argument("--page", type=Path, help="also write the tables of docs/performance.md to this page")
    parser.add_argument(
        "--quick", action="store_true", help="measure everything once with tiny sizes; do not fetch peers"
    )
    full = {"runs": 5, "size": 1024, "large": 4096, "files": 10_000, "calls": 200, "starts": 15}
    tiny = {"runs": 1, "size": 4, "large": 16, "files": 50, "calls": 5, "starts": 1}
    options = parser.parse_args()
    for name, value in (tiny if options.quick else full).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


if __name__ == "__main__":
    main()
