"""`seal`, `open` and `inspect` as processes with real files."""

import json
import os
import subprocess

import pytest
from harness.chain import SEALGATE, write_keyring
from harness.sealing import Tree, build, tree_at

from sealgate.cli.commands import run as main
from sealgate.keys.local import LocalKeys

KEY = "ns/train/report.txt"
TREE: Tree = {"a": b"first", "empty": {}, "inner": {"b": b"second"}}


def settings_at(place):
    """Return the settings of a process with the keyring in the directory `place`."""
    return json.dumps(
        {
            "apiVersion": "sealgate/v1alpha1",
            "kind": "Sealgate",
            "keys": {"provider": "local", "local": {"keyring": str(place / "keyring.json")}},
        }
    )


@pytest.fixture
def run(tmp_path):
    write_keyring(tmp_path / "keyring.json")
    environment = {"SEALGATE_CONFIG_YAML": settings_at(tmp_path), "PATH": os.environ["PATH"]}

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


@pytest.fixture
def tree(tmp_path):
    return build(tmp_path / "tree", TREE)


def test_a_file_is_sealed_and_opened_again(run, report, tmp_path):
    assert run("seal", report, "sealed", "--artifact-key", KEY).returncode == 0
    assert (tmp_path / "sealed").stat().st_mode & 0o777 == 0o600
    assert run("open", "sealed", "opened", "--artifact-key", KEY).returncode == 0
    assert (tmp_path / "opened").read_bytes() == report.read_bytes()


BINDINGS = {"bound": (("--artifact-key", KEY), ("--artifact-key", KEY)), "unbound": (("--unbound",), ())}
"""The options with which an artifact is sealed, and opened again."""


@pytest.mark.parametrize("binding", BINDINGS)
def test_a_directory_is_sealed_and_opened_again_with_and_without_a_binding(run, tree, tmp_path, binding):
    to_seal, to_open = BINDINGS[binding]
    assert run("seal", "tree", "sealed", *to_seal).returncode == 0
    opened = run("open", "sealed", "opened", *to_open)
    assert (opened.returncode, opened.stderr) == (0, b"")
    assert tree_at(tmp_path / "opened") == TREE


def test_a_directory_opens_to_what_its_manifest_lists(run, tree, tmp_path):
    run("seal", "tree", "sealed", "--artifact-key", KEY)
    (tmp_path / "sealed" / "new folder").mkdir()
    for number, said in ((1, b"left out 1 file that no Save stored"), (2, b"left out 2 files that no Save stored")):
        (tmp_path / "sealed" / f"planted-{number}").write_bytes(b"not sealed")
        opened = run("open", "sealed", f"opened-{number}", "--artifact-key", KEY)
        assert (opened.returncode, opened.stderr) == (0, b"sealgate open: " + said + b"\n")
        assert tree_at(tmp_path / f"opened-{number}") == TREE


@pytest.mark.parametrize(
    ("missing", "fact"),
    [
        ("inner/b", b'"inner/b" in the directory is missing'),
        (".sealgate-manifest", b"the directory has no manifest"),
    ],
)
def test_a_directory_that_is_not_complete_exits_with_1_and_leaves_nothing(run, tree, tmp_path, missing, fact):
    run("seal", "tree", "sealed", "--artifact-key", KEY)
    (tmp_path / "sealed" / missing).unlink()
    before = set(tmp_path.iterdir())
    refused = run("open", "sealed", "opened", "--artifact-key", KEY)
    assert refused.returncode == 1
    assert fact in refused.stderr
    assert set(tmp_path.iterdir()) == before


def test_a_manifest_is_not_opened_as_a_file(run, tree, tmp_path):
    run("seal", "tree", "sealed", "--artifact-key", KEY)
    assert run("open", "sealed/.sealgate-manifest", "opened", "--artifact-key", KEY).returncode == 1
    reserved = run("open", "sealed/.sealgate-manifest", "opened", "--artifact-key", f"{KEY}/.sealgate-manifest")
    assert reserved.returncode == 2
    assert b"is reserved" in reserved.stderr
    assert not (tmp_path / "opened").exists()


def test_a_directory_with_a_reserved_name_is_not_sealed(run, tree, tmp_path):
    (tree / "inner" / ".sealgate-manifest").write_bytes(b"")
    before = set(tmp_path.iterdir())
    refused = run("seal", "tree", "sealed", "--unbound")
    assert refused.returncode == 2
    assert b"is reserved" in refused.stderr
    assert set(tmp_path.iterdir()) == before


def test_the_data_key_of_a_directory_is_requested_once(run, tree, tmp_path, monkeypatch, capsys):
    run("seal", "tree", "sealed", "--artifact-key", KEY)
    requests = []
    unwrap = LocalKeys.unwrap

    def counted(self, call, wrapped):
        requests.append(wrapped)
        return unwrap(self, call, wrapped)

    monkeypatch.setattr(LocalKeys, "unwrap", counted)
    monkeypatch.setenv("SEALGATE_CONFIG_YAML", settings_at(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["open", "sealed", "opened", "--artifact-key", KEY]) == 0
    assert len(requests) == 1


def test_streams_go_through_pipes(run, report):
    sealed = run("seal", "-", "-", "--artifact-key", KEY, stdin=report.read_bytes())
    assert sealed.returncode == 0
    opened = run("open", "-", "-", "--artifact-key", KEY, stdin=sealed.stdout)
    assert (opened.returncode, opened.stdout) == (0, report.read_bytes())
    assert opened.stderr == b"", "progress is shown on a terminal alone"


@pytest.mark.parametrize("key", [(), ("--artifact-key", "ns/other")])
def test_a_bound_file_opens_only_with_its_artifact_key(run, report, tmp_path, key):
    run("seal", report, "sealed", "--artifact-key", KEY)
    refused = run("open", "sealed", "opened", *key)
    assert refused.returncode == (1 if key else 2)
    assert not (tmp_path / "opened").exists()
    assert len(refused.stderr.decode().splitlines()) == 1


@pytest.mark.parametrize("source", ["report.txt", "tree"])
def test_a_wrong_artifact_key_is_named_before_a_damaged_copy(run, report, tree, source):
    run("seal", source, "sealed", "--artifact-key", KEY)
    refused = run("open", "sealed", "opened", "--artifact-key", "ns/train/other.txt")
    assert refused.returncode == 1
    assert b"Check --artifact-key ns/train/other.txt. If it is right: Restore" in refused.stderr


def test_a_damaged_file_exits_with_1_and_leaves_no_file(run, report, tmp_path):
    run("seal", report, "sealed", "--unbound")
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
        refused = run(command, report, "there", "--artifact-key", KEY)
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


def test_inspect_says_the_same_of_a_file_and_of_standard_input(run, report, tmp_path):
    run("seal", report, "sealed", "--unbound")
    whole = (tmp_path / "sealed").read_bytes()
    for content in (whole, whole[:20], b"plain"):
        (tmp_path / "sealed").write_bytes(content)
        of_file, of_stream = run("inspect", "sealed"), run("inspect", "-", stdin=content)
        assert (of_stream.returncode, of_stream.stdout) == (of_file.returncode, of_file.stdout)
        assert of_stream.stderr == of_file.stderr


def test_inspect_exits_with_1_for_a_truncated_file(run, report, tmp_path):
    run("seal", report, "sealed", "--unbound")
    os.truncate(tmp_path / "sealed", 200)
    assert run("inspect", "sealed").returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("seal", "missing", "out", "--unbound"),
        ("open", "missing", "out"),
        ("seal", "report.txt", "out", "--artifact-key", "../up"),
        ("seal", "report.txt", "out", "--artifact-key", ""),
        ("open", "report.txt", "out", "--artifact-key", ""),
        ("seal", "report.txt", "out", "--artifact-key", "ns/.sealgate-manifest"),
        ("seal", "report.txt", "out", "--artifact-key", KEY, "--unbound"),
        ("seal", "report.txt", "out"),
        ("seal", "report.txt", "no/such/directory/out", "--unbound"),
        ("open", "report.txt", "out", "--unbound"),
        ("seal",),
        ("nonsense",),
    ],
)
def test_bad_usage_exits_with_2_and_an_error(run, report, tmp_path, arguments):
    before = set(tmp_path.iterdir())
    refused = run(*arguments)
    assert refused.returncode == 2
    assert refused.stderr
    assert b"Traceback" not in refused.stderr
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("source", ["report.txt", "-", "."])
def test_seal_says_that_it_needs_an_artifact_key_or_unbound(run, report, source):
    refused = run("seal", source, "out")
    assert refused.returncode == 2
    assert b"one of the arguments --artifact-key --unbound is required" in refused.stderr


@pytest.mark.parametrize("verb", ["seal", "open"])
def test_an_empty_artifact_key_is_an_error(run, report, verb):
    refused = run(verb, report, "out", "--artifact-key", "")
    assert refused.returncode == 2
    assert b"the key is empty" in refused.stderr


@pytest.mark.parametrize("source", ["report.txt", "tree"])
def test_what_is_not_bound_does_not_open_for_an_artifact_key(run, report, tree, tmp_path, source):
    run("seal", source, "sealed", "--unbound")
    before = set(tmp_path.iterdir())
    refused = run("open", "sealed", "opened", "--artifact-key", KEY)
    assert refused.returncode == 1
    assert b"is not bound to an artifact key, so it can be any other artifact's" in refused.stderr
    assert set(tmp_path.iterdir()) == before
    assert run("open", "sealed", "opened").returncode == 0


def test_an_unbound_stream_does_not_open_for_an_artifact_key(run, report):
    sealed = run("seal", report, "-", "--unbound").stdout
    refused = run("open", "-", "-", "--artifact-key", KEY, stdin=sealed)
    assert (refused.returncode, refused.stdout) == (1, b"")
    assert run("open", "-", "-", stdin=sealed).stdout == report.read_bytes()


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
    refused = run("seal", *arguments, "--unbound", SEALGATE_CONFIG_YAML=json.dumps(UNREACHABLE), VAULT_TOKEN="t")
    assert refused.returncode == 2
    assert fact in refused.stderr
    assert (tmp_path / "there").read_bytes() == b"precious"
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("source", ["report.txt", "-", "tree"])
def test_seal_leaves_no_file_if_the_key_provider_cannot_be_reached(run, report, tmp_path, source):
    (tmp_path / "tree").mkdir()
    before = set(tmp_path.iterdir())
    refused = run("seal", source, "out", "--unbound", SEALGATE_CONFIG_YAML=json.dumps(UNREACHABLE), VAULT_TOKEN="t")
    assert refused.returncode == 1
    assert b"Vault at 127.0.0.1:1 cannot be reached" in refused.stderr
    assert set(tmp_path.iterdir()) == before


def test_without_a_configuration_the_error_names_the_variable(run, report):
    refused = run("seal", report, "out", "--unbound", SEALGATE_CONFIG_YAML="")
    assert refused.returncode == 2
    assert b"SEALGATE_CONFIG" in refused.stderr
