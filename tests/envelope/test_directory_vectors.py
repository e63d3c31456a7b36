"""Every reader gives the stated result for every vector of a directory, and so does a reader made from the document."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from harness.memory_plugin import MemoryPlugin
from harness.sealing import Tree, open_directory, tree_at
from vectors import reader

from sealgate.call import Call, Operation
from sealgate.envelope import Header, read_header
from sealgate.errors import PluginError
from sealgate.keys.local import LocalKeys
from sealgate.layers.sealed import Sealed
from sealgate.plugin import Artifact
from sealgate.storage.local_paths import Roots
from sealgate.storage.spool import Spool
from sealgate.storage.stored_objects import Transfer

VECTORS = Path(__file__).parents[1] / "vectors"
LIST: dict[str, Any] = json.loads((VECTORS / "vectors.json").read_text())
BY_NAME = {vector["name"]: vector for vector in LIST["directories"]}
OPENED = [name for name, vector in BY_NAME.items() if "files" in vector]
REFUSED = [name for name, vector in BY_NAME.items() if "error" in vector]


def objects_of(name: str) -> dict[str, bytes]:
    return {path: (VECTORS / file).read_bytes() for path, file in BY_NAME[name]["objects"].items()}


def data_key_of(name: str, wrapped: str) -> bytes:
    return bytes.fromhex(BY_NAME[name]["data_keys"][wrapped])


def expected(name: str) -> Tree:
    """Return the tree that the vector must open to, with the size and the digest of each file as its content."""
    tree: Tree = {}
    for path, facts in BY_NAME[name]["files"].items():
        *parents, last = path.split("/")
        beneath(tree, parents)[last] = f"{facts['size']} {facts['sha256']}".encode()
    for path in BY_NAME[name]["empty_directories"]:
        beneath(tree, path.split("/"))
    return tree


def beneath(tree: Tree, segments: list[str]) -> Tree:
    for segment in segments:
        inner = tree.setdefault(segment, {})
        assert isinstance(inner, dict)
        tree = inner
    return tree


def digested(tree: Tree) -> Tree:
    return {
        name: f"{len(inner)} {hashlib.sha256(inner).hexdigest()}".encode()
        if isinstance(inner, bytes)
        else digested(inner)
        for name, inner in tree.items()
    }


class Readers:
    """The readers of this program. Each returns the tree and the number of objects that it left out, or raises."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._keyring = place / "keyring.json"
        self._keyring.touch(mode=0o600)
        self._keyring.write_text(json.dumps(LIST["keyring"]))

    def by_descriptor(self, name: str, *, consume: bool) -> tuple[Tree, int]:
        """Open the objects as files, with the data keys that the vector states."""
        stored = self._place / "stored"
        shutil.rmtree(stored, ignore_errors=True)
        for path, content in objects_of(name).items():
            (stored / path).parent.mkdir(parents=True, exist_ok=True)
            (stored / path).write_bytes(content)

        def find(header: Header) -> bytes:
            return data_key_of(name, header.key.wrapped_key)

        shutil.rmtree(self._place / "opened", ignore_errors=True)
        opened, totals = open_directory(stored, key=BY_NAME[name]["artifact_key"], find=find, consume=consume)
        return tree_at(opened), totals.foreign

    def by_layer(self, name: str, transfer: Transfer) -> tuple[Tree, int]:
        """Load the objects from a plugin, with the keyring that is in the list of vectors."""
        below, key = MemoryPlugin(), BY_NAME[name]["artifact_key"]
        below.objects = {f"{key}/{path}": content for path, content in objects_of(name).items()}
        work = self._place / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        layer = Sealed(
            below,
            LocalKeys(self._keyring),
            roots=Roots([work]),
            spool=Spool(self._place / "spool"),
            transfer=transfer,
            allows_unbound=True,
        )
        call = Call(Operation.LOAD)
        try:
            layer.load(call, Artifact(key), work / "loaded")
        except PluginError:
            assert list(work.iterdir()) == [], "nothing is left at the destination"
            raise
        return tree_at(work / "loaded"), call.sealed.left_out


WAYS = {
    "by descriptor": lambda readers, name: readers.by_descriptor(name, consume=False),
    "consumed": lambda readers, name: readers.by_descriptor(name, consume=True),
    "by file": lambda readers, name: readers.by_layer(name, Transfer.FILE),
    "by stream": lambda readers, name: readers.by_layer(name, Transfer.STREAM),
}


@pytest.fixture
def readers(tmp_path):
    return Readers(tmp_path)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OPENED)
def test_opens_to_exactly_what_was_saved(readers, name, way):
    opened, left_out = WAYS[way](readers, name)
    assert digested(opened) == expected(name)
    assert left_out == BY_NAME[name]["left_out"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_with_the_named_error(readers, name, way):
    with pytest.raises(PluginError) as raised:
        WAYS[way](readers, name)
    assert type(raised.value).__name__ == BY_NAME[name]["error"]


@pytest.mark.parametrize("name", OPENED)
def test_a_reader_made_from_the_document_opens_it_with_tink(name):
    files, empty = reader.read_directory(
        objects_of(name), BY_NAME[name]["artifact_key"], lambda wrapped: data_key_of(name, wrapped)
    )
    facts = {
        path: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()} for path, content in files.items()
    }
    assert facts == BY_NAME[name]["files"]
    assert sorted(empty) == sorted(BY_NAME[name]["empty_directories"])


@pytest.mark.parametrize("name", REFUSED)
def test_a_reader_made_from_the_document_refuses_it(name):
    with pytest.raises(reader.Refused) as raised:
        reader.read_directory(
            objects_of(name), BY_NAME[name]["artifact_key"], lambda wrapped: data_key_of(name, wrapped)
        )
    assert BY_NAME[name]["error"] in raised.value.args


@pytest.mark.parametrize("name", BY_NAME)
def test_its_data_keys_come_out_of_the_keyring(name, tmp_path):
    keyring = tmp_path / "keyring.json"
    keyring.touch(mode=0o600)
    keyring.write_text(json.dumps(LIST["keyring"]))
    for content in objects_of(name).values():
        try:
            header, _ = read_header(lambda size, offset, content=content: content[offset : offset + size])
        except PluginError:
            continue
        assert LocalKeys(keyring).unwrap(Call(Operation.LOAD), header.key) == data_key_of(name, header.key.wrapped_key)


def test_there_are_enough_vectors():
    assert len(OPENED) >= 3
    assert len(REFUSED) >= 25
    counts = f"{len(OPENED)} that must open, {len(REFUSED)} that must be refused"
    assert counts in " ".join((VECTORS / "README.md").read_text().split())
    assert {BY_NAME[name]["error"] for name in REFUSED} == {
        "DirectoryIncomplete",
        "ManifestInvalid",
        "NotSealed",
        "Tampered",
        "Truncated",
        "WrongDataKey",
    }


def test_no_two_vectors_are_the_same():
    seen = {(vector["artifact_key"], *sorted(objects_of(name).items())) for name, vector in BY_NAME.items()}
    assert len(seen) == len(BY_NAME)


def test_every_stored_object_belongs_to_a_vector():
    listed = {file for vector in BY_NAME.values() for file in vector["objects"].values()}
    assert listed == {f"directories/{path.name}" for path in (VECTORS / "directories").iterdir()}


def test_the_writer_and_the_reader_use_no_code_of_the_program():
    for path in VECTORS.glob("*.py"):
        assert re.search(r"^\s*(from|import) sealgate", path.read_text(), re.MULTILINE) is None, path
