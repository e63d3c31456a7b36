"""Argo's operations through the proxy's socket, with keys of a real server."""

from __future__ import annotations

import pytest
from harness import vault_logins as logins
from harness.chain import Proxy, eventually
from harness.content import blob
from harness.outcome import assert_own_line, outcome

DATA = blob((2 << 20) + 5)


@pytest.fixture
def login(own_transit, tmp_path):
    return logins.approle(own_transit, tmp_path, own_transit.shipped_policies("saver", "loader"))


@pytest.fixture
def start(openbao, own_transit, login, tmp_path):
    """Start a proxy whose data keys come from the server, with a short timeout for Vault."""
    started = []

    def start(**keys):
        auth = {
            "method": "approle",
            "roleId": login.role_id,
            "secretIdFile": str(login.secret_id_file),
            "mount": login.mount,
        }
        vault = {"mount": own_transit.mount, "auth": auth, "timeout": "1s"}
        home = tmp_path / f"proxy-{len(started)}"
        home.mkdir()
        proxy = Proxy(
            home,
            settings={"keys": {"provider": "vault", "vault": vault, **keys}},
            environment={"VAULT_ADDR": openbao.address},
        )
        started.append(proxy)
        return proxy.start()

    yield start
    for proxy in started:
        proxy.stop()


@pytest.fixture
def asked(openbao, own_transit, login):
    """Count the requests since the last call in the server's audit log, without this test's mounts in their paths."""
    seen = openbao.calls()

    def asked():
        nonlocal seen
        before, seen = seen, openbao.calls()
        return {
            path.removeprefix(start): number
            for path, number in (seen - before).items()
            for start in (f"auth/{login.mount}/", f"{own_transit.mount}/")
            if path.startswith(start)
        }

    return asked


def write(proxy, files):
    tree = proxy.work / "tree"
    tree.mkdir()
    for number in range(files):
        (tree / f"{number}").write_bytes(b"x")
    return tree


MAKE, OPEN = "datakey/plaintext/artifacts", "decrypt/artifacts"


def test_each_save_and_each_first_read_of_an_artifact_is_one_request(start, asked):
    proxy = start()
    argo = proxy.argo()
    single = proxy.work / "single"
    single.write_bytes(DATA)
    argo.save("ns/file", single)
    assert asked() == {"login": 1, MAKE: 1}
    argo.save_stream("ns/stream", DATA)
    assert asked() == {MAKE: 1}
    argo.load("ns/file", proxy.work / "loaded")
    assert asked() == {OPEN: 1}
    argo.load("ns/file", proxy.work / "loaded-again")
    assert argo.open_stream("ns/file") == DATA
    assert asked() == {}
    assert argo.open_stream("ns/stream") == DATA
    assert asked() == {OPEN: 1}
    assert argo.open_stream("ns/stream") == DATA
    argo.load("ns/stream", proxy.work / "loaded-stream")
    assert argo.list_objects("ns/file") == []
    assert not argo.is_directory("ns/file")
    argo.delete("ns/file")
    assert asked() == {}
    assert (proxy.work / "loaded-again").read_bytes() == (proxy.work / "loaded-stream").read_bytes() == DATA


@pytest.mark.parametrize("files", [300, pytest.param(10_000, marks=pytest.mark.large)])
def test_a_directory_of_any_number_of_files_costs_one_request_to_save_and_one_to_load(start, asked, files):
    proxy = start()
    argo = proxy.argo()
    argo.save("ns/tree", write(proxy, files))
    assert asked() == {"login": 1, MAKE: 1}
    argo.load("ns/tree", proxy.work / "loaded")
    assert len(list((proxy.work / "loaded").iterdir())) == files
    assert argo.open_stream(f"ns/tree/{files - 1}") == b"x"
    assert asked() == {OPEN: 1}


def test_a_proxy_starts_while_the_server_is_sealed(openbao, start):
    openbao.seal()
    try:
        proxy = start()
        failed = outcome(lambda: proxy.argo().save_stream("ns/a", DATA))
        assert_own_line(failed, "UNAVAILABLE", "SaveStream", "ns/a")
        assert not (proxy.storage / "ns/a").exists()
    finally:
        openbao.unseal()
    assert eventually(lambda: outcome(lambda: proxy.argo().save_stream("ns/a", DATA)).code == "OK")
    assert proxy.argo().open_stream("ns/a") == DATA


def test_without_the_right_to_load_nothing_is_written_and_the_call_is_refused(own_transit, login, start):
    saving = start(cache={"ttl": "0s"})
    saving.argo().save_stream("ns/a", DATA)
    role = f"auth/{login.mount}/role/{logins.ROLE}"
    own_transit.post(role, {"token_policies": own_transit.shipped_policies("saver")})
    own_transit.post(f"sys/leases/revoke-prefix/auth/{login.mount}")
    target = saving.work / "loaded"
    for do, operation in (
        (lambda: saving.argo().load("ns/a", target), "Load"),
        (lambda: saving.argo().open_stream("ns/a"), "OpenStream"),
    ):
        assert_own_line(outcome(do), "PERMISSION_DENIED", operation, "ns/a")
    assert not target.exists()
    assert list(saving.work.iterdir()) == []


def test_a_key_that_is_gone_is_a_lasting_fault_of_reading_and_saving(own_transit, start):
    proxy = start(cache={"entries": 0})
    proxy.argo().save_stream("ns/a", DATA)
    own_transit.delete_key()
    for do, operation in (
        (lambda: proxy.argo().open_stream("ns/a"), "OpenStream"),
        (lambda: proxy.argo().save_stream("ns/a", DATA), "SaveStream"),
    ):
        assert_own_line(outcome(do), "FAILED_PRECONDITION", operation, "ns/a")
