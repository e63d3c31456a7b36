"""An access waits until its record is written, and does not happen without it."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time

import pytest
from harness.trails import IDENTITY, Authority, Memory, flaws, full_pipe, log_of, shown_call, verdict_on

from sealgate.audit.accesses import Access
from sealgate.audit.audit_log import AuditLog, AuditOptions
from sealgate.audit.audit_log import Authority as CertifyingKey
from sealgate.audit.sinks import File, Stdout
from sealgate.call import Operation
from sealgate.errors import (
    AuditBlocked,
    Cancelled,
    DeadlineExceeded,
    LimitReached,
    NotConfigured,
    NotPermitted,
    PluginError,
    Unavailable,
)
from sealgate.plugin import Artifact

AUTHORITY = Authority()


def access(operation=Operation.LOAD):
    return Access(shown_call(operation), Artifact("ns/a"))


def test_an_attempt_writes_its_place_to_the_call():
    sink = Memory()
    log = log_of(sink, authority=AUTHORITY)
    one = access()
    log.attempt(one)
    record = sink.records()[-1]
    assert one.call.audit.sequence == record["metadata"]["sequence"] == 1
    assert one.call.audit.chain == record["attestation_list"][0]["chain_uid"]


def test_an_access_that_cannot_be_recorded_is_refused_and_leaves_no_gap():
    sink = Memory()
    log = log_of(sink, authority=AUTHORITY)
    log.outcome(access(), None)
    sink.fault = "no space left on device"
    with pytest.raises(AuditBlocked, match="memory: no space left on device"):
        log.attempt(access())
    sink.fault = ""
    log.outcome(access(), None)
    log.close()
    assert flaws(sink.lines, AUTHORITY, expect_closed=True) == set()
    assert len(sink.lines) == 4


def test_fail_open_lets_the_access_happen():
    sink = Memory()
    sink.fault = "away"
    log = log_of(sink, authority=AUTHORITY, mode="fail-open")
    log.attempt(access())
    log.outcome(access(), None)
    sink.fault = ""
    log.outcome(access(), None)
    assert sink.records()[0]["unmapped"]["session"]["mode"] == "fail-open"
    assert flaws(sink.lines, AUTHORITY) == set()


def test_one_of_several_sinks_is_enough_and_the_other_catches_up():
    one, another = Memory("one"), Memory("another")
    log = log_of(one, another, authority=AUTHORITY)
    another.fault = "away"
    log.outcome(access(), None)
    another.fault = ""
    log.close()
    assert one.lines == another.lines
    assert flaws(one.lines, AUTHORITY, expect_closed=True) == set()


def test_all_of_several_sinks_can_be_required():
    one, another = Memory("one"), Memory("another")
    log = log_of(one, another, authority=AUTHORITY, require="all")
    log.outcome(access(), None)
    another.fault = "away"
    with pytest.raises(AuditBlocked, match="another: away"):
        log.attempt(access())
    another.fault = ""
    log.close()
    assert one.lines == another.lines
    assert flaws(one.lines, AUTHORITY, expect_closed=True) == set()


def test_with_require_all_a_failed_file_blocks_although_the_other_works(tmp_path):
    good, absent = File(tmp_path / "good"), File(tmp_path / "absent" / "file")
    for first, second in ((good, absent), (absent, good)):
        with pytest.raises(AuditBlocked, match="absent/file: no such file or directory"):
            log_of(first, second, authority=AUTHORITY, require="all").attempt(access())


@pytest.mark.parametrize("healthy_first", [True, False])
def test_with_require_any_the_working_file_gets_every_record_once(tmp_path, healthy_first):
    telemetry = Counting()
    sinks = [File(tmp_path / "good"), File(tmp_path / "absent" / "file")]
    sinks = sinks if healthy_first else sinks[::-1]
    log = AuditLog(sinks, lambda: IDENTITY, AuditOptions(), AUTHORITY, telemetry=telemetry)
    for _ in range(3):
        log.outcome(access(), None)
    log.close()
    lines = (tmp_path / "good").read_bytes().splitlines(keepends=True)
    assert len(lines) == 5
    assert flaws(lines, AUTHORITY, expect_closed=True) == set()
    named = json.loads(lines[0])["unmapped"]["session"]["sinks"]
    assert named == [sink.name for sink in sinks]
    assert len(set(named)) == 2
    assert telemetry.failures == [(f"file {tmp_path}/absent/file", "no such file or directory")] * 5


def test_a_sinks_long_name_leaves_room_for_the_rest(tmp_path):
    deep = tmp_path / "/".join("d" * 200 for _ in range(10)) / "trail"
    memory = Memory()
    log = log_of(memory, File(deep), File(deep.parent / "another"), authority=AUTHORITY)
    log.outcome(access(), None)
    assert len(memory.lines[0]) <= 4096
    assert flaws(memory.lines, AUTHORITY) == set()


@pytest.mark.parametrize("blocked_first", [True, False])
def test_a_blocked_sink_takes_no_time_from_one_that_is_enough(tmp_path, blocked_first):
    reading, writing = full_pipe()
    sinks = [Stdout(writing), File(tmp_path / "trail")]
    log = log_of(*(sinks if blocked_first else sinks[::-1]), authority=AUTHORITY, wait=3600)

    def work():
        for _ in range(20):
            one = access()
            log.attempt(one)
            log.outcome(one, None)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads), "a call waits for the hour of the blocked sink"
    assert len((tmp_path / "trail").read_bytes().splitlines()) == 4 * 20 * 2 + 1
    os.close(reading)
    os.close(writing)


def test_the_first_sink_that_recovers_is_enough(tmp_path):
    """Both sinks are blocked: the log tries them in turn instead of waiting the whole time for one."""
    reading, writing = full_pipe()
    path = tmp_path / "trail"
    path.touch()
    log = log_of(Stdout(writing), File(path), authority=AUTHORITY, wait=3600)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        call = threading.Thread(target=lambda: log.outcome(access(), None), daemon=True)
        call.start()
        call.join(0.3)  # time enough to start waiting
    call.join(120)
    assert not call.is_alive()
    assert len(path.read_bytes().splitlines()) == 2
    os.close(reading)
    os.close(writing)


class MemoryCopy:
    """A copy that keeps lines."""

    def __init__(self):
        self.lines = []

    def add(self, line):
        self.lines.append(line)

    def close(self):
        pass


@pytest.mark.parametrize("mode", ["fail-open", "fail-closed"])
def test_a_collector_gets_records_of_accesses_that_happen_without_a_sink(mode):
    sink, copy = Memory(), MemoryCopy()
    sink.fault = "away"
    log = AuditLog([sink], lambda: IDENTITY, AuditOptions(mode=mode), AUTHORITY, copies=[copy])
    one = access()
    if mode == "fail-closed":
        with pytest.raises(AuditBlocked):
            log.attempt(one)
        assert copy.lines == [], "the access does not happen"
        return
    log.attempt(one)
    log.outcome(one, None)
    assert len(copy.lines) == 3
    sink.fault = ""
    log.close()
    assert sink.lines == copy.lines
    assert flaws(copy.lines, AUTHORITY, expect_closed=True) == set()


def test_many_threads_write_one_chain():
    sink = Memory()
    log = log_of(sink, authority=AUTHORITY)

    def work():
        for _ in range(50):
            one = access()
            log.attempt(one)
            log.outcome(one, None)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    verdict = verdict_on(sink.lines, AUTHORITY, expect_closed=True)
    assert verdict.good, verdict.findings
    assert verdict.chains[0].records == 8 * 50 * 2 + 2
    assert verdict.chains[0].unfinished == 0


def test_no_access_waits_longer_than_its_limit_for_a_sink_that_hangs():
    class Hanging(Memory):
        def __init__(self):
            super().__init__()
            self.go_on = threading.Event()
            self.entered = threading.Event()

        def write(self, line, seconds):
            self.entered.set()
            self.go_on.wait()
            super().write(line, seconds)

    sink = Hanging()
    sink.go_on.set()
    log = log_of(sink, authority=AUTHORITY, wait=0.05)
    log.outcome(access(), None)
    sink.go_on.clear()
    sink.entered.clear()
    first = threading.Thread(target=lambda: log.outcome(access(), None))
    first.start()
    sink.entered.wait()
    with pytest.raises(AuditBlocked, match="earlier records are still being written"):
        log.attempt(access())
    log.close()
    assert first.is_alive()
    sink.go_on.set()
    first.join()


def test_the_wait_for_the_lock_of_the_chain_counts():
    entered, go_on, waits = threading.Event(), threading.Event(), []

    class Slow(Memory):
        def write(self, line, seconds):
            waits.append(seconds)
            entered.set()
            go_on.wait()
            super().write(line, seconds)

    log = log_of(Slow(), authority=AUTHORITY, wait=3600)
    calls = [threading.Thread(target=lambda: log.outcome(access(), None)) for _ in range(2)]
    calls[0].start()
    entered.wait()
    calls[1].start()
    calls[1].join(0.5)  # time enough to start waiting
    go_on.set()
    for call in calls:
        call.join()
    assert waits[-1] < 3600 - 0.1


def certified_by(certify, mode="fail-closed", telemetry=None):
    sink = Memory()
    return sink, AuditLog(
        [sink],
        lambda: IDENTITY,
        AuditOptions(mode=mode),
        CertifyingKey(certify, lambda call: IDENTITY),
        telemetry=telemetry,
    )


@pytest.mark.parametrize("mode", ["fail-closed", "fail-open"])
@pytest.mark.parametrize("error", [Cancelled, DeadlineExceeded, LimitReached, Unavailable, PluginError])
def test_a_transient_error_does_not_leave_the_trail_unsigned(error, mode):
    errors = [error("it passes")]

    def certify(call, text):
        if errors:
            raise errors.pop()
        return AUTHORITY.certify(call, text)

    sink, log = certified_by(certify, mode)
    if mode == "fail-closed":
        with pytest.raises(AuditBlocked, match="the certifying key does not answer: it passes"):
            log.attempt(access())
    else:
        log.attempt(access())
    assert sink.lines == []
    log.outcome(access(), None)
    log.close()
    assert flaws(sink.lines, AUTHORITY, expect_closed=True) == set()


def test_a_first_caller_that_goes_away_does_not_cancel_the_certificate():
    first = access()

    def certify(call, text):
        first.call.cancel()
        call.check()
        assert call.remaining() > 1
        return AUTHORITY.certify(call, text)

    sink, log = certified_by(certify)
    first.call.deadline = time.monotonic() + 0.5
    log.outcome(first, None)
    assert flaws(sink.lines, AUTHORITY) == set()


def test_the_certificate_is_requested_once_while_no_sink_works():
    asked = []

    def certify(call, text):
        asked.append(text)
        return AUTHORITY.certify(call, text)

    sink, log = certified_by(certify)
    sink.fault = "no space left on device"
    for _ in range(20):
        with pytest.raises(AuditBlocked):
            log.attempt(access())
    sink.fault = ""
    log.outcome(access(), None)
    log.close()
    assert len(asked) == 1
    assert flaws(sink.lines, AUTHORITY, expect_closed=True) == set()


@pytest.mark.parametrize("require", ["any", "all"])
@pytest.mark.parametrize("begun", [True, False])
def test_a_closed_trail_refuses_records(require, begun):
    sink = Memory()
    log = log_of(sink, authority=AUTHORITY, require=require)
    if begun:
        log.outcome(access(), None)
    log.close()
    written = len(sink.lines)
    with pytest.raises(AuditBlocked, match="the audit trail is closed"):
        log.attempt(access())
    assert len(sink.lines) == written


def test_a_trail_without_sinks_refuses_records():
    with pytest.raises(AuditBlocked):
        log_of(authority=AUTHORITY, require="all").attempt(access())


class Counting:
    """Takes the place of the telemetry."""

    def __init__(self):
        self.failures = []

    def recorded(self, phase):
        pass

    def not_recorded(self, sink, reason):
        self.failures.append((sink, reason))


def test_every_reason_to_block_an_access_is_counted():
    away = True

    def certify(call, text):
        if away:
            raise Unavailable("vault answered after 3.1 s")
        return AUTHORITY.certify(call, text)

    telemetry = Counting()
    sink, log = certified_by(certify, telemetry=telemetry)
    with pytest.raises(AuditBlocked):
        log.attempt(access())
    away = False
    sink.fault = "no space left on device"
    with pytest.raises(AuditBlocked):
        log.attempt(access())
    log.close()
    with pytest.raises(AuditBlocked):
        log.attempt(access())
    assert telemetry.failures == [
        ("none", "the certifying key does not answer"),
        ("memory", "no space left on device"),
        ("none", "the audit trail is closed"),
    ]


@pytest.mark.parametrize("error", [NotConfigured, NotPermitted])
def test_a_trail_whose_certifying_key_refuses_is_chained_and_unsigned(error):
    def refuse(call, text):
        raise error("no such key")

    sink, log = certified_by(refuse)
    log.outcome(access(), None)
    log.close()
    session = sink.records()[0]["unmapped"]["session"]
    assert session == {
        "attestation": "none",
        "reason": f"the certifying key refused: {error.__name__}",
        "mode": "fail-closed",
        "phases": "both",
        "require": "any",
        "sinks": ["memory"],
    }
    assert flaws(sink.lines, AUTHORITY) == {"unsigned"}
    assert flaws(sink.lines, allow_unsigned=True, expect_closed=True) == set()


def test_accesses_are_refused_until_the_certifying_key_answers():
    away = True

    def certify(call, text):
        if away:
            raise Unavailable("vault is sealed")
        return AUTHORITY.certify(call, text)

    sink, log = certified_by(certify)
    with pytest.raises(AuditBlocked, match="the certifying key does not answer"):
        log.attempt(access())
    assert sink.lines == []
    away = False
    log.attempt(access())
    assert flaws(sink.lines, AUTHORITY) == set()


def test_the_end_is_recorded_only_after_a_start():
    sink = Memory()
    log_of(sink, authority=AUTHORITY).close()
    assert sink.lines == []
    log = log_of(sink, authority=AUTHORITY)
    log.outcome(access(), None)
    log.close()
    assert sink.records()[-1]["unmapped"]["session"] == {"records": 3}
