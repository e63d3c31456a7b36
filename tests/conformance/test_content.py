"""What the checks save, and how they say what is different about what comes back."""

from __future__ import annotations

import pytest

from sealgate.conformance.content import Content, kind_of, tree_difference, write_tree

SIZES = [0, 1, 7, 8, 9, 1000, 65535, 65536, 65537, (1 << 20) + 3]
TREE = {"a": b"1", "b/c": b"2", "empty": None}


@pytest.mark.parametrize("size", SIZES)
def test_content_has_its_size_and_is_the_same_in_every_piece(size):
    content = Content(size, 1)
    whole = b"".join(content.chunks())
    assert len(whole) == size
    assert b"".join(content.chunks(999)) == whole
    assert content.at(size // 3, 100) == whole[size // 3 : size // 3 + 100]
    assert not content.difference([whole])


def test_no_two_blocks_and_no_two_seeds_are_the_same():
    whole = b"".join(Content(4 << 16).chunks())
    assert len({whole[start : start + (1 << 16)] for start in range(0, len(whole), 1 << 16)}) == 4
    assert len({b"".join(Content(1000, seed).chunks()) for seed in range(50)}) == 50


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda data: data[:-1], "1999 of the 2000 bytes that were saved"),
        (lambda data: data + b"x", "more than the 2000 bytes that were saved"),
        (lambda data: data[:7] + b"\0\0" + data[9:], "other bytes than the 2000 that were saved, from byte 7"),
        (lambda data: b"", "0 of the 2000 bytes that were saved"),
    ],
)
def test_a_difference_is_named(change, text):
    content = Content(2000)
    data = change(b"".join(content.chunks()))
    assert content.difference([data]) == text
    assert content.difference([data[:1000], data[1000:]]) == text


def test_a_difference_of_a_directory_is_named(tmp_path):
    write_tree(tmp_path / "tree", TREE)
    assert not tree_difference(TREE, tmp_path / "tree")
    (tmp_path / "tree/a").write_bytes(b"other")
    (tmp_path / "tree/empty").rmdir()
    (tmp_path / "tree/more").symlink_to("/")
    assert tree_difference(TREE, tmp_path / "tree") == "missing: empty; not saved: more; different: a"
    assert tree_difference(TREE, tmp_path / "tree/a") == "a file and not a directory"


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    assert kind_of(tmp_path / "link") == "a symbolic link"
    assert kind_of(tmp_path / "none") == "nothing"
