"""Reading a trail back: its lines among others, as they come, in bounded memory. Whoever wrote them is not trusted."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec

from proxy.telemetry.records import Fingerprint, Signature

MARK = b'{"sealgate_audit":1,'
_SIGNS = (b'"sealgate_audit"', b'"attestation"')
"""One of the two is there, even if the other was damaged."""
_LONGEST = 1 << 16
_CHAIN = re.compile(rb'"chain_uid":"([0-9a-f]{32})"')
_SEQUENCE = re.compile(rb'"sequence":([0-9]{1,18})\b')


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a trail, and where it stands."""

    source: str
    number: int
    text: bytes

    @property
    def place(self) -> str:
        """As an error names it."""
        return f"{self.source}:{self.number}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A record as it was read. `intact` tells whether its fingerprint is that of its content."""

    line: Line
    record: dict[str, Any]
    chain: str
    sequence: int
    previous: str
    fingerprint: str
    signature: str
    intact: bool

    @property
    def phase(self) -> str:
        """Which of an access's or a session's records it is."""
        return text_at(self.record, "unmapped", "phase")


def lines(sources: Iterable[tuple[str, BinaryIO]]) -> Iterator[Line]:
    """The lines that belong to a trail, whatever else stands between them or in front of them."""
    for source, file in sources:
        number = 0
        while text := file.readline(_LONGEST):
            number += 1
            if any(sign in text for sign in _SIGNS):
                # A container's runtime puts its own words before a line.
                start = max(text.find(b"{"), 0)
                yield Line(source, number, text[start:].rstrip(b"\n"))


def entry(line: Line) -> Entry | None:
    """The record in a line; None if it is none."""
    try:
        record = msgspec.json.decode(line.text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    attestation = record.get("attestation") if isinstance(record, dict) else None
    sequence = value_at(record, "metadata", "sequence")
    if not isinstance(attestation, dict) or not isinstance(sequence, int) or isinstance(sequence, bool):
        return None
    signatures = attestation.get("signatures", [])
    signature = text_at(signatures[0], "value") if isinstance(signatures, list) and signatures else ""
    fingerprint = text_at(attestation, "fingerprint", "value")
    unsealed = {name: value for name, value in attestation.items() if name not in {"fingerprint", "signatures"}}
    digest = hashlib.sha256(_canonical({**record, "attestation": unsealed})).hexdigest()
    return Entry(
        line,
        record,
        text_at(attestation, "chain_uid"),
        sequence,
        text_at(attestation, "prev_event", "fingerprint"),
        fingerprint,
        signature,
        intact=digest == fingerprint
        and attestation.get("fingerprint") == msgspec.to_builtins(Fingerprint(fingerprint))
        and signatures == ([msgspec.to_builtins(Signature(signature))] if signatures else [])
        and _means_one_thing(line.text, record),
    )


def claimed_place(line: Line) -> tuple[str, int]:
    """Which record of which chain a line that cannot be read seems to be."""
    chain, sequence = _CHAIN.search(line.text), _SEQUENCE.search(line.text)
    return chain[1].decode() if chain else "", int(sequence[1]) if sequence else -1


def value_at(record: Any, *names: str) -> Any:
    """What lies at a path of names, or None."""
    for name in names:
        if not isinstance(record, dict):
            return None
        record = record.get(name)
    return record


def text_at(record: Any, *names: str) -> str:
    """The text at a path of names; empty if there is none."""
    found = value_at(record, *names)
    return found if isinstance(found, str) else ""


def number_at(record: Any, *names: str) -> int:
    """The whole number at a path of names; 0 if there is none."""
    found = value_at(record, *names)
    return found if isinstance(found, int) and not isinstance(found, bool) else 0


def _canonical(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value, order="sorted")
    except (UnicodeEncodeError, RecursionError):
        return b""


def _means_one_thing(text: bytes, record: dict[str, Any]) -> bool:
    """Whether no name is given twice, which two readers would read differently."""
    canonical = _canonical(record)
    if text == MARK + canonical[1:].replace(MARK[1:], b"", 1) or text == canonical:
        return True
    try:
        json.loads(text, object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError):
        return False
    return True


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("a name is given twice")
    return names
