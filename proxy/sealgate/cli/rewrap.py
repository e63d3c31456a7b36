"""`sealgate rewrap`: move stored artifacts to the newest key version without opening them (docs/rotation.md)."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sealgate import config
from sealgate.cli import author
from sealgate.cli.exit_codes import DONE, NOT_SO
from sealgate.cli.progress import Progress
from sealgate.compose.downstream import downstream_client
from sealgate.compose.keys import provider_kind, rewrapper
from sealgate.config import Settings
from sealgate.errors import BadRequest, one_line, shown_key
from sealgate.layers.author_block import without_author_block
from sealgate.plugin import Artifact
from sealgate.policy import canonical_keys
from sealgate.rotation import Pace, Patience, Report, Rotation
from sealgate.rpc.client import Downstream
from sealgate.storage.spool import Spool
from sealgate.storage.stored_objects import StoredObjects, Transfer

SUMMARY = "move stored artifacts to the newest key version without opening them"
_SLOWEST = 0.01
"""Objects a second."""
_LONGEST = 86_400.0
"""Seconds."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate rewrap` to `parser`."""
    parser.description = (
        "Exit codes: 0 no object that was checked is left under an older key version, 1 an object is, or could not be "
        "checked, 2 bad usage or configuration."
    )
    parser.add_argument("prefix", metavar="PREFIX", help="the first segments of the artifact keys, or one whole key")
    parser.add_argument("--dry-run", action="store_true", help="only count the objects under each key version")
    parser.add_argument("--after", default="", metavar="KEY", help="continue after this key of an earlier run")
    parser.add_argument(
        "--rate", type=_rate, default=100.0, metavar="N", help="objects a second; default 100, 0 is no limit"
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=600.0,
        metavar="SECONDS",
        help="the longest time that an object may take without progress; default 600",
    )
    parser.add_argument("--plugin", metavar="NAME", help="overlay the settings of plugins.NAME")
    author.add_option(parser)
    parser.add_argument("--output", choices=("text", "json"), default="text")


def _rate(text: str) -> float:
    rate = _number(text)
    if rate and not _SLOWEST <= rate < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of objects a second, {_SLOWEST} or more, or 0 for no limit")
    return rate


def _seconds(text: str) -> float:
    seconds = _number(text)
    if not 0 < seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(f"must be a number of seconds up to {_LONGEST:.0f}")
    return seconds


def _number(text: str) -> float:
    """Return the number that `text` is, or -1 if it is not a number."""
    try:
        return float(text)
    except ValueError:
        return -1.0


def run(options: argparse.Namespace) -> int:
    """Move the objects under a prefix, print a report, and return 0 if no object is left under an older version.

    Raises:
        BadRequest: the prefix is not a canonical key, or the artifact's configuration cannot be read.
        NotConfigured: the configuration has no section `keys` or `downstream`.
    """
    if fault := canonical_keys.fault_of(options.prefix):
        raise BadRequest(fault, remedy="Give the prefix as the first segments of a key, such as ns/workflow")
    configuration = author.author_configuration(options.configuration)
    artifact = without_author_block(Artifact(options.prefix, plugin=options.plugin or "", configuration=configuration))
    settings = config.load(plugin=options.plugin)
    patience = Patience(options.timeout)
    _obey_signals(patience)
    with _storage(settings) as (downstream, stored), patience.watching():
        pace = Pace(options.rate, patience.stop.wait)
        keys = rewrapper(settings)
        rotation = Rotation(downstream, stored, keys, artifact, pace=pace, patience=patience, dry_run=options.dry_run)
        objects = [key for key in rotation.objects(options.prefix) if key > options.after]
        with Progress("checked" if options.dry_run else "done with", "objects", len(objects)) as progress:
            report = rotation.run(objects, progress.step)
    report.whole = report.finished and not options.after
    print(_json(report) if options.output == "json" else _text(report, settings))
    if report.stopped_by is not None:
        raise report.stopped_by
    return NOT_SO if report.failed or report.stale or not report.finished else DONE


def _obey_signals(patience: Patience) -> None:
    """Handle SIGINT and SIGTERM: the first ends the walk, the second cancels writes, the third kills the process."""

    def handle(number: int, _: object) -> None:
        if patience.stop.is_set():
            signal.signal(number, signal.SIG_DFL)
        patience.ask_to_stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)


@contextmanager
def _storage(settings: Settings) -> Iterator[tuple[Downstream, StoredObjects]]:
    """Yield the downstream, started if it is a child process, and its objects as streams."""
    with tempfile.TemporaryDirectory(prefix="sealgate-") as made:
        spool = Spool(settings.spool.directory or Path(made))
        with closing(downstream_client(settings, Path(made) / "socket")) as downstream, closing(spool):
            yield downstream, StoredObjects(downstream, spool, Transfer(settings.spool.transfer))


# --- the report ------------------------------------------------------------------------------------------


def _json(report: Report) -> str:
    keys = {
        name: {
            "newest": versions.newest,
            "oldest_allowed": versions.oldest,
            "objects": report.under(name),
            "oldest_may_be": report.may_be_raised_to(name),
        }
        for name, versions in sorted(report.newest.items())
    }
    counts = {
        name: getattr(report, name) for name in ("found", "moved", "current", "stale", "not_sealed", "gone", "failed")
    }
    faults = [{"key": fault.key, "fact": fault.fact, "remedy": fault.remedy} for fault in report.faults]
    walk = {"finished": report.finished, "whole": report.whole, "reached": report.reached}
    stopped_by = report.stopped_by.fact if report.stopped_by else None
    return json.dumps({**counts, "keys": keys, "faults": faults, **walk, "stopped_by": stopped_by}, indent=2)


def _text(report: Report, settings: Settings) -> str:
    lines = [
        f"objects checked                 {report.found}",
        f"moved to the newest version     {report.moved}",
        f"already under it                {report.current}",
        f"still under an older version    {report.stale}",
        f"not sealed, skipped             {report.not_sealed}",
        f"deleted since they were listed  {report.gone}",
        f"failed, not changed             {report.failed}",
    ]
    for fault in report.faults:
        text = one_line(f"{fault.fact}. {fault.remedy}").rstrip()
        lines.append(f'  "{shown_key(fault.key)}": {text}')
    if report.failed > len(report.faults):
        lines.append(f"  and {report.failed - len(report.faults)} more")
    for name, versions in sorted(report.newest.items()):
        for version, count in report.under(name).items():
            newest = " (the newest)" if version == versions.newest else ""
            lines.append(f"key {name} version {version}{newest}: {count} objects")
        lines += _advice(report, name, settings)
    if not report.finished:
        lines.append(
            f"Not finished. To continue: --after {shlex.quote(report.reached)}" if report.reached else "Not finished."
        )
    return "\n".join(lines)


def _advice(report: Report, name: str, settings: Settings) -> list[str]:
    """Return what the report says about retiring older versions of the key `name`."""
    oldest = report.may_be_raised_to(name)
    if oldest is None:
        why = "some objects failed" if report.failed else "not every object was checked"
        return [f"It is not known which versions of key {name} are still needed: {why}."]
    if oldest <= report.newest[name].oldest:
        return [f"Versions of key {name} below {oldest} are retired already."]
    text = f"No object here needs a version of key {name} below {oldest}. If no object elsewhere does"
    return (text + provider_kind(settings).retire(settings, name, oldest)).split("\n")
