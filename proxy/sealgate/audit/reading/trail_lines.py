"""How records are found in the lines of a file, among lines of other programs, in limited memory.

The content of the file is not trusted.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO

import msgspec

from sealgate.audit.reading import wrapped
from sealgate.audit.records import LONGEST, Fingerprint, Signature

MARK = b'{"sealgate_audit":1,'
"""The first bytes of each record, as Sealgate writes it."""
_MARK_AS_BYTES = rb",\s?".join(b"%d" % byte for byte in b'{"sealgate_audit"')
_ESCAPED_MARK = re.compile(rb'\{\s{0,4}(?:\\+"|"")sealgate_audit(?:\\+"|"")|' + _MARK_AS_BYTES)
"""The mark in a line that a collector put as text into another one, or as a list of bytes."""
_RECORD_START = re.compile(rb'\{\s{0,4}"sealgate_audit"')
_MARK_ON_ITS_LINE = re.compile(rb'\s*"sealgate_audit"\s?:')
"""It shows a record that is written over several lines."""
_ATTESTATION = re.compile(rb'"attestation_list"\s?:\s?\[\s?\{\s?"(?:chain_uid|fingerprint|prev_event|signatures)"')
"""It shows a record whose mark is damaged."""
_OBJECT_START = re.compile(rb'\{\s{0,4}"')
_COLOURS = re.compile(rb"\x1b\[[0-9;]*m")
_LARGEST_DOCUMENT = 16 << 20
"""Bytes of a file that is read as a whole, because its JSON values may have several lines."""
_LONGEST_LINE = 1 << 16
_LONGEST_RECORD = 4 * LONGEST
"""Bytes of a record. A collector that rewrites the JSON may add spaces and escapes."""
_CHAIN = re.compile(rb'"chain_uid":"([0-9a-f]{32})"')
_SEQUENCE = re.compile(rb'"sequence":([0-9]{1,18})\b')
_UID = re.compile(r"[0-9a-f]{32}")
_LONGEST_SIGNATURE = 88
"""Characters of an Ed25519 signature in base64."""


@dataclass(frozen=True, slots=True)
class TrailLine:
    """A line of a trail, or the part of a line that may be one record."""

    source: str
    number: int
    text: bytes
    ended: bool = True
    """Whether a line break follows. It is missing where the writer was stopped."""
    readable: bool = True
    """False for a line that holds a record in a form that is not known here."""

    @property
    def place(self) -> str:
        """File and line number, as findings show them."""
        return f"{self.source}:{self.number}"


@dataclass(frozen=True, slots=True)
class TrailRecord:
    """A record that was parsed from a line. Only an `intact` one may be used as evidence."""

    line: TrailLine
    record: dict[str, Any]
    chain: str
    sequence: int
    previous: str
    """The fingerprint of the record before; empty for the first record."""
    fingerprint: str
    signature: str
    intact: bool
    """Whether the fingerprint matches the content, and the record has the form that Sealgate writes."""

    @property
    def phase(self) -> str:
        """The kind of record: one of `records.Phase`, if the record is genuine."""
        return text_at(self.record, "unmapped", "phase")


def read_lines(sources: Iterable[tuple[str, BinaryIO]]) -> Iterator[TrailLine]:
    """Find the lines that may hold records, and skip all others.

    A file of JSON values over several lines, such as an array of records, is read as a whole if it has at most 16 MiB.
    Otherwise its records are not readable.

    Args:
        sources: name and open file of each part of the trail, in order.
    """
    for source, file in sources:
        head = file.readline(_LONGEST_LINE)
        if head.lstrip()[:1] == b"[" or head.strip() == b"{" or not head.endswith(b"\n"):
            head += file.read(_LARGEST_DOCUMENT + 1 - len(head))
            with contextlib.suppress(wrapped.NotReadable):  # these are lines
                if len(head) <= _LARGEST_DOCUMENT:
                    records = wrapped.records_in_file(head.decode(errors="replace"))
                    yield from (TrailLine(source, number, record) for number, record in enumerate(records, start=1))
                    continue
        yield from _lines_of(source, head, file)


def _lines_of(source: str, head: bytes, file: BinaryIO) -> Iterator[TrailLine]:
    """Find the lines in a file of which `head` was read already."""
    number, is_new, beginning = 0, True, io.BytesIO(head)
    while text := _next_line(beginning, file):
        number += is_new
        is_new = text.endswith(b"\n")
        ended = is_new or len(text) == _LONGEST_LINE
        line = _COLOURS.sub(b"", text.rstrip(b"\r\n"))
        try:
            pieces = list(_pieces(line))
        except wrapped.NotReadable:
            yield TrailLine(source, number, line, ended, readable=False)
            continue
        for count, piece in enumerate(pieces, start=1):
            yield TrailLine(source, number, piece, ended or count < len(pieces))


def _next_line(beginning: BinaryIO, file: BinaryIO) -> bytes:
    text = beginning.readline(_LONGEST_LINE)
    if text.endswith(b"\n") or len(text) == _LONGEST_LINE:
        return text
    return text + file.readline(_LONGEST_LINE - len(text))


def _pieces(text: bytes) -> Iterator[bytes]:
    """Split a line into its records. It holds several if one is incomplete and another process wrote behind it.

    Raises:
        NotReadable: the line holds a record in a form that is not known here.
    """
    starts = [match.start() for match in _RECORD_START.finditer(text)]
    head = text[: starts[0]] if starts else text
    if not starts and not _ATTESTATION.search(text):
        if _ESCAPED_MARK.search(text):
            yield from wrapped.records_in_text(text.decode(errors="replace"))
        elif _MARK_ON_ITS_LINE.match(text):
            raise wrapped.NotReadable
        return
    if b"{" in head or b"[" in head:
        # The fields of a record, or the record, are inside of another object. Or the mark of the record is damaged.
        with contextlib.suppress(wrapped.NotReadable):
            if records := wrapped.records_in_text(text.decode(errors="replace")):
                yield from records
                return
    if not starts or _ATTESTATION.search(head):
        # The runtime of a container writes a prefix before each line.
        start = _OBJECT_START.search(head)
        yield head[start.start() if start else 0 :]
    for begin, end in pairwise([*starts, len(text)]):
        yield text[begin:end]


def parse_record(line: TrailLine) -> TrailRecord | None:
    """Return the record in `line`; None if the line does not hold a JSON object with the parts of a record."""
    if len(line.text) > _LONGEST_RECORD:
        return None
    try:
        record = msgspec.json.decode(line.text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    attestations = record.get("attestation_list") if isinstance(record, dict) else None
    attestation = attestations[0] if isinstance(attestations, list) and len(attestations) == 1 else None
    sequence = value_at(record, "metadata", "sequence")
    if not isinstance(attestation, dict) or not isinstance(sequence, int) or isinstance(sequence, bool):
        return None
    signatures = attestation.get("signatures", [])
    signature = text_at(signatures[0], "value") if isinstance(signatures, list) and signatures else ""
    chain, previous = text_at(attestation, "chain_uid"), text_at(attestation, "prev_event", "fingerprint")
    fingerprint = text_at(attestation, "fingerprint", "value")
    covered = {name: value for name, value in attestation.items() if name not in {"fingerprint", "signatures"}}
    digest = hashlib.sha256(_canonical({**record, "attestation_list": [covered]})).hexdigest()
    return TrailRecord(
        line,
        record,
        chain,
        sequence,
        previous,
        fingerprint,
        signature,
        intact=digest == fingerprint
        and sequence >= 0
        and _UID.fullmatch(chain) is not None
        and len(previous) in {0, len(digest)}
        and len(signature) <= _LONGEST_SIGNATURE
        and attestation.get("fingerprint") == msgspec.to_builtins(Fingerprint(fingerprint))
        and signatures == ([msgspec.to_builtins(Signature(signature))] if signatures else [])
        and _is_unambiguous(line.text, record),
    )


def claimed_place(line: TrailLine) -> tuple[str, int]:
    """Return chain and sequence that a damaged line seems to have; an empty text and -1 if it shows none."""
    chain, sequence = _CHAIN.search(line.text), _SEQUENCE.search(line.text)
    return chain[1].decode() if chain else "", int(sequence[1]) if sequence else -1


def value_at(record: Any, *names: str) -> Any:
    """Return the value at a path of names in nested objects, or None."""
    for name in names:
        if not isinstance(record, dict):
            return None
        record = record.get(name)
    return record


def text_at(record: Any, *names: str) -> str:
    """Return the text at a path of names; empty if there is no text."""
    value = value_at(record, *names)
    return value if isinstance(value, str) else ""


def texts_at(record: Any, *names: str) -> list[str]:
    """Return the texts of the list at a path of names; none if there is no list."""
    value = value_at(record, *names)
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def number_at(record: Any, *names: str) -> int:
    """Return the integer at a path of names; 0 if there is no integer."""
    value = value_at(record, *names)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _canonical(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value, order="sorted")
    except (UnicodeEncodeError, OverflowError, RecursionError):
        return b""


def _is_unambiguous(text: bytes, record: dict[str, Any]) -> bool:
    """Return whether no name is given twice in an object: two readers could take different values for it."""
    canonical = _canonical(record)
    if text == MARK + canonical[1:].replace(MARK[1:], b"", 1) or text == canonical:
        return True
    try:
        json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        return False
    return True


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name is given twice")
    return names
