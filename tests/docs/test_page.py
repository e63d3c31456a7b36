"""The table of a page that tests write."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.page import Table

NAMES = [f"fault {number}" for number in range(20)]
PAGE = "# Title\n\n| fault | text |\n| --- | --- |\n| fault 3 | old |\n| gone | old |\n\nEnd.\n"


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_rows_of_concurrent_writers_are_kept_in_the_order_of_the_names(page):
    def write(name):
        Table(page, NAMES).replace(name, [[f"text of {name}"], [""]])
        return Table(page, NAMES).rows(name)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(write, reversed(NAMES))) == [[[f"text of {name}"], [""]] for name in reversed(NAMES)]
    assert Table(page, NAMES).names() == NAMES
    assert page.read_text().startswith("# Title\n\n| fault | text |\n| --- | --- |\n| fault 0 | text of fault 0 |\n")
    assert page.read_text().endswith("| fault 19 | text of fault 19 |\n| fault 19 |  |\n\nEnd.\n")


def test_writing_the_same_rows_again_changes_nothing(page):
    Table(page, NAMES).replace("fault 3", [["new"]])
    once = page.read_text()
    Table(page, NAMES).replace("fault 3", [["new"]])
    assert page.read_text() == once == PAGE.replace("old |\n| gone | old", "new")
