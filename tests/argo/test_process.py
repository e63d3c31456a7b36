"""Facts 1 to 19 of docs/argo-contract.md: the process and its socket. Facts 66 and 67: how Argo ends a plugin."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from harness.chain import SEALGATE, TESTS, VENDOR, Proxy, eventually
from harness.outcome import assert_own_line, outcome
from harness.users import as_process_one, as_user, with_read_only_root, without_privileges

from sealgate.call import Call, Operation
from sealgate.compose.starting import Starting
from sealgate.errors import PluginError
from sealgate.plugin import Artifact, Capabilities

ARGUMENTS_OF_ARGO = ("--loglevel", "debug", "--gloglevel", "6", "--kubeconfig=/kube/config")
EXECUTOR = (sys.executable, str(TESTS / "harness" / "argoexec.py"))


def assert_works(proxy: Proxy, key: str = "works") -> None:
    source, target = proxy.work / f"{key}-in", proxy.work / f"{key}-out"
    source.write_bytes(b"some plaintext")
    argo = proxy.argo()
    argo.save(key, source)
    argo.load(key, target)
    assert target.read_bytes() == b"some plaintext"
    target.unlink()


def test_01_arguments_after_the_socket_are_ignored(start):
    assert_works(start(arguments=ARGUMENTS_OF_ARGO))


def test_02_a_missing_directory_of_the_socket_is_created(make):
    proxy = make()
    assert not proxy.socket.parent.exists()
    proxy.start()
    assert_works(proxy)
    assert proxy.stop() == 0, proxy.output()


@pytest.mark.parametrize("left_behind", ["socket", "file"])
def test_03_a_stale_socket_is_replaced(make, left_behind):
    proxy = make()
    proxy.socket.parent.mkdir()
    if left_behind == "socket":
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(proxy.socket))
    else:
        proxy.socket.touch()
    proxy.start()
    assert_works(proxy)
    assert proxy.stop() == 0, proxy.output()


def test_03_a_killed_process_can_be_started_again(start):
    proxy = start()
    proxy.kill()
    proxy.start()
    assert_works(proxy)


def test_04_other_users_may_connect(start):
    proxy = start(within=("sh", "-c", 'umask 022; exec "$@"', "sh"))
    assert stat.S_IMODE(proxy.socket.stat().st_mode) & 0o666 == 0o666
    proxy.socket.parent.parent.chmod(0o755)
    script = (
        "import grpc, sys; from harness.argo import Argo; from pathlib import Path; "
        "assert Argo(Path(sys.argv[1])).supports_save_stream()"
    )
    environment = {"PYTHONPATH": f"{TESTS.parent}/proxy:{TESTS}"}
    command = [*as_user(8737), sys.executable, "-c", script, str(proxy.socket)]
    assert subprocess.run(command, env=environment, check=False).returncode == 0


def test_05_a_connection_is_answered_once_the_socket_is_there(start):
    proxy = start()

    def settings_frame() -> bytes:
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(30)
            plain.connect(str(proxy.socket))
            plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
            return plain.recv(9)

    assert settings_frame()[3] == 4  # byte 3 is the type of a frame, and 4 is SETTINGS


def test_06_little_is_loaded_before_the_socket_accepts():
    heavy = ["yaml", "msgspec", "cryptography", "google.protobuf", "obstore", "hvac", "opentelemetry", "structlog"]
    script = (
        "import sys, tempfile; from pathlib import Path; import sealgate.cli, sealgate.cli.serve; "
        "from sealgate.compose.starting import Starting; from sealgate.rpc.server import ArtifactServer; "
        "from sealgate.plugin import Capabilities; "
        "server = ArtifactServer(Starting(lambda: None, Capabilities(save_stream=True))); "
        "server.start(Path(tempfile.mkdtemp()) / 'socket'); "
        f"loaded = [name for name in {heavy} if name in sys.modules]; "
        "server.stop(0); sys.exit(str(loaded) if loaded else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(TESTS.parent / "proxy")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


BROKEN = {
    "no configuration": {"environment": {"SEALGATE_CONFIG_YAML": ""}},
    "no file": {"environment": {"SEALGATE_CONFIG_YAML": "", "SEALGATE_CONFIG": "/nowhere/sealgate.yaml"}},
    "not YAML": {"environment": {"SEALGATE_CONFIG_YAML": "{"}},
    "an unknown field": {"settings": {"sealing": "please"}},
    "no keys": {"settings": {"keys": None}},
    "no keyring": {"settings": {"keys": {"provider": "local", "local": {"keyring": "/nowhere/keyring.json"}}}},
    "no downstream": {"downstream": {"socket": "/nowhere/socket", "startTimeout": "100ms"}},
    "no such command": {"downstream": ["/nowhere/plugin"]},
}


@pytest.mark.parametrize("broken", BROKEN)
def test_07_a_broken_installation_fails_the_calls_and_not_the_process(start, broken):
    proxy = start(**BROKEN[broken])
    source = proxy.work / "in"
    source.write_bytes(b"some plaintext")
    argo = proxy.argo()
    for _ in range(2):
        found = outcome(lambda: argo.save("a/b", source))
        downstream = broken in {"no downstream", "no such command"}
        assert_own_line(found, "UNAVAILABLE" if downstream else "FAILED_PRECONDITION", "Save", "a/b")
    assert argo.supports_save_stream()
    assert proxy.stop() == 0, proxy.output()


@pytest.mark.parametrize("uid", [8737, 1_000_660_000, 0])
def test_08_it_runs_as_any_user(make, public_home, uid):
    proxy = make(public_home, within=as_user(uid), environment={"HOME": "", "USER": "", "LOGNAME": ""})
    for path in (proxy.socket.parent.parent, proxy.work, proxy.storage, proxy.keyring):
        os.chown(path, uid, uid)
    proxy.start()
    assert_works(proxy)
    assert (proxy.storage / "works").stat().st_uid == uid
    assert proxy.stop() == 0, proxy.output()


@pytest.mark.parametrize("kind", ["file", "tree"])
def test_read_only_files_of_a_downstream_are_loaded(make, public_home, kind):
    proxy = make(public_home, within=as_user(8737), settings={"spool": {"transfer": "file"}})
    for path in (proxy.socket.parent.parent, proxy.work, proxy.storage, proxy.keyring):
        os.chown(path, 8737, 8737)
    source = proxy.work / "in"
    file = source / "file" if kind == "tree" else source
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"some plaintext")
    proxy.start().argo().save("ns/a", source)
    proxy.argo("fault: read-only").load("ns/a", proxy.work / "out")
    assert (proxy.work / "out" / file.relative_to(source)).read_bytes() == b"some plaintext"
    assert proxy.stop() == 0, proxy.output()


def test_09_only_the_sockets_directory_and_the_requests_paths_are_written(make):
    proxy = make()
    proxy.within = with_read_only_root(proxy.socket.parent.parent, proxy.work, proxy.storage)
    proxy.start()
    assert_works(proxy)
    proxy.argo().save_stream("streamed", [b"some plaintext"])
    assert proxy.argo().open_stream("streamed") == b"some plaintext"
    assert proxy.stop() == 0, proxy.output()


def test_10_no_capability_is_needed(start):
    proxy = start(within=without_privileges())
    assert_works(proxy)
    status = Path(f"/proc/{proxy.process.pid}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status


def test_11_nothing_of_argos_environment_is_needed(start):
    variables = {name: "" for name in os.environ if name.startswith(("ARGO_", "KUBERNETES_"))}
    assert_works(start(environment=variables))


def test_13_sigterm_ends_an_idle_process_with_0(start):
    proxy = start()
    assert_works(proxy)
    assert proxy.stop() == 0
    assert not proxy.socket.exists()


def test_13_sigterm_finishes_a_call_and_refuses_new_ones(start):
    proxy = start()
    argo = proxy.argo()
    blob = os.urandom(12 << 20)
    argo.save_stream("big", blob)
    stream = argo.stream("big")
    received = next(stream)
    for _ in range(2):  # the second one changes nothing
        proxy.process.send_signal(signal.SIGTERM)
    assert eventually(lambda: outcome(lambda: proxy.argo(timeout=5).is_directory("big")).code == "UNAVAILABLE")
    assert received + b"".join(stream) == blob
    assert proxy.process.wait(40) == 0


def test_13_sigterm_works_on_every_thread(start):
    proxy = start()
    assert_works(proxy)
    tgkill = ctypes.CDLL(None, use_errno=True).tgkill
    others = [int(task) for task in os.listdir(f"/proc/{proxy.process.pid}/task") if int(task) != proxy.process.pid]
    assert tgkill(proxy.process.pid, others[-1], signal.SIGTERM) == 0
    assert proxy.process.wait(40) == 0


def test_14_sigterm_to_the_process_group_exits_0_without_errors_in_the_log(start):
    proxy = start(within=("setsid",))
    assert_works(proxy)
    before = len(proxy.output())
    os.killpg(proxy.process.pid, signal.SIGTERM)
    assert proxy.process.wait(40) == 0
    log = proxy.output()[before:]
    assert "ERROR" not in log, log
    assert "Traceback" not in log, log


def test_15_sigkill_right_after_a_load_loses_nothing(start):
    proxy = start()
    argo = proxy.argo()
    blob = os.urandom(5 << 20)
    argo.save_stream("a/b", blob)
    argo.load("a/b", proxy.work / "out")
    proxy.kill()
    assert (proxy.work / "out").read_bytes() == blob
    assert sorted(path.name for path in proxy.work.iterdir()) == ["out"]


def test_sigkill_during_a_load_leaves_no_plaintext_once_the_next_load_has_ended(start):
    proxy = start()
    proxy.argo().save_stream("large", os.urandom(200 << 20))
    loading = threading.Thread(target=lambda: outcome(lambda: proxy.argo().load("large", proxy.work / "out")))
    loading.start()
    assert eventually(lambda: any(path.stat().st_size for path in proxy.work.iterdir()))
    proxy.kill()
    loading.join()
    (left,) = proxy.work.iterdir()
    assert left.name != "out"
    proxy.start()
    proxy.argo().save_stream("small", b"small")
    proxy.argo().load("small", proxy.work / "small")
    assert [path.name for path in proxy.work.iterdir()] == ["small"]


ORPHANS = '(sleep 0.2 &); (sleep 0.4 &); exec {vendor} "$0"'


def test_16_as_process_one_it_reaps_orphans_and_obeys_sigterm(start):
    vendor = " ".join(VENDOR)
    proxy = start(within=as_process_one(), downstream=["sh", "-c", ORPHANS.format(vendor=vendor)])
    assert_works(proxy)
    (first,) = psutil.Process(proxy.process.pid).children()
    assert Path(f"/proc/{first.pid}/status").read_text().split("NSpid:")[1].split()[1] == "1"

    def orphans() -> set[str]:
        found = set()
        for child in first.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it has been reaped since
                if child.status() == psutil.STATUS_ZOMBIE or child.name() == "sleep":
                    found.add(child.name())
        return found

    assert eventually(lambda: not orphans()), orphans()
    assert_works(proxy, "still")
    first.send_signal(signal.SIGTERM)
    assert proxy.process.wait(40) == 0


@pytest.mark.parametrize("umask", ["000", "022"])
def test_17_the_spool_is_private_under_any_umask(start, umask):
    proxy = start(within=("sh", "-c", f'umask {umask}; exec "$@"', "sh"))
    tree = proxy.work / "tree"
    (tree / "deeper").mkdir(parents=True)
    (tree / "deeper" / "file").write_bytes(b"some plaintext")
    argo = proxy.argo("fault: hang on Save")
    call = threading.Thread(target=lambda: outcome(lambda: argo.save("a/b", tree)))
    call.start()
    assert eventually(lambda: any(path.name == "file" for path in proxy.socket.parent.glob(".sealgate-*/**/*")))
    spooled = [*proxy.socket.parent.glob(".sealgate-*"), *proxy.socket.parent.glob(".sealgate-*/**/*")]
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in spooled if not path.is_socket()}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}, modes
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}, modes
    argo.close()
    call.join()


@pytest.mark.parametrize("moment", ["at once", "once it has a socket"])
def test_18_a_process_killed_before_its_first_call_leaves_only_its_socket(make, moment):
    proxy = make()
    if moment == "at once":
        environment = {**os.environ, "PYTHONPATH": str(TESTS.parent / "proxy")}
        subprocess.Popen([*SEALGATE, "serve", str(proxy.socket)], env=environment).kill()
    else:
        proxy.start()
        proxy.kill()
    left = {path.name for path in proxy.socket.parent.rglob("*")} if proxy.socket.parent.exists() else set()
    assert left <= {"socket", ".sealgate-downstream"}
    assert not [*proxy.storage.iterdir(), *proxy.work.iterdir()]
    proxy.start()
    assert_works(proxy)
    assert proxy.stop() == 0, proxy.output()


def test_19_the_log_holds_no_configuration_no_key_and_no_content(start):
    proxy = start()
    argo = proxy.argo("secretKey: hunter2-of-the-author\nfault: refuse on Delete\n")
    marker = b"plaintext-of-an-artifact"
    source = proxy.work / "in"
    source.write_bytes(marker * 1000)
    argo.save("a/b", source)
    argo.load("a/b", proxy.work / "out")
    assert argo.open_stream("a/b") == marker * 1000
    (proxy.storage / "a/b").write_bytes(marker * 1000)
    for do in (
        lambda: argo.delete("a/b"),
        lambda: argo.load("a/b", proxy.work / "again"),
        lambda: argo.open_stream("a/b"),
        lambda: argo.open_stream("a/c"),
        lambda: argo.save("a/b", Path("/etc/shadow")),
        lambda: argo.save("a/../b", source),
    ):
        found = outcome(do)
        assert found.code != "OK"
        assert "hunter2" not in found.text
        assert marker.decode() not in found.text
    proxy.stop()
    keys = json.loads(proxy.keyring.read_text())["keys"]["default"]["versions"].values()
    assert not [secret for secret in ("hunter2", marker.decode(), *keys) if secret in proxy.output()]


def assert_the_executor_ends(proxy: Proxy, directory: Path) -> None:
    assert_works(proxy)
    proxy.process.send_signal(signal.SIGTERM)  # as the kubelet does, and the executor ignores
    assert_works(proxy, "still")
    written = directory / "signal.new"
    written.write_text("15")
    written.rename(directory / "signal")
    assert proxy.process.wait(40) == 0, proxy.output()
    assert (directory / "exitcode").read_text() == "0"
    assert not proxy.socket.exists()
    assert "ERROR" not in proxy.output()


def test_66_the_signal_file_of_argo_ends_it_with_exit_code_0(make, tmp_path):
    proxy = make(within=(*EXECUTOR, str(tmp_path), "--"))
    assert_the_executor_ends(proxy.start(), tmp_path)


def test_67_it_exits_with_0_in_a_garbage_collection_pod(make, tmp_path):
    proxy = make(within=(*EXECUTOR, str(tmp_path), "--"))
    proxy.start()
    argo = proxy.argo()
    argo.save_stream("a/b", [b"some plaintext"])
    argo.delete("a/b")
    argo.delete("a/b")
    assert_the_executor_ends(proxy, tmp_path)


def test_an_unexpected_error_at_the_start_fails_calls_without_its_text():
    def compose():
        raise ValueError("hunter2 of a library")

    plugin = Starting(compose, Capabilities(save_stream=True))
    plugin.start(lambda: None)
    call = Call(Operation.IS_DIRECTORY)
    with pytest.raises(PluginError) as fault:
        plugin.is_directory(call, Artifact("ns/a"))
    assert "an unexpected ValueError stopped the start" in fault.value.line(call, "ns/a")
    assert "hunter2" not in fault.value.line(call, "ns/a")
