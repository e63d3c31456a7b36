"""Through the proxy's own socket: Argo's operations on one side, a real server's keys on the other."""

from __future__ import annotations

import logins
import pytest
from harness.chain import Proxy, eventually
from harness.content import blob
from harness.outcome import assert_own_line, outcome

DATA = blob((2 << 20) + 5)


@pytest.fixture
def login(own_transit, tmp_path):
    return logins.approle(own_transit, tmp_path, own_transit.shipped_policies("saver", "loader"))


@pytest.fixture
def start(openbao, own_transit, login, tmp_path):
    """Start a proxy whose data keys come from the server; it waits for Vault only shortly."""
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


def write(proxy, files):
    tree = proxy.work / "tree"
    tree.mkdir()
    for number in range(files):
        (tree / f"{number}").write_bytes(b"x")
    return tree


def test_a_process_asks_once_for_each_save_however_many_files_and_once_for_what_it_reads(
    openbao, own_transit, login, start
):
    proxy = start()
    argo = proxy.argo()
    single = proxy.work / "single"
    single.write_bytes(DATA)
    argo.save("ns/file", single)
    argo.save("ns/tree", write(proxy, 300))
    for number in range(2):
        argo.load("ns/file", proxy.work / f"loaded-{number}")
        argo.load("ns/tree", proxy.work / f"loaded-tree-{number}")
        assert argo.open_stream("ns/file") == DATA
    assert (proxy.work / "loaded-1").read_bytes() == DATA
    assert len(list((proxy.work / "loaded-tree-1").iterdir())) == 300
    asked = {path: count for path, count in openbao.calls().items() if own_transit.mount in path or "login" in path}
    assert {path: asked[path] for path in asked if path.startswith((own_transit.mount, f"auth/{login.mount}"))} == {
        f"{own_transit.mount}/keys/artifacts": 1,  # the test's own: it made the key
        f"{own_transit.mount}/datakey/plaintext/artifacts": 2,
        f"{own_transit.mount}/decrypt/artifacts": 2,
        f"auth/{login.mount}/login": 1,
    }


def test_a_server_that_is_sealed_when_the_process_starts_is_only_waited_for(openbao, start):
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


def test_without_a_right_to_load_nothing_is_written_and_the_text_says_so(own_transit, login, start):
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


def test_the_log_of_the_process_holds_no_secret(openbao, login, start):
    proxy = start()
    proxy.argo().save_stream("ns/a", DATA)
    log = proxy.output()
    assert "logged in to vault" in log
    assert login.secret_id_file.read_text().strip() not in log
    assert "s." not in [word[:2] for word in log.split()], "a token begins like this"
    assert openbao.root not in log
