"""Whether a trail is what was written: nothing altered, removed, put in another order or forged (docs/audit.md)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sealgate.audit.reading.chain_state import ChainFacts, Links, Wanted
from sealgate.audit.reading.flaws import FlawKind, Places, Room, TrailFlaw, TrailFlaws
from sealgate.audit.reading.trail_lines import MARK, TrailLine, claimed_place, entry

_MOST_CHAINS = 100_000
_MOST_HELD = 200_000
"""Gaps, records before their certificate, attempts without an outcome: of all chains together."""


@dataclass(slots=True)
class VerificationResult:
    """What was found."""

    chains: list[ChainFacts]
    findings: TrailFlaws
    cut_short: Places
    """Lines that were begun and not finished, as a full disk leaves them; a later record takes the place of each."""
    cut_off: Places
    """Files that end within a line: whether a record was there cannot be told."""
    objects: list[Wanted]
    """The records that something outside of the trail names, and which were found."""

    @property
    def good(self) -> bool:
        """Whether there are records, and nothing is wrong with them."""
        return bool(self.chains) and not self.findings

    @property
    def unsigned(self) -> int:
        """How many chains nobody vouches for: anybody can have made them, whole and without a flaw."""
        return sum(not chain.certified_by for chain in self.chains)

    @property
    def empty(self) -> bool:
        """Whether there was nothing to look at."""
        return not self.chains and not self.findings


def verify(
    trail: Iterable[TrailLine],
    trusted: Collection[bytes],
    *,
    allow_unsigned: bool = False,
    expect_closed: bool = False,
    anchors: Sequence[Wanted] = (),
) -> VerificationResult:
    """Look at every line of a trail.

    Args:
        trail: the lines, in the order of their files.
        trusted: public halves of certifying keys, 32 bytes each.
        allow_unsigned: a chain that nobody vouches for is no flaw.
        expect_closed: a chain that does not say that it has ended is one.
        anchors: attempts to save that must be there; several files of a directory can name one.
    """
    work = _Verification(trusted, anchors)
    for line in trail:
        work.look_at(line)
    return work.verdict(allow_unsigned=allow_unsigned, expect_closed=expect_closed)


class _Verification:
    """The chains as far as they were read."""

    def __init__(self, trusted: Collection[bytes], anchors: Sequence[Wanted]) -> None:
        self._trusted = trusted
        self._anchors = anchors
        self._wanted: defaultdict[str, defaultdict[int, list[Wanted]]] = defaultdict(lambda: defaultdict(list))
        for wanted in anchors:
            self._wanted[wanted.chain][wanted.sequence].append(wanted)
        self._room = Room(_MOST_HELD)
        self._chains: dict[str, Links] = {}
        self._last_chain = ""
        self._findings = TrailFlaws()
        self._cut_short, self._cut_off = Places(), Places()
        self._torn: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
        """Where lines break off, by the record that must come for each."""

    def look_at(self, line: TrailLine) -> None:
        found = entry(line)
        if found is None and line.text.startswith(MARK) and not line.text.endswith(b"}"):
            self._breaks_off(line)
        elif found is None or not found.intact:
            uid, sequence = (found.chain[:32], found.sequence) if found else claimed_place(line)
            self._findings.add([TrailFlaw(FlawKind.ALTERED, line.place, uid, "the record is not what was written")])
            if links := self._chain(uid):
                links.passed_over(sequence)
        elif links := self._chain(found.chain):
            self._last_chain = found.chain
            self._findings.add(links.add(found))
            self._takes_the_place(found.chain, found.sequence)
        else:
            text = f"there are more than {_MOST_CHAINS} chains: verify the files one by one"
            self._findings.add([TrailFlaw(FlawKind.UNREAD, line.place, found.chain, text)])

    def _chain(self, uid: str) -> Links | None:
        """The chain, begun if need be; None if there are too many."""
        links = self._chains.get(uid)
        if links is None and len(self._chains) < _MOST_CHAINS:
            links = Links(uid, self._trusted, self._wanted.get(uid, {}), self._room)
            self._chains[uid] = links
        return links

    # --- lines that break off -----------------------------------------------------------------------------

    def _breaks_off(self, line: TrailLine) -> None:
        if not line.ended:
            self._cut_off.add([line.place])
        elif self._room.taken():
            self._torn[self._place_of(line)].append(line.place)
        else:
            self._findings.add([_broken(line.place)])

    def _place_of(self, line: TrailLine) -> tuple[str, int]:
        """Which record has to come for it. What it does not tell is taken from what was written last."""
        uid, sequence = claimed_place(line)
        links = self._chains.get(uid or self._last_chain)
        if links is None:
            # A process whose first record was not taken begins another chain.
            return "", 0
        return links.facts.uid, links.next if sequence < 0 else sequence

    def _takes_the_place(self, uid: str, sequence: int) -> None:
        for place in {(uid, sequence), ("", sequence)} & self._torn.keys():
            places = self._torn.pop(place)
            self._room.given_back(len(places))
            self._cut_short.add(places)

    # --- the end ------------------------------------------------------------------------------------------

    def verdict(self, *, allow_unsigned: bool, expect_closed: bool) -> VerificationResult:
        for places in self._torn.values():
            self._findings.add(map(_broken, places))
        chains = [links for links in self._chains.values() if links.facts.records]
        for links in chains:
            self._findings.add(links.end(allow_unsigned=allow_unsigned, expect_closed=expect_closed))
        self._findings.add(finding for one in self._anchors for finding in one.flaws(allow_unsigned=allow_unsigned))
        found = [one for one in self._anchors if one.place]
        facts = [links.facts for links in chains]
        return VerificationResult(facts, self._findings, self._cut_short, self._cut_off, found)


def _broken(place: str) -> TrailFlaw:
    return TrailFlaw(FlawKind.ALTERED, place, "", "the record breaks off, and no later one takes its place")
