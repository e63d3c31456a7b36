"""Sizes, ages and times as people read them."""

from __future__ import annotations

import pytest

from sealgate.policy import readable

KIB, GIB, DAY = 1 << 10, 1 << 30, 86_400


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, ""), (1023, ""), (KIB, " (1 KiB)"), (1536, " (1.5 KiB)"), (5 * GIB, " (5 GiB)"), (5 * GIB + 1, " (5.0 GiB)"),
     (1 << 50, " (1024 TiB)")],
)  # fmt: skip
def test_a_size_is_shown_in_the_largest_unit_beside_its_bytes(size, text):
    assert readable.size_beside(size) == text


@pytest.mark.parametrize(
    ("age", "text"),
    [(0, ""), (119, ""), (120, "2 minutes"), (DAY, "24 hours"), (36 * 3600, "36 hours"), (2 * DAY, "2 days"),
     (30 * DAY, "30 days"), (60 * DAY + 1, "60.0 days"), (59 * 60 + 30, "59.5 minutes")],
)  # fmt: skip
def test_an_age_is_shown_in_the_largest_unit_of_which_it_has_two(age, text):
    assert readable.age(age) == (text or f"{age} s")
    assert readable.age_beside(age) == (f" ({text})" if text else "")


def test_a_time_is_shown_as_policies_write_it():
    assert readable.time(1_796_148_000) == "2026-12-01T18:00:00Z"
