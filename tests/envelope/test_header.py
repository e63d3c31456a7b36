"""Headers: what is written can be read, and the parser fails only with named errors, whatever it gets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from harness.sealing import DATA_KEY, header
from hypothesis import given
from hypothesis import strategies as st

from sealgate.call import WrappedKey
from sealgate.envelope import Binding, Header, new_header, read_header
from sealgate.envelope.header import LONGEST_HEADER, decode
from sealgate.errors import HeaderInvalid, PluginError, WrongDataKey

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
WRAPPED = st.builds(
    WrappedKey,
    provider=st.sampled_from(["vault", "local"]),
    mount=TEXT,
    key_name=NAME,
    wrapped_key=NAME,
    key_version=st.integers(1, 2**32 - 1),
    derivation_context=st.binary(max_size=20),
)


def read(encoded: bytes) -> tuple[Header, int]:
    return read_header(lambda size, offset: encoded[offset : offset + size])


@given(
    key=WRAPPED,
    binding=st.sampled_from(Binding),
    sealed_at=st.integers(0, 2**63 - 1),
    context=st.dictionaries(NAME, TEXT, max_size=5),
    audit_chain=TEXT,
    audit_sequence=st.integers(0, 2**64 - 1),
)
def test_what_is_written_is_read(key, context, **facts):
    made = new_header(DATA_KEY, key, context=tuple(context.items()), **facts)
    encoded = made.encode()
    assert read(encoded + b"the body") == (made, len(encoded))
    assert made.context == tuple(sorted(context.items()))
    made.require_key(DATA_KEY)


@pytest.mark.parametrize(
    "facts",
    [
        {"sealed_at": -1},
        {"context": (("", "a"),)},
        {"context": (("tenant", "a"), ("tenant", "b"))},
        {"key": WrappedKey("local", "", "default", "local:v1:", 0)},
        {"key": WrappedKey("local", "", "", "local:v1:", 1)},
        {"key": WrappedKey("vault", "transit", "artifacts", "", 1)},
    ],
    ids=str,
)
def test_a_header_that_could_not_be_read_is_not_made(facts: dict[str, Any]):
    sound: dict[str, Any] = {"key": WrappedKey("local", "", "default", "local:v1:", 1), "sealed_at": 0}
    with pytest.raises(HeaderInvalid):
        new_header(DATA_KEY, **{**sound, **facts})


def test_a_header_over_the_limit_is_not_written():
    wrapped = WrappedKey("vault", "transit", "artifacts", "v" * LONGEST_HEADER, 1)
    with pytest.raises(HeaderInvalid, match="at most 65536 are allowed"):
        new_header(DATA_KEY, wrapped, sealed_at=0).encode()


def test_rewrapping_leaves_the_associated_data_alone():
    first = new_header(DATA_KEY, WrappedKey("local", "", "default", "local:v1:a", 1), sealed_at=5)
    second = Header(
        first.authenticated,
        WrappedKey("local", "", "default", "local:v2:b", 2),
        first.binding,
        first.key_commitment,
        first.sealed_at,
    )
    assert read(second.encode())[0].associated_data("a/b") == first.associated_data("a/b")


def test_the_binding_decides_whether_the_artifact_key_counts():
    bound, unbound = header(Binding.ARTIFACT_KEY), header(Binding.NONE)
    assert bound.associated_data("a") != bound.associated_data("b")
    assert unbound.associated_data("a") == unbound.associated_data("b")


@given(st.binary(min_size=32, max_size=32))
def test_no_other_data_key_is_accepted(other):
    if other != DATA_KEY:
        with pytest.raises(WrongDataKey):
            header().require_key(other)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_decode_to_a_header_or_a_named_error(encoded):
    with_only_named_errors(decode, encoded)
    with_only_named_errors(read, encoded)
    with_only_named_errors(read, b"\x89SEAL\r\n\x1a" + encoded)
    with_only_named_errors(read, b"\x89SEAL\r\n\x1a" + len(encoded).to_bytes(4, "big") + encoded)


@given(st.data())
def test_a_mutated_header_decodes_to_a_header_or_a_named_error(data):
    encoded = bytearray(header().encode()[12:])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(encoded)))
        gone = data.draw(st.integers(0, 4))
        encoded[at : at + gone] = data.draw(st.binary(max_size=4))
    with_only_named_errors(decode, bytes(encoded))


def with_only_named_errors(parse: Callable[[bytes], object], encoded: bytes) -> None:
    with suppress(PluginError):
        parse(encoded)
