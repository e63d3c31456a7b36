"""One chain of a trail while it is read: what came, what is missing, who it says it is, and whose signature counts."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sealgate.audit.chain import RECORD_LABEL, to_be_certified
from sealgate.audit.reading.flaws import FlawKind, Gaps, Room, TrailFlaw
from sealgate.audit.reading.trail_lines import TrailRecord, number_at, text_at, value_at
from sealgate.audit.records import Actor, Certified, Phase
from sealgate.call import Operation

_SAVES = {Operation.SAVE.value, Operation.SAVE_STREAM.value}
_MOST_POLICIES = 64
_LONGEST_NAME = 64
_LONGEST_SHOWN = 1025
"""Characters of a name in a record, at most."""
_WAITS = 32
"""How many of the small things a record is as large as."""
_SHORTEST_CLIP = 24
"""Characters that a record shows of a name that is too long for it, at least."""


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
    actor: Actor | None = None
    """Of the certificate; of the first record that names one, if nobody vouches for the chain."""
    policies: set[str] = field(default_factory=set)
    unfinished: int = 0
    """Attempts without an outcome: the process ended in between, or the records are gone."""


@dataclass(slots=True)
class Wanted:
    """A record that something outside of the trail names: the attempt that wrote it."""

    what: str
    chain: str
    sequence: int
    place: str = ""
    key: str = ""
    """The artifact's, as the record has it."""
    saves: bool = False
    signed: bool = False

    def is_there(self, found: TrailRecord) -> None:
        """Note the record."""
        self.place, self.key = found.line.place, text_at(found.record, "resource", "uid")
        self.saves = found.phase == Phase.ATTEMPT and text_at(found.record, "api", "operation") in _SAVES

    def flaws(self, *, allow_unsigned: bool) -> Iterator[TrailFlaw]:
        """At the end: what it is not."""
        which = f"record {self.sequence}, which {self.what} names,"
        if not self.place:
            yield TrailFlaw(FlawKind.REMOVED, "", self.chain, f"{which} is not there")
        elif not self.saves:
            yield TrailFlaw(FlawKind.FORGED, self.place, self.chain, f"{which} is no attempt to save")
        elif not self.signed and not allow_unsigned:
            yield TrailFlaw(FlawKind.FORGED, self.place, self.chain, f"{which} has no good signature")


class _Signed(NamedTuple):
    """What a signature is checked with."""

    place: str
    sequence: int
    previous: str
    fingerprint: str
    signature: str
    actor: Actor | None


class Links:
    """One chain while it is read."""

    def __init__(
        self, uid: str, trusted: Collection[bytes], wanted: Mapping[int, Sequence[Wanted]], room: Room
    ) -> None:
        self.facts = ChainFacts(uid)
        self.next = 0
        """The sequence that comes next."""
        self._trusted = trusted
        self._wanted = wanted
        self._room = room
        self._last_fingerprint = ""
        self._last_in_order = False
        self._missing = Gaps(room)
        self._key: Ed25519PublicKey | None = None
        self._certified: Actor | None = None
        self._begun = False
        self._unsigned_because = "its first record, with the certificate, is not there"
        self._forged = False
        self._waiting: list[_Signed] = []
        """Records that came before the certificate, to be checked once it is there."""
        self._not_waiting = 0
        """Those there was no room for."""
        self._doubtful: dict[int, _Signed] = {}
        """Records whose signature is not good."""
        self._open: set[str] = set()
        self._end = -1

    def add(self, found: TrailRecord) -> list[TrailFlaw]:
        """Take the next record that was read."""
        facts = self.facts
        facts.records += 1
        moment = number_at(found.record, "time")
        facts.first = min(facts.first or moment, moment)
        facts.last = max(facts.last, moment)
        for wanted in self._wanted.get(found.sequence, ()):
            wanted.is_there(found)
        findings = self._ordered(found)
        if found.phase == Phase.START and found.sequence == 0 and not self._begun:
            findings += self._begin(found)
        signed = _Signed(
            found.line.place, found.sequence, found.previous, found.fingerprint, found.signature, _actor(found)
        )
        if self._begun:
            findings += self._signed(signed)
        elif self._room.taken(_WAITS):
            self._waiting.append(signed)
        else:
            self._not_waiting += 1
        self._note(found, signed.actor)
        return findings

    def passed_over(self, sequence: int) -> None:
        """An altered record is not missing as well; what it says of its place is believed only for the next one."""
        if sequence == self.next:
            self.next += 1
            self._last_in_order = False

    def end(self, *, allow_unsigned: bool, expect_closed: bool) -> Iterator[TrailFlaw]:
        """What is wrong with it as a whole."""
        facts, uid = self.facts, self.facts.uid
        facts.closed = self._end >= 0 and self._end == self.next - 1
        facts.unfinished += len(self._open)
        for found in self._doubtful.values():
            yield self._not_signed(found)
        for first, last in self._missing:
            yield self._removed(first, last)
        if self._key is None and not self._forged and not allow_unsigned:
            yield TrailFlaw(FlawKind.UNSIGNED, "", uid, f"nobody vouches for it: {self._unsigned_because}")
        if expect_closed and not facts.closed:
            yield TrailFlaw(FlawKind.OPEN, "", uid, "it does not say that it has ended")

    def _note(self, found: TrailRecord, actor: Actor | None) -> None:
        identifier = text_at(found.record, "metadata", "correlation_uid")[:_LONGEST_NAME]
        if found.phase == Phase.ATTEMPT and identifier not in self._open:
            if self._room.taken():
                self._open.add(identifier)
            else:
                self.facts.unfinished += 1
        elif found.phase == Phase.OUTCOME and identifier in self._open:
            self._open.remove(identifier)
            self._room.given_back()
        elif found.phase == Phase.END:
            self._end = found.sequence
        digest = text_at(found.record, "policy", "uid")[:_LONGEST_NAME]
        if digest and len(self.facts.policies) < _MOST_POLICIES:
            self.facts.policies.add(digest)
        if self._certified is not None:
            self.facts.actor = self._certified
        elif self.facts.actor is None and actor is not None:
            self.facts.actor = msgspec.convert(_clipped(msgspec.to_builtins(actor)), Actor)

    def _finding(self, flaw: FlawKind, found: _Signed, what: str) -> TrailFlaw:
        return TrailFlaw(flaw, found.place, self.facts.uid, f"record {found.sequence} {what}")

    # --- order --------------------------------------------------------------------------------------------

    def _ordered(self, found: TrailRecord) -> list[TrailFlaw]:
        sequence, place, uid = found.sequence, found.line.place, self.facts.uid
        if sequence < self.next:
            if not self._missing.close(sequence):
                return [TrailFlaw(FlawKind.REPEATED, place, uid, f"record {sequence} is there twice")]
            return [TrailFlaw(FlawKind.REORDERED, place, uid, f"record {sequence} comes after record {self.next - 1}")]
        findings = []
        in_order = sequence == self.next
        if not in_order and not self._missing.add(self.next, sequence - 1):
            findings.append(self._removed(self.next, sequence - 1))
        follows = found.previous == self._last_fingerprint
        if in_order and (self._last_in_order or sequence == 0) and not follows:
            findings.append(
                TrailFlaw(FlawKind.FORGED, place, uid, f"record {sequence} does not follow the one before it")
            )
        self.next, self._last_fingerprint, self._last_in_order = sequence + 1, found.fingerprint, True
        return findings

    def _removed(self, first: int, last: int) -> TrailFlaw:
        text = f"record {first} is missing" if first == last else f"records {first} to {last} are missing"
        return TrailFlaw(FlawKind.REMOVED, "", self.facts.uid, text)

    # --- signatures ---------------------------------------------------------------------------------------

    def _begin(self, found: TrailRecord) -> list[TrailFlaw]:
        self._begun = True
        waiting, self._waiting = self._waiting, []
        self._room.given_back(_WAITS * len(waiting))
        written = value_at(found.record, "unmapped", "session", "certified")
        if written is None:
            reason = text_at(found.record, "unmapped", "session", "reason")[:_LONGEST_NAME]
            self._unsigned_because = reason or "it has no certificate"
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
        self._key, self._certified = key, certified.certificate.actor
        self.facts.certified_by = f"{certified.key} version {certified.key_version}"
        findings = [finding for earlier in waiting for finding in self._signed(earlier)]
        if self._not_waiting:
            unseen = f"the signatures of {self._not_waiting} records before the certificate were not looked at"
            findings.append(TrailFlaw(FlawKind.UNREAD, found.line.place, self.facts.uid, unseen))
        return findings

    def _not_certified(self, found: TrailRecord, why: str) -> list[TrailFlaw]:
        self._forged = True
        return [TrailFlaw(FlawKind.FORGED, found.line.place, self.facts.uid, why)]

    def _signed(self, found: _Signed) -> list[TrailFlaw]:
        if self._key is None or self._certified is None:
            return []
        findings = []
        if not _is_the_same(found.actor, self._certified):
            findings.append(
                self._finding(FlawKind.FORGED, found, "names another actor than the certificate of its chain")
            )
        if not _is_signed(self._key, _decoded(found.signature), RECORD_LABEL + bytes.fromhex(found.fingerprint)):
            return findings + self._doubt(found)
        for wanted in self._wanted.get(found.sequence, ()):
            wanted.signed = True
        before = self._doubtful.get(found.sequence - 1)
        if before is not None and before.fingerprint == found.previous:
            # This record vouches for its content: only its signature was touched.
            del self._doubtful[before.sequence]
            self._room.given_back()
            why = f"the signature of record {before.sequence} is not what was written"
            findings.append(TrailFlaw(FlawKind.ALTERED, before.place, self.facts.uid, why))
        return findings

    def _doubt(self, found: _Signed) -> list[TrailFlaw]:
        if found.sequence in self._doubtful or not self._room.taken():
            return [self._not_signed(found)]
        self._doubtful[found.sequence] = found
        return []

    def _not_signed(self, found: _Signed) -> TrailFlaw:
        return self._finding(FlawKind.FORGED, found, "is not signed by the key of its chain")


def _actor(found: TrailRecord) -> Actor | None:
    try:
        actor = msgspec.convert(found.record.get("actor"), Actor)
    except msgspec.ValidationError:
        return None
    return actor if all(len(name) <= _LONGEST_SHOWN for name in _names(actor)) else None


def _names(actor: Actor) -> tuple[str, ...]:
    return msgspec.structs.astuple(actor)[1:]


def _clipped(names: dict[str, object]) -> dict[str, object]:
    return {name: text[:_LONGEST_NAME] if isinstance(text, str) else text for name, text in names.items()}


def _is_the_same(shown: Actor | None, certified: Actor) -> bool:
    """Whether a record names whom the certificate names, each as far as it has room for the names."""
    if shown is None or shown.attested != certified.attested:
        return False
    return all(map(_begins_the_same, _names(shown), _names(certified)))


def _begins_the_same(one: str, other: str) -> bool:
    pairs = ((one, other), (other, one))
    return one == other or any(
        short.endswith("…") and len(short) > _SHORTEST_CLIP and long.startswith(short[:-1]) for short, long in pairs
    )


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
