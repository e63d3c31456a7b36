"""Whether a trail is what was written: nothing altered, removed, put in another order or forged (docs/audit.md)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from proxy.telemetry.chain import RECORD_LABEL, to_be_certified
from proxy.telemetry.records import Certified, Phase
from proxy.telemetry.trail import MARK, Entry, Line, claimed_place, entry, number_at, text_at, value_at

_MOST_WAITING = 1024
"""Records that came before the certificate of their chain, to be checked once it is there."""


class Flaw(StrEnum):
    """What is wrong with a trail."""

    ALTERED = "altered"
    REMOVED = "removed"
    REORDERED = "reordered"
    REPEATED = "repeated"
    FORGED = "forged"
    UNSIGNED = "unsigned"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Finding:
    """One flaw, and where."""

    flaw: Flaw
    place: str
    """File and line, or empty where there is no line."""
    chain: str
    text: str


@dataclass(slots=True)
class ChainFacts:
    """One chain: what its records say, and how far they can be believed."""

    uid: str
    records: int = 0
    first: int = 0
    """Milliseconds since 1970, as `last`."""
    last: int = 0
    closed: bool = False
    certified_by: str = ""
    """Key and version; empty if nobody vouches for the chain."""
    actor: dict[str, object] = field(default_factory=dict)
    policies: set[str] = field(default_factory=set)
    unfinished: int = 0
    """Attempts without an outcome: the process ended in between, or the records are gone."""


@dataclass(slots=True)
class Verdict:
    """What was found."""

    chains: list[ChainFacts]
    findings: list[Finding]
    cut_short: list[str]
    """Lines that were begun and not finished, as a full disk leaves them; nothing is missing for it."""

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


Anchors = Mapping[tuple[str, int], str]
"""Chain and sequence of records that must be there, and what says so."""


def verify(
    trail: Iterable[Line],
    trusted: Collection[bytes],
    *,
    allow_unsigned: bool = False,
    expect_closed: bool = False,
    anchors: Anchors | None = None,
) -> Verdict:
    """Look at every line of a trail.

    Args:
        trail: the lines, in the order of their files.
        trusted: public halves of certifying keys, 32 bytes each.
        allow_unsigned: a chain that nobody vouches for is no flaw.
        expect_closed: a chain that does not say that it has ended is one.
        anchors: records that must be there.
    """
    work = _Verification(trusted, dict(anchors or {}))
    for line in trail:
        work.look_at(line)
    return work.verdict(allow_unsigned=allow_unsigned, expect_closed=expect_closed)


class _Verification:
    """The chains as far as they were read."""

    def __init__(self, trusted: Collection[bytes], anchors: dict[tuple[str, int], str]) -> None:
        self._trusted = trusted
        self._anchors = anchors
        self._chains: dict[str, _Chain] = {}
        self._findings: list[Finding] = []
        self._cut_short: list[Line] = []

    def look_at(self, line: Line) -> None:
        found = entry(line)
        if found is None and line.text.startswith(MARK) and not line.text.endswith(b"}"):
            self._cut_short.append(line)
        elif found is None or not found.intact:
            uid, sequence = (found.chain, found.sequence) if found else claimed_place(line)
            self._findings.append(Finding(Flaw.ALTERED, line.place, uid, "the record is not what was written"))
            self._chain(uid).passed_over(sequence)
        else:
            self._findings += self._chain(found.chain).add(found)
            self._anchors.pop((found.chain, found.sequence), None)

    def _chain(self, uid: str) -> _Chain:
        return self._chains.setdefault(uid, _Chain(uid, self._trusted))

    def verdict(self, *, allow_unsigned: bool, expect_closed: bool) -> Verdict:
        chains = [chain for chain in self._chains.values() if chain.facts.records]
        for chain in chains:
            self._findings += chain.end(allow_unsigned=allow_unsigned, expect_closed=expect_closed)
        for (uid, sequence), what in self._anchors.items():
            text = f"record {sequence}, which {what} names, is not there"
            self._findings.append(Finding(Flaw.REMOVED, "", uid, text))
        cut_short = [line.place for line in self._cut_short]
        if any(finding.flaw is Flaw.REMOVED for finding in self._findings):
            altered = (Finding(Flaw.ALTERED, place, "", "the record breaks off") for place in cut_short)
            self._findings, cut_short = [*altered, *self._findings], []
        return Verdict([chain.facts for chain in chains], self._findings, cut_short)


class _Chain:
    """One chain while it is read: what came, what is missing, and whose signature counts."""

    def __init__(self, uid: str, trusted: Collection[bytes]) -> None:
        self.facts = ChainFacts(uid)
        self._trusted = trusted
        self._next = 0
        self._last_fingerprint = ""
        self._last_in_order = False
        self._missing: dict[int, int] = {}
        """First and last sequence of each gap."""
        self._key: Ed25519PublicKey | None = None
        self._begun = False
        self._unsigned_because = "its first record, with the certificate, is not there"
        self._forged = False
        self._waiting: list[Entry] = []
        self._doubtful: dict[int, Entry] = {}
        """Records whose signature is not good."""
        self._open: set[str] = set()
        self._end = -1

    def add(self, found: Entry) -> list[Finding]:
        facts = self.facts
        facts.records += 1
        moment = number_at(found.record, "time")
        facts.first = min(facts.first or moment, moment)
        facts.last = max(facts.last, moment)
        findings = self._ordered(found)
        if found.phase == Phase.START and found.sequence == 0 and not self._begun:
            findings += self._begin(found)
        if self._begun:
            findings += self._signed(found)
        elif len(self._waiting) < _MOST_WAITING:
            self._waiting.append(found)
        self._note(found)
        return findings

    def passed_over(self, sequence: int) -> None:
        """An altered record is not missing as well; what it says of its place is believed only for the next one."""
        if sequence == self._next:
            self._next += 1
            self._last_in_order = False

    def end(self, *, allow_unsigned: bool, expect_closed: bool) -> list[Finding]:
        facts, uid = self.facts, self.facts.uid
        facts.closed = self._end >= 0 and self._end == self._next - 1
        facts.unfinished = len(self._open)
        findings = self._not_signed() + [
            Finding(
                Flaw.REMOVED,
                "",
                uid,
                f"record {first} is missing" if first == last else f"records {first} to {last} are missing",
            )
            for first, last in sorted(self._missing.items())
        ]
        if self._key is None and not self._forged and not allow_unsigned:
            findings.append(Finding(Flaw.UNSIGNED, "", uid, f"nobody vouches for it: {self._unsigned_because}"))
        if expect_closed and not facts.closed:
            findings.append(Finding(Flaw.OPEN, "", uid, "it does not say that it has ended"))
        return findings

    def _note(self, found: Entry) -> None:
        identifier = text_at(found.record, "metadata", "correlation_uid")
        if found.phase == Phase.ATTEMPT:
            self._open.add(identifier)
        elif found.phase == Phase.OUTCOME:
            self._open.discard(identifier)
        elif found.phase == Phase.END:
            self._end = found.sequence
        if digest := text_at(found.record, "policy", "uid"):
            self.facts.policies.add(digest)
        if not self.facts.actor:
            actor = found.record.get("actor")
            self.facts.actor = actor if isinstance(actor, dict) else {}

    # --- order --------------------------------------------------------------------------------------------

    def _ordered(self, found: Entry) -> list[Finding]:
        sequence, place, uid = found.sequence, found.line.place, self.facts.uid
        if sequence < self._next:
            gap = next((first for first, last in self._missing.items() if first <= sequence <= last), None)
            if gap is None:
                return [Finding(Flaw.REPEATED, place, uid, f"record {sequence} is there twice")]
            last = self._missing.pop(gap)
            if gap < sequence:
                self._missing[gap] = sequence - 1
            if sequence < last:
                self._missing[sequence + 1] = last
            return [Finding(Flaw.REORDERED, place, uid, f"record {sequence} comes after record {self._next - 1}")]
        in_order = sequence == self._next
        if not in_order:
            self._missing[self._next] = sequence - 1
        follows = found.previous == self._last_fingerprint
        findings = []
        if in_order and (self._last_in_order or sequence == 0) and not follows:
            findings.append(Finding(Flaw.FORGED, place, uid, f"record {sequence} does not follow the one before it"))
        self._next, self._last_fingerprint, self._last_in_order = sequence + 1, found.fingerprint, True
        return findings

    # --- signatures ---------------------------------------------------------------------------------------

    def _begin(self, found: Entry) -> list[Finding]:
        self._begun = True
        written = value_at(found.record, "unmapped", "session", "certified")
        if written is None:
            self._unsigned_because = text_at(found.record, "unmapped", "session", "reason") or "it has no certificate"
            return []
        try:
            certified = msgspec.convert(written, Certified)
            signature = _decoded(certified.signature)
            key = Ed25519PublicKey.from_public_bytes(_decoded(certified.certificate.public_key))
        except (msgspec.ValidationError, ValueError):
            return self._not_certified(found, "its certificate cannot be read")
        if certified.certificate.chain_uid != self.facts.uid:
            return self._not_certified(found, "its certificate is another chain's")
        text = to_be_certified(certified.certificate)
        if not any(_is_signed(Ed25519PublicKey.from_public_bytes(known), signature, text) for known in self._trusted):
            return self._not_certified(found, "no trusted key made its certificate")
        self._key = key
        self.facts.certified_by = f"{certified.key} version {certified.key_version}"
        waiting, self._waiting = self._waiting, []
        return [finding for earlier in waiting for finding in self._signed(earlier)]

    def _not_certified(self, found: Entry, why: str) -> list[Finding]:
        self._forged = True
        return [Finding(Flaw.FORGED, found.line.place, self.facts.uid, why)]

    def _signed(self, found: Entry) -> list[Finding]:
        if self._key is None:
            return []
        text = RECORD_LABEL + bytes.fromhex(found.fingerprint)
        if not _is_signed(self._key, _decoded(found.signature), text):
            self._doubtful[found.sequence] = found
            return []
        before = self._doubtful.get(found.sequence - 1)
        if before is None or before.fingerprint != found.previous:
            return []
        # The next record vouches for its content: only its signature was touched.
        del self._doubtful[before.sequence]
        why = f"the signature of record {before.sequence} is not what was written"
        return [Finding(Flaw.ALTERED, before.line.place, self.facts.uid, why)]

    def _not_signed(self) -> list[Finding]:
        return [
            Finding(
                Flaw.FORGED,
                found.line.place,
                self.facts.uid,
                f"record {found.sequence} is not signed by the key of its chain",
            )
            for found in self._doubtful.values()
        ]


def _decoded(text: str) -> bytes:
    """What a text in base64 stands for; empty unless it is the one text for it."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return decoded if base64.b64encode(decoded).decode() == text else b""


def _is_signed(key: Ed25519PublicKey, signature: bytes, text: bytes) -> bool:
    try:
        key.verify(signature, text)
    except InvalidSignature:
        return False
    return True
