"""Moving objects to a newer key version on a plugin in memory, including one that returns wrong answers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from harness.memory_plugin import MemoryPlugin
from harness.rotating import DATA, Recorded, World
from hypothesis import given
from hypothesis import strategies as st

from sealgate import envelope
from sealgate.errors import (
    BadRequest,
    Cancelled,
    DataLoss,
    Denied,
    DownstreamStatus,
    LimitReached,
    NotConfigured,
    Refused,
    TimedOut,
    Unavailable,
)
from sealgate.keys.local import LocalKeys
from sealgate.keys.provider import BATCH, KeyVersions
from sealgate.rotation import Pace, Patience, StaleObject
from sealgate.storage.spool import Spool
from sealgate.storage.stored_objects import StoredObjects, Transfer


@pytest.fixture(params=[(True, Transfer.AUTO), (False, Transfer.AUTO), (True, Transfer.FILE)], ids=str)
def world(tmp_path, request):
    streams, transfer = request.param
    return World(tmp_path, MemoryPlugin(streams=streams), transfer)


@pytest.fixture
def simple(tmp_path):
    return World(tmp_path)


def test_only_the_wrapped_key_in_the_header_is_replaced(world):
    world.save("ns/a", "ns/b")
    before = {key: (world.header(key), world.body(key)) for key in ("ns/a", "ns/b")}
    world.turn_to(2)
    report = world.rotate()
    assert (report.found, report.moved, report.current, report.stale, report.failed) == (2, 2, 0, 0, 0)
    for key, (header, body) in before.items():
        assert world.header(key).authenticated == header.authenticated
        assert world.header(key).key.key_version == 2
        assert world.body(key) == body
        assert world.opened(key) == DATA
    assert report.under("default") == {2: 2}
    assert report.may_be_raised_to("default") == 2
    assert report.newest == {"default": KeyVersions(2, 1)}


def test_a_current_object_is_read_up_to_its_header_and_not_written(simple):
    simple.save("ns/a")
    simple.plugin.calls.clear()
    report = simple.rotate()
    assert (report.current, report.moved) == (1, 0)
    assert simple.plugin.calls == [
        "list_objects",
        "open_stream",
        "open_stream",
    ]  # for the prefix itself, and for the object
    assert simple.keys.batches == []


def test_a_dry_run_reports_the_same_and_changes_nothing(world):
    world.save("ns/a", "ns/b")
    world.turn_to(2)
    world.save("ns/c")
    before = dict(world.plugin.objects)
    report = world.rotate(dry_run=True)
    assert (report.found, report.moved, report.current, report.stale) == (3, 0, 1, 2)
    assert report.under("default") == {1: 2, 2: 1}
    assert report.may_be_raised_to("default") == 1
    assert world.plugin.objects == before
    assert world.keys.batches == []


def test_files_of_one_directory_still_share_one_data_key(simple):
    made = LocalKeys(simple.keyring).new_data_key(simple.call)
    simple.save(*(f"ns/tree/{number:04}" for number in range(3 * BATCH)), data=b"x", made=made)
    simple.turn_to(2)
    assert simple.rotate().moved == 3 * BATCH
    assert len({simple.header(key).key for key in simple.plugin.objects}) == 1
    assert simple.keys.batches == [1]


@pytest.mark.parametrize(("count", "requests"), [(1, 1), (BATCH, 1), (BATCH + 1, 2), (5 * BATCH // 2, 3)])
def test_the_key_service_is_asked_once_for_each_hundred_that_are_stale(simple, count, requests):
    simple.save(*(f"ns/{number:04}" for number in range(0, 2 * count, 2)), data=b"")
    simple.turn_to(2)
    simple.save(*(f"ns/{number:04}" for number in range(1, 2 * count, 2)), data=b"")  # current ones in between
    report = simple.rotate()
    assert (report.moved, report.current) == (count, count)
    assert (sum(simple.keys.batches), len(simple.keys.batches)) == (count, requests)
    assert simple.keys.version_requests == 1


def test_an_interrupted_walk_reports_how_far_it_came_and_all_objects_still_open(simple):
    keys = [f"ns/{number:04}" for number in range(2 * BATCH)]
    simple.save(*keys, data=b"")
    simple.turn_to(2)
    written = []
    save_stream = simple.plugin.save_stream

    def stopping(call, artifact, chunks):
        save_stream(call, artifact, chunks)
        written.append(artifact.key)
        if len(written) == BATCH // 2:
            simple.patience.ask_to_stop()

    simple.plugin.save_stream = stopping
    report = simple.rotate()
    assert not report.finished
    assert report.may_be_raised_to("default") is None
    assert all(simple.opened(key) == b"" for key in keys)
    assert report.reached
    assert all(simple.header(key).key.key_version == 2 for key in keys if key <= report.reached)
    assert report.moved == len(written)
    simple.patience = Patience(60)
    assert simple.rotate().moved == 2 * BATCH - report.moved


def test_an_object_that_is_not_sealed_is_counted_and_left_unchanged(simple):
    simple.save("ns/a")
    simple.plugin.objects["ns/plain"] = b"plaintext"
    simple.turn_to(2)
    report = simple.rotate()
    assert (report.moved, report.not_sealed, report.failed) == (1, 1, 0)
    assert simple.plugin.objects["ns/plain"] == b"plaintext"


def test_one_object_that_cannot_be_moved_does_not_stop_the_others(simple):
    simple.save("ns/a", "ns/b", "ns/c", "ns/d")
    simple.turn_to(2)
    damaged = simple.header("ns/b")
    wrapped = damaged.key.wrapped_key
    for name, changed in (("ns/b", wrapped[:20] + ("A" if wrapped[20] != "A" else "B") + wrapped[21:]),):
        simple.plugin.objects[name] = simple.plugin.objects[name].replace(wrapped.encode(), changed.encode())
    simple.plugin.objects["ns/c"] = simple.plugin.objects["ns/c"][:30]
    before = dict(simple.plugin.objects)
    report = simple.rotate()
    assert (report.found, report.moved, report.failed) == (4, 2, 2)
    assert {fault.key for fault in report.faults} == {"ns/b", "ns/c"}
    assert report.may_be_raised_to("default") is None
    assert {key: simple.plugin.objects[key] for key in ("ns/b", "ns/c")} == {
        key: before[key] for key in ("ns/b", "ns/c")
    }


class Unsteady(MemoryPlugin):
    """Returns `change(content)` instead of the content on the second read."""

    def __init__(self, change):
        super().__init__()
        self.change = change
        self.reads = 0

    def open_stream(self, call, artifact):
        whole = b"".join(super().open_stream(call, artifact))
        self.reads += 1
        yield self.change(whole) if self.reads == 2 else whole


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole[:-1],
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]),
        lambda whole: whole + b"\0",
        lambda whole: whole[:40],
        lambda whole: b"plaintext",
        lambda whole: b"",
    ],
)
def test_an_object_that_differs_on_the_second_read_is_left_unchanged(tmp_path, change):
    world = World(tmp_path, Unsteady(change))
    world.save("ns/a")
    world.turn_to(2)
    before = world.plugin.objects["ns/a"]
    report = world.rotate()
    assert (report.moved, report.failed) == (0, 1)
    assert world.plugin.objects["ns/a"] == before
    world.plugin.change = lambda whole: whole
    assert world.rotate().moved == 1
    assert world.opened("ns/a") == DATA


def test_an_object_that_was_saved_again_meanwhile_is_left_unchanged(tmp_path):
    world = World(tmp_path)
    world.save("ns/a")
    old = world.plugin.objects["ns/a"]
    world.save("ns/a", data=b"newer")
    newer = world.plugin.objects["ns/a"]
    world.plugin = Unsteady(lambda _: newer)
    world.plugin.objects["ns/a"] = old
    world.stored = StoredObjects(world.plugin, Spool(tmp_path / "spool"), Transfer.AUTO)
    world.turn_to(2)
    report = world.rotate()
    assert (report.moved, report.failed) == (0, 1)
    assert "replaced while it was moved" in report.faults[0].fact


def test_a_downstream_that_cannot_be_reached_ends_the_walk(tmp_path):
    class Gone(MemoryPlugin):
        def open_stream(self, call, artifact):
            raise Unavailable("the connection broke")
            yield

    world = World(tmp_path, Gone())
    world.save(*(f"ns/{number}" for number in range(500)), data=b"")
    with pytest.raises(Unavailable):
        world.rotate()
    rotation = world.rotation()
    with world.patience.watching():
        report = rotation.run(sorted(world.plugin.objects))
    assert isinstance(report.stopped_by, Unavailable)
    assert not report.finished


def test_a_key_service_that_is_unavailable_ends_the_walk_with_its_error(simple):
    simple.save("ns/a")
    simple.turn_to(2)
    before = dict(simple.plugin.objects)
    simple.keys.fault = Unavailable("Vault is sealed")
    report = simple.rotate()
    assert report.stopped_by is simple.keys.fault
    assert (report.moved, report.stale, report.finished) == (0, 1, False)
    assert simple.plugin.objects == before


def test_objects_of_another_provider_are_faults_and_cause_no_requests(simple):
    simple.save("ns/a", "ns/b")

    class Foreign(Recorded):
        def require_own(self, wrapped):
            raise NotConfigured("the data key was wrapped by local, and this installation uses Vault")

    simple.keys = Foreign(None)
    report = simple.rotate()
    assert (report.found, report.failed, simple.keys.version_requests) == (2, 2, 0)
    assert report.stopped_by is None


def test_a_key_service_that_refuses_every_key_ends_the_walk_after_one_request(simple):
    simple.save(*(f"ns/{number:04}" for number in range(3 * BATCH)), data=b"")

    class Refusing(Recorded):
        def versions(self, call, key):
            self.version_requests += 1
            raise Denied("the role may not read the key")

    simple.keys = Refusing(LocalKeys(simple.keyring))
    report = simple.rotate()
    assert isinstance(report.stopped_by, Denied)
    assert (report.found, simple.keys.version_requests) == (BATCH, 1)


def test_a_missing_key_does_not_stop_the_rotation_of_other_keys(simple):
    simple.save("ns/a", "ns/b")
    simple.turn_to(2)
    simple.plugin.objects["ns/a"] = relabelled(simple, "ns/a", key_name="missing")
    report = simple.rotate()
    assert (report.moved, report.failed) == (1, 1)


def relabelled(world, key, **changed):
    """Return an object with changed key fields in its header, as anyone with access to the storage could write it."""
    header, body = envelope.split_stream(iter([world.plugin.objects[key]]))
    return replace(header, key=replace(header.key, **changed)).encode() + b"".join(map(bytes, body))


@pytest.mark.parametrize("victim", ["ns/a", "ns/b"])
def test_a_header_that_claims_another_version_than_its_wrap_is_one_fault_and_never_current(simple, victim):
    simple.save("ns/a", "ns/b", "ns/c")
    simple.turn_to(2)
    simple.plugin.objects[victim] = relabelled(simple, victim, key_version=7)
    report = simple.rotate()
    assert (report.moved, report.current, report.failed) == (2, 0, 1)
    assert report.faults[0].key == victim
    assert report.may_be_raised_to("default") is None


def test_an_unknown_key_version_is_a_fault_after_the_versions_were_requested_again(simple):
    simple.save("ns/a")
    simple.turn_to(2)
    simple.save("ns/b")
    simple.turn_to(1)
    report = simple.rotate()
    assert (report.current, report.failed, simple.keys.version_requests) == (1, 1, 2)
    assert "1 is the newest" in report.faults[0].fact


def test_an_object_that_is_deleted_meanwhile_is_counted_as_gone(simple):
    simple.save("ns/a", "ns/b")
    simple.turn_to(2)
    listed = simple.plugin.list_objects

    def list_and_delete(call, artifact):
        keys = listed(call, artifact)
        simple.plugin.objects.pop("ns/a", None)
        return keys

    simple.plugin.list_objects = list_and_delete
    report = simple.rotate()
    assert (report.moved, report.gone, report.failed) == (1, 1, 0)
    assert report.may_be_raised_to("default") == 2


def test_an_object_at_the_prefix_itself_is_moved(simple):
    simple.save("ns", "ns/a")
    simple.turn_to(2)
    assert simple.rotate().moved == 2
    assert simple.header("ns").key.key_version == 2


def test_a_directory_marker_is_counted_as_not_sealed(simple):
    simple.save("ns/a")
    simple.plugin.objects["ns/dir/"] = b""
    report = simple.rotate()
    assert (report.current, report.not_sealed, report.failed) == (1, 1, 0)


class Hanging(MemoryPlugin):
    """Does not answer the operation `on` until the call is cancelled."""

    def __init__(self, on):
        super().__init__()
        self.on = on
        self.hangs = threading.Event()

    def _hang(self, call, what):
        if self.on == what:
            self.hangs.set()
            assert call.cancelled_within(60)
            raise Cancelled("the caller went away")

    def list_objects(self, call, artifact):
        self._hang(call, "list")
        return super().list_objects(call, artifact)

    def open_stream(self, call, artifact):
        self._hang(call, "read")
        yield from super().open_stream(call, artifact)

    def save_stream(self, call, artifact, chunks):
        self._hang(call, "write")
        super().save_stream(call, artifact, chunks)


@pytest.mark.parametrize("on", ["list", "read", "write"])
def test_a_downstream_without_progress_is_cancelled_after_the_timeout(tmp_path, on):
    world = World(tmp_path, Hanging(on))
    world.save("ns/a")
    world.turn_to(2)
    world.patience = Patience(0.3)
    if on == "write":
        report = world.rotate()
        assert isinstance(report.stopped_by, TimedOut)
        assert (report.moved, report.finished) == (0, False)
        return
    with pytest.raises(TimedOut, match=r"no progress for 0\.3 s"):
        world.rotate()


@pytest.mark.parametrize("on", ["read", "write"])
def test_a_walk_that_is_asked_to_stop_cancels_what_hangs(tmp_path, on):
    world = World(tmp_path, Hanging(on))
    world.save("ns/a", "ns/b")
    world.turn_to(2)
    rotation, patience = world.rotation(), world.patience
    with patience.watching(), ThreadPoolExecutor() as pool:
        running = pool.submit(rotation.run, ["ns/a", "ns/b"])
        assert world.plugin.hangs.wait(60)
        patience.ask_to_stop()
        patience.ask_to_stop()  # the second time: at once
        report = running.result(60)
    assert not report.finished
    assert (report.moved, report.failed, report.stopped_by) == (0, 0, None)
    assert all(world.opened(key) == DATA for key in ("ns/a", "ns/b"))


def test_a_listing_outside_the_prefix_is_refused(simple):
    simple.plugin.list_objects = lambda call, artifact: ["other/a"]
    with pytest.raises(DataLoss, match="outside the prefix"):
        simple.rotate()


def test_the_whole_store_is_listed_for_an_empty_prefix(simple):
    simple.save("a", "ns/b", "other/c")
    simple.turn_to(2)
    assert simple.rotate("").moved == 3


def answering(fault):
    def list_objects(call, artifact):
        raise fault

    return list_objects


@pytest.mark.parametrize(
    "fault",
    [
        DownstreamStatus("INVALID_ARGUMENT", "the key is empty"),
        DownstreamStatus("UNIMPLEMENTED", "no"),
        Refused("a key is required"),
    ],
)
def test_a_downstream_that_does_not_list_a_whole_store_is_reported_as_such(simple, fault):
    simple.plugin.list_objects = answering(fault)
    with pytest.raises(BadRequest, match="does not list a whole store") as raised:
        simple.rotation().objects("")
    assert "prefixes" in raised.value.remedy


@pytest.mark.parametrize("prefix", ["", "ns"])
def test_more_objects_than_the_downstream_lists_are_no_reason_to_delete_any(simple, prefix):
    simple.plugin.list_objects = answering(DownstreamStatus("RESOURCE_EXHAUSTED", "too many. Delete the artifact"))
    with pytest.raises(LimitReached, match="more objects than the downstream lists at once") as raised:
        simple.rotation().objects(prefix)
    assert raised.value.remedy.startswith("Give longer prefixes")


@pytest.mark.parametrize("prefix", ["", "ns", "other"])
def test_nothing_is_found_where_nothing_is_stored(world, prefix):
    if prefix == "other":
        world.save("ns/a")
    assert world.rotation().objects(prefix) == []


def test_an_object_that_cannot_be_read_is_not_taken_for_nothing(simple):
    def open_stream(call, artifact):
        raise DownstreamStatus("PERMISSION_DENIED", "not for this role")
        yield

    simple.save("ns")
    simple.plugin.open_stream = open_stream
    report = simple.rotate("ns")
    assert (report.failed, report.gone) == (1, 0)
    assert report.faults[0].key == "ns"


def test_a_dry_run_lists_what_is_stale(simple):
    simple.save(*(f"ns/{number:03}" for number in reversed(range(0, 2 * BATCH, 2))), data=b"")
    simple.turn_to(2)
    simple.save("ns/001", data=b"")
    listed = simple.rotate(dry_run=True).stale_objects
    assert listed == [StaleObject(f"ns/{number:03}", "default", 1) for number in range(0, 2 * BATCH, 2)]
    assert simple.rotate().stale_objects == []


def test_a_key_that_is_not_canonical_is_one_fault(simple):
    simple.save("ns/a")
    simple.turn_to(2)
    simple.plugin.objects["ns/../b"] = b"x"
    report = simple.rotate()
    assert (report.moved, report.failed) == (1, 1)


def test_one_whole_key_is_moved_alone(simple):
    simple.save("ns/a", "ns/b")
    simple.turn_to(2)
    assert simple.rotate("ns/a").moved == 1
    assert simple.header("ns/b").key.key_version == 1


class Clock:
    def __init__(self):
        self.now = 50.0
        self.waits = []

    def wait(self, seconds):
        self.waits.append(seconds)
        self.now += seconds


@given(rate=st.floats(0.1, 10_000), starts=st.integers(1, 50))
def test_starts_in_a_second_do_not_exceed_the_rate(rate, starts):
    clock = Clock()
    pace = Pace(rate, clock.wait, lambda: clock.now)
    for _ in range(starts):
        pace.start()
    assert clock.now - 50.0 == pytest.approx((starts - 1) / rate)


def test_without_a_rate_there_is_no_waiting():
    clock = Clock()
    pace = Pace(0, clock.wait, lambda: clock.now)
    for _ in range(100):
        pace.start()
    assert clock.waits == []
