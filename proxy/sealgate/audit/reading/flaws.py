"""How flaws of a trail are collected in limited memory, since an attacker may have written the trail."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

_MOST_LISTED = 1000


class FlawKind(StrEnum):
    """The findings of `sealgate audit verify` (docs/audit.md, "Verify it")."""

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
    """One flaw of a trail."""

    flaw: FlawKind
    place: str
    """File and line number; empty if the flaw has no line."""
    chain: str
    text: str


class TrailFlaws:
    """Counts all flaws and keeps the first 1,000."""

    def __init__(self) -> None:
        self.listed: list[TrailFlaw] = []
        self.counts: Counter[FlawKind] = Counter()

    def add(self, flaws: Iterable[TrailFlaw]) -> None:
        """Count the flaws, and keep them while there is room."""
        for flaw in flaws:
            self.counts[flaw.flaw] += 1
            if len(self.listed) < _MOST_LISTED:
                self.listed.append(flaw)

    def __len__(self) -> int:
        """Return the number of all flaws, kept or not."""
        return self.counts.total()

    def __iter__(self) -> Iterator[TrailFlaw]:
        """Iterate over the flaws that were kept."""
        return iter(self.listed)

    @property
    def more(self) -> int:
        """The number of flaws that were not kept."""
        return len(self) - len(self.listed)


class Places:
    """Counts all places of one kind (file and line number) and keeps the first 1,000."""

    def __init__(self) -> None:
        self.listed: list[str] = []
        self.count = 0

    def add(self, places: Iterable[str]) -> None:
        """Count the places, and keep them while there is room."""
        for place in places:
            self.count += 1
            if len(self.listed) < _MOST_LISTED:
                self.listed.append(place)


class ItemBudget:
    """Limits how many small items all chains of a trail together keep in memory.

    Args:
        free: the number of items.
    """

    def __init__(self, free: int) -> None:
        self._free = free

    def reserve(self, count: int = 1) -> bool:
        """Reserve room for `count` items. Return False, and reserve nothing, if there is less."""
        fits = self._free >= count
        self._free -= count * fits
        return fits

    def release(self, count: int = 1) -> None:
        """Return the room of `count` items."""
        self._free += count


class Gaps:
    """The sequence numbers of a chain that are missing so far, as ranges in ascending order."""

    def __init__(self, budget: ItemBudget) -> None:
        self._budget = budget
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def add(self, first: int, last: int) -> bool:
        """Add a range above all others. Return False if the budget is used up."""
        if not self._budget.reserve():
            return False
        self._firsts.append(first)
        self._lasts.append(last)
        return True

    def close(self, sequence: int) -> bool:
        """Remove the number of a record that came late. Return False if it was not missing."""
        index = bisect_right(self._firsts, sequence) - 1
        if index < 0 or self._lasts[index] < sequence:
            return False
        first, last = self._firsts[index], self._lasts[index]
        left = [(first, sequence - 1)] if first < sequence else []
        left += [(sequence + 1, last)] if sequence < last else []
        if not left:
            self._budget.release()
        elif len(left) > 1 and not self._budget.reserve():
            # One range is lost. The trail fails anyway, because this record was out of order.
            del left[0]
        self._firsts[index : index + 1] = [begin for begin, _ in left]
        self._lasts[index : index + 1] = [end for _, end in left]
        return True

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Iterate over the first and the last number of each range."""
        return zip(self._firsts, self._lasts, strict=True)
