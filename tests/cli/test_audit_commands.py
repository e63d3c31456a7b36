"""`sealgate audit` on the command line, on the trail of a real proxy."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from harness.auditor_pages import cells
from harness.chain import SEALGATE, TESTS, Proxy
from harness.outcome import outcome
from harness.trails import Memory, log_of, shown_call, trail_of

from sealgate.audit.accesses import Access
from sealgate.call import Operation
from sealgate.plugin import Artifact

PAGE = TESTS.parent / "docs/audit.md"
FULL_WIDTH = (
    "FULLWIDTH EQUALS SIGN",
    "FULLWIDTH PLUS SIGN",
    "FULLWIDTH HYPHEN-MINUS",
    "FULLWIDTH COMMERCIAL AT",
)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    environment = {"ARGO_WORKFLOW_NAME": "train-7x2p", "ARGO_POD_NAME": "train-7x2p-1"}
    proxy = Proxy(tmp_path_factory.mktemp("audited"), environment=environment).start()
    argo = proxy.argo()
    argo.save_stream("team-a/one", b"x" * 1000)
    argo.save_stream("team-b/two", b"x" * 2000)
    argo.open_stream("team-a/one")
    argo.is_directory("team-a")
    outcome(lambda: argo.delete("team-a/../two"))
    argo.delete("team-a/one")
    assert proxy.stop() == 0
    return proxy


@pytest.fixture
def run(proxy):
    def run_(*arguments, stdin=b"", configured=True):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SEALGATE")}
        if configured:
            environment["SEALGATE_CONFIG_YAML"] = json.dumps(proxy.settings)
        command = [*SEALGATE, "audit", *map(str, arguments)]
        return subprocess.run(command, input=stdin, capture_output=True, env=environment, check=False)

    return run_


def test_a_trail_is_verified_with_the_configured_provider(run, proxy):
    done = run("verify", proxy.trail, "--expect-closed")
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode()
    assert "12 records, closed, certified by default version 1" in text
    assert "train-7x2p train-7x2p-1" in text
    assert text.endswith("verified, 1 chain\n")


def test_a_trail_is_verified_with_nothing_but_a_public_key(run, proxy, tmp_path):
    pem = tmp_path / "certifier.pem"
    pem.write_bytes(run("public-key").stdout)
    done = run("verify", proxy.trail, "--certifier", pem, configured=False)
    assert done.returncode == 0, done.stderr
    done = run("verify", "-", "--certifier", pem, configured=False, stdin=proxy.trail.read_bytes())
    assert done.returncode == 0, done.stderr


def test_a_tampered_trail_is_not_verified_and_the_line_is_named(run, proxy, tmp_path):
    lines = proxy.trail.read_bytes().splitlines(keepends=True)
    touched = tmp_path / "touched"
    touched.write_bytes(b"".join([*lines[:3], lines[3].replace(b"team-b", b"team-c"), *lines[4:6], *lines[7:]]))
    done = run("verify", touched)
    assert done.returncode == 1
    assert f"altered   {touched}:4: the record was changed or is damaged".encode() in done.stdout
    assert b"removed   record 6 is missing" in done.stdout
    assert b"NOT verified, 2 findings" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["verify", "absent"], b"absent cannot be read: no such file"),
        (
            ["verify", "/dev/null", "--certifier", "/no/key.pem"],
            b"/no/key.pem cannot be read: no such file or directory",
        ),
        (["verify", "/dev/null", "--certifier", "/dev/null"], b"holds no Ed25519 public keys"),
        (["verify", "/dev/null", "--object", "/etc/hostname"], b"audit"),
        (["query", "/dev/null", "--since", "yesterday"], b"is not a time such as"),
        (["report", "/dev/null", "--since", "yesterday", "--to", "page"], b"is not a time such as"),
    ],
)
def test_a_mistake_is_reported_in_one_line(run, arguments, says):
    done = run(*arguments)
    assert done.returncode in {1, 2}
    assert says in done.stderr, done.stderr
    assert b"Traceback" not in done.stderr


def test_the_commands_of_the_page_work(proxy, tmp_path):
    (tmp_path / "audit.jsonl").write_bytes(proxy.trail.read_bytes())
    blocks = re.findall(r"^```console\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    commands = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    assert any("--artifact-key" in command for command in commands)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SEALGATE_CONFIG_YAML": json.dumps(proxy.settings),
    }
    script = "set -e\n" + "\n".join(commands)
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done
    assert {"report.html", "readers.html"} < {path.name for path in tmp_path.iterdir()}


def test_no_key_is_trusted_by_default(run, proxy):
    done = run("verify", proxy.trail, configured=False)
    assert done.returncode == 2
    assert b"there is no key to check" in done.stderr


def test_accesses_are_listed_as_a_table(run, proxy):
    done = run("query", proxy.trail)
    head, *rows = done.stdout.decode().splitlines()
    assert head.split()[:5] == ["time", "operation", "key", "decision", "code"]
    assert {"namespace", "service account", "workflow", "pod", "rule"} < set(re.split(r"\s{2,}", head))
    assert [row.split()[1] for row in rows] == [
        "SaveStream",
        "SaveStream",
        "OpenStream",
        "IsDirectory",
        "Delete",
        "Delete",
    ]


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["--key", "team-a/*"], 4),
        (["--key", "team-b/two"], 1),
        (["--operation", "Delete"], 2),
        (["--operation", "delete"], 2),
        (["--operation", "write"], 2),
        (["--operation", "stat", "--key", "team-a"], 1),
        (["--decision", "denied"], 1),
        (["--workflow", "train-7x2p"], 6),
        (["--workflow", "another"], 0),
        (["--since", "2000-01-01"], 6),
        (["--until", "2000-01-01T00:00:00Z"], 0),
        (["--key", "team-a/*", "--operation", "Delete", "--decision", "allowed"], 1),
        (["--since", "1h"], 6),
        (["--until", "1h"], 0),
        (["--code", "OK"], 5),
        (["--decision", "denied", "--code", "OK"], 0),
        (["--rule", "no such rule"], 0),
        (["--proposed", "deny"], 1),
        (["--proposed", "allow"], 5),
        (["--namespace", "no-such-namespace"], 0),
        (["--service-account", "no-such-account"], 0),
        (["--component", "gc"], 0),
        (["--key-version", "1"], 3),
        (["--key-version", "2"], 0),
    ],
)
def test_only_matching_accesses_are_listed(run, proxy, arguments, count):
    done = run("query", proxy.trail, "--output", "json", *arguments)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == count


def test_accesses_are_listed_as_csv_that_no_spreadsheet_executes(run, proxy, tmp_path):
    for sign in "=", *map(unicodedata.lookup, FULL_WIDTH):
        text = proxy.trail.read_bytes().replace(b"team-b/two", f"{sign}cmd()".encode())
        done = run("query", "-", "--output", "csv", stdin=text)
        rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
        assert [row["key"] for row in rows][1] == f"'{sign}cmd()"
    assert rows[0]["plaintext_bytes"] == "1000"


def test_an_access_without_an_outcome_is_listed_as_unfinished(run, proxy):
    lines = proxy.trail.read_bytes().splitlines(keepends=True)
    done = run("query", "-", "--output", "json", stdin=b"".join(lines[:2]))
    (row,) = map(json.loads, done.stdout.splitlines())
    assert (row["version"], row["operation"], row["status"]) == (1, "SaveStream", "UNFINISHED")


def test_lines_that_a_list_leaves_out_are_counted(run, proxy, tmp_path):
    first, second, *rest = proxy.trail.read_bytes().splitlines(keepends=True)
    broken = b"".join([first, second[:200] + b"\n", second[:300] + b"\n", *rest])
    for arguments in (("query", "-"), ("report", "-", "--to", tmp_path / "page.html")):
        assert run(*arguments, stdin=broken).stderr == b"sealgate: 2 lines could not be read\n"
        assert run(*arguments, stdin=first + second).stderr == b""


def test_accesses_that_are_listed_twice_are_counted(run):
    sink = Memory()
    log = log_of(sink)
    accesses = [Access(shown_call(Operation.LOAD), Artifact("k")) for _ in range(20_002)]
    for access in accesses:
        log.attempt(access)
    for access in accesses:
        log.outcome(access, None)
    done = run("query", "-", "--output", "json", stdin=b"".join(sink.lines))
    assert b"sealgate: 2 accesses are counted twice" in done.stderr
    assert len(done.stdout.splitlines()) == 20_004


def test_a_key_cannot_control_a_terminal(run, proxy):
    done = run("query", "-", stdin=proxy.trail.read_bytes().replace(b"team-b/two", rb"\u001b[31mred"))
    assert b"\x1b" not in done.stdout


@pytest.mark.parametrize("data", [b"", b"level=info msg=hello\n", b'{"log":"hello"}\n'])
def test_a_file_without_records_is_not_verified_and_the_form_of_a_record_is_shown(run, data):
    done = run("verify", "-", stdin=data)
    assert done.returncode == 2
    assert b'NOT verified, no record found: no line contains {"sealgate_audit":1,' in done.stdout
    done = run("verify", "-", "--output", "json", stdin=data)
    assert (done.returncode, json.loads(done.stdout)["verified"]) == (2, False)


def test_a_trail_from_a_containers_log_file_is_verified(run, proxy):
    lines = proxy.trail.read_text().splitlines(keepends=True)
    wrapped = "".join(json.dumps({"log": line, "stream": "stdout"}) + "\n" for line in lines)
    done = run("verify", "-", "--expect-closed", stdin=wrapped.encode())
    assert done.returncode == 0, done.stdout


def test_the_key_in_the_record_of_an_object_is_shown(run, proxy):
    (stored,) = [path for path in proxy.storage.rglob("*") if path.is_file() and path.name == "two"]
    done = run("verify", proxy.trail, "--object", stored)
    assert done.returncode == 0, done.stdout
    assert f"object    {stored}: record 3 at {proxy.trail}:4, key team-b/two".encode() in done.stdout


def test_each_object_on_the_command_line_is_shown(run, proxy, tmp_path):
    (stored,) = [path for path in proxy.storage.rglob("*") if path.is_file() and path.name == "two"]
    sibling = tmp_path / "sibling"
    sibling.write_bytes(stored.read_bytes())
    done = run("verify", proxy.trail, "--object", stored, "--object", sibling)
    objects = [line for line in done.stdout.decode().splitlines() if line.startswith("object")]
    assert [line.split(": record")[0].split()[-1] for line in objects] == [str(stored), str(sibling)]
    first, *rest = proxy.trail.read_bytes().splitlines(keepends=True)
    done = run("verify", "-", "--object", stored, "--object", sibling, stdin=b"".join([first, *rest[:2]]))
    assert done.stdout.count(b"names, is missing") == 2


def test_an_unsigned_trail_is_consistent_and_never_verified(run, tmp_path):
    made_up = b"".join(trail_of(3, None))
    done = run("verify", "-", "--allow-unsigned", stdin=made_up)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith(b"\nconsistent, not signed: 1 chain without a certificate\n")
    result = json.loads(run("verify", "-", "--allow-unsigned", "--output", "json", stdin=made_up).stdout)
    assert (result["verified"], result["consistent"]) == (False, True)
    page = tmp_path / "page.html"
    done = run("report", "-", "--allow-unsigned", "--to", page, stdin=made_up)
    assert done.stdout.endswith(b"3 accesses, consistent, not signed\n")
    assert '<p class="verdict"><b>Consistent, not signed:</b> 1 chain without a certificate.' in page.read_text()
    assert "Verified" not in page.read_text()
    assert "also count records that were not verified" in page.read_text()


def test_the_possible_reasons_for_an_open_chain_are_shown(run, proxy, tmp_path):
    text = proxy.trail.read_bytes()[:-100]
    done = run("verify", "-", stdin=text)
    assert done.returncode == 0
    assert b"open (the process was killed or still runs, or the end was cut off)" in done.stdout
    assert b"the file ends within this line, which may have held a record" in done.stdout
    run("report", "-", "--to", tmp_path / "page.html", stdin=text)
    assert "was killed or still runs, or the end was cut off." in (tmp_path / "page.html").read_text()


def test_the_json_output_holds_the_certified_actor_and_the_findings(run, proxy):
    result = json.loads(run("verify", proxy.trail, "--output", "json").stdout)
    assert result["chains"][0]["actor"]["workflow"] == "train-7x2p"
    assert (result["findings"], result["more_findings"], result["objects"]) == ([], 0, [])


def test_very_many_findings_are_listed_in_part(run):
    done = run("verify", "-", stdin=b'{"sealgate_audit":1,x}\n' * 1500)
    assert done.returncode == 1
    assert done.stdout.decode().splitlines()[-2:] == ["          and 500 more", "NOT verified, 1500 findings"]


def test_an_altered_record_is_marked_where_accesses_are_listed(run, proxy):
    text = proxy.trail.read_bytes().replace(b"team-b/two", b"team-c/two")
    rows = list(map(json.loads, run("query", "-", "--output", "json", stdin=text).stdout.splitlines()))
    assert {row["key"]: row["record"] for row in rows if row["operation"] == "SaveStream"} == {
        "team-a/one": "intact",
        "team-c/two": "altered",
    }
    assert b"altered" in run("query", "-", stdin=text).stdout


def test_csv_cannot_control_a_terminal(run, proxy):
    text = proxy.trail.read_bytes().replace(b"team-b/two", rb"\u001b]0;x\u0007\r=cmd")
    done = run("query", "-", "--output", "csv", stdin=text)
    assert not set(done.stdout) & {0x1B, 0x07, 0x0D}


def test_a_page_never_replaces_the_trail(run, proxy, tmp_path):
    trail, same = tmp_path / "trail", tmp_path / "same"
    trail.write_bytes(proxy.trail.read_bytes())
    same.symlink_to(trail)
    for page in (trail, same):
        done = run("report", trail, "--to", page)
        assert done.returncode == 2
        assert b"is the trail itself" in done.stderr
    assert trail.read_bytes() == proxy.trail.read_bytes()
    page = tmp_path / "page.html"
    page.write_text("the page before")
    assert run("report", trail, "--to", page).returncode == 0
    assert "<b>Verified.</b>" in page.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "same", "trail"]
    assert run("report", tmp_path / "absent", "--to", page).returncode == 2
    assert "<b>Verified.</b>" in page.read_text()


@pytest.mark.parametrize("of", [[], ["--artifact-key", "team-a/one"]])
def test_a_page_counts_the_accesses_of_a_period_alone(run, proxy, tmp_path, of):
    page = tmp_path / "page.html"
    count = 3 if of else 6
    for options, counted, says in (
        (["--since", "1h"], count, "UTC are counted. The verdict is on the whole trail."),
        (["--since", "2000-01-01", "--until", "2001-01-01T00:00:00Z"], 0, "No access is in this period."),
        (["--until", "1h"], 0, "<p>Only accesses before "),
    ):
        done = run("report", proxy.trail, *of, *options, "--to", page)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == f"{page}: {counted} accesses, verified\n".encode()
        assert says in page.read_text()
    assert "<b>Verified.</b>" in page.read_text()


@pytest.mark.parametrize("arguments", [["query"], ["report", "--to", "page.html"]])
def test_a_period_that_ends_before_it_begins_is_a_mistake(run, arguments):
    done = run(*arguments, "/dev/null", "--since", "1h", "--until", "2h")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--until is not later than --since" in done.stderr


def test_a_page_answers_who_read_an_artifact(run, proxy, tmp_path):
    page = tmp_path / "page.html"
    done = run("report", proxy.trail, "--artifact-key", "team-a/one", "--to", page)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == f"{page}: 3 accesses, verified\n".encode()
    (read,) = cells(page.read_text(), "Reads")
    assert read[2:8] == ["train-7x2p-1", "", "OpenStream", "team-a/one", "allowed", "1,000"]
    assert [one[4] for one in cells(page.read_text(), "Writes and deletions")] == ["Delete", "SaveStream"]


@pytest.mark.parametrize("key", ["", "team-a/", "a//b"])
def test_a_key_that_no_artifact_can_have_is_no_answer(run, proxy, tmp_path, key):
    done = run("report", proxy.trail, "--artifact-key", key, "--to", tmp_path / "page.html")
    assert done.returncode == 2
    assert done.stderr.startswith(b"sealgate audit: --artifact-key: the key ")
    assert not (tmp_path / "page.html").exists()


def test_a_page_of_no_records_is_not_verified(run, tmp_path):
    done = run("report", "-", "--to", tmp_path / "page.html")
    assert done.returncode == 2
    assert "The trail contains no record" in (tmp_path / "page.html").read_text()


@pytest.mark.parametrize("time", [b"-62135596800000", b"253402300799999"])
def test_a_page_is_made_for_any_time_in_a_record(run, proxy, tmp_path, time):
    first, *rest = proxy.trail.read_bytes().splitlines(keepends=True)
    text = b"".join([first, *(re.sub(rb'"time":\d+', b'"time":' + time, line) for line in rest[:4]), *rest[4:]])
    done = run("report", "-", "--to", tmp_path / "page.html", stdin=text)
    assert (done.returncode, done.stderr) == (1, b"")
