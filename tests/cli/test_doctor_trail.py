"""`sealgate doctor` tries what records and metrics need, and leaves nothing that looks like a record."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from contextlib import contextmanager

import pytest
from harness.chain import SEALGATE, Proxy
from harness.otlp import Collector
from harness.users import with_read_only_root, with_small_disk


def trail(*sinks, **more):
    return {"audit": {"sinks": list(sinks), **more}}


def file(path):
    return {"type": "file", "path": str(path)}


@contextmanager
def serving(home, settings):
    """Serve with the keyring of the doctor, which has the same home."""
    proxy = Proxy(home, settings=settings).start()
    try:
        yield proxy
    finally:
        proxy.stop()


# --- sinks -----------------------------------------------------------------------------------------------


def test_a_trail_that_is_there_gets_a_blank_line_and_still_verifies(doctor, tmp_path):
    path = tmp_path / "audit.jsonl"
    with serving(tmp_path, trail(file(path))) as proxy:
        proxy.argo().is_directory("ns/a")
        report = doctor("--offline", settings=trail(file(path)))
        proxy.argo().is_directory("ns/a")
    assert report.state("audit: sinks") == "ok"
    assert "appended a blank line, which is no record" in report.line("audit: sinks")
    assert path.read_text().count("\n\n") == 1
    environment = {**os.environ, "SEALGATE_CONFIG_YAML": json.dumps(doctor.settings())}
    done = subprocess.run([*SEALGATE, "audit", "verify", path], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, b"verified, 1 chain")


def test_a_trail_that_is_not_there_is_not_created(doctor, tmp_path):
    report = doctor("--offline", settings=trail(file(tmp_path / "audit.jsonl"), {"type": "stdout"}))
    assert report.state("audit: sinks") == "ok"
    assert "it does not exist yet, and its directory can be written to" in report.line("audit: sinks")
    assert "standard output has room" in report.line("audit: sinks")
    assert not (tmp_path / "audit.jsonl").exists()


@pytest.mark.parametrize("exists", [True, False])
def test_a_trail_on_a_read_only_disk(doctor, tmp_path, exists):
    place = tmp_path / "trail"
    place.mkdir()
    if exists:
        (place / "audit.jsonl").write_text("")
    within = with_read_only_root(doctor.socket.parent.parent)
    report = doctor("--offline", settings=trail(file(place / "audit.jsonl")), within=within)
    assert (report.code, report.of("FAILED")) == (1, {"audit: sinks"})
    assert "no record can be written: read-only file system" in report.line("audit: sinks")


@pytest.mark.parametrize("exists", [True, False])
def test_a_trail_on_a_full_disk(doctor, tmp_path, exists):
    place = tmp_path / "trail"
    place.mkdir()
    path = place / ("filler" if exists else "audit.jsonl")  # the file that fills the disk
    report = doctor("--offline", settings=trail(file(path)), within=with_small_disk(place, full=True))
    assert (report.code, report.of("FAILED")) == (1, {"audit: sinks"})
    assert "no space left on device" in report.line("audit: sinks")


@pytest.mark.parametrize(
    ("make", "fact"),
    [
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: path.symlink_to("/dev/null"), "too many levels of symbolic links"),
        (lambda path: path.parent.rmdir(), "no such file or directory"),
    ],
    ids=["a directory", "a link", "nothing, in no directory"],
)
def test_a_trail_that_serve_could_not_write(doctor, tmp_path, make, fact):
    (tmp_path / "trail").mkdir()
    path = tmp_path / "trail" / "audit.jsonl"
    make(path)
    report = doctor("--offline", settings=trail({"type": "stdout"}, file(path)))
    assert report.of("FAILED") == {"audit: sinks"}, "also where another sink works"
    assert f"file {path}: no record can be written: {fact}" in report.line("audit: sinks")


def test_a_secret_for_hidden_keys_that_cannot_be_read(doctor, tmp_path):
    report = doctor("--offline", settings=trail({"type": "stdout"}, hmacKeyFile=str(tmp_path / "none")))
    assert report.of("FAILED") == {"audit: sinks"}
    assert "cannot be read: no such file" in report.line("audit: sinks")


@pytest.mark.parametrize("http", [False, True])
def test_a_collector_gets_an_export_without_a_record(doctor, http):
    settings = trail({"type": "stdout"}, {"type": "otlp"})
    with Collector(http=http) as collector:
        report = doctor("--offline", settings=settings, **collector.environment())
        assert report.state("audit: sinks") == "ok", report.output
        (message,) = collector.messages
        assert not message.resource_logs
    gone = doctor("--offline", settings=settings, **collector.environment())
    assert (gone.code, gone.state("audit: sinks")) == (0, "warning"), gone.output
    assert "the collector did not accept an empty export" in gone.line("audit: sinks")
    unset = doctor("--offline", settings=settings)
    assert (unset.code, unset.of("FAILED")) == (1, {"audit: sinks"})


# --- the signature ---------------------------------------------------------------------------------------


def test_a_local_keyring_signs_the_trail(doctor):
    line = doctor("--offline").line("audit: signature")
    assert "the audit trail is signed: key default version 1 signed a random text" in line


# --- the port of the metrics -----------------------------------------------------------------------------


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def page(port, address="127.0.0.1"):
    return {"telemetry": {"metrics": "prometheus", "prometheus": {"address": address, "port": port}}}


def test_a_port_that_is_free_stays_free(doctor):
    port = free_port()
    report = doctor("--offline", settings=page(port))
    assert report.state("metrics") == "ok"
    assert f"127.0.0.1:{port} is free" in report.line("metrics")
    socket.create_server(("127.0.0.1", port)).close()


def test_a_port_that_another_program_has(doctor):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        report = doctor("--offline", settings=page(taken.getsockname()[1]))
    assert (report.code, report.of("FAILED")) == (1, {"metrics"})
    assert "address already in use" in report.line("metrics")
    assert "telemetry.prometheus.port" in report.line("metrics")


def test_an_address_that_this_machine_does_not_have(doctor):
    report = doctor("--offline", settings=page(free_port(), "192.0.2.1"))
    assert report.of("FAILED") == {"metrics"}


def test_a_port_that_a_plugin_has_is_right_for_that_plugin_alone(doctor, tmp_path):
    port = free_port()
    with serving(tmp_path, page(port)) as proxy:
        proxy.argo().is_directory("ns/a")  # it waits until the page is served
        own = doctor("--offline", "--plugin", proxy.socket.parent.name, settings=page(port))
        other = doctor("--offline", "--plugin", "another", settings=page(port))
        unnamed = doctor("--offline", settings=page(port))
    assert "this plugin already serves its metrics" in own.line("metrics")
    assert (other.code, other.state("metrics")) == (1, "FAILED")
    assert f"the plugin {proxy.socket.parent.name} serves its own there" in other.line("metrics")
    assert unnamed.state("metrics") == "not checked"


def test_pushed_metrics_without_a_collector_are_a_warning(doctor):
    settings = {"telemetry": {"metrics": "otlp"}}
    assert doctor("--offline", settings=settings).state("metrics") == "warning"
    named = doctor("--offline", settings=settings, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    assert named.state("metrics") == "ok"
