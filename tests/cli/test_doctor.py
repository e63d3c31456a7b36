"""`sealgate doctor` names the cause and the remedy of each fault, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time

import pytest
from harness.chain import SEALGATE, SECOND_VENDOR, VENDOR, eventually, write_keyring
from harness.users import as_user, with_small_disk

from sealgate.cli.doctor.checks import Check, findings, ok

ROUND_TRIP = (
    "downstream: start",
    "storage: absent keys",
    "storage: save",
    "storage: sealed",
    "storage: load",
    "storage: delete",
)
BY_FILE = "storage: by file"


# --- a correct configuration -----------------------------------------------------------------------------


def test_a_configuration_that_works_is_ok_in_every_line_and_leaves_nothing_in_storage(doctor):
    report = doctor("--socket", str(doctor.socket))
    assert report.code == 0, report.output
    assert {report.state(check) for check in (*ROUND_TRIP, "socket directory", "spool")} == {"ok"}
    assert report.of("ok") == {found["check"] for found in report.checks}
    assert [path for path in doctor.storage.rglob("*") if path.is_file()] == []


def test_the_round_trip_with_the_bundled_backend_in_this_process_needs_neither_socket_nor_spool(doctor):
    report = doctor("--socket", str(doctor.socket), settings={"downstream": {"builtin": {}}})
    assert report.code == 0, report.output
    assert {report.state(check) for check in (*ROUND_TRIP, "second socket", "spool")} == {"ok"}
    for check in ("second socket", "spool"):
        assert "the bundled backend runs in this process" in report.line(check)
    assert [path for path in doctor.storage.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("transfer", ["auto", "file", "stream"])
def test_the_round_trip_goes_the_way_that_is_configured(doctor, transfer):
    settings = {"downstream": {"command": [*SEALGATE, "backend"]}, "spool": {"transfer": transfer}}
    report = doctor("--socket", str(doctor.socket), settings=settings)
    assert report.code == 0, report.output
    assert {report.state(check) for check in ROUND_TRIP} == {"ok"}
    assert report.state(BY_FILE) == ("ok" if transfer == "auto" else "")
    assert [path for path in doctor.storage.rglob("*") if path.is_file()] == []


def test_a_text_report_has_a_line_for_each_check_as_the_json_has_an_entry(doctor):
    lines = doctor.text("--socket", str(doctor.socket)).stdout.splitlines()
    found = doctor("--socket", str(doctor.socket)).checks
    assert [line[:34].split(maxsplit=1)[1].strip() for line in lines] == [entry["check"] for entry in found]


def test_a_plugin_that_sealgate_does_not_start_is_used_through_its_socket(doctor):
    socket = doctor.socket.parent.parent / "vendor"
    environment = {"VENDOR_ROOT": str(doctor.storage), "PYTHONPATH": str(VENDOR[1].rpartition("/tests/")[0])}
    vendor = subprocess.Popen([*VENDOR, str(socket)], env=environment, stdout=subprocess.DEVNULL)
    try:
        assert eventually(socket.exists)
        doctor.socket.parent.mkdir()
        report = doctor("--socket", str(doctor.socket), settings={"downstream": {"socket": str(socket)}})
        assert report.code == 0, report.output
        assert list(doctor.socket.parent.iterdir()) == [], "the spool beside the socket is removed"
    finally:
        vendor.kill()
        vendor.wait()


# --- the configuration -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "there is no configuration"),
        ("apiVersion: sealgate/v1alpha1\nkind: Sealgate\nkey: {}\n", "SEALGATE_CONFIG_YAML:3:1"),
        ("a: [", "SEALGATE_CONFIG_YAML:"),
    ],
)
def test_a_configuration_that_does_not_load_ends_with_2_and_nothing_else_is_tried(doctor, text, fact):
    report = doctor(settings=text)
    assert report.code == 2
    assert fact in report.line("configuration")
    assert report.of("FAILED") == {"configuration"}
    assert report.of("not checked") == {"policies", "keys", "audit", "metrics", "directories", "downstream"}


def test_the_file_is_named_and_the_settings_of_one_plugin_are_laid_over(doctor):
    other = write_keyring(doctor.home / "other.json", versions=3)
    overlay = {"crypt-pci": {"keys": {"local": {"keyring": str(other)}}}}
    file = doctor.home / "sealgate.json"
    file.write_text(json.dumps(doctor.settings(plugins=overlay)))
    environment = {"settings": "", "SEALGATE_CONFIG": str(file)}
    assert "version 1" in doctor("--offline", **environment).line("data key: make")
    laid_over = doctor("--offline", "--plugin", "crypt-pci", **environment)
    assert "version 3" in laid_over.line("data key: make")
    assert f"{file} loads, with plugins.crypt-pci laid over it" in laid_over.line("configuration")
    assert "/tmp/artifact-plugins/crypt-pci" in laid_over.line("socket directory")
    assert "plugins.crypt-pcj changes nothing" in doctor("--offline", "--plugin", "crypt-pcj", **environment).line(
        "configuration"
    )


@pytest.mark.parametrize(("section", "check"), [("keys", "keys"), ("downstream", "downstream: start")])
def test_a_section_that_is_missing_is_named(doctor, section, check):
    report = doctor(settings={section: None})
    assert report.code == 1
    assert f"Add {section} to it" in report.line(check)
    assert report.state("storage: save") == "not checked"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--plugin", "a/b"),
        ("--plugin", "a", "--socket", "/b/socket"),
        ("--role", "owner"),
        ("--timeout", "0"),
        ("--timeout", "soon"),
        ("--timeout", "1e12"),
        ("--scratch", "../up"),
        ("--configuration", "/no/such/file"),
        ("--output", "yaml"),
    ],
)
def test_bad_usage_is_2_and_nothing_is_tried(doctor, arguments):
    refused = doctor.text(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr


# --- a local keyring -------------------------------------------------------------------------------------


KEYRINGS = {
    "readable by others": (lambda keyring: keyring.chmod(0o644), "chmod 600"),
    "without its latest version": (
        lambda keyring: keyring.write_text(keyring.read_text().replace('"latest": 1', '"latest": 2')),
        "has no version 2 of key default",
    ),
    "of another format": (lambda keyring: keyring.write_text(f"[{keyring.read_text()}]"), "is not a keyring"),
}


@pytest.mark.parametrize(("spoil", "fact"), KEYRINGS.values(), ids=KEYRINGS)
def test_a_keyring_that_is(doctor, spoil, fact):
    another = write_keyring(doctor.home / "another.json")
    spoil(another)
    report = doctor(settings={"keys": {"provider": "local", "local": {"keyring": str(another)}}})
    assert report.code == 1
    assert report.of("FAILED") == {"data key: make"}
    assert fact in report.line("data key: make")
    assert "keys.local.keyring" in report.line("data key: make")
    assert "storage: save" in report.of("not checked")


def test_a_keyring_that_is_not_there_or_has_another_key(doctor):
    for keys, fact in (
        ({"keyring": str(doctor.home / "none.json")}, "no such file"),
        ({"keyring": str(doctor.keyring), "key": "pci"}, "has no key named pci"),
    ):
        report = doctor("--offline", settings={"keys": {"provider": "local", "local": keys}})
        assert report.code == 1
        assert fact in report.line("data key: make")


def test_a_key_that_a_policy_names_must_be_in_the_keyring_unless_its_rule_is_for_others(doctor):
    rules = [{"name": "pci", "match": {"identity": {"namespaces": ["team-b"]}}, "key": "pci"}, {"name": "rest"}]
    document = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "ArtifactPolicy",
        "metadata": {"name": "keys"},
        "spec": {"encryption": rules},
    }
    settings = {"policies": [document]}
    report = doctor("--offline", settings=settings, SEALGATE_NAMESPACE="team-b")
    assert (report.code, report.of("FAILED")) == (1, {"policies: keys"})
    assert "the encryption rule keys/pci: the keyring" in report.line("policies: keys")
    assert "has no key named pci" in report.line("policies: keys")
    assert doctor("--offline", settings=settings, SEALGATE_NAMESPACE="team-a").code == 0


# --- directories -----------------------------------------------------------------------------------------


def test_a_socket_directory_that_this_user_cannot_write_to(doctor):
    doctor.socket.parent.mkdir(mode=0o755)
    doctor.socket.parent.parent.chmod(0o755)
    doctor.home.chmod(0o755)
    report = doctor("--socket", str(doctor.socket), "--offline", within=as_user(8737))
    assert report.code == 1
    for check in ("socket directory", "spool"):
        assert "permission denied" in report.line(check)
        assert "uid of argoexec" in report.line(check)


def test_a_socket_directory_that_every_user_may_write_to_is_a_warning(doctor):
    doctor.socket.parent.mkdir()
    doctor.socket.parent.chmod(0o777)
    report = doctor("--socket", str(doctor.socket), "--offline")
    assert report.code == 0
    assert report.of("warning") == {"socket directory"}
    assert "mode 0777" in report.line("socket directory")


def test_a_volume_of_the_pod_alone_is_no_warning_and_a_directory_that_is_called_so_is(doctor):
    place = doctor.socket.parent
    place.mkdir()
    mounted = with_small_disk(place)
    for within, named, state in ((mounted, place, "ok"), (mounted, place.parent, "warning"), ((), place, "warning")):
        command = (*within, "sh", "-c", f'chmod 0777 "{place}"; exec "$@"', "sh")
        report = doctor("--socket", str(doctor.socket), "--offline", "--own-volume", str(named), within=command)
        assert report.state("socket directory") == state, report.output
        assert "mode 0777" in report.line("socket directory")


def test_a_spool_that_every_user_may_write_to_fails_unless_it_can_be_made_sticky(doctor):
    spool = doctor.home / "spool"
    spool.mkdir()
    spool.chmod(0o777)
    settings = {"spool": {"directory": str(spool)}}
    assert doctor("--offline", settings=settings).state("spool") == "ok"
    if os.geteuid() == 0:
        os.chown(spool, 12345, 12345)
        report = doctor("--offline", settings=settings)
        assert (report.code, report.of("FAILED")) == (1, {"spool"})
        assert "every user can replace the files in it" in report.line("spool")
        assert stat.S_IMODE(spool.stat().st_mode) == 0o777, "doctor changes nothing"
        spool.chmod(0o1777)
        assert doctor("--offline", settings=settings).state("spool") == "ok"


@pytest.mark.parametrize("downstream", [{"command": ["x"]}, {"socket": "/x"}], ids=["command", "socket"])
def test_a_socket_whose_path_is_too_long_for_the_kernel(doctor, downstream):
    directory = f"/tmp/{'d' * (100 - len('/tmp/'))}"
    fits = doctor("--socket", f"{directory}/socket", "--offline", settings={"downstream": downstream}, TMPDIR="/tmp")
    assert fits.state("socket directory") == "ok", fits.output
    report = doctor("--socket", f"{directory}d/socket", "--offline", settings={"downstream": downstream})
    assert report.code == 1
    assert "has 108 bytes; the kernel accepts 107" in report.line("socket directory")


def test_the_place_of_a_downstreams_socket_that_does_not_fit_beside_the_plugins(doctor):
    directory = f"/tmp/{'d' * (79 - len('/tmp/'))}"
    beside = doctor("--socket", f"{directory}/socket", "--offline", TMPDIR="/tmp")
    assert f"is put into {directory}/.sealgate-downstream" in beside.line("second socket")
    elsewhere = doctor("--socket", f"{directory}d/socket", "--offline", TMPDIR="/tmp")
    assert elsewhere.state("second socket") == "ok", elsewhere.output
    assert "the downstream's socket is put into /tmp, because" in elsewhere.line("second socket")


def test_a_downstreams_socket_that_fits_nowhere(doctor):
    temporary = doctor.home / ("t" * 80)
    temporary.mkdir()
    own = f"/tmp/{'d' * 85}/socket"
    report = doctor("--socket", own, "--offline", TMPDIR=str(temporary))
    assert report.code == 1
    assert f"has {len(own) - len('socket') + len('.sealgate-downstream/socket')} bytes" in report.line("second socket")
    assert "set TMPDIR to a short path" in report.line("second socket")


SECOND_SOCKETS = {
    "too long": ("a" * 120, None, "FAILED", "the kernel accepts 107"),
    "in no directory": ("none/socket", None, "FAILED", "there is no directory"),
    "a file": ("socket", lambda path: path.write_text(""), "FAILED", "is not a socket"),
    "not there yet": ("socket", None, "warning", "Start the plugin that serves on it"),
}


@pytest.mark.parametrize(("name", "make", "state", "fact"), SECOND_SOCKETS.values(), ids=SECOND_SOCKETS)
def test_a_second_socket_that_is(doctor, name, make, state, fact):
    path = doctor.socket.parent.parent / name
    if make:
        make(path)
    report = doctor("--offline", settings={"downstream": {"socket": str(path)}})
    assert report.state("second socket") == state
    assert fact in report.line("second socket")


def test_a_place_for_the_downstreams_socket_that_is_a_file(doctor):
    doctor.socket.parent.mkdir()
    (doctor.socket.parent / ".sealgate-downstream").write_text("")
    report = doctor("--socket", str(doctor.socket), "--offline")
    assert (report.code, report.of("FAILED")) == (1, {"second socket"})
    assert "Remove it" in report.line("second socket")


def test_a_full_disk(doctor):
    doctor.socket.parent.mkdir()
    report = doctor(
        "--socket", str(doctor.socket), "--offline", within=with_small_disk(doctor.socket.parent, full=True)
    )
    assert report.code == 1
    assert "no space left" in report.line("socket directory")
    assert "Free space there" in report.line("spool")


@pytest.mark.parametrize(("transfer", "state"), [("auto", "warning"), ("file", "FAILED"), ("stream", "ok")])
def test_a_spool_with_less_room_than_a_save_leaves_free(doctor, transfer, state):
    spool = doctor.home / "spool"
    spool.mkdir()
    settings = {"spool": {"directory": str(spool), "transfer": transfer}}
    report = doctor("--offline", settings=settings, within=with_small_disk(spool))
    assert report.state("spool") == state
    assert ("64.0 MiB" in report.line("spool")) is (transfer != "stream")


def test_a_file_in_place_of_a_directory(doctor):
    doctor.socket.parent.write_bytes(b"")
    report = doctor("--socket", str(doctor.socket), "--offline")
    assert report.code == 1
    assert "is not a directory" in report.line("socket directory")


# --- downstream and storage ------------------------------------------------------------------------------


def test_a_downstream_that_cannot_be_started(doctor):
    report = doctor(settings={"downstream": {"command": ["/no/such/plugin"]}})
    assert report.code == 1
    assert "/no/such/plugin cannot be started" in report.line("downstream: start")
    assert "Correct downstream.command" in report.line("downstream: start")
    assert {report.state(check) for check in ROUND_TRIP[1:]} == {"not checked"}


def test_a_downstream_that_ends_at_once_shows_its_last_line_and_all_with_verbose(doctor):
    last = "sys.exit('the licence ' + os.environ['LICENCE_KEY'] + ' has run out')"
    words = f"import os, sys; print('no network', flush=True); {last}"
    settings = {"downstream": {"command": [sys.executable, "-c", words], "startTimeout": "30s"}}
    doctor.secrets.append("hunter2-of-the-licence")
    began = time.monotonic()
    report = doctor(settings=settings, LICENCE_KEY="hunter2-of-the-licence")
    assert time.monotonic() - began < 20
    assert report.code == 1
    assert "ended with code 1 after 0." in report.line("downstream: start")
    assert 'its last line: "the licence … has run out"' in report.line("downstream: start")
    assert "--verbose" in report.line("downstream: start")
    assert "no network" not in report.output
    doctor.secrets.clear()
    assert "no network" in doctor.text("--verbose", settings=settings, LICENCE_KEY="none").stderr


def test_a_downstream_that_is_not_running(doctor):
    settings = {"downstream": {"socket": str(doctor.home / "not-running"), "startTimeout": "250ms"}}
    report = doctor(settings=settings)
    assert report.state("downstream: start") == "FAILED"
    assert "does not accept connections" in report.line("downstream: start")


def test_a_downstream_that_stores_nothing(doctor, sent):
    report = doctor("--configuration", sent("fault: forget on Save\n"))
    assert report.of("FAILED") == {"storage: sealed", "storage: load"}
    assert "reported success, but what it stored cannot be read" in report.line("storage: sealed")
    assert report.state("storage: delete") == "ok"


def test_a_downstream_that_refuses_to_save_says_why_in_its_own_words(doctor, sent):
    report = doctor("--configuration", sent("fault: refuse on Save\n"))
    assert report.of("FAILED") == {"storage: save"}
    assert "quota of the vendor exceeded" in report.line("storage: save")
    assert report.of("not checked") >= {"storage: sealed", "storage: load"}


@pytest.mark.parametrize(
    ("fault", "transfer", "failed"),
    [
        ("short on Load", "file", {"storage: sealed", "storage: load"}),
        ("early-end on OpenStream", "auto", {"storage: load"}),
        ("short on Load", "auto", {BY_FILE}),
        ("refuse on Load", "auto", {BY_FILE}),
    ],
)
def test_a_downstream_that_cuts_what_it_loads(doctor, sent, fault, transfer, failed):
    report = doctor("--configuration", sent(f"fault: {fault}\n"), settings={"spool": {"transfer": transfer}})
    assert report.of("FAILED") == failed


@pytest.mark.parametrize(("fault", "fact"), [("refuse", "could not be deleted"), ("forget", "can still be read")])
def test_an_artifact_that_could_not_be_deleted_is_named(doctor, sent, fault, fact):
    report = doctor("--configuration", sent(f"fault: {fault} on Delete\n"))
    assert report.of("FAILED") == {"storage: delete", BY_FILE}
    left = sorted(path.relative_to(doctor.storage) for path in doctor.storage.rglob("*") if path.is_file())
    assert fact in report.line("storage: delete")
    for path, check in zip(left, ("storage: delete", BY_FILE), strict=True):
        assert f"Delete the object {path} by hand" in report.line(check)


@pytest.mark.parametrize("transfer", ["file", "stream"])
def test_what_a_downstream_answers_for_an_absent_key_is_shown(doctor, transfer):
    settings = {"downstream": {"command": SECOND_VENDOR}, "spool": {"transfer": transfer}}
    report = doctor("--socket", str(doctor.socket), settings=settings, VENDOR_STREAMS="1")
    assert report.code == 0, report.output
    line = report.line("storage: absent keys")
    assert 'ListObjects answers "no key found of name .sealgate-doctor/' in line
    read = "Load answers" if transfer == "file" else "OpenStream answers INTERNAL"
    assert f'{read} "The specified key does not exist."; IsDirectory answers no; Delete succeeds' in line


def test_an_answer_for_an_absent_key_that_is_unknown_comes_with_the_setting_that_teaches_it(doctor):
    settings: dict[str, object] = {"downstream": {"command": SECOND_VENDOR}}
    report = doctor(settings=settings, VENDOR_ABSENT="sorry: the drawer is vacant")
    assert report.of("FAILED") == {"storage: absent keys", BY_FILE, "storage: delete"}
    line = report.line("storage: absent keys")
    assert 'ListObjects answers "sorry: the drawer is vacant", which can mean anything' in line
    assert 'set downstream: {absentTexts: ["sorry: the drawer is vacant"]}' in line
    for path in doctor.storage.rglob("*"):
        assert not path.is_file(), "it is deleted, though that cannot be verified"
    settings["downstream"] = {"command": SECOND_VENDOR, "absentTexts": ["sorry: the drawer is vacant"]}
    report = doctor(settings=settings, VENDOR_ABSENT="sorry: the drawer is vacant")
    assert report.code == 0, report.output


def test_the_wait_for_a_downstream_that_hangs_ends(doctor, sent):
    report = doctor("--configuration", sent("fault: hang on Save\n"), "--timeout", "3")
    assert report.of("FAILED") == {"storage: save"}
    assert "did not finish within 3 s" in report.line("storage: save")
    assert report.state("storage: delete") == "ok"


def test_a_check_that_blocks_is_left_behind_and_the_others_are_made(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def blocks(_):
        yield ok("before it blocks")
        with open(pipe, "rb") as pipe_without_writer:
            yield ok(pipe_without_writer.name)

    checks = [
        Check("blocks", blocks),
        Check("needs it", lambda _: [ok("")], needs=("blocks",)),
        Check("another", lambda _: [ok("made")]),
    ]
    try:
        found = [(finding.check, finding.state.value, finding.fact) for finding in findings(checks, 0.1)]
    finally:
        os.close(os.open(pipe, os.O_RDWR | os.O_NONBLOCK))
    assert found == [
        ("blocks", "ok", "before it blocks"),
        ("blocks", "FAILED", "the check did not finish within 0.1 s"),
        ("needs it", "not checked", 'skipped, because "blocks" did not pass'),
        ("another", "ok", "made"),
    ]


def test_an_authors_configuration_is_not_shown_even_if_a_downstream_repeats_it(doctor, sent):
    text = "fault: repeat on Save\nsecretAccessKey: wJalrXUtnFEMI-K7MDENG\n"
    doctor.secrets.append("wJalrXUtnFEMI-K7MDENG")
    for report in (doctor("--configuration", sent(text)), doctor("--configuration", "-", stdin=text)):
        assert "no bucket for" in report.line("storage: save")
    log = doctor.text("--verbose", "--configuration", sent(text)).stderr
    assert "repeat on Save" in log, "the downstream's output is shown"


def test_the_text_of_a_downstream_is_shown_in_one_line_of_limited_length(doctor, sent):
    text = "fault: repeat on Save\n" + "a\tb " * 50_000
    line = doctor("--configuration", sent(text)).line("storage: save")
    assert "a b a b" in line
    assert len(line) < 1200
    assert line.isprintable()


def test_the_scratch_key_is_where_the_artifact_was(doctor, sent):
    report = doctor("--scratch", "team-a/doctor", "--configuration", sent("fault: forget on Delete\n"))
    assert "team-a/doctor/" in report.line("storage: save")
    left = {path.parent for path in doctor.storage.rglob("*") if path.is_file()}
    assert left == {doctor.storage / "team-a/doctor"}


def test_offline_does_not_start_the_downstream(doctor):
    report = doctor("--offline", settings={"downstream": {"command": ["/no/such/plugin"]}})
    assert report.code == 0
    assert report.state("downstream") == "not checked"
    assert report.state("downstream: start") == ""


def test_a_loader_saves_nothing_and_a_saver_loads_nothing(doctor):
    assert doctor("--role", "loader").state("storage: save") == "not checked"
    saver = doctor("--role", "saver")
    assert saver.state("storage: save") == "ok"
    assert saver.state("storage: load") == ""
    assert [path for path in doctor.storage.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("downstream", [{"command": [*SEALGATE, "backend"]}, {"builtin": {}}], ids=["child", "builtin"])
def test_storage_that_neither_saves_nor_reads_is_one_failure(doctor, downstream):
    storage = f"file://{doctor.home}/missing"
    report = doctor(settings={"downstream": downstream}, SEALGATE_BACKEND_URL=storage)
    assert report.of("FAILED") == {"storage: save"}
    assert "the directory of the store does not exist" in report.line("storage: save")
    assert "cannot check whether storage contains" in report.line("storage: delete")


# --- the package -----------------------------------------------------------------------------------------


def test_the_policies_to_paste_are_a_part_of_the_wheel(tmp_path):
    import zipfile  # noqa: PLC0415 - only this test needs it
    from pathlib import Path  # noqa: PLC0415 - only this test needs it

    root = Path(__file__).parents[2]
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=root, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    script = (
        "from sealgate import library; from sealgate.cli.doctor.checks import Role;"
        "from sealgate.cli.doctor.rights import Needs;"
        "print(library.directory()); [print(Needs(role, 'mount', 'key').policy) for role in Role]"
    )
    environment = {"PYTHONPATH": str(tmp_path / "installed")}
    ran = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert ran.stdout.startswith(str(tmp_path / "installed"))
    for path in ("mount/datakey/plaintext/key", "mount/decrypt/key", "mount/rewrap/key", "mount/keys/key"):
        assert f'path "{path}"' in ran.stdout
    assert "transit" not in ran.stdout


def test_a_policy_that_does_not_load_is_reported_and_nothing_is_saved(doctor, tmp_path):
    policy = tmp_path / "policy.yaml"
    policy.write_text("apiVersion: sealgate/v1alpha1\nkind: ArtifactPolicy\nmetadata: {name: a}\nspec: {rule: []}\n")
    report = doctor(settings={"policies": [str(policy)]})
    assert report.code == 1
    assert f"{policy}:4:" in report.line("policies")
    assert "sealgate policy check" in report.line("policies")
    assert "storage: save" in report.of("not checked")


def test_policies_decide_on_the_artifact_of_the_doctor(doctor):
    allows = {"name": "scratch", "effect": "allow", "match": {"operations": ["read", "write", "delete"]}}
    metadata = {"apiVersion": "sealgate/v1alpha1", "kind": "ArtifactPolicy", "metadata": {"name": "a"}}
    encryption = [{"name": "everything", "write": "required"}]
    report = doctor(settings={"policies": [metadata | {"spec": {"rules": [allows], "encryption": encryption}}]})
    for check in ("storage: save", "storage: load", "storage: delete"):
        assert check in report.of("ok"), report
    allows["match"]["operations"] = ["read", "delete"]
    report = doctor(settings={"policies": [metadata | {"spec": {"rules": [allows], "encryption": encryption}}]})
    assert "storage: save" in report.of("FAILED")


@pytest.mark.parametrize("enforcement", ["enforce", "warn"])
@pytest.mark.parametrize("overwrite", ["deny", "allow"])
def test_a_policy_that_denies_overwriting_without_create_only_writes_is_a_warning(doctor, overwrite, enforcement):
    require = {"name": "once", "effect": "require", "require": {"overwrite": overwrite}, "enforcement": enforcement}
    document = {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "ArtifactPolicy",
        "metadata": {"name": "a"},
        "spec": {"rules": [{"name": "all", "effect": "allow"}, require]},
    }
    report = doctor(settings={"policies": [document]})
    assert report.code == 0, report.output
    assert report.state("storage: write once") == ("warning" if overwrite == "deny" else "ok")
    assert "two Saves at the same time may both succeed" in report.line("storage: write once")
    backend = {"command": [*SEALGATE, "backend"]}
    report = doctor(settings={"policies": [document], "downstream": backend})
    assert report.state("storage: write once") == "ok", report.output
