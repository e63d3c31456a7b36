"""Directories come back as they were sealed, and nothing is read or written outside of them."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness.sealing import DATA_KEY, header, unlock
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sealgate import envelope
from sealgate.envelope import Totals
from sealgate.errors import BadRequest, NotSealed, Tampered

MODES = (0o644, 0o755)
KEY = "models/7"
Tree = dict[str, "bytes | Tree"]

NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=60).filter(
    lambda name: name not in {".", ".."}
)
TREE = st.dictionaries(
    NAME,
    st.recursive(st.binary(max_size=99), lambda inner: st.dictionaries(NAME, inner, max_size=3), max_leaves=8),
    max_size=4,
)


def build(path: Path, tree: Tree) -> Path:
    path.mkdir()
    for name, inner in tree.items():
        if isinstance(inner, bytes):
            (path / name).write_bytes(inner)
        else:
            build(path / name, inner)
    return path


def found(path: Path) -> Tree:
    return {entry.name: found(entry) if entry.is_dir() else entry.read_bytes() for entry in path.iterdir()}


@contextmanager
def directory(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def seal(source: Path, check=lambda: None) -> tuple[Path, Totals]:
    target = source.with_name("sealed")
    target.mkdir(mode=0o700)
    with directory(source) as plain, directory(target) as sealed:
        return target, envelope.seal_tree(plain, sealed, header(), DATA_KEY, KEY, check)


def open_(source: Path, *, consume: bool = False, key: str = KEY) -> tuple[Path, Totals]:
    target = source.with_name("opened")
    target.mkdir(mode=0o700)
    with directory(source) as sealed, directory(target) as plain:
        return target, envelope.open_tree(sealed, plain, unlock, key, MODES, consume=consume)


@pytest.fixture
def sealed(tmp_path):
    """A sealed tree of two files of one length and a folder."""
    return seal(build(tmp_path / "plain", {"a": b"first.", "b": b"second", "inner": {"c": b""}}))[0]


@settings(max_examples=60)
@given(TREE)
@example({})
@example({"empty": {}, "full": {"empty": b""}})
@example({"a\nb": b"1", "a\\b": b"2", "ä": b"3", "a\u0308": b"4", "…": {" ": {"-rf": b"5"}}})
def test_a_tree_comes_back_byte_for_byte(tree):
    with tempfile.TemporaryDirectory() as place:
        sealed, totals = seal(build(Path(place, "plain"), tree))
        opened, opened_totals = open_(sealed)
        assert found(opened) == tree
        assert opened_totals == totals


def test_every_file_has_the_same_header(sealed):
    size = len(header().encode())
    assert len({path.read_bytes()[:size] for path in sealed.rglob("*") if path.is_file()}) == 1


def test_modes_do_not_depend_on_the_umask(tmp_path, umask):
    sealed, _ = seal(build(tmp_path / "plain", {"file": b"x", "inner": {"deeper": {"file": b"y"}}}))
    opened, _ = open_(sealed)
    for place, file_mode, directory_mode in ((sealed, 0o600, 0o700), (opened, *MODES)):
        for path in place.rglob("*"):
            assert stat.S_IMODE(path.stat().st_mode) == (directory_mode if path.is_dir() else file_mode)


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
        used: list[int] = []
        sealed, totals = seal(
            place / "plain", lambda used=used: used.append(len(list(Path("/proc/self/fd").iterdir())))
        )
        assert totals.files == 1
        assert open_(sealed)[1].files == 1
        most.append(max(used))
    assert most[0] == most[1]


def test_a_stored_tree_that_is_consumed_is_empty_after(sealed):
    opened, _ = open_(sealed, consume=True)
    assert found(opened) == {"a": b"first.", "b": b"second", "inner": {"c": b""}}
    assert found(sealed) == {"a": b"", "b": b"", "inner": {"c": b""}}


# --- what cannot be sealed -------------------------------------------------------------------------------


def link(path: Path) -> None:
    path.symlink_to("a")


def dangling_link(path: Path) -> None:
    path.symlink_to("/nowhere")


def directory_link(path: Path) -> None:
    path.symlink_to("/etc")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound, directory(path.parent) as fd:
        bound.bind(f"/proc/self/fd/{fd}/{path.name}")  # a path of a socket has at most 107 bytes


def not_utf_8(path: Path) -> None:
    os.close(os.open(bytes(path) + b"\xff", os.O_CREAT))


PLANTS = [link, dangling_link, directory_link, pipe, unix_socket, not_utf_8]


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("where", [".", "inner"])
def test_an_entry_that_is_neither_file_nor_directory_is_not_sealed(tmp_path, plant, where):
    plain = build(tmp_path / "plain", {"a": b"1", "inner": {"b": b"2"}})
    plant(plain / where / "planted")
    with pytest.raises(BadRequest, match="planted"):
        seal(plain)


@pytest.mark.parametrize("plant", [link, dangling_link, pipe, None])
def test_an_entry_that_is_replaced_after_it_was_listed_is_not_sealed(tmp_path, plant):
    plain = build(tmp_path / "plain", {"a": b"1", "b": b"2"})

    def replace() -> None:
        (plain / "b").unlink(missing_ok=True)
        if plant:
            plant(plain / "b")

    with pytest.raises(BadRequest):
        seal(plain, replace)


# --- what cannot be opened -------------------------------------------------------------------------------


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("where", [".", "inner"])
def test_an_entry_that_was_not_sealed_is_not_opened(sealed, plant, where):
    plant(sealed / where / "planted")
    with pytest.raises(Tampered, match="planted"):
        open_(sealed)


def test_nothing_is_written_through_a_planted_link(sealed, tmp_path):
    outside = build(tmp_path / "outside", {})
    (sealed / "inner" / "c").unlink()
    (sealed / "inner").rmdir()
    (sealed / "inner").symlink_to(outside)
    with pytest.raises(Tampered):
        open_(sealed)
    assert found(outside) == {}


def test_two_files_that_changed_places_are_refused(sealed):
    (sealed / "a").rename(sealed / "x")
    (sealed / "b").rename(sealed / "a")
    (sealed / "x").rename(sealed / "b")
    with pytest.raises(Tampered):
        open_(sealed)


@pytest.mark.parametrize(("old", "new"), [("a", "inner/a"), ("inner/c", "c"), ("a", "A"), ("inner", "other")])
def test_a_file_or_directory_that_was_moved_is_refused(sealed, old, new):
    (sealed / old).rename(sealed / new)
    with pytest.raises(Tampered):
        open_(sealed)


def test_a_tree_that_was_moved_is_refused(sealed):
    with pytest.raises(Tampered):
        open_(sealed, key="models/8")


def test_a_planted_plaintext_file_is_refused(sealed):
    (sealed / "planted").write_bytes(b"not sealed")
    with pytest.raises(NotSealed):
        open_(sealed)


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
    assert found(path) == {"a": {"b": {"c": b"1", "d": b"2"}}, "e": b"3"}
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
    assert found(path.parent) == {"root": {}}


@pytest.mark.parametrize(("first", "second"), [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a/b", "a/b/c")])
def test_a_path_that_collides_with_another_is_refused(root, first, second):
    path, fd = root
    create(fd, first)
    before = found(path)
    with pytest.raises(Tampered):
        create(fd, second)
    assert found(path) == before


@pytest.mark.parametrize("hostile", ["link", "link/x", "link/deeper/x", "inner/link/x"])
def test_nothing_is_created_through_a_link(root, tmp_path, hostile):
    path, fd = root
    outside = build(tmp_path / "outside", {})
    build(path / "inner", {})
    (path / "link").symlink_to(outside)
    (path / "inner" / "link").symlink_to(outside)
    with pytest.raises(Tampered):
        create(fd, hostile)
    assert found(outside) == {}
