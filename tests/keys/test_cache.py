"""The unwrap cache: what each of its knobs does, on a clock that the test sets."""

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

TTL = 100.0


class Keys:
    """A provider that counts, and that fails when it is told to."""

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

    def rewrap(self, call, wrapped):
        return replace(wrapped, key_version=wrapped.key_version + 1)

    def check(self, call):
        return "checked"


class World:
    """A cache, its provider, the time, and what is to be done later."""

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
        """Whether opening this one asks the provider."""
        before = len(self.keys.asked)
        assert self.cache.unwrap(self.call, made.wrapped) == made.plaintext
        return len(self.keys.asked) > before

    def work(self):
        """Do what is due by now."""
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


# --- the knobs -------------------------------------------------------------------------------------------


def test_what_was_opened_is_not_asked_for_again(world):
    made = world.made()
    assert [world.asks(made) for _ in range(3)] == [True, False, False]


@pytest.mark.parametrize(("ttl", "entries"), [(0.0, 3), (TTL, 0), (0.0, 0)])
def test_zero_of_either_knob_is_no_cache(ttl, entries):
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


def test_an_entry_lives_from_the_question_on_and_not_from_the_answer(world):
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
def test_no_more_entries_are_held_than_allowed_and_the_one_not_used_for_longest_goes(entries):
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


def test_everything_that_was_wrapped_is_part_of_what_an_entry_is_found_by(world):
    made = world.made()
    assert world.asks(made)
    for field in fields(WrappedKey):
        value = getattr(made.wrapped, field.name)
        other = value + 1 if isinstance(value, int) else value + (b"x" if isinstance(value, bytes) else "x")
        changed = DataKey(os.urandom(32), replace(made.wrapped, **{field.name: other}))
        world.keys.known[changed.wrapped] = changed.plaintext
        assert world.asks(changed), field.name


def test_the_rest_of_the_provider_is_as_it_was(world):
    made = world.cache.new_data_key(world.call)
    assert world.asks(made), "a new data key is not remembered"
    assert world.cache.rewrap(world.call, made.wrapped).key_version == 2
    assert world.cache.check(world.call) == "checked"


# --- ahead of the end ------------------------------------------------------------------------------------


def test_an_entry_that_is_used_near_its_end_is_asked_for_anew_behind_the_callers_back(world):
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


def test_an_entry_that_is_not_used_is_not_asked_for_anew(world):
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
    assert len(world.keys.asked) == 4, "each look at the provider waits a while for the next"
    world.now = 1000 + TTL
    with pytest.raises(outage):
        world.cache.unwrap(world.call, made.wrapped)


def test_a_failure_is_not_remembered(world):
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


def test_what_goes_for_want_of_room_is_overwritten(world):
    for _ in range(3):
        world.asks(world.made())
    oldest = entries_of(world)[0]
    assert any(oldest)
    world.asks(world.made())
    assert oldest == bytes(32)


def test_what_has_ended_is_overwritten_although_nobody_asks_for_it(world):
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
    assert world.due == [], "an empty cache has nothing to come back for"
    world.asks(early)
    assert world.due, "and one that is filled again has"


def test_what_is_replaced_or_refused_or_cleared_is_overwritten(world):
    made = world.made()
    world.asks(made)
    replaced = entries_of(world)[0]
    world.now += 81
    world.asks(made)
    world.work()
    assert replaced == bytes(32)
    cleared = entries_of(world)[0]
    world.cache.clear()
    assert cleared == bytes(32)
    assert world.asks(made)


def test_what_a_caller_was_given_is_its_own(world):
    made = world.made()
    world.asks(made)
    given = world.cache.unwrap(world.call, made.wrapped)
    world.cache.clear()
    assert given == made.plaintext


def test_an_entry_does_not_show_its_key(world):
    made = world.made()
    world.asks(made)
    text = repr(world.cache._entries)
    assert repr(made.plaintext)[2:-1] not in text


# --- many at once ----------------------------------------------------------------------------------------


def test_those_who_want_the_same_at_the_same_time_ask_once():
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
    cache.clear()


def test_the_real_clock_and_threads_do_as_the_injected_ones():
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
