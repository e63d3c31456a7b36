"""`sealgate rewrap` as an administrator runs it: a real server, a real downstream and stored objects."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import tempfile
import time

import pytest
from harness.chain import SEALGATE, TESTS, VENDOR, Proxy, eventually
from harness.content import blob, write_tree

from sealgate import envelope
from sealgate.call import Call, Operation
from sealgate.keys.provider import BATCH

DATA = blob((1 << 20) + 5)


class Installation:
    """A Transit engine, a store with objects sealed under its key, and the command."""

    def __init__(self, transit, provider, home, downstream=None, streams=""):
        self.transit = transit
        self.storage = home / "storage"
        self.storage.mkdir()
        self.saved = []
        self.keys = provider(transit)
        self.settings = {
            "apiVersion": "sealgate/v1alpha1",
            "kind": "Sealgate",
            "downstream": {"command": downstream or [*SEALGATE, "backend"]},
            "keys": {
                "provider": "vault",
                "vault": {
                    "address": transit.server.address,
                    "mount": transit.mount,
                    "timeout": "2s",
                    "auth": {"method": "token"},
                },
            },
        }
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(TESTS.parent),
            "SEALGATE_BACKEND_URL": f"file://{self.storage}",
            "VENDOR_ROOT": str(self.storage),
            "VENDOR_STREAMS": streams,
            "VAULT_TOKEN": transit.token(*transit.shipped_policies("rewrapper")),
        }

    def save(self, *keys, data=DATA):
        call = Call(Operation.SAVE)
        for key in keys:
            self.saved.append(key)
            made = self.keys.new_data_key(call)
            header = envelope.new_header(made.plaintext, made.wrapped, sealed_at=int(time.time()))
            path = self.storage / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"".join(map(bytes, envelope.seal_stream(header, made.plaintext, key, iter([data])))))

    def begin(self, *arguments, **more):
        return subprocess.Popen(
            [*SEALGATE, "rewrap", *arguments],
            env={**self.environment, "SEALGATE_CONFIG_YAML": json.dumps(self.settings)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **more,
        )

    def run(self, *arguments):
        process = self.begin(*arguments)
        out, err = process.communicate(timeout=100)
        return process.returncode, out, err

    def report(self, *arguments):
        code, out, err = self.run(*arguments, "--output", "json")
        assert out, err
        return code, json.loads(out)

    def versions(self):
        """Return the key version of each object."""
        headers = {key: envelope.split_stream(iter([(self.storage / key).read_bytes()]))[0] for key in self.saved}
        return {key: header.key.key_version for key, header in headers.items()}

    def opened(self, key):
        stored = iter([(self.storage / key).read_bytes()])
        call = Call(Operation.LOAD)
        return b"".join(
            map(bytes, envelope.open_stream(stored, lambda header: self.keys.unwrap(call, header.key), key))
        )


@pytest.fixture
def installation(own_transit, provider, tmp_path):
    return Installation(own_transit, provider, tmp_path)


def test_what_was_rewrapped_is_loaded_after_the_minimum_was_raised_as_the_report_said(
    installation, own_transit, openbao, tmp_path
):
    home = tmp_path / "proxy"
    home.mkdir()
    keys = installation.settings["keys"] | {"cache": {"ttl": "0s"}}
    proxy = Proxy(
        home, downstream=[*SEALGATE, "backend"], settings={"keys": keys}, environment={"VAULT_TOKEN": openbao.root}
    )
    installation.environment["SEALGATE_BACKEND_URL"] = f"file://{proxy.storage}"
    argo = proxy.start().argo()
    single, tree = proxy.work / "single", write_tree(proxy.work / "tree")
    single.write_bytes(DATA)
    argo.save("ns/single", single)
    (tree / "nothing in it").rmdir()
    argo.save("ns/tree", tree)
    own_transit.rotate()
    code, out, err = installation.run("ns")
    assert (code, err) == (0, "")
    command = re.search(rf"vault write ({own_transit.mount}/keys/artifacts/config) min_decryption_version=(\d+)", out)
    assert command, out
    own_transit.post(command[1], {"min_decryption_version": int(command[2])})
    argo.load("ns/single", proxy.work / "loaded")
    assert (proxy.work / "loaded").read_bytes() == DATA
    argo.load("ns/tree", proxy.work / "loaded-tree")
    assert (proxy.work / "loaded-tree/file").read_bytes() == (tree / "file").read_bytes()
    assert argo.open_stream("ns/tree/file") == (tree / "file").read_bytes()
    assert proxy.stop() == 0


def test_the_server_is_asked_once_for_each_hundred_objects_and_opens_none(installation, own_transit, openbao):
    count = 2 * BATCH + 50
    installation.save(*(f"ns/{number:04}" for number in range(count)), data=b"x")
    own_transit.rotate()
    before = openbao.calls()
    code, report = installation.report("ns", "--rate", "0")
    assert (code, report["moved"], report["failed"]) == (0, count, 0)
    asked = {path: number for path, number in (openbao.calls() - before).items() if own_transit.mount in path}
    assert asked == {f"{own_transit.mount}/keys/artifacts": 1, f"{own_transit.mount}/rewrap/artifacts": 3}
    assert set(installation.versions().values()) == {2}
    before = openbao.calls()
    assert installation.report("ns", "--rate", "0")[1]["current"] == count
    assert {path for path in openbao.calls() - before if own_transit.mount in path} == {
        f"{own_transit.mount}/keys/artifacts"
    }


@pytest.mark.parametrize("streams", ["", "1"])
@pytest.mark.parametrize("transfer", ["auto", "file"])
def test_a_vendors_plugin_gets_its_configuration_and_its_bytes_whatever_operations_it_has(
    own_transit, provider, tmp_path, streams, transfer
):
    installation = Installation(own_transit, provider, tmp_path, VENDOR, streams)
    installation.settings["spool"] = {"transfer": transfer}
    installation.settings["downstream"]["pluginName"] = "vendor-s3"
    installation.save("ns/a")
    own_transit.rotate()
    file = tmp_path / "configuration"
    file.write_text("fault: record\nbucket: with-a-secret")
    code, _, err = installation.run("ns/a", "--configuration", str(file))
    assert (code, err) == (0, "")
    received = json.loads((installation.storage / "record.json").read_text())
    assert (received["configuration"], received["name"]) == ("fault: record\nbucket: with-a-secret", "vendor-s3")
    (installation.storage / "record.json").unlink()
    assert installation.versions() == {"ns/a": 2}
    assert installation.opened("ns/a") == DATA


def test_the_configuration_may_come_from_standard_input(own_transit, provider, tmp_path):
    installation = Installation(own_transit, provider, tmp_path, VENDOR)
    installation.save("ns/a", data=b"")
    process = installation.begin("ns/a", "--configuration", "-", stdin=subprocess.PIPE)
    process.communicate("fault: record\n", timeout=60)
    assert json.loads((installation.storage / "record.json").read_text())["configuration"] == "fault: record\n"


def test_the_settings_of_a_plugin_name_are_used(installation, own_transit):
    installation.save("ns/a", data=b"")
    own_transit.rotate()
    installation.settings["plugins"] = {"other": {"keys": {"vault": {"mount": "elsewhere"}}}}
    code, report = installation.report("ns", "--plugin", "other")
    assert (code, report["failed"]) == (1, 1)
    assert "this installation uses elsewhere" in report["faults"][0]["fact"]
    assert installation.report("ns", "--plugin", "unknown")[1]["moved"] == 1


def test_killed_at_any_point_every_object_is_whole_and_the_next_run_goes_on(installation, own_transit):
    keys = [f"ns/{number:02}" for number in range(12)]
    installation.save(*keys)
    own_transit.rotate()
    for killed_after in range(1, 8, 2):
        process = installation.begin("ns", "--rate", "200")
        eventually(lambda reached=killed_after: list(installation.versions().values()).count(2) >= reached, 30)
        process.kill()
        process.communicate()
        assert all(installation.opened(key) == DATA for key in keys)
    assert installation.run("ns")[0] == 0
    assert set(installation.versions().values()) == {2}
    assert all(installation.opened(key) == DATA for key in keys)
    assert (
        not [path for path in installation.storage.rglob(".*") if path.is_file()] or installation.report("ns")[0] == 0
    )


def test_sigterm_ends_it_after_the_objects_in_progress_and_the_report_says_where_to_continue(installation, own_transit):
    keys = [f"ns/{number:04}" for number in range(2 * BATCH + 10)]
    installation.save(*keys, data=b"x")
    own_transit.rotate()
    process = installation.begin("ns", "--rate", "150")
    assert eventually(lambda: list(installation.versions().values()).count(2) > BATCH // 2)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "Not finished" in out
    assert "min_decryption_version" not in out
    found = re.search(r"--after (\S+)", out)
    after = found[1] if found else ""
    assert all(version == 2 for key, version in installation.versions().items() if key <= after)
    code, report = installation.report("ns", "--rate", "0", *(["--after", after] if after else []))
    assert code == 0
    assert report["found"] == len([key for key in keys if key > after])
    assert set(installation.versions().values()) == {2}
    assert (report["keys"]["artifacts"]["oldest_may_be"] is None) == bool(after), "a part of them proves nothing"


def test_a_dry_run_says_what_is_stale_by_its_exit_code_and_writes_nothing(installation, own_transit):
    installation.save("ns/a", "ns/b", data=b"x")
    assert installation.run("ns", "--dry-run")[0] == 0
    own_transit.rotate()
    before = {path: path.read_bytes() for path in installation.storage.rglob("*") if path.is_file()}
    code, report = installation.report("ns", "--dry-run")
    assert (code, report["stale"], report["moved"]) == (1, 2, 0)
    assert report["keys"]["artifacts"]["objects"] == {"1": 2}
    assert {path: path.read_bytes() for path in installation.storage.rglob("*") if path.is_file()} == before


def test_the_objects_under_an_older_version_are_listed_and_nothing_is_written(installation, own_transit):
    installation.save("ns/a", "ns/b c", data=b"x")
    own_transit.rotate()
    installation.save("ns/d", data=b"x")
    before = installation.versions()
    code, out, _ = installation.run("ns", "--list")
    assert code == 1
    assert out.startswith("artifacts version 1  ns/a\nartifacts version 1  ns/b c\nobjects checked ")
    code, report = installation.report("ns", "--list")
    assert report["stale_objects"] == [
        {"key": key, "key_name": "artifacts", "key_version": 1} for key in ("ns/a", "ns/b c")
    ]
    assert (code, installation.versions()) == (1, before)
    installation.run("ns")
    code, report = installation.report("ns", "--list")
    assert (code, report["stale_objects"]) == (0, [])


def test_a_whole_store_and_several_prefixes_are_one_run(installation, own_transit):
    installation.save("one", "ns/a", "other/b/c", data=b"x")
    own_transit.rotate()
    code, report = installation.report("ns", "other/b", "ns/a")
    assert (code, report["found"], report["moved"]) == (0, 2, 2)
    code, report = installation.report("--all")
    assert (code, report["found"], report["moved"], report["current"]) == (0, 3, 1, 2)
    assert report["keys"]["artifacts"]["oldest_may_be"] == 2


@pytest.mark.parametrize("arguments", [("nz",), ("ns", "nz"), ("ns/a/b",), ("ns", "--after", "ns/a")])
@pytest.mark.parametrize("output", ["text", "json"])
def test_where_nothing_is_stored_nothing_is_moved_and_no_version_is_called_unused(
    installation, own_transit, arguments, output
):
    installation.save("ns/a", data=b"x")
    own_transit.rotate()
    code, out, err = installation.run(*arguments, "--output", output)
    assert (code, out) == (2, "")
    assert "nothing was checked" in err
    assert installation.versions() == {"ns/a": 1}


def test_an_empty_store_is_not_checked(installation):
    code, out, err = installation.run("--all")
    assert (code, out) == (2, "")
    assert "the downstream lists nothing in the whole store" in err


def test_a_role_that_may_not_rewrap_gets_an_error_and_nothing_changes(installation, own_transit):
    installation.save("ns/a", data=b"x")
    own_transit.rotate()
    look = 'path "transit/keys/artifacts" { capabilities = ["read"] }'
    for policies in (own_transit.shipped_policies("saver", "loader"), [own_transit.policy(look)]):
        installation.environment["VAULT_TOKEN"] = own_transit.token(*policies)
        code, out, err = installation.run("ns")
        assert code == 1
        assert "its policies do not allow this" in out + err
        assert "with a policy from policies/vault" in out + err
        assert installation.versions() == {"ns/a": 1}


def test_a_server_that_is_sealed_midway_ends_it_and_the_next_run_finishes(installation, own_transit, openbao):
    installation.save("ns/a", data=b"x")
    own_transit.rotate()
    openbao.seal()
    try:
        code, out, err = installation.run("ns")
    finally:
        openbao.unseal()
    assert code == 1
    assert "Vault is sealed" in err
    assert len(err.strip().splitlines()) <= 2
    assert "Not finished" in out
    assert installation.run("ns")[0] == 0


def test_a_derived_key_keeps_its_context(own_transit, provider, tmp_path):
    own_transit.create_key("derived", derived=True)
    installation = Installation(own_transit, provider, tmp_path)
    installation.keys = provider(own_transit, key="derived", context=b"team-a")
    installation.save("ns/a", "ns/b")
    own_transit.rotate("derived")
    policy = (
        'path "transit/rewrap/derived" { capabilities = ["update"] }\n'
        'path "transit/keys/derived" { capabilities = ["read"] }'
    )
    installation.environment["VAULT_TOKEN"] = own_transit.token(own_transit.policy(policy))
    assert installation.report("ns")[1]["moved"] == 2
    assert installation.opened("ns/a") == DATA


def test_a_terminal_shows_a_progress_bar_and_a_pipe_does_not(installation, own_transit):
    installation.save(*(f"ns/{number}" for number in range(60)), data=b"x")
    own_transit.rotate()
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*SEALGATE, "rewrap", "ns", "--rate", "60"],
        env={**installation.environment, "SEALGATE_CONFIG_YAML": json.dumps(installation.settings)},
        stdout=subprocess.PIPE,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    try:
        while data := os.read(leader, 4096):
            shown += data
    except OSError:
        pass  # the process closed its end
    process.communicate(timeout=60)
    os.close(leader)
    assert re.search(rb"done with \[#*\.*\] \d+ of 60 objects", shown), shown
    assert shown.endswith(b"\r\x1b[K")


def test_objects_before_the_key_of_after_are_skipped_and_the_report_does_not_cover_the_whole(installation, own_transit):
    installation.save("ns/a", "ns/b", "ns/c", data=b"x")
    own_transit.rotate()
    code, report = installation.report("ns", "--after", "ns/a")
    assert (code, report["found"], report["moved"]) == (0, 2, 2)
    assert installation.versions() == {"ns/a": 1, "ns/b": 2, "ns/c": 2}
    assert (report["finished"], report["whole"]) == (True, False)
    assert report["keys"]["artifacts"]["oldest_may_be"] is None
    text = installation.run("ns", "--after", "ns/a")[1]
    assert "not every object was checked" in text
    assert "min_decryption_version" not in text


def test_the_rate_is_a_rate(installation, own_transit):
    installation.save(*(f"ns/{number}" for number in range(4)), data=b"x")
    began = time.monotonic()
    assert installation.run("ns", "--dry-run", "--rate", "2")[0] == 0
    assert time.monotonic() - began >= 3 / 2  # a lower bound only: a busy machine takes longer


@pytest.fixture
def short():
    """A directory with room for the path of a socket."""
    with tempfile.TemporaryDirectory(prefix="sg-") as made:
        yield made


@pytest.mark.parametrize("on", ["ListObjects", "OpenStream", "SaveStream"])
def test_a_downstream_that_hangs_is_given_up_and_nothing_is_left_behind(own_transit, provider, tmp_path, short, on):
    installation = Installation(own_transit, provider, tmp_path, VENDOR, "1")
    installation.save("ns/a", "ns/b")
    own_transit.rotate()
    installation.environment["TMPDIR"] = short
    file = tmp_path / "configuration"
    file.write_text(f"fault: hang on {on}")
    code, out, err = installation.run("ns", "--configuration", str(file), "--timeout", "6")
    assert code == 1
    assert "made no progress for 6 s" in err, out
    assert ("Not finished" in out) == (on == "SaveStream")
    assert os.listdir(short) == []
    assert installation.opened("ns/a") == DATA
    (installation.storage / "hang-began").unlink()
    process = installation.begin("ns", "--configuration", str(file))
    assert eventually((installation.storage / "hang-began").exists)
    process.send_signal(signal.SIGTERM)
    if on == "SaveStream":  # a write may go on for a moment, until a second signal
        time.sleep(0.5)  # otherwise the two signals merge into one
        process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert os.listdir(short) == []


def test_a_block_for_sealgate_in_the_configuration_is_read_as_serve_reads_it(own_transit, provider, tmp_path):
    installation = Installation(own_transit, provider, tmp_path, VENDOR)
    installation.save("ns/a", data=b"")
    file = tmp_path / "configuration"
    file.write_text("sealgate: {}\ndownstream: 'fault: record'\n")
    assert installation.run("ns/a", "--configuration", str(file))[0] == 0
    assert json.loads((installation.storage / "record.json").read_text())["configuration"] == "fault: record"
    file.write_text("sealgate: {nonsense: 1}\n")
    code, _, err = installation.run("ns/a", "--configuration", str(file))
    assert code == 2
    assert "nonsense" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("../up",),
        ("",),
        (),
        ("ns", "--all"),
        ("ns", "../up"),
        ("ns", "--rate", "-1"),
        ("ns", "--rate", "nan"),
        ("ns", "--rate", "1e-12"),
        ("ns", "--timeout", "0"),
        ("ns", "--timeout", "1e99"),
        ("ns", "--configuration", "/does/not/exist"),
    ],
)
def test_bad_usage_is_2(installation, arguments):
    code, out, err = installation.run(*arguments)
    assert (code, out) == (2, "")
    assert err
    assert "Traceback" not in err
