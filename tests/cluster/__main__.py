"""`make test-cluster`: prepare the parts, run the suite in a cluster of its own, and leave nothing behind."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

from cluster import images, parts, room
from cluster.report import KEPT

HERE = Path(__file__).parent
LOGS = parts.CACHE / "logs"
"""What the daemons of the last run logged."""
FILES = (
    *("installation", "artifacts", "server", "faults", "tenants", "patches", "rotation", "resources"),
    *("placements", "isolation", "monitoring", "upgrade"),
)
"""The files of the suite in the order in which they run: the last ones change the installation."""
SHORT = ("installation", "artifacts", "server", "tenants", "rotation", "upgrade")
"""The files of the short run: without the measurements, the large artifacts, and every placement but the default."""
_NOT_SHORT = "not gigabyte and not before_the_installation"


def main() -> int:
    """Run the command; return its exit code."""
    options = _options()
    short = options.if_cached and os.environ.get("SEALGATE_CLUSTER") != "1"
    if short and not parts.cached():
        _say("The tests in a cluster did not run: their parts are not built here. `make test-cluster` builds them.")
        return 0
    parts.install_packages()
    reasons = parts.missing()
    if reasons:
        _say("This machine cannot run the tests in a cluster:", *reasons)
        return 2
    seconds = _with_earlier(parts.build() | images.build())
    if options.build:
        return 0
    if not (options.pytest or short):
        KEPT.unlink(missing_ok=True)
    with room.room() as place:
        (place / "seconds.json").write_text(json.dumps(seconds))
        began = time.monotonic()
        code = room.run_inside(place, _suite(options, short=short), _environment(place))
        took = time.monotonic() - began
        _keep_logs(place / "logs")
    left = room.left_behind(place)
    _say(
        f"The suite ran for {took:.0f} s. The logs of the daemons are in {LOGS}.",
        *(f"left behind: {each}" for each in left),
    )
    return code or bool(left)


def _with_earlier(seconds: dict[str, float]) -> dict[str, float]:
    """Return the time of each part that was built now, and of those in the cache the time when they were built."""
    kept = parts.CACHE / "seconds.json"
    seconds = (json.loads(kept.read_text()) if kept.exists() else {}) | seconds
    kept.write_text(json.dumps(seconds))
    return seconds


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="cluster", description=__doc__)
    parser.add_argument("--if-cached", action="store_true", help="run only where the parts are built")
    parser.add_argument("--build", action="store_true", help="build the parts, and run nothing")
    parser.add_argument("--write-docs", action="store_true", help="write the report into the documents")
    parser.add_argument("pytest", nargs="*", help="what pytest gets; by default the whole suite")
    return parser.parse_args()


def _suite(options: argparse.Namespace, *, short: bool) -> list[str | Path]:
    chosen = options.pytest or [str(HERE / f"test_cluster_{name}.py") for name in (SHORT if short else FILES)]
    if short:
        chosen += ["-k", _NOT_SHORT]
    docs = ["--write-docs"] if options.write_docs else []
    common = ["-n", "0", "-p", "no:cacheprovider", "--timeout", "1800", "-o", "log_level=INFO", "--durations", "0"]
    return [sys.executable, "-m", "pytest", *common, *docs, *chosen]


def _keep_logs(logs: Path) -> None:
    shutil.rmtree(LOGS, ignore_errors=True)
    if logs.exists():
        shutil.copytree(logs, LOGS)


def _environment(place: Path) -> dict[str, str]:
    binaries = Path(sys.executable).parent
    return os.environ | {
        "SEALGATE_CLUSTER_ROOM": str(place),
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "TMPDIR": str(place),
    }


def _say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)  # noqa: T201 - the command tells its progress


if __name__ == "__main__":
    sys.exit(main())
