"""The cache of data keys: what each setting does, on a clock that the test sets."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import pytest

from sealgate.call import Call, Operation, WrappedKey
from sealgate.errors import NotConfigured, NotPermitted, Tampered, TimedOut, Unavailable
from sealgate.keys import DataKey
from sealgate.keys.cache import CachedKeys
from sealgate.keys.provider import SignedBy

TTL = 100.0


class Keys:
    """A provider that counts its requests, and fails with `fault` where a test sets one."""

    def __init__(self):
        self.known = {}
        self.asked = []
        self.fault = None

    def new_data_key(self, call, key=""):
        wrapped = WrappedKey("vault", "transit", "artifacts", f"vault:v1:{len(self.known)}", 1)
        self.known[wrapped] = os.urandom(32)
        return DataKey(self.known[wrapped], wrapped)

    def unwrap(self, call, wrapped):
        self.asked.append(wrapped)
        if self.fault:
            raise self.fault
        return self.known[wrapped]

    def attested(self, call):
        return self.attested_already()

    def attested_already(self):
        return {"namespace": "ns"}

    def sign(self, call, data):
        return SignedBy("audit", 1, data)

    def public_keys(self, call):
        return {1: bytes(32)}


class World:
    """A cache, its provider, the time, and the work that is due later."""

    def __init__(self, ttl=TTL, entries=3):
        self.now = 1000.0
        self.due = []
        self.keys = Keys()
        self.cache = CachedKeys(self.keys, ttl, entries, clock=lambda: self.now, later=self._later)
        self.call = Call(Operation.LOAD)

    def _later(self, wait, work):
        self.due.append((self.now + wait, work))

    def made(self):
        return self.keys.new_data_key(self.call)

    def asks(self, made):
        """Return whether opening this data key asks the provider."""
        before = len(self.keys.asked)
        assert self.cache.unwrap(self.call, made.wrapped) == made.plaintext
        return len(self.keys.asked) > before

    def work(self):
        """Do the work that is due by now."""
        due, self.due = (
            [work for at, work in self.due if at <= self.now],
            [job for job in self.due if job[0] > self.now],
        )
        for work in due:
            work()

    def held(self):
        return {bytes(entry.data_key) for entry in self.cache._entries.values()}


@pytest.fixture
def world():
    return World()


# --- the settings -------------------------------------------------------------------------------------------


def test_a_data_key_is_requested_once(world):
    made = world.made()
    assert [world.asks(made) for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize(("ttl", "entries"), [(0.0, 3), (TTL, 0), (0.0, 0)])
def test_either_setting_at_zero_turns_the_cache_off(ttl, entries):
    world = World(ttl, entries)
    made = world.made()
    assert [world.asks(made) for _ in range(3)] == [True, True, True]
    assert world.held() == set()
    assert world.due == []


@pytest.mark.parametrize("ttl", [10.0, 100.0])
def test_an_entry_lives_for_the_ttl_and_no_longer(ttl):
    world = World(ttl)
    made = world.made()
    assert world.asks(made)
    world.now += ttl - 0.001
    assert not world.asks(made)
    world.now += 0.001
    assert world.asks(made)


def test_the_lifetime_of_an_entry_begins_with_the_request(world):
    made = world.made()
    unwrap = world.keys.unwrap

    class Slow(Keys):
        def unwrap(self, call, wrapped):
            world.now += 60
            return unwrap(call, wrapped)

    world.cache._inner = Slow()
    assert world.asks(made)
    world.now += 40
    assert world.asks(made)


@pytest.mark.parametrize("entries", [1, 2, 5])
def test_a_full_cache_removes_the_entry_not_used_for_longest(entries):
    world = World(entries=entries)
    made = [world.made() for _ in range(entries + 1)]
    for item in made[:-1]:
        assert world.asks(item)
    assert not world.asks(made[0])  # used again: now another is the oldest
    assert world.asks(made[-1])
    assert len(world.held()) == entries
    gone = made[1] if entries > 1 else made[0]
    assert [item.plaintext in world.held() for item in made] == [item is not gone for item in made]
    assert world.asks(gone)


def test_an_entry_is_found_by_every_field_of_the_wrapped_data_key(world):
    made = world.made()
    assert world.asks(made)
    for field in fields(WrappedKey):
        value = getattr(made.wrapped, field.name)
        other = value + 1 if isinstance(value, int) else value + (b"x" if isinstance(value, bytes) else "x")
        changed = DataKey(os.urandom(32), replace(made.wrapped, **{field.name: other}))
        world.keys.known[changed.wrapped] = changed.plaintext
        assert world.asks(changed), field.name


def test_every_other_operation_goes_to_the_provider(world):
    made = world.cache.new_data_key(world.call)
    assert world.asks(made), "a new data key is not cached"
    assert world.cache.attested(world.call) == {"namespace": "ns"}
    assert world.cache.sign(world.call, b"data") == SignedBy("audit", 1, b"data")
    assert world.cache.public_keys(world.call) == {1: bytes(32)}


# --- ahead of the end ------------------------------------------------------------------------------------


def test_an_entry_that_is_used_near_its_end_is_refreshed_in_the_background(world):
    made = world.made()
    assert world.asks(made)
    world.now += 79
    assert not world.asks(made)
    world.work()
    assert len(world.keys.asked) == 1
    world.now += 2
    assert not world.asks(made)
    world.work()
    assert len(world.keys.asked) == 2
    world.now += 99  # of the new life
    assert not world.asks(made)


def test_an_entry_that_is_not_used_is_not_refreshed(world):
    assert world.asks(world.made())
    world.now += 99
    world.work()
    assert len(world.keys.asked) == 1


def test_users_at_the_same_time_do_not_refresh_twice(world):
    made = world.made()
    assert world.asks(made)
    world.now += 81
    for _ in range(10):
        assert not world.asks(made)
    world.work()
    assert len(world.keys.asked) == 2


@pytest.mark.parametrize("refusal", [NotPermitted, NotConfigured, Tampered])
def test_where_the_provider_refuses_the_entry_ends_at_once(world, refusal):
    made = world.made()
    assert world.asks(made)
    world.now += 81
    world.keys.fault = refusal("no more")
    assert not world.asks(made)
    world.work()
    assert world.held() == set()
    with pytest.raises(refusal):
        world.cache.unwrap(world.call, made.wrapped)


@pytest.mark.parametrize("outage", [Unavailable, TimedOut])
def test_where_the_provider_cannot_be_reached_the_entry_lives_to_its_end_and_no_longer(world, outage):
    made = world.made()
    assert world.asks(made)
    world.now += 81
    world.keys.fault = outage("down")
    for _ in range(3):
        assert not world.asks(made)
        world.work()
        world.now += 6
    assert len(world.keys.asked) == 4, "attempts to refresh it have pauses between them"
    world.now = 1000 + TTL
    with pytest.raises(outage):
        world.cache.unwrap(world.call, made.wrapped)


def test_a_failure_is_not_cached(world):
    made = world.made()
    for fault in (NotPermitted("no"), Unavailable("down"), Tampered("bad")):
        world.keys.fault = fault
        with pytest.raises(type(fault)):
            world.cache.unwrap(world.call, made.wrapped)
    world.keys.fault = None
    assert world.asks(made)


# --- wiping ----------------------------------------------------------------------------------------------


def entries_of(world):
    return [entry.data_key for entry in world.cache._entries.values()]


def test_an_entry_removed_from_a_full_cache_is_overwritten(world):
    for _ in range(3):
        world.asks(world.made())
    oldest = entries_of(world)[0]
    assert any(oldest)
    world.asks(world.made())
    assert oldest == bytes(32)


def test_an_entry_whose_lifetime_ended_is_overwritten_without_a_request(world):
    early = world.made()
    world.asks(early)
    held = entries_of(world)[0]
    world.now += 50
    late = world.made()
    world.asks(late)
    world.now += 50
    world.work()
    assert held == bytes(32)
    assert world.held() == {late.plaintext}
    world.now += 50
    world.work()
    assert world.held() == set()
    assert world.due == [], "an empty cache schedules no sweep"
    world.asks(early)
    assert world.due, "a cache that is filled again does"


def test_an_entry_that_is_replaced_is_overwritten(world):
    made = world.made()
    world.asks(made)
    replaced = entries_of(world)[0]
    world.now += 81
    world.asks(made)
    world.work()
    assert replaced == bytes(32)


def test_the_bytes_that_a_caller_received_are_not_overwritten(world):
    made = world.made()
    world.asks(made)
    given = world.cache.unwrap(world.call, made.wrapped)
    world.now += TTL
    world.work()
    assert world.held() == set()
    assert given == made.plaintext


def test_an_entry_does_not_show_its_key(world):
    made = world.made()
    world.asks(made)
    text = repr(world.cache._entries)
    assert repr(made.plaintext)[2:-1] not in text


# --- many at once ----------------------------------------------------------------------------------------


def test_callers_of_the_same_data_key_at_the_same_time_cause_one_request():
    class Slow(Keys):
        def __init__(self):
            super().__init__()
            self.waiting = threading.Semaphore(0)
            self.go = threading.Event()

        def unwrap(self, call, wrapped):
            self.go.wait(30)
            return super().unwrap(call, wrapped)

    class Waiting(Call):
        def on_cancel(self, callback):
            super().on_cancel(callback)
            keys.waiting.release()

    keys = Slow()
    cache = CachedKeys(keys, TTL, 10)
    made = keys.new_data_key(None)
    with ThreadPoolExecutor(8) as pool:
        results = [pool.submit(cache.unwrap, Waiting(Operation.LOAD), made.wrapped) for _ in range(8)]
        for _ in range(7):
            assert keys.waiting.acquire(timeout=30)
        keys.go.set()
        assert {result.result() for result in results} == {made.plaintext}
    assert len(keys.asked) == 1


def test_the_real_clock_and_threads_behave_as_the_injected_ones():
    keys = Keys()
    cache = CachedKeys(keys, 0.3, 10)
    made = keys.new_data_key(None)
    call = Call(Operation.LOAD)
    until = threading.Event()
    cache.unwrap(call, made.wrapped)
    held = cache._entries[made.wrapped].data_key
    for _ in range(200):
        if not any(held):
            break
        until.wait(0.05)
    assert held == bytes(32)
