"""`sealgate rewrap`: stored artifacts moved to the newest key version, without opening them."""

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
from sealgate.cli.progress import Progress
from sealgate.compose.downstream import downstream_client
from sealgate.compose.keys import provider_kind, rewrapper
from sealgate.config import Settings
from sealgate.errors import BadRequest, one_line, shown_key
from sealgate.layers.author_block import forwarded
from sealgate.plugin import Artifact
from sealgate.policy import canonical_keys
from sealgate.rotation import Pace, Patience, Report, Rotation
from sealgate.rpc.client import Downstream
from sealgate.storage.spool import Spool
from sealgate.storage.stored_objects import StoredObjects, Transfer

_SLOWEST = 0.01
_LONGEST = 86_400.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what `sealgate rewrap` takes."""
    parser.description = (
        "Exit codes: 0 nothing that was looked at is left under an older version, 1 something is, or could not be "
        "looked at, 2 bad usage or configuration."
    )
    parser.add_argument("prefix", metavar="PREFIX", help="the first segments of the keys, or one whole key")
    parser.add_argument("--dry-run", action="store_true", help="only tell what lies under which key version")
    parser.add_argument("--after", default="", metavar="KEY", help="go on behind this key, as an earlier run said")
    parser.add_argument("--rate", type=_rate, default=100.0, metavar="N", help="objects a second at most; 0: no limit")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=600.0,
        metavar="SECONDS",
        help="what an object may take without progress; default 600",
    )
    parser.add_argument("--plugin", metavar="NAME", help="as this plugin, with plugins.NAME laid over")
    author.add_option(parser)
    parser.add_argument("--output", choices=("text", "json"), default="text")


def _rate(text: str) -> float:
    rate = _number(text)
    if rate and not _SLOWEST <= rate < float("inf"):
        raise argparse.ArgumentTypeError(f"a number of objects a second from {_SLOWEST}, or 0 for no limit")
    return rate


def _seconds(text: str) -> float:
    seconds = _number(text)
    if not 0 < seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(f"a number of seconds up to {_LONGEST:.0f}")
    return seconds


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


def run(options: argparse.Namespace) -> int:
    """Move what lies beneath a prefix, report, and return 0 if nothing is left under an older version.

    Raises:
        BadRequest: the prefix is no canonical key, or the artifact's configuration cannot be read.
        NotConfigured: the configuration does not say which keys, or which downstream.
    """
    if fault := canonical_keys.fault_of(options.prefix):
        raise BadRequest(fault, remedy="Give the prefix as the first segments of a key, such as ns/workflow")
    configuration = author.author_configuration(options.configuration)
    artifact = forwarded(Artifact(options.prefix, plugin=options.plugin or "", configuration=configuration))
    settings = config.load(plugin=options.plugin)
    patience = Patience(options.timeout)
    _obey_signals(patience)
    with _storage(settings) as (downstream, stored), patience.watching():
        pace = Pace(options.rate, patience.stop.wait)
        keys = rewrapper(settings)
        rotation = Rotation(downstream, stored, keys, artifact, pace=pace, patience=patience, dry_run=options.dry_run)
        objects = [key for key in rotation.objects(options.prefix) if key > options.after]
        with Progress("looked at" if options.dry_run else "done with", "objects", len(objects)) as progress:
            report = rotation.run(objects, progress.step)
    report.whole = report.finished and not options.after
    print(_json(report) if options.output == "json" else _text(report, settings))
    if report.stopped_by is not None:
        raise report.stopped_by
    return 1 if report.failed or report.stale or not report.finished else 0


def _obey_signals(patience: Patience) -> None:
    """The first SIGINT or SIGTERM ends the walk, the second cancels what is being written, the third kills."""

    def handle(number: int, _: object) -> None:
        if patience.stop.is_set():
            signal.signal(number, signal.SIG_DFL)
        patience.ask_to_stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)


@contextmanager
def _storage(settings: Settings) -> Iterator[tuple[Downstream, StoredObjects]]:
    """The downstream, started if it is a child, and its objects as streams."""
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
        f"objects looked at            {report.found}",
        f"moved to the newest version  {report.moved}",
        f"current already              {report.current}",
        f"under an older version still {report.stale}",
        f"not sealed, left alone       {report.not_sealed}",
        f"deleted since they were seen {report.gone}",
        f"failed, left as they were    {report.failed}",
    ]
    for fault in report.faults:
        told = one_line(f"{fault.fact}. {fault.remedy}").rstrip()
        lines.append(f'  "{shown_key(fault.key)}": {told}')
    if report.failed > len(report.faults):
        lines.append(f"  and {report.failed - len(report.faults)} more")
    for name, versions in sorted(report.newest.items()):
        for version, count in report.under(name).items():
            newest = " (the newest)" if version == versions.newest else ""
            lines.append(f"key {name} version {version}{newest}: {count} objects")
        lines += _verdict(report, name, settings)
    if not report.finished:
        lines.append(
            f"Not finished. To go on: --after {shlex.quote(report.reached)}" if report.reached else "Not finished."
        )
    return "\n".join(lines)


def _verdict(report: Report, name: str, settings: Settings) -> list[str]:
    oldest = report.may_be_raised_to(name)
    if oldest is None:
        why = "some objects failed" if report.failed else "not every object was looked at"
        return [f"Which versions of key {name} are still needed is not known: {why}."]
    if oldest <= report.newest[name].oldest:
        return [f"Version {oldest} of key {name} is the oldest that opens anything already."]
    told = f"No object here needs a version of key {name} below {oldest}. If none elsewhere does"
    return (told + provider_kind(settings).retire(settings, name, oldest)).split("\n")
