"""Each access is recorded before its effects and after them; an access without effects is recorded once."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from harness.memory_plugin import MemoryPlugin
from harness.trails import Authority, Memory, flaws, log_of

from sealgate.call import Call, Operation
from sealgate.errors import AuditBlocked, BadRequest, DataLoss
from sealgate.layers.audited import Audited
from sealgate.layers.governed import Governed
from sealgate.plugin import Artifact

AUTHORITY = Authority()


class Bench:
    def __init__(self, work: Path, **terms) -> None:
        self.work = work
        self.sink = Memory()
        self.below = MemoryPlugin()
        self.below.objects["ns/a"] = b"some bytes"
        self.log = log_of(self.sink, authority=AUTHORITY, **terms)
        self.discarded: list[Path] = []
        self.stack = Audited(Governed(self.below), self.log, discard=self.discarded.append, check_listing=len)
        self.source = work / "source"
        self.source.write_bytes(b"other bytes")

    def do(self, operation: str, key: str = "ns/a"):
        call, artifact = Call(Operation(operation)), Artifact(key, name="main")
        match operation:
            case "Load":
                self.stack.load(call, artifact, self.work / "loaded")
            case "OpenStream":
                with closing(self.stack.open_stream(call, artifact)) as chunks:
                    list(chunks)
            case "Save":
                self.stack.save(call, artifact, self.source)
            case "SaveStream":
                self.stack.save_stream(call, artifact, iter([b"bytes"]))
            case "Delete":
                self.stack.delete(call, artifact)
            case "ListObjects":
                self.stack.list_objects(call, artifact)
            case "IsDirectory":
                self.stack.is_directory(call, artifact)
        return call

    def phases(self):
        return [record["unmapped"]["phase"] for record in self.sink.records()]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


EFFECTS = ["Load", "OpenStream", "Save", "SaveStream", "Delete"]
NO_EFFECTS = ["ListObjects", "IsDirectory"]


@pytest.mark.parametrize("operation", EFFECTS)
def test_an_access_with_effects_leaves_two_records(bench, operation):
    call = bench.do(operation)
    assert bench.phases() == ["session.start", "attempt", "outcome"]
    attempt, outcome = bench.sink.records()[1:]
    assert attempt["unmapped"]["decision"]["effective"] == "allow"
    assert {r["metadata"]["correlation_uid"] for r in (attempt, outcome)} == {call.id}
    assert (outcome["status"], outcome["status_code"]) == ("Success", "OK")


@pytest.mark.parametrize("operation", NO_EFFECTS)
def test_an_access_without_effects_leaves_one_record(bench, operation):
    bench.do(operation)
    assert bench.phases() == ["session.start", "outcome"]


@pytest.mark.parametrize("operation", EFFECTS + NO_EFFECTS)
def test_a_denied_access_leaves_one_record(bench, operation):
    with pytest.raises(BadRequest):
        bench.do(operation, "a/../b")
    assert bench.phases() == ["session.start", "outcome"]
    record = bench.sink.records()[1]
    assert (record["action"], record["status_code"], record["status"]) == ("Denied", "BAD_KEY", "Failure")
    assert bench.below.calls == []


@pytest.mark.parametrize("operation", EFFECTS)
def test_an_attempt_comes_before_any_effect(bench, operation):
    bench.do("IsDirectory")
    before = len(bench.below.calls)
    bench.sink.fault = "away"
    with pytest.raises(AuditBlocked):
        bench.do(operation)
    assert len(bench.below.calls) == before
    assert not (bench.work / "loaded").exists()


@pytest.mark.parametrize("operation", EFFECTS)
def test_attempts_can_be_left_out(tmp_path, operation):
    bench = Bench(tmp_path, phases="outcome")
    bench.do(operation)
    assert bench.phases() == ["session.start", "outcome"]


def test_a_load_whose_outcome_cannot_be_recorded_is_discarded(bench):
    load = bench.below.load

    def load_and_fill_the_disk(call, artifact, path):
        load(call, artifact, path)
        bench.sink.fault = "no space"

    bench.below.load = load_and_fill_the_disk
    with pytest.raises(AuditBlocked):
        bench.do("Load")
    assert bench.discarded == [bench.work / "loaded"]


def test_a_load_that_failed_discards_nothing(bench):
    bench.sink.fault = "no space"
    with pytest.raises(AuditBlocked):
        bench.do("Load")
    assert bench.discarded == []


def test_a_failure_is_recorded_by_its_kind_and_raised(bench):
    def fails(call, artifact, path):
        raise DataLoss("a fact with a local path")

    bench.below.load = fails
    with pytest.raises(DataLoss):
        bench.do("Load")
    record = bench.sink.records()[-1]
    assert (record["status_code"], record["status_detail"], record["severity_id"]) == ("DATA_LOSS", "DataLoss", 4)


def test_a_reader_that_goes_away_is_recorded_as_such(bench):
    bench.below.objects["ns/a"] = bytes(500_000)
    with closing(bench.stack.open_stream(Call(Operation.OPEN_STREAM), Artifact("ns/a"))) as chunks:
        next(chunks)
    assert bench.sink.records()[-1]["status_code"] == "CANCELLED"
    with closing(bench.stack.open_stream(Call(Operation.OPEN_STREAM), Artifact("ns/a"))) as chunks:
        next(chunks)
        bench.sink.fault = "away"  # the caller is gone and gets no error


def test_a_listing_is_recorded_by_its_length_alone(bench):
    bench.below.objects = {f"ns/secret-name-{number}": b"" for number in range(12)}
    bench.do("ListObjects", "ns")
    record = bench.sink.lines[-1].decode()
    assert '"listed":12' in record
    assert "secret-name" not in record


def test_all_operations_together_are_one_chain_without_a_flaw(bench):
    for operation in EFFECTS + NO_EFFECTS:
        if operation == "Delete":
            bench.below.objects["ns/a"] = b""
        bench.do(operation)
    bench.log.close()
    assert flaws(bench.sink.lines, AUTHORITY, expect_closed=True) == set()
