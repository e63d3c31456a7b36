"""`sealgate rewrap`: move stored artifacts to the newest key version without opening them (docs/rotation.md)."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path

from sealgate import config
from sealgate.cli import author
from sealgate.cli.counting import counted
from sealgate.cli.exit_codes import DONE, INTERRUPTED, NOT_SO
from sealgate.cli.option_types import seconds
from sealgate.cli.progress import Progress
from sealgate.cli.shared_options import add_config_option, add_output_option
from sealgate.compose.downstream import downstream_source, stored_objects
from sealgate.compose.keys import provider_kind, rewrapper
from sealgate.config import Settings
from sealgate.errors import BadRequest, Cancelled, one_line, shown_key
from sealgate.layers.author_block import without_author_block
from sealgate.plugin import Artifact
from sealgate.policy import canonical_keys
from sealgate.rotation import Pace, Patience, Report, Rotation, StaleObject
from sealgate.storage.spool import Spool
from sealgate.storage.stored_objects import StoredObjects

SUMMARY = "move stored artifacts to the newest key version without opening them"
_SLOWEST = 0.01
"""Objects a second."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate rewrap` to `parser`."""
    parser.description = (
        "Exit codes: 0 no object that was checked is left under an older key version, 1 an object is, or could not be "
        "checked, 2 bad usage or configuration, or nothing is stored there."
    )
    parser.add_argument(
        "prefix", nargs="*", metavar="PREFIX", help="the first segments of the artifact keys, or one whole key"
    )
    parser.add_argument("--all", action="store_true", help="the whole store, in place of prefixes")
    parser.add_argument(
        "--list", action="store_true", help="print the key of each object under an older version, and change nothing"
    )
    parser.add_argument("--dry-run", action="store_true", help="only count the objects under each key version")
    parser.add_argument("--after", default="", metavar="KEY", help="continue after this key of an earlier run")
    parser.add_argument(
        "--rate", type=_rate, default=100.0, metavar="N", help="objects a second; default 100, 0 is no limit"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=600.0,
        metavar="SECONDS",
        help="the longest time that an object may take without progress; default 600",
    )
    parser.add_argument("--plugin", metavar="NAME", help="overlay the settings of plugins.NAME")
    author.add_option(parser)
    add_config_option(parser)
    add_output_option(parser, "text", "json")


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if rate and not _SLOWEST <= rate < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of objects a second, {_SLOWEST} or more, or 0 for no limit")
    return rate


def run(options: argparse.Namespace) -> int:
    """Rewrap as the options ask, end early on a signal, and return the exit code."""
    patience = Patience(options.timeout)
    received = _obey_signals(patience)
    try:
        code = _rewrap(options, patience)
    except Cancelled:
        if signal.SIGINT not in received:
            raise
    return INTERRUPTED if signal.SIGINT in received else code


def _rewrap(options: argparse.Namespace, patience: Patience) -> int:
    """Move the objects under the prefixes, print a report, and return 0 if no object is left under an older version.

    Raises:
        BadRequest: a prefix is not a canonical key, nothing is stored beneath it, or the artifact's configuration
            cannot be read.
        NotConfigured: the configuration has no section `keys` or `downstream`.
    """
    prefixes = _prefixes(options)
    configuration = author.author_configuration(options.configuration)
    artifact = without_author_block(Artifact("", plugin=options.plugin or "", configuration=configuration))
    settings = config.load(plugin=options.plugin)
    with _storage(settings) as stored, patience.watching():
        pace = Pace(options.rate, patience.stop.wait)
        keys = rewrapper(settings)
        dry_run = options.dry_run or options.list
        rotation = Rotation(stored, keys, artifact, pace=pace, patience=patience, dry_run=dry_run)
        with Progress("listing"):
            objects = _objects(rotation, prefixes, options.after)
        with Progress("checked" if dry_run else "done with", "objects", len(objects)) as progress:
            report = rotation.run(objects, progress.step)
    report.whole = report.finished and not options.after
    listed = report.stale_objects if options.list else None
    print(_json(report, listed) if options.output == "json" else _text(report, listed or (), settings))
    if report.stopped_by is not None:
        raise report.stopped_by
    return NOT_SO if report.failed or report.stale or not report.finished else DONE


def _prefixes(options: argparse.Namespace) -> list[str]:
    """Return the prefixes to walk; an empty one is for the whole store."""
    if options.all == bool(options.prefix):
        fact = "--all and prefixes exclude each other" if options.all else "no prefix is given"
        raise BadRequest(fact, says="command line", remedy="Give either prefixes such as ns/workflow, or --all")
    for prefix in options.prefix:
        if fault := canonical_keys.fault_of(prefix):
            remedy = "Give each prefix as the first segments of a key, such as ns/workflow"
            raise BadRequest(f'"{shown_key(prefix)}": {fault}', says="command line", remedy=remedy)
    return options.prefix or [""]


def _objects(rotation: Rotation, prefixes: Sequence[str], after: str) -> list[str]:
    """Return the keys of all objects beneath the prefixes that come after the key `after`, sorted.

    Raises:
        BadRequest: nothing is stored beneath a prefix, or nothing comes after `after`.
    """
    found: set[str] = set()
    for prefix in prefixes:
        beneath = rotation.objects(prefix)
        if not beneath:
            where = f'beneath "{shown_key(prefix)}"' if prefix else "in the whole store"
            raise BadRequest(
                f"the downstream lists nothing {where}, so nothing was checked",
                says="downstream",
                remedy="Check the prefix, and that --plugin and --configuration are those of the artifacts",
            )
        found.update(beneath)
    objects = sorted(key for key in found if key > after)
    if not objects:
        raise BadRequest(
            f'no object comes after "{shown_key(after)}", so nothing was checked',
            says="command line",
            remedy="Pass as --after the key that the report of the earlier run names",
        )
    return objects


def _obey_signals(patience: Patience) -> set[int]:
    """Handle SIGINT and SIGTERM: the first ends the walk, the second cancels writes, the third kills the process.

    Return the signals that have arrived.
    """
    received: set[int] = set()

    def handle(number: int, _: object) -> None:
        received.add(number)
        if patience.stop.is_set():
            signal.signal(number, signal.SIG_DFL)
        patience.ask_to_stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return received


@contextmanager
def _storage(settings: Settings) -> Iterator[StoredObjects]:
    """Yield the objects in the downstream, which is started if it is a child process."""
    with tempfile.TemporaryDirectory(prefix="sealgate-") as made:
        spool = Spool(settings.spool.directory or Path(made))
        with closing(downstream_source(settings, Path(made) / "socket")) as downstream, closing(spool):
            yield stored_objects(settings, downstream, spool)


# --- the report ------------------------------------------------------------------------------------------


def _json(report: Report, listed: Sequence[StaleObject] | None) -> str:
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
    stale = {} if listed is None else {"stale_objects": [asdict(each) for each in listed]}
    return json.dumps({**counts, **stale, "keys": keys, "faults": faults, **walk, "stopped_by": stopped_by}, indent=2)


def _text(report: Report, listed: Sequence[StaleObject], settings: Settings) -> str:
    lines = [f"{each.key_name} version {each.key_version}  {one_line(each.key)}" for each in listed]
    lines += [
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
            lines.append(f"key {name} version {version}{newest}: {counted(count, 'object')}")
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
