"""Fuzzes one parser with coverage: `python tests/fuzz/run_atheris.py NAME --runs N`. `make fuzz` runs all of them.

An input that raises an error which is not named ends the run and is written to the current directory. Inputs that reach
new code are kept in tests/fuzz/corpora/NAME; `tests/fuzz/test_hostile_bytes.py` runs them in every `make test`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent / "proxy")]

import atheris  # noqa: E402 - the path is set above

with atheris.instrument_imports(include=["sealgate"]):
    from fuzz.parsers import CORPORA, PARSERS

LONGEST = 4096
"""Bytes of an input."""


def main() -> None:
    """Fuzz the parser that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=PARSERS)
    parser.add_argument("--runs", type=int, default=1_000_000)
    options = parser.parse_args()
    kept = CORPORA / options.name
    kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as seeds:
        for number, data in enumerate(PARSERS[options.name].valid):
            (Path(seeds) / str(number)).write_bytes(data)
        arguments = [
            sys.argv[0],
            f"-runs={options.runs}",
            f"-max_len={LONGEST}",
            "-print_final_stats=1",
            "-reduce_inputs=1",
        ]
        atheris.Setup([*arguments, str(kept), seeds], PARSERS[options.name].run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
