"""`sealgate audit`: a trail verified, asked, and made a page for an auditor."""

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
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from sealgate import config, envelope
from sealgate.audit.reading import query, report
from sealgate.audit.reading.chain_state import ChainFacts, Wanted
from sealgate.audit.reading.trail_lines import MARK, TrailLine, lines
from sealgate.audit.reading.verify import VerificationResult, verify
from sealgate.audit.records import Actor
from sealgate.call import Call, Operation
from sealgate.cli.exit_codes import BAD_USAGE, DONE, NOT_SO
from sealgate.compose.keys import key_provider
from sealgate.errors import BadRequest

SUMMARY = "verify, query and report on an audit trail"
_STREAM = "-"
_END = b"-----END PUBLIC KEY-----"
_OPERATIONS = [operation.value for operation in Operation if operation is not Operation.GET_CAPABILITIES]
_LARGEST_KEYS = 1 << 20


def add_options(parser: argparse.ArgumentParser) -> None:
    """Say what `sealgate audit` takes."""
    commands = parser.add_subparsers(dest="audit", required=True, metavar="COMMAND")

    verify_ = commands.add_parser("verify", help="tell whether a trail is what was written")
    _takes_trail(verify_)
    _takes_trust(verify_)
    verify_.add_argument("--expect-closed", action="store_true", help="a chain that has not ended is a flaw")
    verify_.add_argument(
        "--object",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="a sealed file: the attempt that wrote it must be there, and its artifact's key is told",
    )
    verify_.add_argument("--output", choices=("text", "json"), default="text")
    verify_.set_defaults(act=_verify)

    ask = commands.add_parser(
        "query",
        help="list accesses, as records claim them",
        description="Lists what the records say. It checks no chain and no signature: `sealgate audit verify` does.",
    )
    _takes_trail(ask)
    ask.add_argument("--key", default="", metavar="GLOB", help="of the artifact; * matches / too")
    ask.add_argument("--operation", default="", choices=_OPERATIONS)
    ask.add_argument("--workflow", default="", metavar="NAME")
    ask.add_argument("--decision", default="", choices=("allowed", "denied"))
    ask.add_argument("--since", type=_moment, metavar="TIME", help="ISO 8601; UTC where it names no zone")
    ask.add_argument("--until", type=_moment, metavar="TIME", help="the first moment that is not asked for")
    ask.add_argument("--output", choices=tuple(query.WRITERS), default="table")
    ask.set_defaults(act=_query)

    page = commands.add_parser("report", help="make a page for an auditor: HTML that needs no network")
    _takes_trail(page)
    _takes_trust(page)
    page.add_argument("--to", type=Path, required=True, metavar="FILE", help="where the page goes")
    page.set_defaults(act=_report)

    public = commands.add_parser("public-key", help="print what a verifier must have: the certifying key's public half")
    public.set_defaults(act=_public_key)


def run(options: argparse.Namespace) -> int:
    """Carry out one of them."""
    return int(options.act(options))


def _takes_trail(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("trail", nargs="+", metavar="TRAIL", help="files in the order they were written, or -")


def _takes_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--certifier",
        type=Path,
        metavar="PEM",
        help="public keys to trust; without it the configured key provider is asked",
    )
    parser.add_argument("--allow-unsigned", action="store_true", help="a chain that nobody vouches for is no flaw")


# --- verify ----------------------------------------------------------------------------------------------


def verdict_of(
    options: argparse.Namespace, trail: Iterator[TrailLine], *, expect_closed: bool = False
) -> VerificationResult:
    """Verify a trail as the options say."""
    anchors = [_anchor(file) for file in getattr(options, "object", ())]
    return verify(
        trail,
        trusted_keys(options.certifier, needed=not options.allow_unsigned),
        allow_unsigned=options.allow_unsigned,
        expect_closed=expect_closed,
        anchors=anchors,
    )


def trusted_keys(pem: Path | None, *, needed: bool = True) -> list[bytes]:
    """Public keys from a file, or of the configured provider; none if there is no configuration.

    Raises:
        BadRequest: the file holds no Ed25519 public keys.
    """
    if pem is not None:
        return _keys_in(pem)
    if not os.environ.get("SEALGATE_CONFIG") and not os.environ.get("SEALGATE_CONFIG_YAML"):
        if not needed:
            return []
        raise BadRequest(
            "there is no key to check the trail's certificates with",
            says="command line",
            remedy="Name its public half by --certifier, or set SEALGATE_CONFIG",
        )
    return list(_configured_keys().values())


def _configured_keys() -> dict[int, bytes]:
    return key_provider(config.load()).public_keys(Call(Operation.GET_CAPABILITIES))


def _keys_in(pem: Path) -> list[bytes]:
    fault = BadRequest(
        f"{pem} holds no Ed25519 public keys", says="command line", remedy="Give PEM, as openssl writes it"
    )
    try:
        with pem.open("rb") as file:
            text = file.read(_LARGEST_KEYS)
        keys = [load_pem_public_key(part + _END) for part in text.split(_END)[:-1]]
    except (OSError, ValueError, UnsupportedAlgorithm):
        raise fault from None
    raw = [key.public_bytes(Encoding.Raw, PublicFormat.Raw) for key in keys if isinstance(key, Ed25519PublicKey)]
    if not raw or len(raw) != len(keys):
        raise fault
    return raw


def _anchor(file: Path) -> Wanted:
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
            remedy="It was sealed by a command, with `phases: outcome`, or with a trail that took no record",
        )
    return Wanted(str(file), header.audit_chain, header.audit_sequence)


def _verify(options: argparse.Namespace) -> int:
    with opened(options.trail) as trail:
        verdict = verdict_of(options, trail, expect_closed=options.expect_closed)
    if options.output == "json":
        print(json.dumps(_document(verdict), indent=2))
    else:
        for text in described(verdict):
            print("".join(c if c.isprintable() else "?" for c in text))
    return _exit_code(verdict)


def _exit_code(verdict: VerificationResult) -> int:
    if verdict.empty:
        return BAD_USAGE
    return DONE if verdict.good else NOT_SO


def described(verdict: VerificationResult) -> Iterator[str]:
    """A verdict as lines for a reader."""
    for chain in verdict.chains:
        state = "closed" if chain.closed else "open (killed, still runs, or its end was cut off)"
        by = f"certified by {chain.certified_by}" if chain.certified_by else "not certified"
        yield f"chain {chain.uid}  {chain.records} records, {state}, {by}"
        yield f"  {_span(chain)}  {_who(chain)}"
        if chain.unfinished:
            yield f"  {chain.unfinished} attempts without an outcome"
    for one in verdict.objects:
        yield f"object    {one.what}: record {one.sequence} at {one.place}, key {one.key or 'not told'}"
    for places, what in (
        (verdict.cut_short, "the line breaks off, and a later record takes its place"),
        (verdict.cut_off, "the line breaks off; whether a record was there cannot be told"),
    ):
        for place in places.listed:
            yield f"note      {place}: {what}"
        yield from _and_more(places.count - len(places.listed))
    for finding in verdict.findings:
        of = f" [chain {finding.chain[:8]}]" if finding.chain else ""
        where = f"{finding.place}: " if finding.place else ""
        yield f"{finding.flaw.value:<9} {where}{finding.text}{of}"
    yield from _and_more(verdict.findings.more)
    chains, findings = len(verdict.chains), len(verdict.findings)
    if verdict.empty:
        yield f"NOT verified, no record found: looked for lines that hold {MARK.decode()}...}} as an object or as text"
    elif not verdict.good:
        yield f"NOT verified, {_counted(findings, 'finding')}"
    elif verdict.unsigned:
        yield f"consistent, not signed: {_counted(verdict.unsigned, 'chain')} nobody vouches for"
    else:
        yield f"verified, {_counted(chains, 'chain')}"


def _and_more(count: int) -> Iterator[str]:
    if count:
        yield f"          and {count} more"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _span(chain: ChainFacts) -> str:
    return " to ".join(query.moment(moment).isoformat(timespec="seconds") for moment in (chain.first, chain.last))


def _who(chain: ChainFacts) -> str:
    actor = chain.actor or Actor(attested=False)
    names = (actor.namespace, actor.service_account, actor.workflow, actor.pod, actor.component)
    return " ".join(filter(None, names)) or "by nobody known"


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
        "objects": [
            {"file": one.what, "chain": one.chain, "sequence": one.sequence, "place": one.place, "key": one.key}
            for one in verdict.objects
        ],
    }


# --- the rest --------------------------------------------------------------------------------------------


def _query(options: argparse.Namespace) -> int:
    asked = query.Question(
        options.key, options.operation, options.workflow, options.decision, options.since, options.until
    )
    found = query.Accesses()
    with opened(options.trail) as trail:
        rows = (row for row in query.accesses(trail, found) if asked.matches(row))
        query.WRITERS[options.output](rows, sys.stdout)
    _tell_what_is_not_so(found)
    return DONE


def _tell_what_is_not_so(found: query.Accesses) -> None:
    """What a listing or a page does not show as it was."""
    if found.unread:
        print(f"sealgate: {_counted(found.unread, 'line')} could not be read", file=sys.stderr)
    if found.twice:
        text = "counted twice, as unfinished and with their outcome: too many were open at a time"
        print(f"sealgate: {found.twice} accesses are {text}", file=sys.stderr)


def _report(options: argparse.Namespace) -> int:
    _no_evidence(options.to, options.trail)
    figures, found = report.Figures(), query.Accesses()

    def counted(trail: Iterator[TrailLine]) -> Iterator[TrailLine]:
        for line in trail:
            row = found.add(line)
            if row is not None:
                figures.add(row)
            yield line

    with opened(options.trail) as trail:
        verdict = verdict_of(options, counted(trail))
    for row in found.unfinished():
        figures.add(row)
    _tell_what_is_not_so(found)
    text = report.page(figures, verdict, options.trail, datetime.now(UTC))
    try:
        _write_whole(options.to, text)
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise BadRequest(f"{options.to} cannot be written: {reason}", says="command line") from None
    told = "NOT verified" if not verdict.good else "consistent, not signed" if verdict.unsigned else "verified"
    print(f"{options.to}: {figures.accesses} accesses, {told}")
    return _exit_code(verdict)


def _no_evidence(page: Path, trail: list[str]) -> None:
    for name in trail:
        if name != _STREAM and page.exists() and Path(name).exists() and page.samefile(name):
            raise BadRequest(f"{page} is the trail itself", says="command line", remedy="Name another file by --to")


def _write_whole(page: Path, text: str) -> None:
    """Write a file whole or not at all. What is no file, such as a terminal, is written to."""
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
    for raw in _configured_keys().values():
        key = Ed25519PublicKey.from_public_bytes(raw)
        print(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(), end="")
    return DONE


@contextmanager
def opened(names: list[str]) -> Iterator[Iterator[TrailLine]]:
    """The lines of the trails with these names, one after the other."""

    def files() -> Iterator[tuple[str, BinaryIO]]:
        for name in names:
            if name == _STREAM:
                yield "standard input", sys.stdin.buffer
                continue
            try:
                with Path(name).open("rb") as file:
                    yield name, file
            except OSError as error:
                reason = os.strerror(error.errno or 0).lower()
                raise BadRequest(f"{name} cannot be read: {reason}", says="command line") from None

    try:
        yield lines(files())
    except BrokenPipeError:
        # Whoever read has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-11-24T12:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
