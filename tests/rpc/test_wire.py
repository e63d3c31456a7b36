"""Frames made and parsed by hand are those that protobuf makes and parses."""

from __future__ import annotations

import contextlib
from dataclasses import fields

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from sealgate.argo import LARGEST_CHUNK
from sealgate.errors import BadRequest
from sealgate.plugin import Artifact
from sealgate.rpc import artifact_pb2 as pb
from sealgate.rpc import wire

INT32 = st.integers(-(2**31), 2**31 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SIZES = st.sampled_from([0, 1, 127, 128, 16_383, 16_384, (1 << 20) + 1, LARGEST_CHUNK])


@given(data=st.binary(min_size=1))
def test_a_frame_is_what_protobuf_would_serialise(data):
    assert wire.data_frame(data) == pb.OpenStreamResponse(data=data).SerializeToString()
    assert wire.chunk_frame(data) == pb.SaveStreamArtifactRequest(chunk=data).SerializeToString()


@given(size=SIZES)
def test_frames_of_any_size_are_read_back(size):
    data = bytes(size)
    for made in (data, bytearray(data), memoryview(data)):
        assert pb.OpenStreamResponse.FromString(wire.data_frame(made)).data == data
        assert pb.SaveStreamArtifactRequest.FromString(wire.chunk_frame(made)).chunk == data
        assert wire.data_of(wire.data_frame(made)) == data
        assert wire.chunk_of(wire.chunk_frame(made)) == data


@given(data=st.binary(), is_end=st.booleans(), error=TEXT, unknown=st.binary(max_size=20))
def test_data_is_parsed_as_protobuf_parses_it_or_not_at_all(data, is_end, error, unknown):
    frame = pb.OpenStreamResponse(data=data, is_end=is_end, error=error).SerializeToString() + unknown
    agrees(frame, pb.OpenStreamResponse, "data", wire.data_of)


@given(chunk=st.binary(), key=TEXT, named=st.booleans(), unknown=st.binary(max_size=20))
def test_a_chunk_is_parsed_as_protobuf_parses_it_or_not_at_all(chunk, key, named, unknown):
    message = pb.SaveStreamArtifactRequest(chunk=chunk)
    if named:
        message.output_artifact.plugin.key = key
    agrees(message.SerializeToString() + unknown, pb.SaveStreamArtifactRequest, "chunk", wire.chunk_of)


@given(frame=st.binary())
@example(b"\x0a\x80\x80\x80\x80\x80\x00")
@example(b"\x0a\x80\x00")
@example(b"\x0a")
@example(b"\x0a\x01")
@example(b"\x0a\x81\x00x")
def test_no_frame_is_parsed_in_another_way_than_by_protobuf(frame):
    agrees(frame, pb.OpenStreamResponse, "data", wire.data_of)
    agrees(b"\x12" + frame[1:], pb.SaveStreamArtifactRequest, "chunk", wire.chunk_of)


def agrees(frame, kind, field, read) -> None:
    """Assert that `read` returns the field of `frame` as protobuf does, and only if the frame has no other field."""
    found = read(frame)
    if found is None:
        return
    try:
        parsed = kind.FromString(frame)
    except DecodeError:
        raise AssertionError(frame) from None
    assert bytes(found) == getattr(parsed, field)
    parsed.ClearField(field)
    assert parsed == kind()


@given(
    st.builds(
        Artifact,
        key=TEXT,
        name=TEXT,
        plugin=TEXT,
        configuration=TEXT,
        path=TEXT,
        mode=INT32,
        source=TEXT,
        optional=st.booleans(),
        sub_path=TEXT,
        recurse_mode=st.booleans(),
        from_expression=TEXT,
        deleted=st.booleans(),
        connection_timeout_seconds=INT32,
    )
)
def test_an_artifact_keeps_every_field(artifact):
    request = pb.LoadArtifactRequest(input_artifact=wire.artifact_to(artifact))
    assert (
        wire.artifact_from(pb.LoadArtifactRequest.FromString(request.SerializeToString()), "input_artifact") == artifact
    )


def test_no_field_of_the_message_is_forgotten():
    python = {field.name for field in fields(Artifact)}
    protobuf = {field.name for kind in (pb.Artifact, pb.PluginArtifact) for field in kind.DESCRIPTOR.fields}
    assert protobuf - python == {"from"}  # a keyword of Python
    assert python - protobuf == {"source"}


@given(st.lists(TEXT | st.sampled_from(["k" * 127, "k" * 128, "ü" * 8192]), max_size=20))
def test_the_size_of_a_listing_is_known_before_it_is_built(keys):
    assert wire.size_of_texts(keys) == pb.ListObjectsResponse(objects=keys).ByteSize()


@given(st.binary())
def test_bytes_that_are_not_a_message_are_a_bad_request(message):
    for kind in (pb.LoadArtifactRequest, pb.OpenStreamRequest, pb.SaveStreamArtifactRequest):
        with contextlib.suppress(BadRequest):
            assert wire.parse(kind, message) == kind.FromString(message)


@pytest.mark.parametrize("request_", [pb.LoadArtifactRequest(), pb.LoadArtifactRequest(input_artifact=pb.Artifact())])
def test_an_artifact_without_a_plugin_is_a_bad_request(request_):
    with pytest.raises(BadRequest):
        wire.artifact_from(request_, "input_artifact")


def test_metadata_of_the_connection_is_not_forwarded():
    callers = [("traceparent", "00-1-2-01"), ("x-tenant", "a"), ("x-tenant", "b"), ("key-bin", b"\0\1")]
    connections = [("user-agent", "grpc-go/1"), ("grpc-timeout", "1S"), (":path", "/x"), ("te", "trailers")]
    assert wire.forwarded_metadata([*callers, *connections]) == tuple(callers)
