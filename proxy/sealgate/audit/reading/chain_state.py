"""What is known of one chain while a trail is read: its order, its gaps, its certificate and its signatures."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sealgate.audit.chain import RECORD_LABEL, certificate_bytes
from sealgate.audit.reading.flaws import FlawKind, Gaps, ItemBudget, TrailFlaw
from sealgate.audit.reading.trail_lines import TrailRecord, number_at, text_at, value_at
from sealgate.audit.records import Actor, Certified, Phase
from sealgate.call import Operation

_SAVES = {Operation.SAVE.value, Operation.SAVE_STREAM.value}
_MOST_POLICIES = 64
_LONGEST_NAME = 64
_LONGEST_SHOWN = 1025
"""Characters of a name in a record, at most."""
_RECORD_SIZE = 32
"""How many items of the budget a record takes that waits for its certificate."""
_SHORTEST_CUT = 24
"""Characters that a record shows of a name that it cuts, at least."""


@dataclass(slots=True)
class ChainFacts:
    """What the records of one chain say, and whether the chain is certified."""

    uid: str
    records: int = 0
    first: int = 0
    """The earliest time of a record, in milliseconds since 1970."""
    last: int = 0
    """The latest time of a record, in milliseconds since 1970."""
    closed: bool = False
    certified_by: str = ""
    """Name and version of the certifying key; empty if the chain is not certified by a trusted key."""
    actor: Actor | None = None
    """The actor of the certificate; without one, the actor of the first record that names one."""
    policies: set[str] = field(default_factory=set)
    unfinished: int = 0
    """Attempts without an outcome: the process ended in between, or the records were removed."""


@dataclass(slots=True)
class ExpectedRecord:
    """The attempt that a stored object names in its header, which the trail must contain."""

    file: str
    chain: str
    sequence: int
    place: str = ""
    """File and line of the record; empty while it is missing."""
    key: str = ""
    """The artifact's key in the record."""
    saves: bool = False
    signed: bool = False

    def note(self, record: TrailRecord) -> None:
        """Take `record`, which has the chain and the sequence of this one, as the record in the trail."""
        self.place, self.key = record.line.place, text_at(record.record, "resource", "uid")
        self.saves = record.phase == Phase.ATTEMPT and text_at(record.record, "api", "operation") in _SAVES

    def flaws(self, *, allow_unsigned: bool) -> Iterator[TrailFlaw]:
        """Report, after the whole trail was read, why the record does not confirm the object."""
        which = f"record {self.sequence}, which {self.file} names,"
        if not self.place:
            yield TrailFlaw(FlawKind.REMOVED, "", self.chain, f"{which} is missing")
        elif not self.saves:
            yield TrailFlaw(FlawKind.FORGED, self.place, self.chain, f"{which} is not an attempt to save")
        elif not self.signed and not allow_unsigned:
            yield TrailFlaw(FlawKind.FORGED, self.place, self.chain, f"{which} has no valid signature")


class _SignedPart(NamedTuple):
    """The parts of a record that are needed to check its signature."""

    place: str
    sequence: int
    previous: str
    fingerprint: str
    signature: str
    actor: Actor | None


class ChainState:
    """One chain while its trail is read.

    Args:
        uid: the id of the chain.
        trusted: public keys of certifying keys, 32 bytes each.
        expected: the records that stored objects name, by sequence.
        budget: limits what all chains together keep.
    """

    def __init__(
        self, uid: str, trusted: Collection[bytes], expected: Mapping[int, Sequence[ExpectedRecord]], budget: ItemBudget
    ) -> None:
        self.facts = ChainFacts(uid)
        self.next = 0
        """The sequence of the next record."""
        self._trusted = trusted
        self._expected = expected
        self._budget = budget
        self._last_fingerprint = ""
        self._last_in_order = False
        self._missing = Gaps(budget)
        self._key: Ed25519PublicKey | None = None
        self._certified_actor: Actor | None = None
        self._has_started = False
        self._unsigned_because = "its first record, which holds the certificate, is missing"
        self._certificate_forged = False
        self._waiting: list[_SignedPart] = []
        """Records that came before the certificate. They are checked once it is known."""
        self._not_kept = 0
        """The number of records before the certificate that were too many to keep."""
        self._doubtful: dict[int, _SignedPart] = {}
        """Records with an invalid signature, until the next record decides what was changed."""
        self._open: set[str] = set()
        """Decision ids of attempts without an outcome so far."""
        self._end = -1
        """The sequence of the closing record."""

    def add(self, record: TrailRecord) -> list[TrailFlaw]:
        """Add the next intact record. Return the flaws that it shows."""
        facts = self.facts
        facts.records += 1
        time = number_at(record.record, "time")
        facts.first = min(facts.first or time, time)
        facts.last = max(facts.last, time)
        for expected in self._expected.get(record.sequence, ()):
            expected.note(record)
        flaws = self._check_order(record)
        if record.phase == Phase.START and record.sequence == 0 and not self._has_started:
            flaws += self._start(record)
        part = _SignedPart(
            record.line.place, record.sequence, record.previous, record.fingerprint, record.signature, _actor(record)
        )
        if self._has_started:
            flaws += self._check_signature(part)
        elif self._budget.reserve(_RECORD_SIZE):
            self._waiting.append(part)
        else:
            self._not_kept += 1
        self._note_content(record, part.actor)
        return flaws

    def skip_altered(self, sequence: int) -> None:
        """Do not also report an altered record as missing. Its sequence is believed only if it is the next one."""
        if sequence == self.next:
            self.next += 1
            self._last_in_order = False

    def end(self, *, allow_unsigned: bool, expect_closed: bool) -> Iterator[TrailFlaw]:
        """Report, after the whole trail was read, the flaws of the chain as a whole."""
        facts, uid = self.facts, self.facts.uid
        facts.closed = self._end >= 0 and self._end == self.next - 1
        facts.unfinished += len(self._open)
        for part in self._doubtful.values():
            yield self._not_signed(part)
        for first, last in self._missing:
            yield self._removed(first, last)
        if self._key is None and not self._certificate_forged and not allow_unsigned:
            yield TrailFlaw(FlawKind.UNSIGNED, "", uid, f"the chain is not certified: {self._unsigned_because}")
        if expect_closed and not facts.closed:
            yield TrailFlaw(FlawKind.OPEN, "", uid, "the chain has no closing record")

    def _note_content(self, record: TrailRecord, actor: Actor | None) -> None:
        identifier = text_at(record.record, "metadata", "correlation_uid")[:_LONGEST_NAME]
        if record.phase == Phase.ATTEMPT and identifier not in self._open:
            if self._budget.reserve():
                self._open.add(identifier)
            else:
                self.facts.unfinished += 1
        elif record.phase == Phase.OUTCOME and identifier in self._open:
            self._open.remove(identifier)
            self._budget.release()
        elif record.phase == Phase.END:
            self._end = record.sequence
        digest = text_at(record.record, "policy", "uid")[:_LONGEST_NAME]
        if digest and len(self.facts.policies) < _MOST_POLICIES:
            self.facts.policies.add(digest)
        if self._certified_actor is not None:
            self.facts.actor = self._certified_actor
        elif self.facts.actor is None and actor is not None:
            self.facts.actor = msgspec.convert(_shortened(msgspec.to_builtins(actor)), Actor)

    def _flaw(self, kind: FlawKind, part: _SignedPart, what: str) -> TrailFlaw:
        return TrailFlaw(kind, part.place, self.facts.uid, f"record {part.sequence} {what}")

    # --- order --------------------------------------------------------------------------------------------

    def _check_order(self, record: TrailRecord) -> list[TrailFlaw]:
        sequence, place, uid = record.sequence, record.line.place, self.facts.uid
        if sequence < self.next:
            if not self._missing.close(sequence):
                return [TrailFlaw(FlawKind.REPEATED, place, uid, f"record {sequence} appears twice")]
            return [TrailFlaw(FlawKind.REORDERED, place, uid, f"record {sequence} comes after record {self.next - 1}")]
        flaws = []
        in_order = sequence == self.next
        if not in_order and not self._missing.add(self.next, sequence - 1):
            flaws.append(self._removed(self.next, sequence - 1))
        follows = record.previous == self._last_fingerprint
        if in_order and (self._last_in_order or sequence == 0) and not follows:
            text = f"record {sequence} does not name the fingerprint of the record before it"
            flaws.append(TrailFlaw(FlawKind.FORGED, place, uid, text))
        self.next, self._last_fingerprint, self._last_in_order = sequence + 1, record.fingerprint, True
        return flaws

    def _removed(self, first: int, last: int) -> TrailFlaw:
        text = f"record {first} is missing" if first == last else f"records {first} to {last} are missing"
        return TrailFlaw(FlawKind.REMOVED, "", self.facts.uid, text)

    # --- signatures ---------------------------------------------------------------------------------------

    def _start(self, record: TrailRecord) -> list[TrailFlaw]:
        """Check the certificate in the first record, and then the records that waited for it."""
        self._has_started = True
        waiting, self._waiting = self._waiting, []
        self._budget.release(_RECORD_SIZE * len(waiting))
        written = value_at(record.record, "unmapped", "session", "certified")
        if written is None:
            reason = text_at(record.record, "unmapped", "session", "reason")[:_LONGEST_NAME]
            self._unsigned_because = reason or "it has no certificate"
            return []
        try:
            certified = msgspec.convert(written, Certified)
            signature = _decoded(certified.signature)
            key = Ed25519PublicKey.from_public_bytes(_decoded(certified.certificate.public_key))
        except (msgspec.ValidationError, ValueError):
            return self._forged_certificate(record, "its certificate cannot be read")
        if certified.certificate.chain_uid != self.facts.uid:
            return self._forged_certificate(record, "its certificate belongs to another chain")
        text = certificate_bytes(certified.certificate)
        if not any(_is_signed(Ed25519PublicKey.from_public_bytes(known), signature, text) for known in self._trusted):
            return self._forged_certificate(record, "its certificate is not signed by a trusted key")
        self._key, self._certified_actor = key, certified.certificate.actor
        self.facts.certified_by = f"{certified.key} version {certified.key_version}"
        flaws = [flaw for earlier in waiting for flaw in self._check_signature(earlier)]
        if self._not_kept:
            unchecked = f"the signatures of {self._not_kept} records before the certificate were not checked"
            flaws.append(TrailFlaw(FlawKind.UNREAD, record.line.place, self.facts.uid, unchecked))
        return flaws

    def _forged_certificate(self, record: TrailRecord, why: str) -> list[TrailFlaw]:
        self._certificate_forged = True
        return [TrailFlaw(FlawKind.FORGED, record.line.place, self.facts.uid, why)]

    def _check_signature(self, part: _SignedPart) -> list[TrailFlaw]:
        if self._key is None or self._certified_actor is None:
            return []
        flaws = []
        if not _is_same_actor(part.actor, self._certified_actor):
            flaws.append(self._flaw(FlawKind.FORGED, part, "names another actor than the certificate of its chain"))
        if not _is_signed(self._key, _decoded(part.signature), RECORD_LABEL + bytes.fromhex(part.fingerprint)):
            return flaws + self._doubt(part)
        for expected in self._expected.get(part.sequence, ()):
            expected.signed = True
        before = self._doubtful.get(part.sequence - 1)
        if before is not None and before.fingerprint == part.previous:
            # This signed record confirms the content of the one before it, so only the signature of that was changed.
            del self._doubtful[before.sequence]
            self._budget.release()
            why = f"the signature of record {before.sequence} was changed"
            flaws.append(TrailFlaw(FlawKind.ALTERED, before.place, self.facts.uid, why))
        return flaws

    def _doubt(self, part: _SignedPart) -> list[TrailFlaw]:
        if part.sequence in self._doubtful or not self._budget.reserve():
            return [self._not_signed(part)]
        self._doubtful[part.sequence] = part
        return []

    def _not_signed(self, part: _SignedPart) -> TrailFlaw:
        return self._flaw(FlawKind.FORGED, part, "is not signed by the key of its chain")


def _actor(record: TrailRecord) -> Actor | None:
    try:
        actor = msgspec.convert(record.record.get("actor"), Actor)
    except msgspec.ValidationError:
        return None
    return actor if all(len(name) <= _LONGEST_SHOWN for name in _names(actor)) else None


def _names(actor: Actor) -> tuple[str, ...]:
    return msgspec.structs.astuple(actor)[1:]


def _shortened(names: dict[str, object]) -> dict[str, object]:
    return {name: text[:_LONGEST_NAME] if isinstance(text, str) else text for name, text in names.items()}


def _is_same_actor(shown: Actor | None, certified: Actor) -> bool:
    """Return whether a record names the actor of the certificate. Either of the two may cut long names."""
    if shown is None or shown.attested != certified.attested:
        return False
    return all(map(_is_same_name, _names(shown), _names(certified)))


def _is_same_name(one: str, other: str) -> bool:
    pairs = ((one, other), (other, one))
    return one == other or any(
        short.endswith("…") and len(short) > _SHORTEST_CUT and long.startswith(short[:-1]) for short, long in pairs
    )


def _decoded(text: str) -> bytes:
    """Return the bytes of a base64 text; empty bytes unless it is their canonical encoding."""
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
