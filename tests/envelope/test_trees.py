"""Directories come back as they were sealed, and nothing is read or written outside of them."""

from __future__ import annotations

import os
import stat
import tempfile
from functools import partial
from pathlib import Path

import pytest
from harness.odd_entries import ODD_ENTRIES, dangling_link, link, pipe
from harness.sealing import MODES, build, directory, header, open_directory, seal_directory, tree_at
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sealgate import envelope
from sealgate.envelope import MANIFEST, ListingLimits
from sealgate.envelope.listing import DEEPEST, LONGEST_MANIFEST, LONGEST_SEGMENT, MOST_DIRECTORIES, MOST_ENTRIES
from sealgate.errors import BadRequest, Cancelled, LimitReached, Tampered

NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=60).filter(
    lambda name: name not in {".", "..", MANIFEST}
)
TREE = st.dictionaries(
    NAME,
    st.recursive(st.binary(max_size=99), lambda inner: st.dictionaries(NAME, inner, max_size=3), max_leaves=8),
    max_size=4,
)


@pytest.fixture
def sealed(tmp_path):
    """A sealed tree of two files of one length and a directory."""
    return seal_directory(build(tmp_path / "plain", {"a": b"first.", "b": b"second", "inner": {"c": b""}}))[0]


@settings(max_examples=60)
@given(TREE)
@example({})
@example({"empty": {}, "full": {"empty": b""}})
@example({"a\nb": b"1", "a\\b": b"2", "ä": b"3", "a\u0308": b"4", "…": {" ": {"-rf": b"5"}}})
def test_a_tree_comes_back_byte_for_byte(tree):
    with tempfile.TemporaryDirectory() as place:
        sealed, totals = seal_directory(build(Path(place, "plain"), tree))
        opened, opened_totals = open_directory(sealed)
        assert tree_at(opened) == tree
        assert opened_totals == totals


def test_every_file_has_the_same_header(sealed):
    size = len(header().encode())
    assert len({path.read_bytes()[:size] for path in sealed.rglob("*") if path.is_file()}) == 1


def test_modes_do_not_depend_on_the_umask(tmp_path, umask):
    sealed, _ = seal_directory(build(tmp_path / "plain", {"file": b"x", "inner": {"deeper": {"file": b"y"}}}))
    opened, _ = open_directory(sealed)
    for place, file_mode, directory_mode in ((sealed, 0o600, 0o700), (opened, *MODES)):
        for path in place.rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) == (directory_mode if path.is_dir() else file_mode)


def test_the_manifest_is_counted_as_stored_and_not_as_a_file(tmp_path):
    sealed, totals = seal_directory(build(tmp_path / "plain", {"a": b"12", "inner": {"b": b"3"}}))
    assert (totals.files, totals.plaintext_bytes) == (2, 3)
    assert totals.stored_bytes == sum(path.stat().st_size for path in sealed.rglob("*") if path.is_file())


def test_a_deep_tree_takes_no_more_descriptors_and_may_exceed_the_longest_path(tmp_path):
    most = []
    for depth in (1, 60):  # 60 names of 100 bytes are more than a path may have
        place = tmp_path / str(depth)
        (place / "plain").mkdir(parents=True)
        with (
            directory(place / "plain") as root,
            envelope.create_beneath(root, "n" * 100 + ("/" + "n" * 100) * depth, MODES),
        ):
            pass
        used: dict[str, list[int]] = {"seal": [], "open": []}

        def count(verb: str, used=used) -> None:
            used[verb].append(len(list(Path("/proc/self/fd").iterdir())))

        sealed, totals = seal_directory(place / "plain", partial(count, "seal"))
        assert totals.files == 1
        assert open_directory(sealed, partial(count, "open"))[1].files == 1
        most.append({verb: max(counts) for verb, counts in used.items()})
    assert most[0] == most[1]


def test_a_stored_tree_that_is_consumed_is_empty_after(sealed):
    manifest = (sealed / MANIFEST).read_bytes()
    opened, _ = open_directory(sealed, consume=True)
    assert tree_at(opened) == {"a": b"first.", "b": b"second", "inner": {"c": b""}}
    assert tree_at(sealed) == {"a": b"", "b": b"", "inner": {"c": b""}, MANIFEST: manifest}


# --- what cannot be sealed -------------------------------------------------------------------------------


@pytest.mark.parametrize("plant", ODD_ENTRIES)
@pytest.mark.parametrize("where", [".", "inner"])
def test_an_entry_that_is_neither_file_nor_directory_is_not_sealed(tmp_path, plant, where):
    plain = build(tmp_path / "plain", {"a": b"1", "inner": {"b": b"2"}})
    plant(plain / where / "planted")
    with pytest.raises(BadRequest, match="planted"):
        seal_directory(plain)


@pytest.mark.parametrize("plant", [link, dangling_link, pipe, None])
def test_an_entry_that_is_replaced_after_it_was_listed_is_not_sealed(tmp_path, plant):
    plain = build(tmp_path / "plain", {"a": b"1", "b": b"2"})

    def replace() -> None:
        (plain / "b").unlink(missing_ok=True)
        if plant:
            plant(plain / "b")

    with pytest.raises(BadRequest):
        seal_directory(plain, replace)


@pytest.mark.parametrize("inner", [b"x", {}, {"a": b""}], ids=["file", "empty directory", "directory"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_tree_with_the_reserved_name_is_not_sealed(tmp_path, inner, nested):
    tree = {MANIFEST: inner}
    with pytest.raises(BadRequest, match=f"the name {MANIFEST} is reserved"):
        seal_directory(build(tmp_path / "plain", {"nested": tree} if nested else tree))
    assert [path.name for path in (tmp_path / "sealed").rglob("*") if path.is_file()] == []


def test_a_tree_that_is_too_deep_is_not_sealed(tmp_path):
    for depth in (DEEPEST, DEEPEST + 1):
        place = build(tmp_path / str(depth), {"plain": {}})
        with directory(place / "plain") as root, envelope.create_beneath(root, "/".join(["n"] * depth), MODES):
            pass
        if depth == DEEPEST:
            assert open_directory(seal_directory(place / "plain")[0])[1].files == 1
            continue
        with pytest.raises(BadRequest, match="has 256 segments; the limit is 255"):
            seal_directory(place / "plain")


def test_more_than_a_manifest_can_list_is_refused_before_it_is_stored(tmp_path, monkeypatch):
    monkeypatch.setattr("sealgate.envelope.listing.MOST_ENTRIES", 3)
    plain = build(tmp_path / "plain", dict.fromkeys("abcdef", b""))
    with pytest.raises(LimitReached, match="more than 3 files and empty directories"):
        seal_directory(plain)
    assert sorted(tree_at(tmp_path / "sealed")) == ["a", "b", "c"]


def test_a_tree_that_is_sealed_can_be_cancelled_where_it_has_only_directories(tmp_path):
    with pytest.raises(Cancelled):
        seal_directory(build(tmp_path / "plain", {"a": {"b": {}}}), cancel)


def cancel() -> None:
    raise Cancelled("the caller went away")


def test_the_limits_of_a_listing_count_every_file_and_every_directory():
    limits = ListingLimits()
    for number in range(MOST_ENTRIES):
        limits.add_file(f"{number}")
    with pytest.raises(LimitReached, match="more than 100000 files and empty directories"):
        limits.add_directory("empty", is_empty=True)
    limits = ListingLimits()
    for number in range(MOST_DIRECTORIES):
        limits.add_directory(f"{number}", is_empty=False)
    with pytest.raises(LimitReached, match="more than 100000 directories"):
        limits.add_directory("one more", is_empty=False)
    limits = ListingLimits()
    longest = "/".join(["x" * LONGEST_SEGMENT] * DEEPEST)
    for _ in range(LONGEST_MANIFEST // (len(longest) + 11)):
        limits.add_file(longest)
    with pytest.raises(LimitReached, match=f"more than {LONGEST_MANIFEST} bytes"):
        limits.add_file(longest)


# --- create_beneath --------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    path = build(tmp_path / "root", {})
    with directory(path) as fd:
        yield path, fd


def create(fd: int, path: str, content: bytes = b"x") -> None:
    with envelope.create_beneath(fd, path, MODES) as file:
        os.write(file, content)


def test_a_file_is_created_with_the_directories_on_the_way(root, umask):
    path, fd = root
    create(fd, "a/b/c", b"1")
    create(fd, "a/b/d", b"2")
    create(fd, "e", b"3")
    assert tree_at(path) == {"a": {"b": {"c": b"1", "d": b"2"}}, "e": b"3"}
    for inner in path.rglob("*"):
        assert stat.S_IMODE(inner.stat().st_mode) == MODES[inner.is_dir()]


@pytest.mark.parametrize(
    "hostile",
    ["", ".", "..", "/", "/etc/x", "../x", "a/../../x", "a/..", "a/.", "./a", "a//b", "a/", "a\0b", "\0", "a/../b"],
)
def test_a_path_that_leads_elsewhere_creates_nothing(root, hostile):
    path, fd = root
    with pytest.raises(Tampered):
        create(fd, hostile)
    assert tree_at(path.parent) == {"root": {}}


@pytest.mark.parametrize(("first", "second"), [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a/b", "a/b/c")])
def test_a_path_that_collides_with_another_is_refused(root, first, second):
    path, fd = root
    create(fd, first)
    before = tree_at(path)
    with pytest.raises(Tampered):
        create(fd, second)
    assert tree_at(path) == before


@pytest.mark.parametrize("hostile", ["link", "link/x", "link/deeper/x", "inner/link/x"])
def test_nothing_is_created_through_a_link(root, tmp_path, hostile):
    path, fd = root
    outside = build(tmp_path / "outside", {})
    build(path / "inner", {})
    (path / "link").symlink_to(outside)
    (path / "inner" / "link").symlink_to(outside)
    with pytest.raises(Tampered):
        create(fd, hostile)
    assert tree_at(outside) == {}
