"""The audit trail of a running proxy: each operation and outcome, a kill, a full disk, a full pipe."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest
from harness.chain import SEALGATE, Proxy, eventually
from harness.outcome import OF_A_LIBRARY, assert_own_line, outcome
from harness.stand import LARGE, OPERATIONS, Stand, filled
from harness.trails import fill, read

from sealgate import envelope

EFFECTS = [operation for operation in OPERATIONS if operation not in {"ListObjects", "IsDirectory"}]

ARGO = {
    "ARGO_WORKFLOW_NAME": "train-7x2p",
    "ARGO_WORKFLOW_UID": "0e7b",
    "ARGO_POD_NAME": "train-7x2p-main-1",
    "ARGO_POD_UID": "77aa",
    "ARGO_NODE_ID": "train-7x2p-2",
    "ARGO_CONTAINER_NAME": "init-artifact-crypt",
    "SEALGATE_NAMESPACE": "team-a",
    "SEALGATE_SERVICE_ACCOUNT": "trainer",
}


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    proxy = Proxy(tmp_path_factory.mktemp("audited"), environment=ARGO | {"VENDOR_STREAMS": "1"}).start()
    # The first access writes the record of the session as well, whichever test makes it.
    assert filled(proxy, "ns/first").attempt("IsDirectory").code == "OK"
    yield proxy
    assert proxy.stop() == 0
    assert verification(proxy) == (0, set()), proxy.trail.read_text()


@pytest.fixture
def stand(audited, key) -> Stand:
    return filled(audited, key)


def verification(proxy: Proxy, *arguments: str) -> tuple[int, set[str]]:
    """Return the exit code of `audit verify` and the flaws that it names."""
    command = [*SEALGATE, "audit", "verify", str(proxy.trail), "--output", "json", *arguments]
    environment = {**os.environ, "SEALGATE_CONFIG_YAML": json.dumps(proxy.settings)}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return done.returncode, {finding["flaw"] for finding in json.loads(done.stdout)["findings"]}


def records_of(proxy: Proxy, operation: str, key: str) -> list[dict]:
    return [
        record
        for record in read(proxy.trail)
        if record.get("api", {}).get("operation") == operation and record["resource"]["uid"] == key
    ]


def phases(records: list[dict]) -> list[str]:
    return [record["unmapped"]["phase"] for record in records]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_success_leaves_an_attempt_and_an_outcome_or_an_outcome_alone(stand, operation):
    before = len(records_of(stand.proxy, operation, stand.key(operation)))
    assert stand.attempt(operation).code == "OK"
    records = records_of(stand.proxy, operation, stand.key(operation))[before:]
    assert phases(records) == (["attempt", "outcome"] if operation in EFFECTS else ["outcome"])
    last = records[-1]
    assert (last["status"], last["status_code"], last["action"]) == ("Success", "OK", "Allowed")
    assert last["actor"] == {
        "attested": False,
        "namespace": "team-a",
        "service_account": "trainer",
        "workflow": "train-7x2p",
        "workflow_uid": "0e7b",
        "pod": "train-7x2p-main-1",
        "pod_uid": "77aa",
        "node": "train-7x2p-2",
        "component": "init",
    }
    if operation in {"Load", "OpenStream", "Save", "SaveStream"}:
        assert last["unmapped"]["io"]["plaintext_bytes"] == LARGE
        assert last["unmapped"]["io"]["files"] == 1
        assert last["unmapped"]["crypto"] == {"key": "default", "key_version": 1, "provider": "local"}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_denial_leaves_one_record(audited, operation):
    stand = Stand(audited, f"denied/../{operation}")
    before = len(read(audited.trail))
    assert stand.attempt(operation).code == "INVALID_ARGUMENT"
    (record,) = read(audited.trail)[before:]
    assert (record["action"], record["status_code"]) == ("Denied", "BAD_KEY")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_downstreams_refusal_is_recorded_without_its_text(stand, operation):
    before = len(read(stand.proxy.trail))
    fault = "refuse-early" if operation.startswith("Save") else "refuse"
    found = stand.attempt(operation, f"fault: {fault}")  # also on OpenStream, which a Load tries first
    assert found.code != "OK", found
    record = read(stand.proxy.trail)[before:][-1]
    assert record["status"] == "Failure"
    assert record["status_detail"] == "Refused"
    assert "vendor" not in json.dumps(record).replace("vendor_name", "")


@pytest.mark.parametrize("operation", ["Load", "Save"])
def test_a_request_without_a_local_path_is_recorded(stand, operation):
    before = len(read(stand.proxy.trail))
    argo, key = stand.proxy.argo(), stand.key(operation)
    assert outcome(lambda: getattr(argo, operation.lower())(key, "")).code == "INVALID_ARGUMENT"
    records = read(stand.proxy.trail)[before:]
    assert phases(records) == ["attempt", "outcome"]
    assert {record["resource"]["uid"] for record in records} == {key}
    assert records[-1]["status_code"] == "INVALID_ARGUMENT"


def test_a_listing_too_large_for_the_caller_is_recorded_as_a_failure(start):
    proxy = start(settings={"policies": [LISTING]}, environment={"VENDOR_STREAMS": "1"})
    assert outcome(lambda: proxy.argo("fault: huge").list_objects("ns/a")).code == "RESOURCE_EXHAUSTED"
    record = read(proxy.trail)[-1]
    assert (record["status"], record["status_code"]) == ("Failure", "RESOURCE_EXHAUSTED")
    assert record["unmapped"]["io"].get("listed", 0) == 0


LISTING = {
    "apiVersion": "sealgate/v1alpha1",
    "kind": "ArtifactPolicy",
    "metadata": {"name": "all"},
    "spec": {"rules": [{"name": "all", "effect": "allow", "match": {"operations": ["*"], "keys": ["**"]}}]},
}
POLICY = {
    "apiVersion": "sealgate/v1alpha1",
    "kind": "ArtifactPolicy",
    "metadata": {"name": "tenants"},
    "spec": {
        "rules": [
            {
                "name": "own-prefix",
                "effect": "allow",
                "match": {"operations": ["*"], "keys": ["team-a/**"]},
                "audit": {"annotations": {"classification": "internal"}},
            },
            {
                "name": "hidden",
                "effect": "allow",
                "match": {"operations": ["*"], "keys": ["secret/**"]},
                "audit": {"hmacKey": True},
            },
            {
                "name": "no-models",
                "effect": "deny",
                "enforcement": "shadow",
                "match": {"operations": ["*"], "keys": ["team-a/models/**"]},
            },
        ]
    },
}


@pytest.mark.parametrize("secret", [b"", b"s" * 32])
def test_the_record_names_the_deciding_rule_and_the_effect_of_a_rule_on_trial(start, tmp_path, secret):
    (tmp_path / "secret").write_bytes(secret)
    audit = {"hmacKeyFile": str(tmp_path / "secret")} if secret else {}
    proxy = start(settings={"policies": [POLICY], "audit": audit}, environment=ARGO | {"VENDOR_STREAMS": "1"})
    for key in ("team-a/data", "team-a/models/one", "secret/plan"):
        proxy.argo().save_stream(key, b"some bytes")
    assert outcome(lambda: proxy.argo().save_stream("team-b/data", b"some bytes")).code == "PERMISSION_DENIED"
    assert proxy.stop() == 0
    own, trial, hidden, denied = (r for r in read(proxy.trail) if r["unmapped"]["phase"] == "outcome")
    assert (own["policy"]["name"], own["policy"]["rule"]) == ("tenants", "own-prefix")
    assert len(own["policy"]["uid"]) == 64
    assert own["unmapped"]["decision"]["annotations"] == {"classification": "internal"}
    assert (trial["action"], trial["unmapped"]["decision"]["would_deny"]) == ("Allowed", ["tenants/no-models"])
    assert (trial["unmapped"]["decision"]["proposed"], trial["unmapped"]["decision"]["mode"]) == ("deny", "shadow")
    assert (denied["action"], denied["unmapped"]["grpc_status"]) == ("Denied", "PERMISSION_DENIED")
    expected = f"hmac-sha256:{hmac.digest(secret, b'secret/plan', 'sha256').hex()}" if secret else "withheld"
    assert hidden["resource"]["uid"] == expected
    assert "secret/plan" not in proxy.trail.read_text()
    document = tmp_path / "policy.yaml"
    document.write_text(json.dumps(POLICY))
    replay = [*SEALGATE, "policy", "replay", "--policy", str(document), str(proxy.trail), "--output", "json"]
    done = subprocess.run(replay, capture_output=True, check=False)
    assert (json.loads(done.stdout)["calls"], json.loads(done.stdout)["unusable"]) == (3, 1), done.stderr


MIGRATION = [{"name": "migration", "match": {"keys": ["**"]}, "readPlaintext": "allow"}]


def test_a_key_that_a_policy_hides_is_not_in_the_log_either(start):
    hidden = POLICY["spec"]["rules"][1]
    trial = {**POLICY["spec"]["rules"][2], "enforcement": "warn", "match": {"operations": ["*"], "keys": ["secret/**"]}}
    policy = {**POLICY, "spec": {"rules": [POLICY["spec"]["rules"][0], hidden, trial], "encryption": MIGRATION}}
    proxy = start(settings={"policies": [policy]}, environment={"VENDOR_STREAMS": "1"})
    (proxy.storage / "secret").mkdir()
    (proxy.storage / "secret/never-sealed").write_bytes(b"some bytes")
    proxy.argo().save_stream("secret/plan", b"some bytes")
    assert proxy.argo().open_stream("secret/never-sealed") == b"some bytes"
    proxy.argo().save_stream("team-a/data", b"some bytes")
    assert proxy.stop() == 0
    log = proxy.log.read_text()
    assert "an unsealed object is read" in log
    assert "a policy on trial would deny the call" in log
    assert "team-a/data" in log
    assert "secret/" not in log


def test_the_sealed_object_names_the_record_that_wrote_it(stand):
    assert stand.attempt("Save").code == "OK"
    stored = stand.proxy.storage / stand.new
    with stored.open("rb") as file:
        header, _ = envelope.read_header(lambda size, offset: os.pread(file.fileno(), size, offset))
    (attempt, _) = records_of(stand.proxy, "Save", stand.new)
    assert header.audit_chain == attempt["attestation_list"][0]["chain_uid"]
    assert header.audit_sequence == attempt["metadata"]["sequence"]
    assert verification(stand.proxy, "--object", str(stored)) == (0, set())
    without = [line for line in stand.proxy.trail.read_bytes().splitlines() if json.loads(line) != attempt]
    cut = stand.proxy.home / "cut.jsonl"
    cut.write_bytes(b"\n".join(without[: attempt["metadata"]["sequence"]]))
    command = [*SEALGATE, "audit", "verify", str(cut), "--object", str(stored)]
    environment = {**os.environ, "SEALGATE_CONFIG_YAML": json.dumps(stand.proxy.settings)}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"names, is missing" in done.stdout


def test_the_trail_contains_no_secret(stand):
    argo = stand.proxy.argo("secretKey: hunter2-of-the-author\n")
    assert outcome(stand.tries(argo)["Save"]).code == "OK"
    keys = json.loads(stand.proxy.keyring.read_text())["keys"]["default"]["versions"].values()
    text = stand.proxy.trail.read_text()
    assert not [secret for secret in ("hunter2", *keys, *OF_A_LIBRARY) if secret in text]


@pytest.mark.parametrize("operation", EFFECTS)
def test_an_access_is_recorded_when_the_process_is_killed_before_its_outcome(start, key, operation):
    proxy = start()
    stand = filled(proxy, key)
    before = len(read(proxy.trail))
    argo = proxy.argo("fault: hang")
    call = threading.Thread(target=lambda: outcome(stand.tries(argo)[operation]))
    call.start()
    assert eventually(lambda: len(read(proxy.trail)) > before)
    proxy.kill()
    call.join()
    (record,) = read(proxy.trail)[before:]
    assert (record["unmapped"]["phase"], record["api"]["operation"]) == ("attempt", operation)
    assert verification(proxy) == (0, set())
    assert verification(proxy, "--expect-closed") == (1, {"open"})


def log_to_a_small_disk(proxy: Proxy, home: Path) -> Path:
    """Write the trail to a directory of its own, where a small file system is mounted."""
    disk = home / "disk"
    disk.mkdir()
    proxy.settings["audit"] = {"sinks": [{"type": "file", "path": str(disk / "audit.jsonl")}]}
    return disk


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_full_disk_blocks_accesses_that_cannot_be_recorded(full_disk, operation):
    stand, disk = full_disk
    filler = disk / "filler"
    filler.write_bytes(bytes(disk_free(disk)))
    # The last block of the trail may have room for a few more records.
    assert eventually(lambda: stand.attempt("IsDirectory").code == "UNAVAILABLE")
    stored = sorted(path.name for path in stand.proxy.storage.rglob("*"))
    found = stand.attempt(operation)
    assert_own_line(found, "UNAVAILABLE", operation, stand.key(operation))
    assert "AUDIT_BLOCKED" in found.text
    assert "no space left on device" in found.text
    assert not stand.target.exists()
    assert sorted(path.name for path in stand.proxy.storage.rglob("*")) == stored
    filler.unlink()
    assert stand.attempt(operation).code == "OK"
    stand.target.unlink(missing_ok=True)


def disk_free(disk: Path) -> int:
    state = os.statvfs(disk)
    return state.f_bavail * state.f_frsize


@pytest.fixture
def full_disk(make, key, tmp_path):
    proxy = make()
    disk = log_to_a_small_disk(proxy, tmp_path)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)], check=False).returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        proxy.trail = disk / "audit.jsonl"
        yield filled(proxy.start(), key), disk
        proxy.stop()
        assert verification(proxy) == (0, set())
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize("operation", EFFECTS)
def test_a_blocked_pipe_on_standard_output_fails_calls_within_the_bound(tmp_path, operation):
    reading, writing = os.pipe()
    proxy = Proxy(tmp_path, settings={"audit": {"wait": "100ms"}})
    proxy.output_to = writing
    proxy.start()
    stand = Stand(proxy, "blocked")
    try:
        stand.fill()
        before = fill(writing)
        stored = sorted(path.name for path in proxy.storage.rglob("*"))
        for _ in range(3):
            found = stand.attempt(operation, timeout=60)
            assert_own_line(found, "UNAVAILABLE", operation, stand.key(operation))
            assert "standard output is full and nothing reads it" in found.text
        assert sorted(path.name for path in proxy.storage.rglob("*")) == stored
        assert not stand.target.exists()
        drained = threading.Thread(target=lambda: proxy.trail.write_bytes(read_all(reading)))
        drained.start()
        assert eventually(lambda: stand.attempt(operation).code == "OK")
        os.close(writing)
        assert proxy.stop() == 0
        drained.join()
        trail = proxy.trail.read_bytes()
        proxy.trail.write_bytes(trail.replace(b"\0", b""))
        assert len(trail) - len(proxy.trail.read_bytes()) == before
        assert phases(read(proxy.trail)) == ["session.start", *["attempt", "outcome"] * 2, "session.end"]
    finally:
        proxy.stop()
        os.close(reading)


def read_all(fd: int) -> bytes:
    return b"".join(iter(lambda: os.read(fd, 65536), b""))


def test_a_session_ends_with_a_record(start):
    proxy = start()
    proxy.argo().is_directory("ns/a")
    assert proxy.stop() == 0
    assert phases(read(proxy.trail)) == ["session.start", "outcome", "session.end"]
    assert verification(proxy, "--expect-closed") == (0, set())


def test_a_trail_in_a_file_continues_after_a_restart(make, tmp_path):
    path = tmp_path / "audit.jsonl"
    proxy = make(settings={"audit": {"sinks": [{"type": "file", "path": str(path)}]}})
    for _ in range(2):
        proxy.start().argo().is_directory("ns/a")
        proxy.kill()
    assert phases(read(path)) == ["session.start", "outcome"] * 2
    assert proxy.trail.read_bytes() == b""


def test_fail_open_allows_accesses_that_cannot_be_recorded(make, tmp_path):
    sinks = [{"type": "file", "path": str(tmp_path / "absent" / "audit.jsonl")}]
    proxy = make(settings={"audit": {"sinks": sinks, "mode": "fail-open"}}).start()
    proxy.argo().save_stream("ns/a", b"some bytes")
    assert proxy.argo().open_stream("ns/a") == b"some bytes"
    assert "could not be recorded" in proxy.output()


@pytest.mark.parametrize("transfer", ["file", "stream"])
def test_the_digest_in_the_record_is_that_of_the_stored_object(start, transfer):
    settings = {"audit": {"digest": "sha256"}, "spool": {"transfer": transfer}}
    proxy = start(settings=settings, environment={"VENDOR_STREAMS": "1"})
    source = proxy.work / "source"
    source.write_bytes(bytes(3_000_000))
    argo = proxy.argo()
    argo.save("ns/a", source)
    argo.load("ns/a", proxy.work / "loaded")
    argo.open_stream("ns/a")
    digest = hashlib.sha256((proxy.storage / "ns/a").read_bytes()).hexdigest()
    outcomes = [record for record in read(proxy.trail) if record["unmapped"]["phase"] == "outcome"]
    assert [record["unmapped"]["io"]["ciphertext_sha256"] for record in outcomes] == [digest] * 3
