"""`sealgate conformance` on the proxy, on the bundled backend and on a vendor's plugin, and its command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from harness import mutant
from harness.chain import SEALGATE, VENDOR, Proxy
from harness.conforming import LARGEST, NAMES, SLOW, WITH_PROCESS, run_on

from sealgate.cli import commands
from sealgate.conformance.catalogue import CHECKS
from sealgate.conformance.checks import ContractState
from sealgate.conformance.client import ArgoClient, CallFailed
from sealgate.conformance.content import Content
from sealgate.conformance.workspace import Extent, Workspace

STREAMS = {"VENDOR_STREAMS": "1"}
VENDOR_FAILS = {
    "directory-links",
    "key-climbs",
    "key-outside",
    "load-link",
    "save-link",
    "sigterm-busy",
    "start-directory",
    "start-mode",
}
"""What the vendor of the tests, which is written as simply as possible, does not keep."""
FULL = ["--largest", "260MiB", "--files", "6000", "--timeout", "300"]


def command(*arguments, given="", **variables):
    """Run `sealgate conformance` and return the finished process."""
    environment = {**os.environ, **variables}
    return subprocess.run(
        [*SEALGATE, "conformance", *map(str, arguments)],
        input=given,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def served() -> Iterator[Path]:
    """The socket of a plugin without a defect."""
    yield from _serve("")


class Recording(mutant.Mutant):
    """A plugin that keeps the name by which an artifact calls it."""

    called = ""

    def _key(self, artifact):
        self.called = artifact.plugin.name
        return super()._key(artifact)


@pytest.fixture
def forgetful() -> Iterator[Path]:
    """The socket of a plugin that deletes nothing."""
    yield from _serve("forgets-delete")


def _serve(defect):
    with tempfile.TemporaryDirectory(prefix="sg-") as short:
        server = mutant.server_of(mutant.Mutant(defect), f"{short}/socket")
        yield Path(short, "socket")
        server.stop(None)


# --- the plugins -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "downstream",
    [
        pytest.param({"builtin": {}}, id="builtin"),
        pytest.param([*SEALGATE, "backend"], id="bundled", marks=pytest.mark.large),
        pytest.param(VENDOR, id="vendor", marks=pytest.mark.large),
    ],
)
def test_the_proxy_keeps_the_contract(downstream, tmp_path):
    proxy = Proxy(tmp_path, downstream=downstream, environment=STREAMS).start()
    try:
        found = run_on(proxy.work, set(NAMES) - WITH_PROCESS - SLOW, socket=proxy.socket)
    finally:
        assert proxy.stop() == 0
    assert found.failed == set(), found.found()
    assert found.named(ContractState.NOT_APPLICABLE) == set()
    assert found.left == []
    assert [path for path in proxy.storage.rglob("*") if path.is_file()] == []


@pytest.mark.large  # docs/conformance.md has such a command, which test_page.py runs
def test_the_bundled_backend_keeps_the_contract(tmp_path):
    (tmp_path / "storage").mkdir()
    done = command(
        *("--work", tmp_path, "--largest", LARGEST, "--files", 40, "--output", "json", "--", *SEALGATE, "backend"),
        SEALGATE_BACKEND_URL=f"file://{tmp_path}/storage",
    )
    report = json.loads(done.stdout)
    states = {line["check"]: line["state"] for line in report["checks"]}
    assert {name for name, state in states.items() if state != "pass"} == {"list-large"}, done.stdout
    assert list(states) == list(NAMES)
    assert report["ok"]
    assert report["left"] == []
    assert done.returncode == 0
    assert done.stderr == ""
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_it_names_what_a_vendor_does_not_keep(tmp_path):
    names = VENDOR_FAILS | {"file-sizes", "upload", "delete-directory", "sigterm"}
    (tmp_path / "storage").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VENDOR_ROOT", str(tmp_path / "storage"))
        patch.setenv("VENDOR_STREAMS", "1")
        found = run_on(tmp_path, names, command=VENDOR)
    assert found.failed == VENDOR_FAILS, found.found()
    assert [path for path in (tmp_path / "storage").rglob("*") if path.is_file()] == []


@pytest.mark.large
@pytest.mark.timeout(900)
def test_the_proxy_keeps_the_contract_at_full_size(tmp_path):
    proxy = Proxy(tmp_path, downstream=[*SEALGATE, "backend"]).start()
    done = command(*FULL, "--work", proxy.work, proxy.socket)
    assert proxy.stop() == 0
    assert done.returncode == 0, done.stdout
    lines = [line.split()[0] for line in done.stdout.splitlines()[:-1]]
    assert lines.count("pass") == len(set(NAMES) - WITH_PROCESS)


# --- the command line ------------------------------------------------------------------------------------


def test_a_failure_names_the_fact_and_what_argo_does(forgetful, tmp_path):
    done = command("--only", "delete", "--work", tmp_path, forgetful)
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert [line.split()[:2] for line in lines[:3]] == [["pass", "connect"], ["pass", "file"], ["FAIL", "delete"]]
    (check,) = [check for check in CHECKS if check.name == "delete"]
    assert f"can still be loaded. Under Argo: {check.argo}. See docs/argo-contract.md [40]" in lines[2]
    assert lines[-1] == "2 pass, 1 FAIL, 0 not applicable, 0 not checked"


def test_the_json_report_has_the_same_facts(forgetful, tmp_path):
    done = command("--only", "delete", "--output", "json", "--work", tmp_path, forgetful)
    report = json.loads(done.stdout)
    assert [(line["check"], line["state"]) for line in report["checks"]] == [
        ("connect", "pass"),
        ("file", "pass"),
        ("delete", "FAIL"),
    ]
    assert report["checks"][2]["facts"] == [40]
    assert not report["ok"]
    assert len(report["left"]) == 2
    assert done.returncode == 1


def test_it_says_what_it_left(forgetful, tmp_path):
    done = command("--only", "file", "--prefix", "a/prefix", "--work", tmp_path, forgetful)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("left")]
    assert line.split()[:3] == ["left", "the", "artifact"]
    assert line.split()[3].startswith("a/prefix/")
    assert done.returncode == 0


def test_a_plugin_that_has_gone_is_not_waited_for(tmp_path):
    with tempfile.TemporaryDirectory(prefix="sg-") as short:
        server = mutant.server_of(mutant.Mutant(), f"{short}/socket")
        workspace = Workspace(Extent(), tmp_path, "gone", lambda at: ArgoClient(at, "{}", "vendor", 20))
        workspace.use(f"{short}/socket")
        saved = [workspace.saved(str(number), Content(1)) for number in range(3)]
        server.stop(None).wait()
    first, *left = workspace.close()
    assert first == "the plugin no longer answers, so it keeps what was stored of:"
    assert left == [f"the artifact {key}" for key in saved]
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_a_listing_cannot_show_is_named_too(forgetful, tmp_path):
    workspace = Workspace(Extent(), tmp_path, "odd", lambda at: ArgoClient(at, "{}", "vendor", 20))
    workspace.use(str(forgetful))
    saved = [workspace.saved(name, Content(1)) for name in ("odd//double", "file")]
    assert sorted(workspace.close()) == sorted(f"the artifact {key}" for key in saved)


@pytest.mark.parametrize("name", ["absent", "directory", "file"])
def test_what_was_loaded_to_look_at_is_removed_at_once(name, served, tmp_path):
    workspace = Workspace(Extent(), tmp_path, "space", lambda at: ArgoClient(at, "{}", "vendor", 20))
    workspace.use(str(served))
    workspace.saved("file", Content(1))
    workspace.saved_tree("directory", {"file": b"1"})
    assert workspace.is_stored(workspace.key(name)) == (name != "absent")
    with suppress(CallFailed):
        assert bool(workspace.difference(workspace.key(name), Content(1))) == (name == "directory")
    assert list(workspace.directory.iterdir()) == []
    assert workspace.close() == []


def test_what_a_process_saved_before_its_end_is_deleted(tmp_path):
    (tmp_path / "storage").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VENDOR_ROOT", str(tmp_path / "storage"))
        found = run_on(tmp_path, {"sigterm-busy"}, command=VENDOR)
    assert found.results["sigterm-busy"].state is not ContractState.NOT_CHECKED
    assert found.left == []
    assert [path for path in (tmp_path / "storage").rglob("*") if path.is_file()] == []


def test_it_touches_nothing_outside_its_prefix(tmp_path):
    (tmp_path / "storage/team").mkdir(parents=True)
    (tmp_path / "storage/team/file").write_bytes(b"of others")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VENDOR_ROOT", str(tmp_path / "storage"))
        run_on(tmp_path, {"key-climbs", "key-outside", "key-odd", "message-empty", "delete-beside"}, command=VENDOR)
    assert [path for path in (tmp_path / "storage").rglob("*") if path.is_file()] == [tmp_path / "storage/team/file"]


def test_a_plugin_that_does_not_serve_fails_with_its_last_words(tmp_path):
    done = command("--only", "connect", "--work", tmp_path, "--", sys.executable, "-c", "raise SystemExit('no bucket')")
    assert done.returncode == 1
    assert 'the process ended with exit code 1 and did not serve; its last line was "no bucket"' in done.stdout


def test_a_command_that_does_not_exist_is_named(tmp_path):
    done = command("--only", "start-directory", "--work", tmp_path, "--", tmp_path / "plugin")
    assert done.returncode == 1
    assert "the command cannot be started: no such file or directory" in done.stdout


def test_without_a_command_the_process_is_not_checked(served, tmp_path):
    done = command("--only", "sigterm", "--work", tmp_path, served)
    assert done.stdout.splitlines()[1].startswith("not checked     sigterm")
    assert done.returncode == 0


def test_the_configuration_reaches_the_plugin_and_stays_out_of_the_report(tmp_path):
    with tempfile.TemporaryDirectory(prefix="sg-") as short:
        server = mutant.server_of(mutant.Mutant("repeats-configuration"), f"{short}/socket")
        done = command(
            *("--only", "file", "--configuration", "-", "--work", tmp_path, f"{short}/socket"),
            given="secret: s3cr3t-of-the-author",
        )
        server.stop(None)
    assert "FAIL            file                       Save failed: cannot parse secret: …" in done.stdout
    assert "s3cr3t" not in done.stdout + done.stderr


def test_the_name_of_the_plugin_is_in_each_artifact(tmp_path):
    plugin = Recording()
    with tempfile.TemporaryDirectory(prefix="sg-") as short:
        server = mutant.server_of(plugin, f"{short}/socket")
        assert command("--only", "file", "--plugin", "bank-s3", "--work", tmp_path, f"{short}/socket").returncode == 0
        server.stop(None)
    assert plugin.called == "bank-s3"


def test_the_list_has_every_check_with_its_facts():
    text, as_json = command("--list").stdout.splitlines(), json.loads(command("--list", "--output", "json").stdout)
    assert [line.split()[0] for line in text] == [entry["check"] for entry in as_json] == list(NAMES)
    for entry, check in zip(as_json, CHECKS, strict=True):
        assert entry == {"check": check.name, "facts": list(check.facts), "asks": check.asks, "argo": check.argo}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "give either the socket of a running plugin, or -- and the plugin's command"),
        (["/no/socket"], "/no/socket is not a socket"),
        (["/no/socket", "--", "plugin"], "give either the socket"),
        (["--prefix", "../up", "--", "plugin"], "relative segment"),
        (["--work", "/no/directory", "--", "plugin"], "no such file or directory"),
        (["--only", "nothing"], "invalid choice: 'nothing'"),
        (["--largest", "1MB", "--list"], "expected a size such as `5GiB`, `512KiB` or a number of bytes"),
        (["--largest", "0", "--list"], "must be at least 1 byte"),
        (["--largest", "0KiB", "--list"], "must be at least 1 byte"),
        (["--files", "0", "--list"], "must be a number from 1 to 1000000"),
        (["--plugin", "\udcff", "--", "plugin"], "the plugin's name is not one line of printable text"),
        (["--timeout", "0", "--list"], "must be a positive number of seconds"),
    ],
)
def test_bad_usage_is_refused_before_any_check(arguments, text, capsys):
    try:
        code = commands.run(["conformance", *arguments])
    except SystemExit as exit_:
        code = exit_.code
    captured = capsys.readouterr()
    assert text in captured.err
    assert captured.out == ""
    assert code == 2


# --- the checks ------------------------------------------------------------------------------------------


def test_the_facts_of_the_checks_are_those_of_the_contract():
    page = (Path(__file__).parents[2] / "docs/argo-contract.md").read_text()
    for check in CHECKS:
        assert check.facts
        assert all(f"\n{number}. " in page for number in check.facts), check.name


def test_a_check_runs_after_those_that_it_needs():
    for number, check in enumerate(CHECKS):
        assert set(check.needs) <= set(NAMES[:number]), check.name
    assert len(set(NAMES)) == len(NAMES)
