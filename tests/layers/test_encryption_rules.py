"""Encryption rules: the key that seals, the keys that may have sealed, contexts, and plaintext by a rule."""

from __future__ import annotations

import re

import pytest
from harness.layer_bench import ALLOW, WAYS, denied, header_of
from harness.memory_plugin import MemoryPlugin
from harness.policy import document

from sealgate.envelope import MANIFEST
from sealgate.errors import BadRequest, DirectoryIncomplete, NotSealed
from sealgate.policy.rules import Process


def test_the_encryption_rule_says_which_key_seals(make):
    rules = [{"match": {"keys": ["a/**"]}, "key": "transit/keys/one"}, {"key": "two"}]
    bench = make(document([ALLOW], encryption=rules))
    bench.save("a/x", bench.file())
    bench.save_stream("b/x", [b"plain"])
    assert [header_of(bench, key).key.key_name for key in ("a/x", "b/x")] == ["one", "two"]
    assert bench.load("a/x").read_bytes() == b"plain"


def test_an_author_may_choose_only_a_key_that_is_listed(make):
    bench = make(document([ALLOW], encryption=[{"key": "one", "authorKeys": ["transit/keys/two"]}]))
    for text in ("sealgate: {key: two}\n", "sealgate: {key: transit/keys/two}\nbucket: b\n"):
        bench.save("a", bench.file(), configuration=text)
        assert header_of(bench, "a").key.key_name == "two"
        assert bench.below.artifacts[-1].configuration in {"{}\n", "bucket: b\n"}
    others = ("default", "5", "other/keys/two", "/keys/two", "keys/two", "transit/keys/x/keys/two")
    for text in (*(f"sealgate: {{key: {other}}}" for other in others), "sealgate: {context: {}}"):
        with pytest.raises(BadRequest, match="authors may not choose"):
            bench.save("a", bench.file(), configuration=text)


@WAYS
def test_a_context_is_sealed_in_and_required_on_reading(make, transfer):
    rule = {"key": "one", "context": {"tenant": "${identity.namespace}"}}
    bench = make(document([ALLOW], encryption=[rule]), transfer=transfer, process=Process({"namespace": "team-a"}))
    bench.save("a", bench.file())
    assert header_of(bench, "a").context == (("tenant", "team-a"),)
    assert bench.load("a").read_bytes() == b"plain"
    bench.process = Process({"namespace": "team-b"})
    for again in (lambda: bench.load("a", "other"), lambda: bench.stream("a")):
        denied(again, "CONTEXT")
        assert bench.call.decision.code == "CONTEXT"
    assert bench.keys.requests["unwrap"] == 1, "only the first load requested the data key"
    assert not (bench.work / "other").exists()


SECOND = {"key": "one", "readKeys": ["transit/keys/two"]}


@WAYS
def test_an_object_must_be_sealed_under_a_key_that_the_rule_names(make, transfer):
    bench = make(document([ALLOW], encryption=[{"key": "one", "authorKeys": ["tenant-team-a"]}]), transfer=transfer)
    bench.plant("a", under="two")
    for again in (lambda: bench.load("a"), lambda: bench.stream("a")):
        denied(again, "encryption/e0, OTHER_KEY")
        assert bench.call.decision.code == "OTHER_KEY"
    assert bench.keys.requests["unwrap"] == 0, "no data key was requested"
    assert list(bench.work.iterdir()) == []
    for key in ("one", "tenant-team-a"):
        bench.plant("a", under=key)
        assert b"".join(bench.stream("a")) == b"stored"


@pytest.mark.parametrize("rule", [SECOND, {"match": {"keys": ["**"]}}])
def test_an_object_may_be_sealed_under_a_key_in_read_keys_or_under_any_key_if_the_rule_names_none(make, rule):
    bench = make(document([ALLOW], encryption=[rule]))
    bench.plant("a", under="two")
    assert b"".join(bench.stream("a")) == b"stored"


READS = [{"match": {"keys": ["legacy/**"]}, "readPlaintext": "allow"}, {"match": {"keys": ["**"]}}]


@WAYS
def test_plaintext_is_read_only_where_a_rule_allows_it_and_each_time_is_recorded(make, transfer, caplog):
    bench = make(document([ALLOW], encryption=READS), transfer=transfer)
    for key in ("legacy/t/a", "v2/a", "v2/t/a"):
        bench.plant(key, b"never sealed", age=None)
    assert bench.load("legacy/t/a").read_bytes() == b"never sealed"
    assert bench.call.sealed.unsealed_files == 1
    assert b"".join(bench.stream("legacy/t/a")) == b"never sealed"
    assert bench.call.sealed.unsealed_files == 1
    tree = bench.load("legacy/t", "tree")
    assert {path.name: path.read_bytes() for path in tree.iterdir()} == {"a": b"never sealed"}
    assert bench.call.sealed.unsealed_files == 1
    assert len(re.findall(r"an unsealed object is read: operation=\w+, key=legacy/t/a,", caplog.text)) == 3
    denied(lambda: bench.load("v2/a", "other"), "encryption/e1, PLAINTEXT")
    denied(lambda: bench.stream("v2/a"), "encryption/e1, PLAINTEXT")
    with pytest.raises(DirectoryIncomplete, match="no manifest"):
        bench.load("v2/t", "other")
    assert not (bench.work / "other").exists()


@WAYS
def test_a_directory_that_was_sealed_is_not_read_as_plaintext_where_its_manifest_is_missing(make, transfer):
    bench = make(document([ALLOW], encryption=READS), transfer=transfer)
    bench.plant_tree("legacy/t", {"a": b"sealed", "b": b"sealed too"})
    bench.plant("legacy/t/a", b"never sealed", age=None)
    with pytest.raises(NotSealed, match="not sealed"):
        bench.load("legacy/t")
    del bench.below.objects[f"legacy/t/{MANIFEST}"]
    with pytest.raises(DirectoryIncomplete, match="no manifest"):
        bench.load("legacy/t")
    assert list(bench.work.iterdir()) == []


def test_an_object_that_passes_through_is_stored_and_read_unchanged(make):
    rule = {"write": "passthrough", "readPlaintext": "allow"}
    for streams in (True, False):
        below = MemoryPlugin(streams=streams)
        bench = make(document([ALLOW], encryption=[rule]), below=below, allows_passthrough=True)
        bench.file(b"plain", "tree/a")
        bench.save("t", bench.work / "tree")
        bench.save("f", bench.file(b"plain"))
        bench.save_stream("s", [b"pl", b"ain"])
        assert set(bench.below.objects.values()) == {b"plain"}
        assert bench.call.sealed.unsealed_files == 1
        assert bench.keys.requests == {}
        assert bench.load("f").read_bytes() == b"plain"


def test_limits_apply_to_objects_that_pass_through(make):
    rule = {"write": "passthrough", "readPlaintext": "allow"}
    allow = {"effect": "allow", "limits": {"maxBytes": 10}}
    bench = make(document([allow], encryption=[rule]), allows_passthrough=True)
    denied(lambda: bench.save_stream("s", [bytes(6), bytes(6)]), "LIMIT_BYTES")
    assert bench.below.objects == {}
