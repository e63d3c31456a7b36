"""Every cut and every flipped bit of a sealed file is refused. The data key comes from the key provider."""

from __future__ import annotations

from functools import partial

import pytest
from harness.sealing import KEY, Outcome, opened_by_file, opened_by_stream

from sealgate.envelope import new_header, seal_stream
from sealgate.keys.local import LocalKeys

PLAINTEXT = b"id,amount\r\n1,100\r\n"
REFUSALS = {"NotSealed", "Truncated", "HeaderInvalid", "UnsupportedFormat", "WrongDataKey", "Tampered", "NotConfigured"}
"""`NotConfigured` if a changed key envelope names a key or a provider that does not exist."""


class Readers:
    """One small sealed file, and every reader with the data key that it needs."""

    def __init__(self, keys: LocalKeys, call) -> None:
        made = keys.new_data_key(call)
        header = new_header(made.plaintext, made.wrapped, sealed_at=1_767_225_600, context=(("tenant", "a"),))
        self.sealed = b"".join(map(bytes, seal_stream(header, made.plaintext, KEY, iter([PLAINTEXT]))))
        self._unlock = lambda header: keys.unwrap(call, header.key)

    def outcomes(self, sealed: bytes) -> list[Outcome]:
        readers = opened_by_file, opened_by_stream, partial(opened_by_stream, chunk=13)
        return [read(sealed, self._unlock) for read in readers]


@pytest.fixture
def readers(keyring, call):
    return Readers(LocalKeys(keyring), call)


def test_the_whole_file_opens(readers):
    assert [outcome.released for outcome in readers.outcomes(readers.sealed)] == [PLAINTEXT] * 3


def test_every_cut_is_refused(readers):
    for size in range(len(readers.sealed)):
        for outcome in readers.outcomes(readers.sealed[:size]):
            assert outcome.named in {"Truncated", "Tampered"}, size
            assert outcome.released == b""


def test_every_flipped_bit_is_refused(readers):
    for at in range(len(readers.sealed)):
        for bit in range(8):
            changed = bytearray(readers.sealed)
            changed[at] ^= 1 << bit
            for outcome in readers.outcomes(bytes(changed)):
                assert outcome.named in REFUSALS, (at, bit)
                assert outcome.released == b""


def test_every_removed_byte_is_noticed(readers):
    for at in range(len(readers.sealed)):
        for outcome in readers.outcomes(readers.sealed[:at] + readers.sealed[at + 1 :]):
            assert outcome.named in REFUSALS, at
            assert outcome.released == b""
