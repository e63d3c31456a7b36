"""Whether a trail is as it was written: no record altered, removed, reordered or forged (docs/audit.md)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sealgate.audit.reading.chain_state import ChainFacts, ChainState, ExpectedRecord
from sealgate.audit.reading.flaws import FlawKind, ItemBudget, Places, TrailFlaw, TrailFlaws
from sealgate.audit.reading.trail_lines import MARK, TrailLine, claimed_place, parse_record

_MOST_CHAINS = 100_000
_MOST_HELD = 200_000
"""Items that all chains together keep: gaps, records before their certificate, attempts without an outcome."""


@dataclass(slots=True)
class VerificationResult:
    """The result of the verification of a trail."""

    chains: list[ChainFacts]
    findings: TrailFlaws
    cut_short: Places
    """Incomplete lines, as a full disk leaves them, each of which a later record replaces. They are no flaw."""
    cut_off: Places
    """Incomplete last lines of files. Each may have held a record; they are no flaw."""
    not_readable: Places
    """Lines that hold a record in a form that is not known here, so that nothing can be said about the trail."""
    objects: list[ExpectedRecord]
    """The records that stored objects name and that are in the trail."""

    @property
    def good(self) -> bool:
        """Whether the trail has records and no flaws, and every line was read."""
        return bool(self.chains) and not self.findings and not self.not_readable.count

    @property
    def unsigned(self) -> int:
        """The number of chains without a certificate. Such a chain can have no flaw and still be made up."""
        return sum(not chain.certified_by for chain in self.chains)

    @property
    def empty(self) -> bool:
        """Whether the trail holds no record, not even a damaged one."""
        return not self.chains and not self.findings


def verify(
    trail: Iterable[TrailLine],
    trusted: Collection[bytes],
    *,
    allow_unsigned: bool = False,
    expect_closed: bool = False,
    anchors: Sequence[ExpectedRecord] = (),
) -> VerificationResult:
    """Check every line of a trail.

    Args:
        trail: the lines, in the order of their files.
        trusted: public keys of certifying keys, 32 bytes each.
        allow_unsigned: accept chains without a certificate.
        expect_closed: report chains without a closing record.
        anchors: the attempts that stored objects name. Several files of a directory can name the same one.
    """
    verification = _Verification(trusted, anchors)
    for line in trail:
        verification.add(line)
    return verification.result(allow_unsigned=allow_unsigned, expect_closed=expect_closed)


class _Verification:
    """The state of all chains while a trail is read."""

    def __init__(self, trusted: Collection[bytes], anchors: Sequence[ExpectedRecord]) -> None:
        self._trusted = trusted
        self._anchors = anchors
        self._expected: defaultdict[str, defaultdict[int, list[ExpectedRecord]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for expected in anchors:
            self._expected[expected.chain][expected.sequence].append(expected)
        self._budget = ItemBudget(_MOST_HELD)
        self._chains: dict[str, ChainState] = {}
        self._last_chain = ""
        self._findings = TrailFlaws()
        self._cut_short, self._cut_off, self._not_readable = Places(), Places(), Places()
        self._incomplete: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
        """Places of incomplete lines, by chain and sequence of the record that must replace them."""

    def add(self, line: TrailLine) -> None:
        if not line.readable:
            self._not_readable.add([line.place])
            return
        record = parse_record(line)
        if record is None and line.text.startswith(MARK) and not line.text.endswith(b"}"):
            self._add_incomplete(line)
        elif record is None or not record.intact:
            uid, sequence = (record.chain[:32], record.sequence) if record else claimed_place(line)
            self._findings.add([TrailFlaw(FlawKind.ALTERED, line.place, uid, "the record was changed or is damaged")])
            if chain := self._chain(uid):
                chain.skip_altered(sequence)
        elif chain := self._chain(record.chain):
            self._last_chain = record.chain
            self._findings.add(chain.add(record))
            self._replace_incomplete(record.chain, record.sequence)
        else:
            text = f"there are more than {_MOST_CHAINS} chains: verify the files one by one"
            self._findings.add([TrailFlaw(FlawKind.UNREAD, line.place, record.chain, text)])

    def _chain(self, uid: str) -> ChainState | None:
        """Return the state of a chain, which is created if necessary; None if there are too many chains."""
        chain = self._chains.get(uid)
        if chain is None and len(self._chains) < _MOST_CHAINS:
            chain = ChainState(uid, self._trusted, self._expected.get(uid, {}), self._budget)
            self._chains[uid] = chain
        return chain

    # --- incomplete lines ---------------------------------------------------------------------------------

    def _add_incomplete(self, line: TrailLine) -> None:
        if not line.ended:
            self._cut_off.add([line.place])
        elif self._budget.reserve():
            self._incomplete[self._replacement(line)].append(line.place)
        else:
            self._findings.add([_not_replaced(line.place)])

    def _replacement(self, line: TrailLine) -> tuple[str, int]:
        """Return chain and sequence of the record that must replace an incomplete line.

        What the line does not show is assumed: the chain that was written to last, and its next record.
        """
        uid, sequence = claimed_place(line)
        chain = self._chains.get(uid or self._last_chain)
        if chain is None:
            # If the first record of a process is not written, the process starts another chain.
            return "", 0
        return chain.facts.uid, chain.next if sequence < 0 else sequence

    def _replace_incomplete(self, uid: str, sequence: int) -> None:
        for key in {(uid, sequence), ("", sequence)} & self._incomplete.keys():
            places = self._incomplete.pop(key)
            self._budget.release(len(places))
            self._cut_short.add(places)

    # --- the end ------------------------------------------------------------------------------------------

    def result(self, *, allow_unsigned: bool, expect_closed: bool) -> VerificationResult:
        for places in self._incomplete.values():
            self._findings.add(map(_not_replaced, places))
        chains = [chain for chain in self._chains.values() if chain.facts.records]
        for chain in chains:
            self._findings.add(chain.end(allow_unsigned=allow_unsigned, expect_closed=expect_closed))
        self._findings.add(flaw for expected in self._anchors for flaw in expected.flaws(allow_unsigned=allow_unsigned))
        present = [expected for expected in self._anchors if expected.place]
        facts = [chain.facts for chain in chains]
        return VerificationResult(facts, self._findings, self._cut_short, self._cut_off, self._not_readable, present)


def _not_replaced(place: str) -> TrailFlaw:
    return TrailFlaw(FlawKind.ALTERED, place, "", "the record is incomplete, and no later record replaces it")
