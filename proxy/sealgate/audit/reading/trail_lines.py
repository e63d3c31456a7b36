"""Reading a trail back: its lines among others, as they come, in bounded memory. Whoever wrote them is not trusted."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO

import msgspec

from sealgate.audit.records import LONGEST, Fingerprint, Signature

MARK = b'{"sealgate_audit":1,'
_SIGN = re.compile(rb'"(?:sealgate_audit|attestation)"')
"""One of the two is there, even if the other was damaged."""
_WRAPPED = b'\\"sealgate_audit\\"'
_MARKED = re.compile(rb'\{\s{0,4}"sealgate_audit"')
_OBJECT = re.compile(rb'\{\s{0,4}"')
_WRAPPERS = ("log", "body", "message")
"""Where a collector that makes an object of each line puts the line."""
_LONGEST = 1 << 16
_LONGEST_RECORD = 4 * LONGEST
"""Bytes of a record that a collector wrote anew, with spaces and escapes."""
_CHAIN = re.compile(rb'"chain_uid":"([0-9a-f]{32})"')
_SEQUENCE = re.compile(rb'"sequence":([0-9]{1,18})\b')
_UID = re.compile(r"[0-9a-f]{32}")
_LONGEST_SEAL = 88
"""Characters of an Ed25519 signature in base64."""


@dataclass(frozen=True, slots=True)
class TrailLine:
    """A line of a trail, and where it stands."""

    source: str
    number: int
    text: bytes
    ended: bool = True
    """Whether a line break follows: none does where writing stopped."""

    @property
    def place(self) -> str:
        """As an error names it."""
        return f"{self.source}:{self.number}"


@dataclass(frozen=True, slots=True)
class TrailRecord:
    """A record as it was read. `intact` tells whether its fingerprint is that of its content."""

    line: TrailLine
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


def lines(sources: Iterable[tuple[str, BinaryIO]]) -> Iterator[TrailLine]:
    """The lines that belong to a trail, whatever else stands between them, in front of them or around them."""
    for source, file in sources:
        number, whole = 0, True
        while text := file.readline(_LONGEST):
            number += whole
            whole = text.endswith(b"\n")
            ended = whole or len(text) == _LONGEST
            pieces = list(_pieces(text.rstrip(b"\r\n")))
            for place, piece in enumerate(pieces, start=1):
                yield TrailLine(source, number, piece, ended or place < len(pieces))


def _pieces(text: bytes) -> Iterator[bytes]:
    """The records in a line: more than one, where the first breaks off and another process wrote on."""
    if not _SIGN.search(text):
        if _WRAPPED not in text:
            return
        text = _unwrapped(text)
    starts = [found.start() for found in _MARKED.finditer(text)]
    head = text[: starts[0]] if starts else text
    if _SIGN.search(head) or not starts:
        # A container's runtime puts its own words before a line.
        begins = _OBJECT.search(head)
        yield head[begins.start() if begins else 0 :]
    for start, end in pairwise([*starts, len(text)]):
        yield text[start:end]


def _unwrapped(text: bytes) -> bytes:
    """The line that a collector put into an object; the text itself if there is none."""
    begins = _OBJECT.search(text)
    try:
        around = msgspec.json.decode(text[begins.start() if begins else 0 :])
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return text
    inner = (text_at(around, name).encode(errors="replace") for name in _WRAPPERS)
    return next((line.strip() for line in inner if _SIGN.search(line)), text)


def entry(line: TrailLine) -> TrailRecord | None:
    """The record in a line; None if it is none."""
    if len(line.text) > _LONGEST_RECORD:
        return None
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
    chain, previous = text_at(attestation, "chain_uid"), text_at(attestation, "prev_event", "fingerprint")
    fingerprint = text_at(attestation, "fingerprint", "value")
    unsealed = {name: value for name, value in attestation.items() if name not in {"fingerprint", "signatures"}}
    digest = hashlib.sha256(_canonical({**record, "attestation": unsealed})).hexdigest()
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
        and len(signature) <= _LONGEST_SEAL
        and attestation.get("fingerprint") == msgspec.to_builtins(Fingerprint(fingerprint))
        and signatures == ([msgspec.to_builtins(Signature(signature))] if signatures else [])
        and _means_one_thing(line.text, record),
    )


def claimed_place(line: TrailLine) -> tuple[str, int]:
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
    except (UnicodeEncodeError, OverflowError, RecursionError):
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
