"""Texts of other programs in a report: without what may be a secret of an artifact's author."""

from __future__ import annotations

import pytest

from sealgate.cli.foreign_text import shown
from sealgate.rpc.child_output import words_of


def test_a_secret_that_begins_with_another_is_removed_whole():
    configuration = "user: tenant-one\nkey: tenant-one-4f8Zq\n"
    assert shown("login tenant-one-4f8Zq by tenant-one failed", words_of(configuration)) == "login … by … failed"


@pytest.mark.parametrize("printed", ["p\u00e4sswort-4f8Zq", "sswort-4f8Zq"])
def test_a_secret_is_removed_also_where_its_foreign_letters_are_left_out(printed):
    assert "4f8Zq" not in shown(f"login with {printed} failed", words_of("key: p\u00e4sswort-4f8Zq"))
