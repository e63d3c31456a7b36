"""Numbers with their nouns."""

from __future__ import annotations

import pytest

from sealgate.cli.counting import counted


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ((0, "case"), "0 cases"),
        ((1, "case"), "1 case"),
        ((2, "case"), "2 cases"),
        ((2, "access", "accesses"), "2 accesses"),
    ],
)
def test_one_thing_has_a_singular(given, shown):
    assert counted(*given) == shown
