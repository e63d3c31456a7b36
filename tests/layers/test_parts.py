"""The objects of a directory: each is decided by its own key and local path, and sealed by its own rule."""

from __future__ import annotations

import pytest
from harness.policy import document, documents
from layers.test_governed import ALLOW, WAYS, denied, header_of, make

from proxy.layers.governed import Governed
from proxy.plugin import Operation

__all__ = ["make"]

PUBLIC = {"match": {"keys": ["t/**"]}, "write": "passthrough", "readPlaintext": "allow"}
SECRET = {"match": {"keys": ["t/secret/**"]}}


@WAYS
@pytest.mark.parametrize(
    ("child", "directory"),
    [
        ({"key": "one"}, PUBLIC),
        ({"key": "one"}, {"key": "two"}),
        ({"key": "one", "context": {"tenant": "a"}}, {"key": "one"}),
        ({"key": "one"}, {"key": "one", "authorKeys": ["two"]}),
        ({"key": "one"}, {"key": "one", "readPlaintext": "allow"}),
    ],
)
def test_no_file_is_saved_or_loaded_under_the_encryption_of_the_directory_above(make, transfer, child, directory):
    rules = [{**SECRET, **child}, directory]
    bench = make(document([ALLOW], encryption=rules), transfer=transfer, allows_passthrough=True)
    path = bench.file(name="tree/secret/x")
    bench.file(name="tree/a")
    error = denied(lambda: bench.save("t", bench.work / "tree"), "encryption/e0, ENCRYPTION")
    assert (error.fact.partition(":")[0], error.remedy) == ('object "t/secret/x"', "Save and load it by its own key")
    assert (bench.below.objects, bench.keys.asked) == ({}, {})
    bench.save("t/secret/x", path)
    assert header_of(bench, "t/secret/x").key.key_name == "one"
    denied(lambda: bench.load("t"), "ENCRYPTION")
    assert bench.load("t/secret/x", "own").read_bytes() == b"plain"


def test_what_a_listing_hid_is_still_not_loaded_under_the_encryption_of_the_directory_above(make):
    bench = make(document([ALLOW], encryption=[SECRET, {"readPlaintext": "allow"}]))
    bench.plant("t/secret/x", b"planted", age=None)
    bench.plant("t/a")
    listed = bench.below.list_objects
    bench.below.list_objects = lambda *of: [key for key in listed(*of) if "secret" not in key]
    denied(lambda: bench.load("t"), "ENCRYPTION")
    assert list(bench.work.iterdir()) == []


@WAYS
def test_rules_that_say_the_same_of_a_file_and_of_its_directory_are_no_hindrance(make, transfer):
    bench = make(document([ALLOW], encryption=[{**SECRET, "key": "one"}, {"key": "one"}]), transfer=transfer)
    bench.file(name="tree/secret/x")
    bench.save("t", bench.work / "tree")
    assert (bench.load("t") / "secret" / "x").read_bytes() == b"plain"


@WAYS
def test_a_rule_about_paths_means_each_file_of_a_directory(make, transfer):
    bench = make(transfer=transfer)
    rule = {"effect": "deny", "match": {"localPaths": [f"{bench.work}/**/private/**"]}}
    bench.governed = Governed(bench.sealed, documents(document([ALLOW, rule])), looks=bench.sealed)
    bench.file(name="tree/private/x")
    bench.plant("s/private/x")
    error = denied(lambda: bench.save("t", bench.work / "tree"), "DENIED")
    assert error.fact.startswith('object "t/private/x"')
    denied(lambda: bench.load("s"), "DENIED")
    assert set(bench.below.objects) == {"s/private/x"}
    assert not (bench.work / "loaded").exists()


def test_the_encryption_rule_is_the_one_for_the_path_that_is_reached(make):
    bench = make(
        document(
            [ALLOW],
            encryption=[{**PUBLIC, "match": {"localPaths": ["/**/public/*"]}}, {"key": "one", "authorKeys": ["two"]}],
        ),
        allows_passthrough=True,
    )
    bench.file(name="private/x")
    (bench.work / "public").mkdir()
    (bench.work / "public" / "x").symlink_to("../private/x")
    bench.save("k", bench.work / "public" / "x")
    assert header_of(bench, "k").key.key_name == "one"
    bench.save("k", bench.work / "public" / "x", configuration="sealgate: {key: two}")
    assert header_of(bench, "k").key.key_name == "two"


def test_what_an_author_chose_for_writing_hinders_nothing_else(make):
    writes = {"match": {"operations": ["write"]}, "key": "one", "authorKeys": ["two"]}
    bench = make(document([ALLOW], encryption=[writes, {"key": "one"}]))
    chosen = {"configuration": "sealgate: {key: two}\nbucket: b\n"}
    bench.save("t/a", bench.file(), **chosen)
    bench.do(Operation.LOAD, "t/a", bench.work / "loaded", **chosen)
    assert bench.do(Operation.LIST_OBJECTS, "t", **chosen) == ["t/a"]
    assert bench.do(Operation.IS_DIRECTORY, "t", **chosen)
    bench.do(Operation.DELETE, "t", **chosen)
    assert bench.below.objects == {}
    assert {artifact.configuration for artifact in bench.below.artifacts} == {"bucket: b\n"}
