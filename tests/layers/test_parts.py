"""The objects of a directory: each is decided by its own key and local path, under one encryption rule for all."""

from __future__ import annotations

import os

import pytest
from harness.layer_bench import ALLOW, DAY, WAYS, denied, header_of, retained
from harness.memory_plugin import MemoryPlugin
from harness.policy import document, documents

from sealgate.call import Operation
from sealgate.envelope import MANIFEST
from sealgate.errors import (
    BadRequest,
    Cancelled,
    DownstreamStatus,
    LimitReached,
    NotConfigured,
    Refused,
    UnclearAnswer,
)
from sealgate.layers.beside import SMALL
from sealgate.layers.governed import MOST_LISTED, Governed
from sealgate.layers.ruling import Ruling
from sealgate.storage.stored_objects import Transfer

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
    assert (error.fact.partition(":")[0], error.remedy) == (
        'object "t/secret/x"',
        "Save and load this object as a separate artifact",
    )
    assert (bench.below.objects, bench.keys.requests) == ({}, {})
    bench.save("t/secret/x", path)
    assert header_of(bench, "t/secret/x").key.key_name == "one"
    assert bench.load("t/secret/x", "own").read_bytes() == b"plain"
    bench.plant_tree("t", {"secret/x": b"stored"}, under=directory.get("key", "one"))
    denied(lambda: bench.load("t"), "ENCRYPTION")
    assert not (bench.work / "loaded").exists()


def test_an_object_that_a_listing_hid_is_not_loaded_under_the_encryption_of_the_directory_above(make):
    bench = make(document([ALLOW], encryption=[SECRET, {"readPlaintext": "allow"}]))
    bench.plant("t/secret/x", b"planted", age=None)
    bench.plant("t/a", b"planted", age=None)
    listed = bench.below.list_objects
    bench.below.list_objects = lambda *of: [key for key in listed(*of) if "secret" not in key]
    denied(lambda: bench.load("t"), "ENCRYPTION")
    assert list(bench.work.iterdir()) == []


@WAYS
def test_two_encryption_rules_with_equal_terms_allow_a_file_and_its_directory_together(make, transfer):
    bench = make(document([ALLOW], encryption=[{**SECRET, "key": "one"}, {"key": "one"}]), transfer=transfer)
    bench.file(name="tree/secret/x")
    bench.save("t", bench.work / "tree")
    assert (bench.load("t") / "secret" / "x").read_bytes() == b"plain"


@WAYS
def test_a_rule_about_local_paths_applies_to_each_file_of_a_directory(make, transfer):
    bench = make(transfer=transfer)
    rule = {"effect": "deny", "match": {"localPaths": [f"{bench.work}/**/private/**"]}}
    bench.governed = Governed(bench.sealed, documents(document([ALLOW, rule])), stored=bench.sealed.stored)
    bench.file(name="tree/private/x")
    bench.plant_tree("s", {"private/x": b"stored"})
    error = denied(lambda: bench.save("t", bench.work / "tree"), "DENIED")
    assert error.fact.startswith('object "t/private/x"')
    denied(lambda: bench.load("s"), "DENIED")
    assert set(bench.below.objects) == {"s/private/x", f"s/{MANIFEST}"}
    assert not (bench.work / "loaded").exists()


def test_the_encryption_rule_is_chosen_by_the_resolved_path(make):
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


def test_a_key_that_the_author_chose_for_writing_does_not_affect_other_operations(make):
    writes = {"match": {"operations": ["write"]}, "key": "one", "authorKeys": ["two"]}
    bench = make(document([ALLOW], encryption=[writes, {"key": "one", "readKeys": ["two"]}]))
    chosen = {"configuration": "sealgate: {key: two}\nbucket: b\n"}
    bench.save("t/a", bench.file(), **chosen)
    bench.do(Operation.LOAD, "t/a", bench.work / "loaded", **chosen)
    assert bench.do(Operation.LIST_OBJECTS, "t", **chosen) == ["t/a"]
    assert bench.do(Operation.IS_DIRECTORY, "t", **chosen)
    bench.do(Operation.DELETE, "t", **chosen)
    assert bench.below.objects == {}
    assert {artifact.configuration for artifact in bench.below.artifacts} == {"bucket: b\n"}


# --- what a write removes ---------------------------------------------------------------------------------

KEPT = document([ALLOW, {"effect": "deny", "match": {"operations": ["delete"], "keys": ["**/keep"]}}])


@WAYS
@pytest.mark.parametrize(("written", "code"), [(KEPT, "DENIED"), (retained("skip"), "RETENTION")])
def test_an_object_that_may_not_be_deleted_is_not_removed_by_a_write_in_its_place(make, transfer, written, code):
    bench = make(written, transfer=transfer)
    bench.plant("r/keep", age=DAY)
    bench.file(name="tree/a")
    for write in (
        lambda: bench.save("r", bench.work / "tree"),
        lambda: bench.save("r", bench.file()),
        lambda: bench.save_stream("r", [b"x"]),
    ):
        assert denied(write, code).fact.startswith('object "r/keep": this would delete it, and ')
        assert bench.call.decision.effective == "deny"
    assert set(bench.below.objects) == {"r/keep"}
    bench.below.objects.clear()
    bench.save("r", bench.work / "tree")


@WAYS
@pytest.mark.parametrize(("written", "code"), [(KEPT, "DENIED"), (retained("skip"), "RETENTION")])
def test_an_object_that_may_not_be_deleted_is_not_replaced_by_a_directory(make, transfer, written, code):
    bench = make(written, transfer=transfer)
    bench.plant("r/keep", age=DAY)
    bench.file(name="tree/a")
    denied(lambda: bench.save("r/keep", bench.work / "tree"), code)
    assert set(bench.below.objects) == {"r/keep"}


@WAYS
def test_writing_a_directory_again_needs_no_right_to_delete(make, transfer):
    bench = make(document([{"effect": "allow", "match": {"operations": ["write"]}}]), transfer=transfer)
    bench.file(name="tree/a")
    bench.save("t", bench.work / "tree")
    bench.save("t", bench.work / "tree")
    bench.plant("t/gone")
    denied(lambda: bench.save("t", bench.work / "tree"), "NO_RULE")


# --- spellings --------------------------------------------------------------------------------------------

STRANGE = ["a%2fb", "..;x", "a\\b", "\u202ex"]


@WAYS
@pytest.mark.parametrize("name", STRANGE)
def test_without_a_policy_a_file_whose_key_is_not_canonical_is_neither_saved_nor_loaded(make, transfer, name):
    bench = make(transfer=transfer)
    bench.file(name=f"tree/{name}")
    bench.plant_tree("s", {name: b"stored"})
    denied(lambda: bench.save("t", bench.work / "tree"), "BAD_KEY", BadRequest)
    denied(lambda: bench.load("s"), "BAD_KEY", BadRequest)
    assert set(bench.below.objects) == {f"s/{name}", f"s/{MANIFEST}"}
    assert bench.keys.requests["new_data_key"] == 1, "for the planted directory"
    assert not (bench.work / "loaded").exists()


@pytest.mark.parametrize("written", [[], [document([ALLOW])]])
def test_an_object_whose_key_is_not_canonical_can_be_deleted(make, written):
    bench = make(*written)
    for key in ("t/a", *(f"t/{name}" for name in STRANGE)):
        bench.below.objects[key] = b""
    bench.delete("t")
    assert bench.below.objects == {}


def test_a_retention_rule_also_keeps_an_object_whose_key_is_not_canonical(make):
    bench = make(retained("skip"))
    bench.plant("r/t/a%2fb", age=DAY)
    bench.delete("r/t")
    assert set(bench.below.objects) == {"r/t/a%2fb"}


# --- trials -----------------------------------------------------------------------------------------------


class Mute(MemoryPlugin):
    """Stores and removes, and refuses every question about stored objects."""

    def list_objects(self, call, artifact):
        raise DownstreamStatus("UNIMPLEMENTED", "no listings here")

    def open_stream(self, call, artifact):
        raise Refused("access denied")

    def is_directory(self, call, artifact):
        raise Refused("access denied")


TRIED = document(
    [
        ALLOW,
        {"effect": "require", "require": {"overwrite": "deny", "minAge": "1d"}},
        {"effect": "deny", "match": {"operations": ["list"]}},
    ],
    name="tried",
    listing="deny",
    symlinks="reject",
)


@pytest.mark.parametrize("enforcement", ["warn", "shadow"])
def test_a_question_that_only_rules_on_trial_need_fails_no_call(make, enforcement):
    tried = {**TRIED, "spec": {**TRIED["spec"], "enforcement": enforcement}}
    bench = make(tried, below=Mute())
    bench.file(name="tree/a")
    for write in (
        lambda: bench.save("t", bench.work / "tree"),
        lambda: bench.save_stream("f", [b"x"]),
    ):
        write()
        facts = bench.call.decision
        assert (facts.effective, facts.proposed) == ("allow", "unknown")
    # The layer that seals cannot verify this Delete, and so it fails. No rule on trial has failed it.
    with pytest.raises(UnclearAnswer, match="the answer to IsDirectory"):
        bench.delete("f")
    facts = bench.call.decision
    assert (facts.effective, facts.proposed) == ("allow", "unknown")
    assert set(bench.below.objects) == {"t/a", f"t/{MANIFEST}"}


@pytest.mark.parametrize("enforcement", ["warn", "shadow"])
def test_a_question_of_a_rule_on_trial_fails_no_delete(make, enforcement):
    tried = {**TRIED, "spec": {**TRIED["spec"], "enforcement": enforcement}}
    bench = make(tried, below=Mute(whole=True))
    bench.below.objects = {"f": b""}
    bench.delete("f")
    facts = bench.call.decision
    assert (facts.effective, facts.proposed) == ("allow", "unknown")
    assert bench.below.objects == {}


@pytest.mark.parametrize("enforcement", ["warn", "shadow"])
def test_a_document_on_trial_does_not_change_how_directories_are_handled(make, enforcement):
    tried = {**TRIED, "spec": {**TRIED["spec"], "enforcement": enforcement}}
    grants = [{"effect": "allow", "match": {"keys": ["t", "t/a"]}}]
    bench = make(document(grants, symlinks="skip"), tried)
    bench.file(name="tree/a")
    (bench.work / "tree" / "link").symlink_to("a")
    bench.save("t", bench.work / "tree")
    bench.plant("t/b")
    assert bench.list("t") == ["t/a"]


def test_a_failing_listing_does_not_bypass_an_enforced_rule_in_a_document_on_trial(make):
    deny = {"effect": "deny", "enforcement": "enforce", "match": {"keys": ["t/secret/**"]}}
    bench = make(document([deny], enforcement="shadow"), below=Mute())
    bench.below.objects = {"t/secret/x": b""}
    for act in (lambda: bench.delete("t"), lambda: bench.save("t", bench.file())):
        with pytest.raises(DownstreamStatus, match="no listings here"):
            act()
    assert set(bench.below.objects) == {"t/secret/x"}


@pytest.mark.parametrize("named", ["/t/secret/x", "t2/y"])
def test_every_key_that_a_listing_names_is_decided(make, named):
    class Listing(MemoryPlugin):
        def list_objects(self, call, artifact):
            return [artifact.key, named]

    bench = make(document([{**ALLOW, "match": {"keys": ["t/**"]}}]), below=Listing())
    bench.below.objects = {"t/a": b""}
    denied(lambda: bench.delete("t"), "NO_RULE")
    assert set(bench.below.objects) == {"t/a"}


def test_a_listing_that_names_the_object_itself_does_not_prevent_writing_it(make):
    class Listing(MemoryPlugin):
        def list_objects(self, call, artifact):
            return [artifact.key, *super().list_objects(call, artifact)]

    bench = make(document([{**ALLOW, "match": {"operations": ["write"]}}]), below=Listing())
    bench.save_stream("t", [b"x"])
    bench.save_stream("t", [b"y"])


def test_a_listing_of_more_objects_than_a_directory_may_have_is_refused_before_they_are_judged(make, monkeypatch):
    judged = []
    monkeypatch.setattr(Ruling, "may_read", lambda _, key: judged.append(key) or True)
    bench = make(document([ALLOW]))
    bench.below.objects = {f"t/{number}": b"" for number in range(MOST_LISTED + 1)}
    with pytest.raises(LimitReached, match=f"lists {MOST_LISTED + 1} objects"):
        bench.list("t")
    assert judged == []
    bench.delete("t")
    assert bench.below.objects == {}


def test_a_listing_ends_when_its_caller_leaves(make):
    bench = make(document([ALLOW]))
    bench.below.objects = {f"t/{number}": b"" for number in range(100)}
    judged = []
    may_read = Ruling.may_read

    def leave(ruling: Ruling, key: str) -> bool:
        judged.append(key)
        bench.call.cancel()
        return may_read(ruling, key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ruling, "may_read", leave)
        with pytest.raises(Cancelled):
            bench.list("t")
    assert len(judged) == 1


def test_the_baseline_applies_while_no_document_is_enforced(make):
    bench = make(document([{**ALLOW, "match": {"keys": ["x"]}}], enforcement="shadow"))
    bench.below.objects = {f"t/{number}": b"" for number in range(10_001)}
    denied(lambda: bench.list("t"), "LIMIT_LISTING")
    bench.below.objects.popitem()
    assert len(bench.list("t")) == 10_000


# --- ends midway ------------------------------------------------------------------------------------------

LARGE = bytes(SMALL)
"""A file that is not stored at the same time as others."""


class Exchanging(MemoryPlugin):
    """Calls `act` once `t/b` is stored. A file that follows `LARGE` is read after that."""

    act = staticmethod(lambda: None)

    def save_stream(self, call, artifact, chunks):
        super().save_stream(call, artifact, chunks)
        if artifact.key == "t/b":
            self.act()


def exchange(path, kind: str) -> None:
    path.unlink()
    if kind == "link":
        path.symlink_to("/etc/passwd")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()


@pytest.mark.parametrize("kind", ["gone", "link", "pipe", "directory"])
def test_a_file_that_is_replaced_midway_is_a_named_error_and_no_new_object_remains(make, kind):
    bench = make(transfer=Transfer.STREAM, below=Exchanging())
    for name, data in (("a", b"plain"), ("b", LARGE), ("c", b"plain")):
        path = bench.file(data, f"tree/{name}")
    bench.below.act = lambda: exchange(path, kind)
    with pytest.raises(BadRequest, match=r"changed while it was read|cannot be saved"):
        bench.save("t", bench.work / "tree")
    assert bench.below.objects == {}


def test_a_denial_midway_removes_no_object_that_existed_before(make):
    limits = {"maxBytes": "1MiB"}
    bench = make(document([{**ALLOW, "limits": limits}]), transfer=Transfer.STREAM, below=Exchanging())
    for name, data in (("a", b"plain"), ("b", LARGE), ("c", b"plain")):
        path = bench.file(data, f"tree/{name}")
    bench.plant("t/a")
    bench.below.act = lambda: os.truncate(path, 2 << 20)
    error = denied(lambda: bench.save("t", bench.work / "tree"), "LIMIT_BYTES")
    assert set(bench.below.objects) == {"t/a"}
    assert error.fact.endswith("; objects already stored and not removed: 1")


def test_an_empty_directory_that_passes_through_is_refused(make):
    bench = make(document([ALLOW], encryption=[PUBLIC]), allows_passthrough=True)
    (bench.work / "tree").mkdir()
    with pytest.raises(NotConfigured, match="is empty"):
        bench.save("t", bench.work / "tree")


@WAYS
def test_an_object_that_a_save_removes_is_read_once(make, transfer):
    bench = make(retained("deny"), transfer=transfer)
    bench.plant("r/t/old", age=31 * DAY)
    bench.file(name="tree/a")
    bench.save("r/t", bench.work / "tree")
    asked = zip(bench.below.calls, bench.below.artifacts, strict=True)
    read, *others = [operation for operation, artifact in asked if artifact.key == "r/t/old"]
    assert read in {"load", "open_stream"}
    assert others == ["delete"]
    assert "r/t/old" not in bench.below.objects


def test_a_kept_object_is_not_removed_if_the_file_that_would_replace_it_disappears(make):
    class Exchange(MemoryPlugin):
        """Replaces a directory as a whole."""

        def save(self, call, artifact, path):
            for key in super().list_objects(call, artifact):
                del self.objects[key]
            super().save(call, artifact, path)

    bench = make(KEPT, transfer=Transfer.FILE, below=Exchange())
    bench.file(name="tree/a")
    vanishing = bench.file(name="tree/keep")
    bench.plant("t/keep")
    new_data_key = bench.keys.new_data_key

    def unlink_first(*arguments):
        vanishing.unlink()
        return new_data_key(*arguments)

    bench.keys.new_data_key = unlink_first
    error = denied(lambda: bench.save("t", bench.work / "tree"), "DENIED")
    assert "this would delete it" in error.fact
    assert set(bench.below.objects) == {"t/keep"}
