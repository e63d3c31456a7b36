"""A directory opens to exactly what its manifest lists, or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from harness.odd_entries import ODD_ENTRIES, ODD_KINDS
from harness.sealing import (
    DATA_KEY,
    DIRECTORY_KEY,
    OTHER_DATA_KEY,
    Tree,
    build,
    header,
    open_directory,
    seal_directory,
    sealed_by_file,
    tree_at,
)

from sealgate import envelope
from sealgate.envelope import MANIFEST, Binding, Manifest
from sealgate.errors import Cancelled, DataLoss, DirectoryIncomplete, ManifestInvalid, NotSealed, Tampered

TREE: Tree = {"a": b"first.", "b": b"second", "empty": {}, "inner": {"c": b"", "deeper": {"d": b"fourth"}}}
FILES = ["a", "b", "inner/c", "inner/deeper/d"]


@pytest.fixture
def plain(tmp_path):
    return build(tmp_path / "plain", TREE)


@pytest.fixture
def sealed(plain):
    return seal_directory(plain)[0]


@pytest.fixture
def other(plain):
    """The same tree, sealed by another Save to the same key."""
    return seal_directory(plain, data_key=OTHER_DATA_KEY, into="other")[0]


def refused(sealed: Path, error: type[DataLoss] = DirectoryIncomplete, **options) -> str:
    """Check that the directory does not open, and return the fact in the error."""
    with pytest.raises(error) as raised:
        open_directory(sealed, **options)
    assert raised.value.status == "DATA_LOSS"
    shutil.rmtree(sealed.with_name("opened"))
    return raised.value.fact


def manifest_of(manifest: Manifest, key: str = DIRECTORY_KEY, data_key: bytes = DATA_KEY) -> bytes:
    head = header(data_key=data_key)
    return b"".join(map(bytes, envelope.seal_manifest(head, data_key, key, manifest)))


# --- listed files that are not there ----------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("consume", [False, True])
def test_a_missing_file_is_named(sealed, path, consume):
    (sealed / path).unlink()
    assert refused(sealed, consume=consume) == f'"{path}" in the directory is missing'


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("consume", [False, True])
@pytest.mark.parametrize("replace", [*ODD_KINDS, Path.mkdir], ids=lambda replace: replace.__name__)
def test_a_file_that_is_replaced_by_something_else_is_missing(sealed, path, replace, consume):
    (sealed / path).unlink()
    replace(sealed / path)
    assert refused(sealed, consume=consume) == f'"{path}" in the directory is missing'


def test_a_file_that_is_replaced_by_a_link_to_itself_elsewhere_is_missing(sealed):
    (sealed / "inner" / "c").rename(sealed / "moved")
    (sealed / "inner" / "c").symlink_to("../moved")
    assert refused(sealed) == '"inner/c" in the directory is missing'


@pytest.mark.parametrize("target", ["outside", "sealed/moved"])
def test_a_directory_that_is_replaced_by_a_link_is_missing_and_nothing_is_written_through_it(sealed, tmp_path, target):
    (sealed / "inner").rename(tmp_path / target)
    (sealed / "inner").symlink_to(tmp_path / target)
    before = tree_at(tmp_path / target)
    assert (
        refused(sealed) == '"inner/c" in the directory is missing; 1 more of its files are missing or from another Save'
    )
    assert tree_at(tmp_path / target) == before


def test_a_directory_that_is_replaced_by_a_file_is_missing(sealed):
    shutil.rmtree(sealed / "inner")
    (sealed / "inner").write_bytes(b"")
    assert refused(sealed).startswith('"inner/c" in the directory is missing; 1 more')


@pytest.mark.parametrize(("old", "new"), [("a", "inner/a"), ("inner/c", "c"), ("a", "A"), ("inner", "other")])
def test_a_file_or_directory_that_was_moved_is_missing(sealed, old, new):
    (sealed / old).rename(sealed / new)
    assert " in the directory is missing" in refused(sealed)


def test_two_files_that_changed_places_are_refused(sealed):
    (sealed / "a").rename(sealed / "x")
    (sealed / "b").rename(sealed / "a")
    (sealed / "x").rename(sealed / "b")
    refused(sealed, Tampered)


def test_a_tree_that_was_moved_is_refused(sealed):
    refused(sealed, Tampered, key="models/8")


def test_a_listed_file_that_holds_plaintext_is_refused(sealed):
    (sealed / "b").write_bytes(b"not sealed")
    for reads_plaintext in (False, True):
        with pytest.raises(NotSealed):
            open_directory(sealed, plain=reads_plaintext)
        shutil.rmtree(sealed.with_name("opened"))


def test_a_file_with_another_size_than_is_listed_is_refused(sealed):
    sizes = {"a": 6, "b": 6, "inner/c": 0, "inner/deeper/d": 7}
    (sealed / MANIFEST).write_bytes(manifest_of(Manifest(sizes)))
    assert refused(sealed) == '"inner/deeper/d" in the directory has 6 bytes instead of 7'


# --- two Saves --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("consume", [False, True])
def test_a_file_of_another_save_is_named(sealed, other, path, consume):
    shutil.copy(other / path, sealed / path)
    assert refused(sealed, consume=consume) == f'"{path}" in the directory is from another Save'


@pytest.mark.parametrize("consume", [False, True])
def test_the_manifest_of_another_save_opens_nothing(sealed, other, consume):
    shutil.copy(other / MANIFEST, sealed / MANIFEST)
    expected = '"a" in the directory is from another Save; 3 more of its files are missing or from another Save'
    assert refused(sealed, consume=consume) == expected


def test_all_that_is_missing_or_from_another_save_is_counted(sealed, other):
    (sealed / "a").unlink()
    shutil.copy(other / "b", sealed / "b")
    (sealed / "inner" / "c").write_bytes(b"not sealed")
    later = bytearray((sealed / "inner" / "deeper" / "d").read_bytes())
    later[14] ^= 0x78  # an unknown field of a later version
    (sealed / "inner" / "deeper" / "d").write_bytes(later)
    assert refused(sealed) == '"a" in the directory is missing; 3 more of its files are missing or from another Save'


def test_a_save_that_stopped_before_its_manifest_opens_nothing(sealed, other):
    """A process was killed while it replaced a directory: new files beside old ones, and the old manifest."""
    for path in FILES[:2]:
        shutil.copy(other / path, sealed / path)
    assert refused(sealed).startswith('"a" in the directory is from another Save; 1 more')


# --- the manifest -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("replace", [Path.exists, *ODD_KINDS, Path.mkdir], ids=lambda replace: replace.__name__)
@pytest.mark.parametrize("reads_plaintext", [False, True])
def test_a_directory_without_a_manifest_is_refused(sealed, replace, reads_plaintext):
    (sealed / MANIFEST).unlink()
    replace(sealed / MANIFEST)
    if reads_plaintext and replace in ODD_KINDS:
        refused(sealed, Tampered, plain=True)
    else:
        assert "no Save through Sealgate has finished storing it" in refused(sealed, plain=reads_plaintext)


def test_an_empty_directory_that_was_never_saved_is_refused(tmp_path):
    refused(build(tmp_path / "sealed", {}))
    refused(build(tmp_path / "marked", {".sealgate-directory": b""}))


def test_every_cut_of_the_manifest_is_refused(sealed):
    whole = (sealed / MANIFEST).read_bytes()
    for size in range(len(whole)):
        (sealed / MANIFEST).write_bytes(whole[:size])
        refused(sealed, DataLoss)


def test_a_changed_manifest_is_refused(sealed):
    whole = (sealed / MANIFEST).read_bytes()
    start = len(header().encode())
    for at in range(start, len(whole)):
        (sealed / MANIFEST).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        refused(sealed, Tampered)


def test_a_plaintext_manifest_is_refused(sealed):
    (sealed / MANIFEST).write_bytes(b"".join(Manifest({"a": 6}).encode()))
    for reads_plaintext in (False, True):
        with pytest.raises(NotSealed):
            open_directory(sealed, plain=reads_plaintext)
        shutil.rmtree(sealed.with_name("opened"))


def test_a_manifest_of_another_directory_is_refused(sealed):
    listed = Manifest({"a": 6, "b": 6})
    for key in ("models/8", "models", "models/7/inner", f"{DIRECTORY_KEY}/{MANIFEST}", ""):
        (sealed / MANIFEST).write_bytes(manifest_of(listed, key))
        refused(sealed, Tampered)


def test_no_file_opens_as_a_manifest_and_no_manifest_as_a_file(sealed):
    """They are sealed in different domains, even for one key."""
    content = b"".join(Manifest({"a": 6}).encode())
    for key in (DIRECTORY_KEY, f"{DIRECTORY_KEY}/{MANIFEST}"):
        (sealed / MANIFEST).write_bytes(sealed_by_file(content, artifact_key=key))
        refused(sealed, Tampered)
    (sealed / MANIFEST).write_bytes(manifest_of(Manifest({"a": len(content)})))
    for key in (DIRECTORY_KEY, f"{DIRECTORY_KEY}/a"):
        (sealed / "a").write_bytes(manifest_of(Manifest({"a": 6}), key))
        refused(sealed, Tampered)


def test_a_manifest_that_is_not_canonical_is_refused_before_anything_is_created(sealed):
    content = b"SGM1" + (1).to_bytes(4, "big") + b"\1\0\4../x" + bytes(8)
    sealed_bytes = envelope.seal_stream(header(), DATA_KEY, DIRECTORY_KEY, iter([content]), manifest=True)
    (sealed / MANIFEST).write_bytes(b"".join(map(bytes, sealed_bytes)))
    with pytest.raises(ManifestInvalid):
        open_directory(sealed)
    assert tree_at(sealed.with_name("opened")) == {}
    assert not (sealed.parent / "x").exists()


def test_a_manifest_of_several_segments_is_sealed_and_opened():
    listed = Manifest({f"{number:06}/{'x' * 80}": number for number in range(30_000)}, frozenset({"empty"}))
    chunks = [bytes(chunk) for chunk in envelope.seal_manifest(header(), DATA_KEY, DIRECTORY_KEY, listed)]
    assert len(chunks) > 3
    assert envelope.open_manifest(iter(chunks), lambda _: DATA_KEY, DIRECTORY_KEY).manifest == listed


def test_an_unbound_manifest_opens_for_every_key(plain, tmp_path):
    head = header(Binding.NONE)
    sealed = b"".join(map(bytes, envelope.seal_manifest(head, DATA_KEY, "", Manifest({"a": 1}))))
    saved = envelope.open_manifest(iter([sealed]), lambda _: DATA_KEY, "any/other")
    assert saved.manifest.files == {"a": 1}


def test_a_failing_key_provider_does_not_mean_that_there_is_no_manifest(sealed):
    """Even if it fails as a missing file does, the directory is not taken for one that was never sealed."""

    def fail(_) -> bytes:
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        open_directory(sealed, find=fail, plain=True)
    assert tree_at(sealed.with_name("opened")) == {}


# --- what else is stored ----------------------------------------------------------------------------------


@pytest.mark.parametrize("plant", ODD_ENTRIES)
@pytest.mark.parametrize("where", [".", "inner", "empty"])
def test_an_entry_that_was_not_saved_is_left_out_and_counted(sealed, plant, where):
    plant(sealed / where / "planted")
    opened, totals = open_directory(sealed)
    assert tree_at(opened) == TREE
    assert totals.foreign == 1


@pytest.mark.parametrize("reads_plaintext", [False, True])
def test_foreign_files_and_directories_are_left_out(sealed, other, reads_plaintext):
    (sealed / "planted").write_bytes(b"not sealed")
    (sealed / "inner" / "e").write_bytes(sealed_by_file(b"x", artifact_key=f"{DIRECTORY_KEY}/inner/e"))
    shutil.copytree(other, sealed / "empty" / "other")
    (sealed / "folder" / "deeper").mkdir(parents=True)
    opened, totals = open_directory(sealed, plain=reads_plaintext)
    assert tree_at(opened) == TREE
    assert totals.foreign == 2 + len(FILES), "the manifest of the other directory is not counted"


def test_a_foreign_directory_that_cannot_be_read_does_not_matter(sealed, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr("sealgate.envelope.trees.walk", refuse)
    opened, totals = open_directory(sealed)
    assert tree_at(opened) == TREE
    assert totals.foreign == 0


# --- a directory that was never sealed --------------------------------------------------------------------


def test_a_directory_that_was_never_sealed_is_copied_where_plaintext_may_be_read(plain):
    opened, totals = open_directory(plain, plain=True)
    assert tree_at(opened) == TREE
    assert (totals.files, totals.foreign) == (4, 0)


def test_one_sealed_file_makes_a_directory_without_a_manifest_incomplete(plain):
    (plain / "inner" / "c").write_bytes(sealed_by_file(b"x", artifact_key=f"{DIRECTORY_KEY}/inner/c"))
    assert "no Save through Sealgate has finished storing it" in refused(plain, plain=True)


# --- cancelling -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", range(3))
def test_the_opening_of_empty_directories_can_be_cancelled(tmp_path, step):
    sealed, _ = seal_directory(build(tmp_path / "plain", {"a": {}, "b": {}}))
    with pytest.raises(Cancelled):
        open_directory(sealed, cancel_at(step))


def test_the_count_of_faults_and_of_foreign_files_can_be_cancelled(sealed):
    steps: list[int] = []
    open_directory(sealed, lambda: steps.append(1))
    shutil.rmtree(sealed.with_name("opened"))
    with pytest.raises(Cancelled):
        open_directory(sealed, cancel_at(len(steps) - 1))
    shutil.rmtree(sealed.with_name("opened"))
    (sealed / "a").unlink()
    with pytest.raises(Cancelled):
        open_directory(sealed, cancel_at(3))


def cancel_at(step: int):
    remaining = iter(range(step))

    def check() -> None:
        if next(remaining, None) is None:
            raise Cancelled("the caller went away")

    return check


def test_opening_takes_as_many_descriptors_for_many_directories_as_for_one(tmp_path):
    most = []
    for count in (1, 40):
        place = build(tmp_path / str(count), {"plain": {f"{number}": {"file": b"x"} for number in range(count)}})
        used: list[int] = []
        sealed, _ = seal_directory(place / "plain")
        open_directory(sealed, lambda used=used: used.append(len(os.listdir("/proc/self/fd"))))
        most.append(max(used))
    assert most[0] == most[1]
