"""Rules about age and overwriting: young objects are kept, existing ones not replaced, unknown facts count as no."""

from __future__ import annotations

import pytest
from harness.layer_bench import ALLOW, DAY, WAYS, denied, retained
from harness.memory_plugin import MemoryPlugin
from harness.policy import document

from sealgate import envelope
from sealgate.errors import DownstreamStatus, PluginError, Refused
from sealgate.storage.stored_objects import Transfer


@pytest.mark.parametrize("transfer", list(Transfer))
def test_an_object_that_is_too_young_is_kept_and_the_delete_succeeds(make, transfer):
    bench = make(retained("skip"), transfer=transfer)
    bench.plant("r/young", age=29 * DAY)
    bench.plant("r/old", age=31 * DAY)
    bench.plant("r/plain", age=None)
    bench.plant("r/from-the-future", age=-DAY)
    for key in tuple(bench.below.objects):
        bench.delete(key)
    assert set(bench.below.objects) == {"r/young", "r/plain", "r/from-the-future"}
    assert (bench.call.decision.effective, bench.call.decision.code) == ("skip", "RETENTION")


def test_deleting_an_object_that_is_too_young_is_denied_if_the_rule_says_so(make):
    bench = make(retained("deny"))
    bench.plant("r/young", age=DAY)
    error = denied(lambda: bench.delete("r/young"), "RETENTION")
    assert error.fact == "the object was sealed 86400 s (24 hours) ago and must be kept for 2592000 s (30 days)"


def test_a_directory_with_one_retained_child_stays_whole(make):
    bench = make(retained("skip"))
    bench.plant("r/t/old", age=31 * DAY)
    bench.plant("r/t/young", age=DAY)
    for key in ("r/t", "r"):
        bench.delete(key)
        assert bench.call.decision.effective == "skip"
    assert set(bench.below.objects) == {"r/t/old", "r/t/young"}
    bench.below.objects.pop("r/t/young")
    bench.delete("r/t")
    assert bench.below.objects == {}


def test_an_old_object_beneath_it_does_not_make_a_retained_object_deletable(make):
    bench = make(retained("skip"))
    bench.plant("r/x", age=DAY)
    bench.plant("r/x/old", age=31 * DAY)
    bench.delete("r/x")
    assert set(bench.below.objects) == {"r/x", "r/x/old"}


def when_the_key_is_made(bench, act):
    """Have `act` run once, between the survey of a Save and the reading of its files."""
    new_data_key = bench.keys.new_data_key

    def act_first(*arguments):
        bench.keys.new_data_key = new_data_key
        act()
        return new_data_key(*arguments)

    bench.keys.new_data_key = act_first


@WAYS
@pytest.mark.parametrize("change", ["gone", "a directory"])
@pytest.mark.parametrize("when", ["before its directory is read", "while another file is stored"])
def test_a_retained_object_stays_if_its_local_file_goes_during_the_save(make, transfer, change, when):
    bench = make(retained("deny"), transfer=transfer, below=Acting())
    bench.plant_tree("r/t", {"a": b"old", "d/b": b"old"})
    kept = bench.below.objects["r/t/d/b"]
    bench.file(b"x" * (1 << 20), "tree/a")  # a file of this size is stored before the next directory is read
    victim = bench.file(b"new", "tree/d/b")

    def exchange():
        victim.unlink()
        if change == "a directory":
            bench.file(b"new", "tree/d/b/beneath")

    if when.startswith("while") and transfer is Transfer.STREAM:
        bench.below.act = exchange
    else:
        when_the_key_is_made(bench, exchange)
    denied(lambda: bench.save("r/t", bench.work / "tree"), "RETENTION")
    assert bench.below.objects["r/t/d/b"] == kept
    assert set(bench.below.objects) == {"r/t/a", "r/t/d/b", f"r/t/{envelope.MANIFEST}"}


@WAYS
def test_a_retained_object_that_another_save_stored_meanwhile_stays(make, transfer):
    bench = make(retained("deny"), transfer=transfer)
    bench.file(b"new", "tree/a")
    when_the_key_is_made(bench, lambda: bench.plant("r/t/other"))
    denied(lambda: bench.save("r/t", bench.work / "tree"), "RETENTION")
    assert "r/t/other" in bench.below.objects


class Acting(MemoryPlugin):
    """Calls `act` once, before it stores something."""

    act = None

    def save_stream(self, call, artifact, chunks):
        act, self.act = self.act, None
        if act:
            act()
        super().save_stream(call, artifact, chunks)


WRITE_ONCE = document([ALLOW, {"effect": "require", "match": {"keys": ["r/**"]}, "require": {"overwrite": "deny"}}])


@pytest.mark.parametrize("transfer", list(Transfer))
def test_an_existing_object_is_not_replaced(make, transfer):
    bench = make(WRITE_ONCE, transfer=transfer)
    bench.save("r/a", bench.file(b"first"))
    bench.file(b"x", "tree/a")
    bench.save("r/t", bench.work / "tree")
    for again in (
        lambda: bench.save("r/a", bench.file(b"second")),
        lambda: bench.save_stream("r/a", [b"second"]),
        lambda: bench.save("r/t", bench.work / "tree"),
        lambda: bench.save_stream("r/t/a", [b"second"]),
    ):
        denied(again, "OVERWRITE")
    assert bench.load("r/a").read_bytes() == b"first"


def test_writing_a_directory_does_not_replace_a_write_once_object_in_it(make):
    bench = make(WRITE_ONCE)
    bench.save("r/a", bench.file(b"first"))
    bench.file(b"second", "tree/a")
    denied(lambda: bench.save("r", bench.work / "tree"), "OVERWRITE")


class Blind(MemoryPlugin):
    """Refuses every read."""

    answer: PluginError = Refused("access denied")

    def open_stream(self, call, artifact):
        raise self.answer


def test_nothing_is_written_if_it_is_unknown_whether_the_object_exists(make):
    bench = make(WRITE_ONCE, below=Blind())
    assert "it is unknown whether" in denied(lambda: bench.save("r/a", bench.file()), "OVERWRITE").fact
    bench.below.answer = DownstreamStatus("UNAVAILABLE", "away")
    with pytest.raises(DownstreamStatus):
        bench.save("r/a", bench.file())
    assert bench.below.objects == {}


def test_an_object_of_unknown_age_is_kept(make):
    bench = make(retained("skip"), below=Blind())
    bench.below.objects["r/a"] = b""
    bench.delete("r/a")
    assert (bench.call.decision.effective, set(bench.below.objects)) == ("skip", {"r/a"})
