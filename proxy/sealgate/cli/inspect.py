"""`sealgate inspect`: show the header of a sealed file (docs/format.md). It opens nothing and needs no key."""

from __future__ import annotations

import argparse
import json
import os
from datetime import UTC, datetime

from sealgate import envelope
from sealgate.cli.exit_codes import DONE
from sealgate.cli.progress import Progress
from sealgate.cli.recovery_files import STREAM, open_source, source_chunks
from sealgate.cli.shared_options import add_output_option
from sealgate.envelope import Header
from sealgate.errors import BadRequest, DataLoss, Truncated, one_line

SUMMARY = "show the header of a sealed file; needs no key"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `sealgate inspect` to `parser`."""
    parser.add_argument("file", metavar="FILE", help="a sealed file, or - for standard input")
    add_output_option(parser, "text", "json")


def run(options: argparse.Namespace) -> int:
    """Print the facts of the header as lines or as JSON.

    Raises:
        BadRequest: the file is missing, or a directory.
        NotSealed: the file does not begin as a sealed file does.
        DataLoss: the header is damaged, or the body has a size that no sealed body has. The facts are printed first.
    """
    header, start, size = _of_stream() if options.file == STREAM else _of_file(options.file)
    body = size - start
    try:
        plaintext: int | None = envelope.plaintext_size(body)
    except Truncated:
        plaintext = None
    facts = _facts(header, start, body, plaintext)
    print(json.dumps(facts, indent=2) if options.output == "json" else _lines(facts))
    if plaintext is None:
        raise DataLoss(f"the body is cut short: no sealed body has {body} bytes")
    return DONE


def _of_file(path: str) -> tuple[Header, int, int]:
    """Return the header of a file, the bytes of the header, and those of the file."""
    with open_source(path) as source:
        if source.is_directory:
            raise BadRequest(f"{path} is a directory", remedy=f"Inspect one of its files, such as {envelope.MANIFEST}")
        header, start = envelope.read_header(lambda size, offset: os.pread(source.fd, size, offset))
        return header, start, source.size


def _of_stream() -> tuple[Header, int, int]:
    """Return the same of standard input, which is read to its end."""
    with Progress("read", "MiB") as progress, source_chunks(STREAM) as chunks:
        read = bytearray()

        def part(size: int, offset: int) -> bytes:
            while len(read) < offset + size and (chunk := next(chunks, b"")):
                read.extend(chunk)
            return bytes(read[offset : offset + size])

        header, start = envelope.read_header(part)
        return header, start, len(read) + sum(map(len, progress.counted(chunks)))


def _facts(header: Header, header_bytes: int, body_bytes: int, plaintext_bytes: int | None) -> dict[str, object]:
    return {
        "format": "sealed artifact v1",
        "suite": "AES256-GCM-HKDF-SHA256, segments of 1 MiB",
        "binding": header.binding.name.lower().replace("_", " "),
        "sealed_at": datetime.fromtimestamp(header.sealed_at, UTC).isoformat(),
        "provider": header.key.provider,
        "mount": header.key.mount,
        "key": header.key.key_name,
        "key_version": header.key.key_version,
        "derived_key": bool(header.key.derivation_context),
        "context": dict(header.context),
        "audit_chain": header.audit_chain,
        "audit_sequence": header.audit_sequence,
        "header_bytes": header_bytes,
        "body_bytes": body_bytes,
        "plaintext_bytes": plaintext_bytes,
    }


def _lines(facts: dict[str, object]) -> str:
    """Return one line for each fact that is set."""
    shown = {name.replace("_", " "): value for name, value in facts.items() if value not in ("", {}, False, None)}
    # A header comes from storage, so its control characters must not reach a terminal.
    return "\n".join(f"{name:<16} {one_line(str(value), '?')}" for name, value in shown.items())
