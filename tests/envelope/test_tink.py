"""Google Tink opens every body that this program writes, and this program opens what Tink writes."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from harness.sealing import (
    AROUND_BOUNDARIES,
    DATA_KEY,
    FIRST,
    FULL,
    KEY,
    chunks_of,
    header,
    opened_by_file,
    opened_by_stream,
    plaintext_of,
    sealed_by_file,
    sealed_by_stream,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from vectors.reader import primitive

from sealgate.envelope import Binding, read_header

SIZES = [*AROUND_BOUNDARIES, 2_097_080, 3_145_728]
VECTORS = Path(__file__).parents[1] / "vectors"
OPENED = [
    vector
    for vector in json.loads((VECTORS / "vectors.json").read_text())["vectors"]
    if "plaintext" in vector and "file" in vector["pieces"][0]
]


def opened_by_tink(sealed: bytes, data_key: bytes, artifact_key: str) -> bytes:
    head, start = read_header(lambda size, offset: sealed[offset : offset + size])
    body = io.BytesIO(sealed[start:])
    with primitive(data_key).new_decrypting_stream(body, head.associated_data(artifact_key)) as stream:
        return bytes(stream.read())


class Kept(io.BytesIO):
    """A buffer whose content is kept when Tink closes it."""

    def close(self) -> None:
        self.kept = self.getvalue()
        super().close()


def sealed_by_tink(plaintext: bytes, binding: Binding = Binding.ARTIFACT_KEY) -> bytes:
    head, body = header(binding), Kept()
    with primitive(DATA_KEY).new_encrypting_stream(body, head.associated_data(KEY)) as stream:
        for chunk in chunks_of(plaintext, 1 << 20):
            stream.write(chunk)
    return head.encode() + body.kept


@pytest.mark.parametrize("size", SIZES)
def test_tink_opens_what_is_sealed_here(size):
    plaintext = plaintext_of(size)
    assert opened_by_tink(sealed_by_file(plaintext), DATA_KEY, KEY) == plaintext
    assert opened_by_tink(sealed_by_stream(plaintext), DATA_KEY, KEY) == plaintext


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("binding", Binding)
def test_what_tink_seals_opens_here(size, binding):
    plaintext = plaintext_of(size)
    sealed = sealed_by_tink(plaintext, binding)
    assert opened_by_file(sealed).released == plaintext
    assert opened_by_stream(sealed).released == plaintext


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=2000))
def test_tink_and_this_program_open_each_other(plaintext):
    assert opened_by_tink(sealed_by_stream(plaintext, 100), DATA_KEY, KEY) == plaintext
    assert opened_by_stream(sealed_by_tink(plaintext), chunk=100).released == plaintext


def test_tink_opens_a_file_that_several_threads_sealed():
    plaintext = plaintext_of(FIRST + 11 * FULL)
    assert opened_by_tink(sealed_by_file(plaintext), DATA_KEY, KEY) == plaintext


@pytest.mark.parametrize("vector", OPENED, ids=lambda vector: vector["name"])
def test_tink_opens_every_vector_that_must_open(vector):
    sealed = (VECTORS / vector["pieces"][0]["file"]).read_bytes()
    data_key = bytes.fromhex(vector["data_key"])
    plaintext = opened_by_tink(sealed, data_key, vector["artifact_key"])
    assert plaintext == opened_by_stream(sealed, lambda _: data_key, vector["artifact_key"]).released
