"""Manifests: what is listed is read back, and only the canonical form is accepted."""

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealgate.envelope.listing import DEEPEST, LONGEST_MANIFEST, MANIFEST, MOST_DIRECTORIES, MOST_ENTRIES
from sealgate.envelope.manifest import Manifest
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
        ([entry(b"")], "it is empty"),
        ([entry(b"a/")], "empty or a relative segment"),
        ([entry(b"a"), entry(b"a!"), entry(b"a/b")], "listed as a file or as an empty directory"),
        ([entry(b"a"), entry(b"a/b/c/d")], "listed as a file or as an empty directory"),
        ([entry(b"a"), entry(b"a", None)], "listed twice"),
        ([entry(b"a/b"), entry(b"a", None)], "out of order"),
        ([entry(b"x" * 256)], "a segment of 256 bytes; the limit is 255"),
        ([entry(b"/".join([b"x"] * 256))], "256 segments; the limit is 255"),
        ([entry(b"\xc0\xaf")], "not UTF-8"),
        ([entry(b"\xed\xa0\x80")], "not UTF-8"),
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
    long = (entry(b"%08d/" % n + b"/".join([b"x" * 200] * 15)) for n in range(MOST_ENTRIES))
    with pytest.raises(ManifestInvalid, match=f"more than {LONGEST_MANIFEST} bytes"):
        Manifest.decode([b"SGM1" + MOST_ENTRIES.to_bytes(4, "big"), *long])


def test_directories_are_counted_once_however_many_entries_share_them():
    def listed(count: int) -> bytes:
        """Return a manifest of two files in each of `count` directories beneath a common one."""
        paths = sorted(b"d/%d/%s" % (n, name) for n in range(count) for name in (b"a", b"b"))
        return b"SGM1" + len(paths).to_bytes(4, "big") + b"".join(map(entry, paths))

    def deep(count: int) -> bytes:
        """Return a manifest of 500 files that each need directories of their own, `count` in all."""
        each, more = divmod(count, 500)
        depths = [each + (n < more) for n in range(500)]
        paths = [b"%03d" % n + b"/d" * (depth - 1) + b"/f" for n, depth in enumerate(depths)]
        return b"SGM1" + (500).to_bytes(4, "big") + b"".join(map(entry, paths))

    assert len(Manifest.decode([listed(50_000)]).files) == MOST_ENTRIES
    assert len(Manifest.decode([deep(MOST_DIRECTORIES)]).files) == 500
    with pytest.raises(ManifestInvalid, match="more than 100000 directories"):
        Manifest.decode([deep(MOST_DIRECTORIES + 1)])


@pytest.mark.parametrize("separator", [b"/", b"/a/"])
def test_a_path_of_many_segments_costs_its_reader_neither_memory_nor_time(separator):
    paths = [b"%03d" % n + separator.join([b"a"] * 20_000) for n in range(300)]
    data = b"SGM1" + len(paths).to_bytes(4, "big") + b"".join(entry(path[:65_535]) for path in paths)
    started = time.process_time()
    tracemalloc.start()
    with pytest.raises(ManifestInvalid, match=f"segments; the limit is {DEEPEST}"):
        Manifest.decode([data[:LONGEST_MANIFEST]])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20
    assert time.process_time() - started < 5


def test_too_many_files_and_too_long_names_are_refused_when_a_manifest_is_written():
    with pytest.raises(LimitReached, match="more than 100000 files and empty directories"):
        encoded(Manifest({str(n): 0 for n in range(MOST_ENTRIES + 1)}))
    with pytest.raises(LimitReached, match="contains 100200 directories"):
        encoded(Manifest({f"{n}" + "/d" * 166 + "/file": 0 for n in range(600)}))
    with pytest.raises(LimitReached, match="need a manifest of"):
        encoded(Manifest({f"{n:08}/" + "/".join(["x" * 200] * 15): 0 for n in range(6000)}))


@pytest.mark.parametrize("path", ["a/../b", "", "a//b", MANIFEST, f"a/{MANIFEST}", "x" * 256, "/".join("x" * 256)])
def test_a_path_that_cannot_be_listed_is_not_written(path):
    with pytest.raises(BadRequest):
        encoded(Manifest({path: 0}))
