"""Names that real data has, through the socket: stored byte for byte, one key each, or refused by the file's name."""

from __future__ import annotations

import unicodedata

import pytest
from harness.content import read_tree
from harness.outcome import outcome

NAMES = [
    "a%20b",
    "day=2026-11-22 10%3A00",
    "day=2026-11-22 10:00",
    unicodedata.normalize("NFD", "Übersicht ガ"),
    unicodedata.normalize("NFC", "Übersicht ガ"),
    "Screenshot 10.00.00\u202fAM.png",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f",
    "100%",
]


def test_a_directory_with_such_names_is_stored_byte_for_byte(each, key):
    argo, tree = each.argo(), each.work / "names"
    for name in NAMES:
        (tree / name).mkdir(parents=True)
        (tree / name / name).write_bytes(name.encode())
    argo.save(key, tree)
    assert sorted(argo.list_objects(key)) == sorted(f"{key}/{name}/{name}" for name in NAMES)
    beneath = each.storage / key
    assert {f"{name}/{name}" for name in NAMES} <= {
        str(path.relative_to(beneath)) for path in beneath.rglob("*") if path.is_file()
    }
    argo.load(key, each.work / "loaded")
    assert read_tree(each.work / "loaded") == read_tree(tree)
    for name in NAMES:
        one = each.work / "one"
        argo.load(f"{key}/{name}/{name}", one)
        assert one.read_bytes() == name.encode()
        one.unlink()


@pytest.mark.parametrize("name", ["back\\slash", " before", "after ", "a%2Fb", "a%00b", "turned \u202e", "line\nbreak"])
def test_one_unusable_name_is_reported_with_what_to_do(each, key, name):
    tree = each.work / f"tree-{ascii(name).encode().hex()}"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "fine").write_bytes(b"1")
    (tree / "sub" / name).write_bytes(b"2")
    refused = outcome(lambda: each.argo().save(key, tree))
    assert refused.code == "INVALID_ARGUMENT"
    named = "".join(c if " " <= c <= "~" and c != "\\" else "\\" for c in name).split("\\")
    assert all(part in refused.text for part in ('file "sub/', *named)), refused.text
    assert "Rename the file, or save an archive of the directory" in refused.text
    assert not (each.storage / key).exists()
