"""Streams are sealed and opened chunk by chunk, wherever the chunks begin and end."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from itertools import pairwise, repeat

import pytest
from harness.sealing import (
    AROUND_BOUNDARIES,
    DATA_KEY,
    FIRST,
    FULL,
    KEY,
    chunks_of,
    header,
    opened_by_stream,
    plaintext_of,
    sealed_by_stream,
    unlock,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sealgate.envelope import open_stream, seal_stream
from sealgate.errors import PluginError, Truncated

CUTS = st.lists(st.integers(0, 5000), max_size=20)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return the same bytes in other chunks, some of them empty."""
    return [data[a:b] for a, b in pairwise([0, *sorted(places), max([len(data), *places])])]


@given(st.binary(max_size=3000), CUTS, CUTS)
def test_chunks_may_end_anywhere(plaintext, plain_cuts, sealed_cuts):
    sealed = b"".join(map(bytes, seal_stream(header(), DATA_KEY, KEY, iter(cut(plaintext, plain_cuts)))))
    opened = open_stream(iter(cut(sealed, sealed_cuts)), unlock, KEY)
    assert b"".join(map(bytes, opened)) == plaintext


@settings(max_examples=10)
@given(st.sampled_from(AROUND_BOUNDARIES), st.integers(4000, 3 << 20), st.integers(4000, 3 << 20))
def test_chunks_of_any_size_around_the_boundaries_of_segments(size, plain_chunk, sealed_chunk):
    plaintext = plaintext_of(size)
    assert opened_by_stream(sealed_by_stream(plaintext, plain_chunk), chunk=sealed_chunk).released == plaintext


def test_a_chunk_is_used_up_before_the_next_is_taken():
    plaintext, buffer = plaintext_of(FIRST + FULL), bytearray(70_001)

    def through_one_buffer(chunks):
        for chunk in chunks:
            buffer[: len(chunk)] = chunk
            yield memoryview(buffer)[: len(chunk)]

    sealed = b"".join(
        map(bytes, seal_stream(header(), DATA_KEY, KEY, through_one_buffer(chunks_of(plaintext, len(buffer)))))
    )
    opened = open_stream(through_one_buffer(chunks_of(sealed, len(buffer))), unlock, KEY)
    assert b"".join(map(bytes, opened)) == plaintext


def test_a_source_that_fails_while_it_is_sealed_leaves_no_complete_file():
    def failing():
        yield plaintext_of(3 << 20)
        raise Truncated("the source failed")

    yielded = bytearray()
    with pytest.raises(Truncated, match="the source failed"):
        yielded.extend(byte for chunk in seal_stream(header(), DATA_KEY, KEY, failing()) for byte in bytes(chunk))
    outcome = opened_by_stream(bytes(yielded))
    assert outcome.named == "Truncated"
    assert plaintext_of(3 << 20).startswith(outcome.released)


def test_the_exception_of_a_source_that_fails_while_it_is_opened_is_passed_on():
    sealed = sealed_by_stream(b"all of it")

    def failing():
        yield sealed
        raise Truncated("the source failed")

    with pytest.raises(Truncated, match="the source failed"):
        list(open_stream(failing(), unlock, KEY))


def test_the_last_segment_is_not_released_before_the_end_has_been_seen():
    sealed, taken = sealed_by_stream(b"all of it"), []

    def chunks():
        yield sealed
        taken.append("all")

    assert bytes(next(open_stream(chunks(), unlock, KEY))) == b"all of it"
    assert taken == ["all"]


def test_memory_does_not_depend_on_the_size():
    tracemalloc.start()
    chunks = seal_stream(header(), DATA_KEY, KEY, repeat(bytes(100_000), 640))
    size = sum(len(chunk) for chunk in open_stream(chunks, unlock, KEY))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size == 64_000_000
    assert peak < 5 << 20  # a pair of buffers for each direction


@given(st.binary(max_size=400), CUTS)
def test_arbitrary_bytes_give_only_named_errors(data, cuts):
    with suppress(PluginError):
        list(open_stream(iter(cut(data, cuts)), unlock, KEY))


@given(st.data())
def test_mutated_bytes_give_named_errors_and_no_unverified_byte(data):
    plaintext = b"some plaintext, long enough"
    whole = sealed_by_stream(plaintext)
    mutated = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(mutated)))
        gone = data.draw(st.integers(0, 4))
        mutated[at : at + gone] = data.draw(st.binary(max_size=4))
    outcome = opened_by_stream(bytes(mutated), chunk=data.draw(st.integers(1, 400)))
    assert outcome.released == (b"" if outcome.error else plaintext)


def test_a_small_file_takes_little_memory():
    def peak(work) -> int:
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    sealed = sealed_by_stream(bytes(4096))
    assert peak(lambda: [None for _ in seal_stream(header(), DATA_KEY, KEY, iter([bytes(4096)]))]) < 256 << 10
    assert peak(lambda: [None for _ in open_stream(iter([sealed]), unlock, KEY)]) < 256 << 10
