"""Every parser that reads bytes from outside: how it is called, which errors it may raise, and valid inputs.

Storage, callers, downstreams, authors and log files are hostile. For any bytes, each parser returns a value or raises
one of its named errors.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.trails import Authority, trail_of

from sealgate import config, envelope
from sealgate.audit.reading.trail_lines import read_lines
from sealgate.audit.reading.verify import verify
from sealgate.call import WrappedKey
from sealgate.documents.reader import Unreadable, read
from sealgate.envelope import Manifest, header
from sealgate.errors import PluginError
from sealgate.layers.author_block import without_author_block
from sealgate.plugin import Artifact
from sealgate.policy import canonical_keys, globs, load
from sealgate.rpc import artifact_pb2 as pb
from sealgate.rpc import wire

CORPORA = Path(__file__).parent / "corpora"
_KEY = bytes(32)
_WRAPPED = WrappedKey("local", "", "main", b"\1" * 60, 1, b"")


@dataclass(frozen=True)
class Parser:
    """One parser.

    Args:
        parse: takes bytes from outside.
        errors: what it may raise.
        seeds: returns valid inputs.
    """

    parse: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]]

    @cached_property
    def valid(self) -> list[bytes]:
        """Valid inputs. They are made once: keys and signatures in them are random."""
        return self.seeds()

    def run(self, data: bytes) -> None:
        """Parse `data`. An error that is not named is raised."""
        with suppress(*self.errors):
            self.parse(data)

    def corpus(self, name: str) -> list[bytes]:
        """Return the valid inputs, and those that fuzzing has found and that are kept."""
        kept = CORPORA / name
        return self.valid + ([path.read_bytes() for path in sorted(kept.iterdir())] if kept.is_dir() else [])


# --- valid inputs ---------------------------------------------------------------------------------------


def _header() -> header.Header:
    return envelope.new_header(
        _KEY,
        _WRAPPED,
        sealed_at=1_700_000_000,
        context=(("tenant", "a"),),
        audit_chain=b"",
        audit_sequence=0,
    )


def _sealed() -> list[bytes]:
    return [b"".join(envelope.seal_stream(_header(), _KEY, "ns/a", iter([content]))) for content in (b"", b"x" * 100)]


def _headers() -> list[bytes]:
    return [each[12 : 12 + int.from_bytes(each[8:12], "big")] for each in _sealed()]


def _manifests() -> list[bytes]:
    full = Manifest({"a": 0, "b/c": 1 << 40, "b/\N{SNOWMAN}": 3}, frozenset({"d", "e/f"}))
    return [b"".join(each.encode()) for each in (full, Manifest({}, frozenset()))]


def _frames() -> list[bytes]:
    artifact = pb.Artifact(name="a", plugin=pb.PluginArtifact(name="p", key="ns/a", configuration="bucket: b"))
    messages = (
        pb.SaveStreamArtifactRequest(output_artifact=artifact, chunk=b"x" * 40),
        pb.LoadArtifactRequest(input_artifact=artifact, path="/tmp/x"),
        pb.OpenStreamResponse(data=b"x" * 40, is_end=True, error="e"),
        pb.ListObjectsResponse(objects=["ns/a", "ns/b"], error="e"),
    )
    return [*(message.SerializeToString() for message in messages), wire.chunk_frame(b"x" * 9), wire.data_frame(b"y")]


def _read_frame(data: bytes) -> None:
    for kind in (pb.SaveStreamArtifactRequest, pb.LoadArtifactRequest, pb.DeleteArtifactRequest):
        with suppress(PluginError):
            request = wire.parse(kind, data)
            field = next(name for name in kind.DESCRIPTOR.fields_by_name if name.endswith("artifact"))
            wire.artifact_to(wire.artifact_from(request, field))
    for kind in (pb.OpenStreamResponse, pb.ListObjectsResponse, pb.IsDirectoryResponse, pb.GetCapabilitiesResponse):
        with suppress(PluginError):
            wire.parse(kind, data)
    assert wire.data_of(data) is None or bytes(wire.data_of(data) or b"") in data
    assert wire.chunk_of(data) is None or bytes(wire.chunk_of(data) or b"") in data


_CONFIGURATION = (
    "apiVersion: sealgate/v1alpha1\nkind: Sealgate\ndownstream: {command: [plugin], startTimeout: 5s}\n"
    "keys:\n  provider: vault\n  vault: {address: 'https://vault', auth: {method: kubernetes, role: r}}\n"
    "policies: [policies]\nspool: {transfer: auto}\naudit: {sinks: [{type: stdout}], signingKey: audit}\n"
)
_POLICY = (
    "apiVersion: sealgate/v1alpha1\nkind: ArtifactPolicy\nmetadata: {name: a}\nspec:\n  rules:\n"
    "    - {name: r, effect: allow, match: {keys: ['${identity.namespace}/**']}, limits: {maxBytes: 5GiB}}\n"
    "    - {name: q, effect: require, require: {minAge: 30d}}\n  encryption: [{name: e, key: transit/keys/x}]\n"
)
_BLOCKS = (
    "bucket: b\nsealgate: {key: team}\nregion: eu\n",
    '{"bucket": "b", "sealgate": {"key": "team"}, "n": 61e9540}',
    "# a comment\nsealgate:\n  key: team\n",
)


def _texts(*texts: str) -> Callable[[], list[bytes]]:
    return lambda: [text.encode() for text in texts]


def _load_policy(data: bytes) -> None:
    load.loaded([load.DocumentSource("p", read(data.decode(errors="replace")))])


def _keys(data: bytes) -> None:
    text = data.decode(errors="surrogateescape")
    normal = canonical_keys.normal_form(text)
    if not canonical_keys.fault_of(text):
        assert canonical_keys.normal_form(normal) == normal
        assert not canonical_keys.fault_of(normal)
    if not globs.fault_of(text):
        globs.compiled(text)(normal)


def _lines(data: bytes) -> None:
    verify(read_lines([("trail", io.BytesIO(data))]), [Authority().public])


def _trail() -> list[bytes]:
    lines = trail_of(2, Authority())
    wrapped = json.dumps({"log": lines[0].decode()}).encode()
    merged = json.dumps({"pod": "p", **json.loads(lines[1])}).encode()
    return [b"".join(lines), wrapped, merged, json.dumps([json.loads(line) for line in lines]).encode()]


def _streamed(data: bytes) -> Iterator[bytes]:
    return (data[start : start + 7] for start in range(0, len(data), 7))


PARSERS: Mapping[str, Parser] = {
    "header": Parser(header.decode, (PluginError,), _headers),
    "sealed-file": Parser(
        lambda data: b"".join(envelope.open_stream(_streamed(data), lambda _: _KEY, "ns/a", lambda *_: None)),
        (PluginError,),
        _sealed,
    ),
    "manifest": Parser(lambda data: Manifest.decode(_streamed(data)), (PluginError,), _manifests),
    "frame": Parser(_read_frame, (), _frames),
    "configuration": Parser(
        lambda data: config.parse(data.decode(errors="replace"), "it"), (PluginError,), _texts(_CONFIGURATION)
    ),
    "authors-block": Parser(
        lambda data: without_author_block(Artifact("ns/a", configuration=data.decode(errors="replace"))),
        (PluginError,),
        _texts(*_BLOCKS),
    ),
    "policy": Parser(_load_policy, (Unreadable, load.Invalid), _texts(_POLICY)),
    "key": Parser(_keys, (), _texts("ns/a", "hour=10%3A00/\u00e9", "a%252Fb", "**/x?y/*.csv", "\u202e/\u200d")),
    "audit-line": Parser(_lines, (), _trail),
}
