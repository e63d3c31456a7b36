"""The memory that a hostile trail can use is limited."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sealgate.audit.reading.flaws import Gaps, ItemBudget


def test_gaps_are_closed_fast_in_the_worst_order():
    gaps = Gaps(ItemBudget(10_000))
    for first in range(0, 20_000, 2):
        assert gaps.add(first, first)
    assert not gaps.add(20_000, 20_000), "the budget is used up"
    assert not gaps.close(1)
    assert all(gaps.close(first) for first in reversed(range(0, 20_000, 2)))
    assert list(gaps) == []


@given(st.lists(st.integers(0, 40), max_size=60))
def test_gaps_are_the_ranges_that_remain(closed):
    gaps, left = Gaps(ItemBudget(100)), set(range(3, 11)) | set(range(20, 35))
    gaps.add(3, 10)
    gaps.add(20, 34)
    for sequence in closed:
        assert gaps.close(sequence) == (sequence in left)
        left.discard(sequence)
    assert {sequence for first, last in gaps for sequence in range(first, last + 1)} == left
