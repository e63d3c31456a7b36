"""What is wrong with a trail, kept in bounded memory: who wrote the trail may have meant to exhaust it."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

_MOST_LISTED = 1000


class FlawKind(StrEnum):
    """What is wrong with a trail."""

    ALTERED = "altered"
    REMOVED = "removed"
    REORDERED = "reordered"
    REPEATED = "repeated"
    FORGED = "forged"
    UNSIGNED = "unsigned"
    OPEN = "open"
    UNREAD = "unread"


@dataclass(frozen=True, slots=True)
class TrailFlaw:
    """One flaw, and where."""

    flaw: FlawKind
    place: str
    """File and line, or empty where there is no line."""
    chain: str
    text: str


class TrailFlaws:
    """All of them are counted, the first ones are kept."""

    def __init__(self) -> None:
        self.listed: list[TrailFlaw] = []
        self.counts: Counter[FlawKind] = Counter()

    def add(self, found: Iterable[TrailFlaw]) -> None:
        """Take more of them."""
        for finding in found:
            self.counts[finding.flaw] += 1
            if len(self.listed) < _MOST_LISTED:
                self.listed.append(finding)

    def __len__(self) -> int:
        """How many there are, listed or not."""
        return self.counts.total()

    def __iter__(self) -> Iterator[TrailFlaw]:
        """Those that were kept."""
        return iter(self.listed)

    @property
    def more(self) -> int:
        """How many are not listed."""
        return len(self) - len(self.listed)


class Places:
    """Places to be noted: all counted, the first ones kept."""

    def __init__(self) -> None:
        self.listed: list[str] = []
        self.count = 0

    def add(self, places: Iterable[str]) -> None:
        """Take more of them."""
        for place in places:
            self.count += 1
            if len(self.listed) < _MOST_LISTED:
                self.listed.append(place)


class Room:
    """How many small things may be held for later, by all chains together."""

    def __init__(self, left: int) -> None:
        self._left = left

    def taken(self, count: int = 1) -> bool:
        """Take places, if there are as many."""
        free = self._left >= count
        self._left -= count * free
        return free

    def given_back(self, count: int = 1) -> None:
        """Let go of places."""
        self._left += count


class Gaps:
    """Which sequences of a chain have not come, as ranges in their order."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def add(self, first: int, last: int) -> bool:
        """Note a range above all others; False if there is no room for it."""
        if not self._room.taken():
            return False
        self._firsts.append(first)
        self._lasts.append(last)
        return True

    def close(self, sequence: int) -> bool:
        """Take a sequence that came late out of them; False if it was in none."""
        place = bisect_right(self._firsts, sequence) - 1
        if place < 0 or self._lasts[place] < sequence:
            return False
        first, last = self._firsts[place], self._lasts[place]
        left = [(first, sequence - 1)] if first < sequence else []
        left += [(sequence + 1, last)] if sequence < last else []
        if not left:
            self._room.given_back()
        elif len(left) > 1 and not self._room.taken():
            # The trail is not good in any case: this record was out of order.
            del left[0]
        self._firsts[place : place + 1] = [begin for begin, _ in left]
        self._lasts[place : place + 1] = [end for _, end in left]
        return True

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """First and last of each."""
        return zip(self._firsts, self._lasts, strict=True)
