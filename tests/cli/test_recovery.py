"""`seal`, `open` and `inspect` as processes with real files."""

import json
import os
import pty
import subprocess

import pytest
from harness.chain import SEALGATE, write_keyring

KEY = "ns/train/report.txt"


@pytest.fixture
def run(tmp_path):
    settings = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "Sealgate",
        "keys": {"provider": "local", "local": {"keyring": str(write_keyring(tmp_path / "keyring.json"))}},
    }
    environment = {"SEALGATE_CONFIG_YAML": json.dumps(settings), "PATH": os.environ["PATH"]}

    def run_(*arguments, stdin=b"", **more):
        command = [*SEALGATE, *map(str, arguments)]
        return subprocess.run(
            command, input=stdin, capture_output=True, cwd=tmp_path, env={**environment, **more}, check=False
        )

    return run_


@pytest.fixture
def report(tmp_path):
    path = tmp_path / "report.txt"
    path.write_bytes(os.urandom(2_200_000))
    return path


def test_a_file_is_sealed_and_opened_again(run, report, tmp_path):
    assert run("seal", report, "sealed", "--artifact-key", KEY).returncode == 0
    assert (tmp_path / "sealed").stat().st_mode & 0o777 == 0o600
    assert run("open", "sealed", "opened", "--artifact-key", KEY).returncode == 0
    assert (tmp_path / "opened").read_bytes() == report.read_bytes()


def test_a_directory_is_sealed_and_opened_again_with_and_without_a_binding(run, tmp_path):
    (tmp_path / "tree" / "empty").mkdir(parents=True)
    (tmp_path / "tree" / "file").write_bytes(b"x")
    for key in ((), ("--artifact-key", "ns/tree")):
        name = f"copy-{len(key)}"
        assert run("seal", "tree", f"{name}.sealed", *key).returncode == 0
        assert run("open", f"{name}.sealed", name, *key).returncode == 0
        assert (tmp_path / name / "file").read_bytes() == b"x"
        assert (tmp_path / name / "empty").is_dir()


def test_streams_go_through_pipes(run, report):
    sealed = run("seal", "-", "-", "--artifact-key", KEY, stdin=report.read_bytes())
    assert sealed.returncode == 0
    opened = run("open", "-", "-", "--artifact-key", KEY, stdin=sealed.stdout)
    assert (opened.returncode, opened.stdout) == (0, report.read_bytes())
    assert opened.stderr == b"", "progress is shown on a terminal alone"


def test_progress_is_removed_from_a_terminal_at_the_end(run, report, tmp_path):
    leader, follower = pty.openpty()
    command = [*SEALGATE, "seal", str(report), "sealed"]
    settings = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "Sealgate",
        "keys": {"provider": "local", "local": {"keyring": str(tmp_path / "keyring.json")}},
    }
    environment = {"SEALGATE_CONFIG_YAML": json.dumps(settings), "PATH": os.environ["PATH"]}
    assert subprocess.run(command, stderr=follower, cwd=tmp_path, env=environment, check=False).returncode == 0
    os.close(follower)
    assert os.read(leader, 1000).endswith(b"\r\x1b[K"), "the line is cleared at the end"
    os.close(leader)


@pytest.mark.parametrize("key", [(), ("--artifact-key", "ns/other")])
def test_a_bound_file_opens_only_with_its_artifact_key(run, report, tmp_path, key):
    run("seal", report, "sealed", "--artifact-key", KEY)
    refused = run("open", "sealed", "opened", *key)
    assert refused.returncode == (1 if key else 2)
    assert not (tmp_path / "opened").exists()
    assert len(refused.stderr.decode().splitlines()) == 1


def test_a_damaged_file_exits_with_1_and_leaves_no_file(run, report, tmp_path):
    run("seal", report, "sealed")
    stored = bytearray((tmp_path / "sealed").read_bytes())
    stored[-1] ^= 1
    (tmp_path / "sealed").write_bytes(stored)
    before = set(tmp_path.iterdir())
    refused = run("open", "sealed", "opened")
    assert refused.returncode == 1
    assert b"fails authentication" in refused.stderr
    assert set(tmp_path.iterdir()) == before


def test_an_existing_target_is_never_overwritten(run, report, tmp_path):
    (tmp_path / "there").write_bytes(b"precious")
    for command in ("seal", "open"):
        refused = run(command, report, "there")
        assert refused.returncode == 2
        assert b"exists" in refused.stderr
    assert (tmp_path / "there").read_bytes() == b"precious"


def test_inspect_shows_the_header_and_needs_no_key(run, report, tmp_path):
    run("seal", report, "sealed", "--artifact-key", KEY)
    facts = json.loads(run("inspect", "sealed", "--output", "json", SEALGATE_CONFIG_YAML="").stdout)
    assert facts["provider"] == "local"
    assert facts["key_version"] == 1
    assert facts["binding"] == "artifact key"
    assert facts["plaintext_bytes"] == 2_200_000
    assert facts["header_bytes"] + facts["body_bytes"] == (tmp_path / "sealed").stat().st_size
    assert "AES256-GCM" in run("inspect", "sealed").stdout.decode()


@pytest.mark.parametrize(("content", "code"), [(b"plain", 1), (b"\x89SEAL\r\n\x1a\xff\xff\xff\xff", 1), (b"", 1)])
def test_inspect_refuses_a_file_that_is_not_sealed(run, tmp_path, content, code):
    (tmp_path / "file").write_bytes(content)
    refused = run("inspect", "file")
    assert refused.returncode == code
    assert len(refused.stderr.decode().splitlines()) == 1


def test_inspect_exits_with_1_for_a_truncated_file(run, report, tmp_path):
    run("seal", report, "sealed")
    os.truncate(tmp_path / "sealed", 200)
    assert run("inspect", "sealed").returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("seal", "missing", "out"),
        ("open", "missing", "out"),
        ("seal", "report.txt", "out", "--artifact-key", "../up"),
        ("seal", "report.txt", "no/such/directory/out"),
        ("seal",),
        ("nonsense",),
    ],
)
def test_bad_usage_exits_with_2_and_an_error(run, report, arguments):
    refused = run(*arguments)
    assert refused.returncode == 2
    assert refused.stderr
    assert b"Traceback" not in refused.stderr


UNREACHABLE = {
    "apiVersion": "sealgate/v1alpha1",
    "kind": "Sealgate",
    "keys": {
        "provider": "vault",
        "vault": {"address": "http://127.0.0.1:1", "timeout": "1s", "auth": {"method": "token"}},
    },
}


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (("missing", "out"), b"missing"),
        (("missing", "-"), b"missing"),
        (("report.txt", "there"), b"there exists already"),
        (("-", "there"), b"there exists already"),
        (("report.txt", "no/such/directory/out"), b"no/such/directory"),
        (("-", "no/such/directory/out"), b"no/such/directory"),
        ((".", "-"), b"is a directory"),
    ],
)
def test_seal_checks_its_paths_before_it_asks_for_a_key(run, report, tmp_path, arguments, fact):
    (tmp_path / "there").write_bytes(b"precious")
    before = set(tmp_path.iterdir())
    refused = run("seal", *arguments, SEALGATE_CONFIG_YAML=json.dumps(UNREACHABLE), VAULT_TOKEN="t")
    assert refused.returncode == 2
    assert fact in refused.stderr
    assert (tmp_path / "there").read_bytes() == b"precious"
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("source", ["report.txt", "-", "tree"])
def test_seal_leaves_no_file_if_the_key_provider_cannot_be_reached(run, report, tmp_path, source):
    (tmp_path / "tree").mkdir()
    before = set(tmp_path.iterdir())
    refused = run("seal", source, "out", SEALGATE_CONFIG_YAML=json.dumps(UNREACHABLE), VAULT_TOKEN="t")
    assert refused.returncode == 1
    assert b"Vault at 127.0.0.1:1 cannot be reached" in refused.stderr
    assert set(tmp_path.iterdir()) == before


def test_without_a_configuration_the_error_names_the_variable(run, report):
    refused = run("seal", report, "out", SEALGATE_CONFIG_YAML="")
    assert refused.returncode == 2
    assert b"SEALGATE_CONFIG" in refused.stderr
