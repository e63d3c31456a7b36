"""Sizes and offsets of segments."""

from __future__ import annotations

import pytest
from harness.sealing import FIRST, FULL
from hypothesis import example, given
from hypothesis import strategies as st

from sealgate.envelope import plaintext_size, stored_size
from sealgate.envelope.segments import SEGMENT, STREAM_HEADER, TAG, plaintext_span, segment_count, stored_offset
from sealgate.errors import Truncated

SIZE = st.one_of(
    st.integers(0, 1 << 45),
    st.builds(lambda segments, off: max(0, FIRST + segments * FULL + off), st.integers(0, 99), st.integers(-20, 20)),
)


@given(SIZE)
@example(0)
def test_the_size_of_the_plaintext_follows_from_the_stored_size_alone(size):
    assert plaintext_size(stored_size(size)) == size


@given(SIZE)
def test_no_two_plaintext_sizes_are_stored_in_the_same_size(size):
    assert stored_size(size) < stored_size(size + 1)


@given(st.integers(0, 1 << 24))
def test_a_stored_size_is_that_of_one_plaintext_or_of_none(stored):
    try:
        size = plaintext_size(stored)
    except Truncated:
        rest = stored % SEGMENT
        assert stored < STREAM_HEADER + TAG or 1 <= rest <= TAG
    else:
        assert stored_size(size) == stored


@pytest.mark.parametrize("stored", [0, 1, 39, 40, 55, SEGMENT + 1, SEGMENT + TAG, 5 * SEGMENT + 1, 5 * SEGMENT + TAG])
def test_a_size_that_no_body_has_is_refused(stored):
    with pytest.raises(Truncated):
        plaintext_size(stored)


@given(st.integers(0, 100 * SEGMENT))
def test_segments_follow_each_other_without_a_gap(size):
    count, stored = segment_count(size), STREAM_HEADER
    at = 0
    for index in range(count):
        offset, length = plaintext_span(index, size)
        assert (offset, stored_offset(index)) == (at, stored)
        assert length > 0 or size == 0
        at, stored = at + length, stored + length + TAG
        assert stored <= (index + 1) * SEGMENT
    assert (at, stored) == (size, stored_size(size))
