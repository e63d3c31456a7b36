"""docs/doctor.md, "Faults and their remedies": each row is what `sealgate doctor` reports in that state."""

from __future__ import annotations

import pytest
from harness.chain import TESTS
from harness.doctor import doctor_at
from harness.doctor_faults import FAULTS, Scene, rows, start_tls_server
from harness.openbao import OpenBao
from harness.page import Table

TABLE = Table(TESTS.parent / "docs/doctor.md", list(FAULTS), below="## Faults and their remedies")


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    home = tmp_path_factory.mktemp("tls")
    server = OpenBao(home / "home")
    try:
        yield start_tls_server(server, home)
    finally:
        server.stop()


@pytest.mark.parametrize("name", FAULTS)
def test_the_report_on_a_broken_state_is_the_row_of_the_page(name, tls, openbao, transit, tmp_path, request):
    with doctor_at(tmp_path) as doctor:
        found = rows(Scene(doctor, openbao, transit, tls), name)
    TABLE.hold(name, found, write=request.config.getoption("write_docs"))


def test_the_page_has_these_states_and_no_others(request):
    if request.config.getoption("write_docs"):
        pytest.skip("the page is being written")
    assert TABLE.names() == list(FAULTS)
