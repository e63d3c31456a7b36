"""`sealgate audit`: verify a trail, list its accesses, and make a report for an auditor (docs/audit.md)."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

import msgspec

from sealgate import envelope
from sealgate.audit.reading import query, readers, report
from sealgate.audit.reading.chain_state import ChainFacts, ExpectedRecord
from sealgate.audit.reading.figures import Figures
from sealgate.audit.reading.page import Origin
from sealgate.audit.reading.query import printable
from sealgate.audit.reading.readers import ArtifactAccesses
from sealgate.audit.reading.trail_lines import MARK, TrailLine, read_lines
from sealgate.audit.reading.verify import VerificationResult, verify
from sealgate.audit.records import Actor
from sealgate.call import Operation
from sealgate.cli.audit_keys import configured_keys, pem_of, trusted_keys
from sealgate.cli.counting import counted
from sealgate.cli.exit_codes import BAD_USAGE, DONE, NOT_SO
from sealgate.cli.progress import Progress
from sealgate.cli.shared_options import add_config_option, add_output_option, add_period_options
from sealgate.errors import BadRequest
from sealgate.policy import canonical_keys
from sealgate.policy.decision import ALIASES
from sealgate.policy.rules import operations_named

SUMMARY = "verify, query and report on an audit trail"
_STDIN = "-"
_OPERATIONS = [operation.value for operation in Operation if operation is not Operation.GET_CAPABILITIES]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands of `sealgate audit` and their options."""
    commands = parser.add_subparsers(dest="audit", required=True, metavar="COMMAND")

    verify_ = commands.add_parser("verify", help="check that a trail is as it was written")
    _takes_trail(verify_)
    _takes_trust(verify_)
    verify_.add_argument("--expect-closed", action="store_true", help="report chains without a closing record")
    verify_.add_argument(
        "--object",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a sealed file: check that the trail records its Save, and print the artifact's key from that record",
    )
    add_output_option(verify_, "text", "json")
    verify_.set_defaults(act=_verify)

    ask = commands.add_parser(
        "query",
        help="list accesses as the records claim them",
        description="Lists the accesses in a trail. It checks no chain and no signature: use `sealgate audit verify`.",
    )
    _takes_trail(ask)
    ask.add_argument("--key", default="", metavar="GLOB", help="of the artifact; * also matches /")
    ask.add_argument(
        "--operation",
        choices=(*ALIASES, *_OPERATIONS),
        metavar="OPERATION",
        help=f"as policies name it: {', '.join(ALIASES)}, or the name of an RPC",
    )
    for name, what in query.EXACT.items():
        ask.add_argument(f"--{name.replace('_', '-')}", default="", metavar="TEXT", help=what)
    ask.add_argument("--key-version", type=int, metavar="N", help="of the key that sealed the artifact")
    ask.add_argument("--decision", default="", choices=("allowed", "denied"), help="list only these accesses")
    add_period_options(ask)
    add_output_option(ask, *query.WRITERS)
    ask.set_defaults(act=_query)

    page = commands.add_parser("report", help="make a report for an auditor: one HTML file that needs no network")
    _takes_trail(page)
    _takes_trust(page)
    page.add_argument(
        "--artifact-key",
        metavar="KEY",
        help="make the page that answers who read this artifact, instead of the report on all accesses",
    )
    add_period_options(page)
    page.add_argument("--to", type=Path, required=True, metavar="FILE", help="the report to write")
    page.set_defaults(act=_report)

    public = commands.add_parser(
        "public-key", help="print the public key of the certifying key, which `verify --certifier` takes"
    )
    add_config_option(public)
    public.set_defaults(act=_public_key)


def run(options: argparse.Namespace) -> int:
    """Run the subcommand that `options` names. Return the exit code."""
    return int(options.act(options))


def _takes_trail(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "trail",
        nargs="+",
        metavar="TRAIL",
        help="files in the order in which they were written, or - for standard input",
    )


def _takes_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--certifier",
        type=Path,
        metavar="PEM",
        help="the public keys to trust (default: those of the configured key provider)",
    )
    parser.add_argument("--allow-unsigned", action="store_true", help="accept chains without a certificate")
    add_config_option(parser)


# --- verify ----------------------------------------------------------------------------------------------


def _verified(
    options: argparse.Namespace, trail: Iterator[TrailLine], *, expect_closed: bool = False
) -> VerificationResult:
    """Verify a trail as the options ask."""
    anchors = [_anchor(file) for file in getattr(options, "object", ())]
    return verify(
        trail,
        trusted_keys(options.certifier, needed=not options.allow_unsigned),
        allow_unsigned=options.allow_unsigned,
        expect_closed=expect_closed,
        anchors=anchors,
    )


def _anchor(file: Path) -> ExpectedRecord:
    """Return the attempt that the header of a sealed file names."""
    try:
        with file.open("rb", buffering=0) as stored:
            header, _ = envelope.read_header(lambda size, offset: os.pread(stored.fileno(), size, offset))
    except OSError as error:
        raise BadRequest(
            f"{file} cannot be read: {os.strerror(error.errno or 0).lower()}", says="command line"
        ) from None
    if not header.audit_chain:
        raise BadRequest(
            f"{file} names no audit record",
            says="header",
            remedy="It was sealed by a command, with audit.phases outcome, or while no record could be written",
        )
    return ExpectedRecord(str(file), header.audit_chain, header.audit_sequence)


def _verify(options: argparse.Namespace) -> int:
    with _opened(options.trail) as trail, Progress("verified", "lines") as progress:
        verdict = _verified(options, progress.counted(trail), expect_closed=options.expect_closed)
    if options.output == "json":
        print(json.dumps(_document(verdict), indent=2))
    else:
        for text in _described(verdict):
            print(printable(text))
    return _exit_code(verdict)


def _exit_code(verdict: VerificationResult) -> int:
    if verdict.empty or verdict.not_readable.count:
        return BAD_USAGE
    return DONE if verdict.good else NOT_SO


def _described(verdict: VerificationResult) -> Iterator[str]:
    """Return the result of a verification as lines of text."""
    for chain in verdict.chains:
        state = "closed" if chain.closed else "open (the process was killed or still runs, or the end was cut off)"
        by = f"certified by {chain.certified_by}" if chain.certified_by else "not certified"
        yield f"chain {chain.uid}  {counted(chain.records, 'record')}, {state}, {by}"
        yield f"  {_period(chain)}  {_actor_of(chain)}"
        if chain.unfinished:
            yield f"  {counted(chain.unfinished, 'attempt')} without an outcome"
    for record in verdict.objects:
        key = record.key or "not recorded"
        yield f"object    {record.file}: record {record.sequence} at {record.place}, key {key}"
    for places, what in (
        (verdict.cut_short, "the line is incomplete, and a later record replaces it"),
        (verdict.cut_off, "the file ends within this line, which may have held a record"),
        (verdict.not_readable, "the line holds a record in a form that is not known"),
    ):
        for place in places.listed:
            yield f"note      {place}: {what}"
        yield from _and_more(places.count - len(places.listed))
    for finding in verdict.findings:
        of = f" [chain {finding.chain[:8]}]" if finding.chain else ""
        where = f"{finding.place}: " if finding.place else ""
        yield f"{finding.flaw.value:<9} {where}{finding.text}{of}"
    yield from _and_more(verdict.findings.more)
    yield _conclusion(verdict)


def _conclusion(verdict: VerificationResult) -> str:
    if verdict.not_readable.count:
        return "NOT verified, lines that could not be read may hold what seems to be missing: export the trail as text"
    if verdict.empty:
        return f"NOT verified, no record found: no line contains {MARK.decode()}...}}, bare or as text in a JSON object"
    if not verdict.good:
        return f"NOT verified, {counted(len(verdict.findings), 'finding')}"
    if verdict.unsigned:
        return f"consistent, not signed: {counted(verdict.unsigned, 'chain')} without a certificate"
    return f"verified, {counted(len(verdict.chains), 'chain')}"


def _and_more(count: int) -> Iterator[str]:
    if count:
        yield f"          and {count} more"


def _period(chain: ChainFacts) -> str:
    return " to ".join(query.moment(moment).isoformat(timespec="seconds") for moment in (chain.first, chain.last))


def _actor_of(chain: ChainFacts) -> str:
    actor = chain.actor or Actor(attested=False)
    names = (actor.namespace, actor.service_account, actor.workflow, actor.pod, actor.component)
    return " ".join(filter(None, names)) or "no identity recorded"


def _document(verdict: VerificationResult) -> dict[str, object]:
    return {
        "verified": verdict.good and not verdict.unsigned,
        "consistent": verdict.good,
        "chains": [
            {**asdict(chain), "policies": sorted(chain.policies), "actor": msgspec.to_builtins(chain.actor)}
            for chain in verdict.chains
        ],
        "findings": [asdict(finding) for finding in verdict.findings],
        "more_findings": verdict.findings.more,
        "cut_short": verdict.cut_short.listed,
        "cut_off": verdict.cut_off.listed,
        "not_readable": verdict.not_readable.listed,
        "objects": [
            {name: getattr(record, name) for name in ("file", "chain", "sequence", "place", "key")}
            for record in verdict.objects
        ],
    }


# --- query, report, public-key ----------------------------------------------------------------------------


def _query(options: argparse.Namespace) -> int:
    exact = {name: getattr(options, name) for name in ("decision", *query.EXACT)}
    if options.key_version is not None:
        exact["key_version"] = options.key_version
    operations = operations_named(options.operation) if options.operation else frozenset()
    wanted = query.AccessFilter(options.key, operations, exact, _asked_period(options))
    rows = query.AccessRows()
    with _opened(options.trail) as trail, Progress("read", "lines") as progress:
        matching = (row for row in query.accesses(progress.counted(trail), rows) if wanted.matches(row))
        query.WRITERS[options.output](progress.each(matching), sys.stdout)
    _warn_of_inaccuracies(rows)
    return DONE


def _asked_period(options: argparse.Namespace) -> query.Period:
    period = query.Period(options.since, options.until)
    if period.is_empty:
        raise BadRequest("--until is not later than --since", says="command line", remedy="Exchange or correct them")
    return period


def _warn_of_inaccuracies(rows: query.AccessRows) -> None:
    """Print on standard error which lines a list or a report leaves out, and which accesses it counts twice."""
    if rows.unread:
        print(f"sealgate: {counted(rows.unread, 'line')} could not be read", file=sys.stderr)
    if rows.counted_twice:
        text = "counted twice, as unfinished and with their outcome: too many accesses ran at the same time"
        print(f"sealgate: {rows.counted_twice} accesses are {text}", file=sys.stderr)


def _report(options: argparse.Namespace) -> int:
    _refuse_to_overwrite(options.to, options.trail)
    rows = query.AccessRows()
    figures = Figures()
    found = _artifact(options.artifact_key) if options.artifact_key is not None else None
    counts = found or figures
    period = _asked_period(options)

    def count(row: query.Row) -> None:
        if period.contains(row):
            counts.add(row)

    def noted(trail: Iterator[TrailLine]) -> Iterator[TrailLine]:
        for line in trail:
            row = rows.add(line)
            if row is not None:
                count(row)
            yield line

    with _opened(options.trail) as trail, Progress("verified", "lines") as progress:
        verdict = _verified(options, progress.counted(noted(trail)))
    for row in rows.unfinished():
        count(row)
    _warn_of_inaccuracies(rows)
    origin = Origin(options.trail, datetime.now(UTC), period)
    text = readers.page(found, verdict, origin) if found else report.page(figures, verdict, origin)
    try:
        _write_whole(options.to, text)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise BadRequest(f"{options.to} cannot be written: {reason}", says="command line") from None
    result = "NOT verified" if not verdict.good else "consistent, not signed" if verdict.unsigned else "verified"
    print(f"{options.to}: {counted(counts.accesses, 'access', 'accesses')}, {result}")
    return _exit_code(verdict)


def _artifact(key: str) -> ArtifactAccesses:
    if fault := canonical_keys.fault_of(key):
        raise BadRequest(f"--artifact-key: {fault}", says="command line", remedy=canonical_keys.remedy_of(key))
    return ArtifactAccesses(key)


def _refuse_to_overwrite(page: Path, trail: list[str]) -> None:
    for name in trail:
        if name != _STDIN and page.exists() and Path(name).exists() and page.samefile(name):
            raise BadRequest(f"{page} is the trail itself", says="command line", remedy="Pass another file as --to")


def _write_whole(page: Path, text: str) -> None:
    """Replace the file `page` only once all of `text` is written. Write straight to a terminal or a pipe."""
    if page.exists() and not page.is_file():
        page.write_text(text, encoding="utf-8")
        return
    with NamedTemporaryFile("w", encoding="utf-8", dir=page.parent, prefix=f".{page.name}.", delete=False) as file:
        try:
            file.write(text)
            file.close()
            Path(file.name).replace(page)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def _public_key(_options: argparse.Namespace) -> int:
    with Progress("asking for the public keys"):
        keys = configured_keys()
    for raw in keys.values():
        print(pem_of(raw), end="")
    return DONE


@contextmanager
def _opened(names: list[str]) -> Iterator[Iterator[TrailLine]]:
    """Give the lines of the files with these names, one file after the other; `-` is standard input."""

    def files() -> Iterator[tuple[str, BinaryIO]]:
        for name in names:
            if name == _STDIN:
                yield "standard input", sys.stdin.buffer
                continue
            try:
                with Path(name).open("rb") as file:
                    yield name, file
            except OSError as error:
                reason = os.strerror(error.errno or 0).lower()
                raise BadRequest(f"{name} cannot be read: {reason}", says="command line") from None

    try:
        yield read_lines(files())
    except BrokenPipeError:
        # The reader of the output, such as `head`, has closed it. Nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
