"""`python -m bench`: every figure of docs/performance.md in one run."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from bench import chain, decisions, files, footprint, telling
from bench.measure import Row, say
from bench.setting import MIB, Setting, working_place
from bench.table import kept, machine, shown

_RESULTS = Path(__file__).with_name("results.json")
_GROUPS = {
    "files": files.rows,
    "chain": chain.save_and_load,
    "slow": chain.slow_storage,
    "directory": chain.directory,
    "calls": chain.small_calls,
    "decisions": decisions.decisions,
    "telling": telling.rows,
    "start": footprint.start,
    "large": footprint.large_calls,
}
_PLACES = 9
"""How many copies of the file lie side by side: one sealed by each peer, and what `touch_memory` writes."""
_PLACES_OF_LARGE = 2.2


def main() -> None:
    options = _options()
    # Whoever ends a run gets the memory back: the servers end and the place is removed.
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


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--runs", type=int, help="how often each side is measured (5)")
    parser.add_argument("--size", type=int, help="MiB of the file (1024)")
    parser.add_argument("--large", type=int, help="MiB of the file that memory and disk are watched with (4096)")
    parser.add_argument("--files", type=int, help="files of 4 KiB in the directory (10000)")
    parser.add_argument("--calls", type=int, help="small calls in one sample (200)")
    parser.add_argument("--starts", type=int, help="starts of a process (15)")
    parser.add_argument("--only", nargs="+", choices=_GROUPS, metavar="GROUP", help=", ".join(_GROUPS))
    parser.add_argument("--results", type=Path, default=_RESULTS, help="where the samples go (bench/results.json)")
    parser.add_argument("--quick", action="store_true", help="everything tiny and once; peers are not fetched")
    full = {"runs": 5, "size": 1024, "large": 4096, "files": 10_000, "calls": 200, "starts": 15}
    tiny = {"runs": 1, "size": 4, "large": 16, "files": 50, "calls": 5, "starts": 1}
    options = parser.parse_args()
    for name, value in (tiny if options.quick else full).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


if __name__ == "__main__":
    main()
