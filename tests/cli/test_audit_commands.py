"""`sealgate audit` as an auditor uses it: by the command line, on the trail of a real proxy."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess

import pytest
from harness.chain import SEALGATE, Proxy
from harness.outcome import outcome


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
    assert f"altered   {touched}:4: the record is not what was written".encode() in done.stdout
    assert b"removed   record 6 is missing" in done.stdout
    assert b"NOT verified, 2 findings" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["verify", "absent"], b"absent cannot be read: no such file"),
        (["verify", "/dev/null", "--certifier", "/dev/null"], b"holds no Ed25519 public keys"),
        (["verify", "/dev/null", "--object", "/etc/hostname"], b"audit"),
        (["query", "/dev/null", "--since", "yesterday"], b"is no time such as"),
    ],
)
def test_a_mistake_is_told_in_one_line(run, arguments, says):
    done = run(*arguments)
    assert done.returncode in {1, 2}
    assert says in done.stderr, done.stderr
    assert b"Traceback" not in done.stderr


def test_nobody_is_trusted_by_default(run, proxy):
    done = run("verify", proxy.trail, configured=False)
    assert done.returncode == 2
    assert b"there is no key to check" in done.stderr


def test_accesses_are_listed_as_a_table(run, proxy):
    done = run("query", proxy.trail)
    head, *rows = done.stdout.decode().splitlines()
    assert head.split()[:4] == ["time", "operation", "key", "decision"]
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
        (["--decision", "denied"], 1),
        (["--workflow", "train-7x2p"], 6),
        (["--workflow", "another"], 0),
        (["--since", "2000-01-01"], 6),
        (["--until", "2000-01-01T00:00:00Z"], 0),
        (["--key", "team-a/*", "--operation", "Delete", "--decision", "allowed"], 1),
    ],
)
def test_what_is_asked_for_is_listed(run, proxy, arguments, count):
    done = run("query", proxy.trail, "--output", "json", *arguments)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == count


def test_accesses_are_listed_as_csv_that_no_spreadsheet_executes(run, proxy, tmp_path):
    text = proxy.trail.read_bytes().replace(b"team-b/two", b"=cmd()")
    done = run("query", "-", "--output", "csv", stdin=text)
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert [row["key"] for row in rows][1] == "'=cmd()"
    assert rows[0]["plaintext_bytes"] == "1000"


def test_an_access_without_an_outcome_is_listed_as_unfinished(run, proxy):
    lines = proxy.trail.read_bytes().splitlines(keepends=True)
    done = run("query", "-", "--output", "json", stdin=b"".join(lines[:2]))
    (row,) = map(json.loads, done.stdout.splitlines())
    assert (row["operation"], row["status"]) == ("SaveStream", "UNFINISHED")


def test_a_key_cannot_steer_a_terminal(run, proxy):
    done = run("query", "-", stdin=proxy.trail.read_bytes().replace(b"team-b/two", rb"\u001b[31mred"))
    assert b"\x1b" not in done.stdout
