"""Manifests: what is listed is read back, and only the canonical form is accepted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealgate.envelope.manifest import LONGEST_MANIFEST, MANIFEST, MOST_ENTRIES, Manifest
from sealgate.errors import BadRequest, LimitReached, ManifestInvalid

SEGMENTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda segment: segment not in {".", "..", MANIFEST}
)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)


def encoded(manifest: Manifest) -> bytes:
    return b"".join(manifest.encode())


@st.composite
def manifests(draw) -> Manifest:
    paths = draw(st.lists(PATHS, max_size=12, unique=True))
    parents = {path[:end] for path in paths for end, c in enumerate(path) if c == "/"}
    leaves = [path for path in paths if path not in parents]
    kinds = draw(st.lists(st.one_of(st.none(), st.integers(0, 1 << 62)), min_size=len(leaves), max_size=len(leaves)))
    files = {path: size for path, size in zip(leaves, kinds, strict=True) if size is not None}
    return Manifest(files, frozenset(leaves) - frozenset(files))


@given(manifests(), st.integers(1, 40))
def test_what_is_listed_is_read_back_however_it_arrives(manifest, step):
    data = encoded(manifest)
    assert Manifest.decode(data[at : at + step] for at in range(0, len(data), step)) == manifest


@given(manifests(), st.data())
def test_a_manifest_cut_or_continued_anywhere_is_not_valid(manifest, data):
    whole = encoded(manifest)
    at = data.draw(st.integers(0, len(whole) - 1))
    for changed in (whole[:at], whole + b"\0", whole + whole[at:]):
        with pytest.raises(ManifestInvalid):
            Manifest.decode([changed])


@given(st.binary(max_size=200))
def test_bytes_are_a_valid_manifest_only_in_their_one_canonical_form(data):
    for candidate in (data, b"SGM1" + data):
        try:
            manifest = Manifest.decode([candidate])
        except ManifestInvalid:
            continue
        assert encoded(manifest) == candidate


def entry(path: bytes, size: int | None = 0) -> bytes:
    tail = b"" if size is None else size.to_bytes(8, "big")
    return bytes([2 if size is None else 1]) + len(path).to_bytes(2, "big") + path + tail


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ([entry(b"b"), entry(b"a")], "out of order"),
        ([entry(b"a"), entry(b"a")], "listed twice"),
        ([entry(b"a"), entry(b"a/b")], "listed as a file or as an empty directory"),
        ([entry(b"a", None), entry(b"a/b")], "listed as a file or as an empty directory"),
        ([entry(b"../a")], "relative segment"),
        ([entry(b"/a")], "empty or a relative segment"),
        ([entry(b"a//b")], "empty or a relative segment"),
        ([entry(b"a/.")], "relative segment"),
        ([entry(b"")], "length is 0"),
        ([entry(b"a\0")], "NUL"),
        ([entry(b"\xff")], "not UTF-8"),
        ([entry(b"sub/" + MANIFEST.encode())], "reserved"),
        ([b"\3\0\1a"], "unknown kind 3"),
    ],
)
def test_a_list_that_is_not_canonical_is_refused(entries, fault):
    data = b"SGM1" + len(entries).to_bytes(4, "big") + b"".join(entries)
    with pytest.raises(ManifestInvalid, match=fault):
        Manifest.decode([data])


def test_a_count_beyond_the_limit_is_refused_before_an_entry_is_read():
    with pytest.raises(ManifestInvalid, match="claims 100001 entries"):
        Manifest.decode([b"SGM1" + (MOST_ENTRIES + 1).to_bytes(4, "big")])


def test_a_plaintext_beyond_the_limit_is_refused():
    long = (entry(b"%08d" % n + b"x" * 3000) for n in range(MOST_ENTRIES))
    with pytest.raises(ManifestInvalid, match=f"more than {LONGEST_MANIFEST} bytes"):
        Manifest.decode([b"SGM1" + MOST_ENTRIES.to_bytes(4, "big"), *long])


def test_too_many_files_and_too_long_names_are_refused_when_a_manifest_is_written():
    with pytest.raises(LimitReached, match="the limit is 100000"):
        encoded(Manifest({str(n): 0 for n in range(MOST_ENTRIES + 1)}))
    with pytest.raises(LimitReached, match="need a manifest of"):
        encoded(Manifest({f"{n:08}" + "x" * 3000: 0 for n in range(6000)}))


@pytest.mark.parametrize("path", ["a/../b", "", "a//b", MANIFEST, f"a/{MANIFEST}", "x" * 4097])
def test_a_path_that_cannot_be_listed_is_not_written(path):
    with pytest.raises(BadRequest):
        encoded(Manifest({path: 0}))
