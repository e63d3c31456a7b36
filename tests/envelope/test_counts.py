"""What one segment costs: its system calls, and the memory that it is copied to. Counts gate; times do not."""

from __future__ import annotations

import tracemalloc

import pytest
from harness.counting import system_calls
from harness.sealing import DATA_KEY, FIRST, FULL, KEY, header, in_memory, plaintext_of, unlock

from sealgate import envelope

SEGMENTS = 8
"""As many as one thread handles, so that all its system calls are counted."""
SIZE = FIRST + (SEGMENTS - 1) * FULL
SMALL = 4096


def seal(plain: int, sealed: int) -> None:
    envelope.seal_file(plain, sealed, header(), DATA_KEY, KEY)


def open_(sealed: int, opened: int) -> None:
    envelope.open_file(sealed, opened, unlock, KEY)


@pytest.mark.parametrize(("size", "segments"), [(0, 1), (SMALL, 1), (FIRST, 1), (SIZE, SEGMENTS)])
def test_each_segment_is_read_by_one_system_call_and_written_by_one(size, segments):
    reads = {"preadv": segments} if size else {}
    with in_memory(plaintext_of(size)) as plain, in_memory() as sealed, in_memory() as opened:
        counted = system_calls(lambda: seal(plain, sealed))
        assert counted == {"fstat": 1, **reads, "pwritev": segments, "urandom": 1}
        counted = system_calls(lambda: open_(sealed, opened))
        assert counted == {"fstat": 1, "preadv": segments + 1, "pwritev": segments}, "one more for the header"


@pytest.mark.parametrize("does", ["seal", "open"])
def test_a_segment_is_in_memory_once_as_plaintext_and_once_sealed(does):
    with in_memory(plaintext_of(SIZE)) as plain, in_memory() as sealed, in_memory() as opened:
        if does == "open":
            seal(plain, sealed)
        tracemalloc.start()
        try:
            seal(plain, sealed) if does == "seal" else open_(sealed, opened)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 2 * (1 << 20) + 100_000
