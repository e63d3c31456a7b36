"""Files sealed and opened at offsets, by one thread or several."""

from __future__ import annotations

import os
import time
import tracemalloc

import pytest
from harness.sealing import (
    AROUND_BOUNDARIES,
    DATA_KEY,
    FIRST,
    FULL,
    KEY,
    content_of,
    header,
    in_memory,
    opened_by_file,
    opened_by_stream,
    plaintext_of,
    sealed_by_file,
    sealed_by_stream,
    unlock,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sealgate import envelope
from sealgate.errors import BadRequest, Cancelled, Truncated

MIB = 1 << 20


@pytest.mark.parametrize("size", AROUND_BOUNDARIES)
@pytest.mark.parametrize("seal", [sealed_by_file, sealed_by_stream])
@pytest.mark.parametrize("open_", [opened_by_file, opened_by_stream])
def test_either_way_opens_what_either_way_sealed(seal, open_, size):
    plaintext = plaintext_of(size)
    outcome = open_(seal(plaintext))
    assert outcome.error is None
    assert outcome.released == plaintext


@given(st.binary(max_size=3000))
def test_any_content_comes_back(plaintext):
    assert opened_by_file(sealed_by_file(plaintext)).released == plaintext


@settings(max_examples=8)
@given(st.integers(9, 16), st.integers(-20, 20))
def test_several_threads_seal_and_open_the_same_file(segments, off):
    plaintext = plaintext_of(FIRST + segments * FULL + off)
    sealed = sealed_by_file(plaintext)
    assert len(sealed) == len(header().encode()) + envelope.stored_size(len(plaintext))
    for outcome in opened_by_file(sealed), opened_by_stream(sealed), opened_by_file(sealed, consume=True):
        assert outcome.error is None
        assert outcome.released == plaintext


def test_the_result_is_plaintext_bytes_and_stored_bytes():
    with in_memory(b"x" * 1000) as source, in_memory() as sealed, in_memory() as target:
        sizes = envelope.seal_file(source, sealed, header(), DATA_KEY, KEY)
        assert sizes == (1000, os.fstat(sealed).st_size)
        assert envelope.open_file(sealed, target, unlock, KEY) == sizes


def test_the_same_plaintext_is_never_sealed_to_the_same_bytes():
    assert sealed_by_file(b"the same")[-32:] != sealed_by_file(b"the same")[-32:]


def test_a_file_that_is_consumed_gives_its_space_back_while_it_is_opened(tmp_path):
    size = FIRST + 70 * FULL
    with (tmp_path / "sealed").open("w+b") as file, in_memory() as source, in_memory() as target:
        sealed = file.fileno()
        os.ftruncate(source, size)
        envelope.seal_file(source, sealed, header(), DATA_KEY, KEY)
        shrinking = Shrinking(sealed)
        envelope.open_file(sealed, target, unlock, KEY, shrinking, consume=True)
        assert shrinking.seen
        assert os.fstat(sealed).st_size == 0
        assert content_of(target) == bytes(size)


def test_a_file_that_has_a_second_name_is_not_consumed(tmp_path):
    sealed = tmp_path / "sealed"
    sealed.write_bytes(sealed_by_file(b"kept"))
    (tmp_path / "second").hardlink_to(sealed)
    with sealed.open("r+b") as source, in_memory() as target:
        envelope.open_file(source.fileno(), target, unlock, KEY, consume=True)
        assert content_of(target) == b"kept"
    assert opened_by_file(sealed.read_bytes()).released == b"kept"


def test_a_file_that_can_only_be_read_is_not_consumed(tmp_path):
    sealed = tmp_path / "sealed"
    sealed.write_bytes(sealed_by_file(b"kept"))
    with sealed.open("rb") as source, in_memory() as target:
        envelope.open_file(source.fileno(), target, unlock, KEY, consume=True)
        assert content_of(target) == b"kept"
    assert opened_by_file(sealed.read_bytes()).released == b"kept"


@pytest.mark.parametrize("consume", [False, True])
def test_a_fault_in_any_segment_of_many_is_found(consume):
    sealed = bytearray(sealed_by_file(plaintext_of(FIRST + 11 * FULL)))
    for segment in range(12):
        at = len(sealed) - 1 - segment * MIB
        sealed[at] ^= 1
        assert opened_by_file(bytes(sealed), consume=consume).named == "Tampered"
        sealed[at] ^= 1


def test_a_source_that_shrinks_is_a_bad_request():
    with in_memory(plaintext_of(3 * MIB)) as source, in_memory() as target:
        shrink = Steps(2, lambda: os.ftruncate(source, 2 * MIB))
        with pytest.raises(BadRequest, match="shrank"):
            envelope.seal_file(source, target, header(), DATA_KEY, KEY, shrink)


def test_a_source_that_grows_is_sealed_as_it_was():
    with in_memory(plaintext_of(3 * MIB)) as source, in_memory() as target:
        grow = Steps(2, lambda: os.ftruncate(source, 9 * MIB))
        envelope.seal_file(source, target, header(), DATA_KEY, KEY, grow)
        assert opened_by_file(content_of(target)).released == plaintext_of(3 * MIB)


def test_a_sealed_file_that_shrinks_while_it_is_opened_is_cut_short():
    with in_memory(sealed_by_file(plaintext_of(3 * MIB))) as source, in_memory() as target:
        shrink = Steps(2, lambda: os.ftruncate(source, 2 * MIB))
        with pytest.raises(Truncated, match="became shorter"):
            envelope.open_file(source, target, unlock, KEY, shrink)


@pytest.mark.parametrize("size", [3 * MIB, 20 * MIB])
def test_cancelled_work_stops_within_a_few_segments(size):
    def give_up() -> None:
        raise Cancelled("the caller went away")

    stop = Steps(2, give_up)
    with in_memory(plaintext_of(size)) as source, in_memory() as target:
        with pytest.raises(Cancelled):
            envelope.seal_file(source, target, header(), DATA_KEY, KEY, stop)
        assert stop.taken <= 8


def test_memory_does_not_depend_on_the_size():
    with in_memory() as source, in_memory() as sealed, in_memory() as target:
        os.ftruncate(source, 64 * MIB)
        tracemalloc.start()
        envelope.seal_file(source, sealed, header(), DATA_KEY, KEY)
        envelope.open_file(sealed, target, unlock, KEY)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 9 * MIB  # a pair of buffers of a MiB each, for each of at most four threads


class Steps:
    """A `check` that runs an action at a given step and at every later one."""

    def __init__(self, step: int, action) -> None:
        self.taken = 0
        self._step = step
        self._action = action

    def __call__(self) -> None:
        self.taken += 1
        if self.taken >= self._step:
            self._action()


class Shrinking:
    """A `check` that notes whether the file became shorter by the time that 64 of its segments were opened."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._whole = os.fstat(fd).st_size
        self._begun = 0
        self.seen = False

    def is_shorter(self) -> bool:
        return os.fstat(self._fd).st_size <= self._whole - MIB

    def __call__(self) -> None:
        self._begun += 1
        if self._begun == 64 + 4:  # at most three other threads still work on a segment
            given_up = time.monotonic() + 10
            while not self.is_shorter() and time.monotonic() < given_up:
                os.sched_yield()
            self.seen = self.is_shorter()
