"""The layer that decides, around the layer that seals: directories, limits while bytes flow, paths and records."""

from __future__ import annotations

import os
from contextlib import closing

import pytest
from harness.layer_bench import ALLOW, MIB, WAYS, denied
from harness.library import policy_text
from harness.memory_plugin import MemoryPlugin
from harness.policy import document, documents

from sealgate import envelope
from sealgate.call import Call, Operation
from sealgate.documents.reader import read
from sealgate.errors import BadRequest, Cancelled
from sealgate.layers.governed import Governed
from sealgate.plugin import Artifact
from sealgate.policy.load import DocumentSource, loaded
from sealgate.policy.rules import Process
from sealgate.storage.stored_objects import Transfer

MANIFEST_OF_T = f"t/{envelope.MANIFEST}"

# --- directories ------------------------------------------------------------------------------------------

NO_SECRETS = document([ALLOW, {"effect": "deny", "match": {"keys": ["**/secret/**"]}}])


def test_a_delete_of_a_directory_with_a_denied_object_removes_nothing(make):
    bench = make(NO_SECRETS)
    for key in ("t/a", "t/secret/x"):
        bench.plant(key)
    error = denied(lambda: bench.delete("t"), "DENIED")
    assert error.fact == "an object beneath it: a rule denies it", (
        "the error does not name an object that may not be read"
    )
    assert set(bench.below.objects) == {"t/a", "t/secret/x"}
    assert bench.call.decision.effective == "deny"


@WAYS
def test_a_load_of_a_directory_with_a_denied_object_leaves_no_file(make, transfer):
    bench = make(NO_SECRETS, transfer=transfer)
    bench.plant_tree("t", {"a": b"stored", "secret/x": b"stored"})
    denied(lambda: bench.load("t"), "DENIED")
    assert list(bench.work.iterdir()) == []
    bench.plant_tree("t", {"a": b"stored"})
    assert [path.relative_to(bench.work).as_posix() for path in bench.load("t").rglob("*")] == ["loaded/a"]
    assert bench.call.sealed.left_out == 1, "the denied object is not in the manifest any more"


def test_a_child_that_may_be_read_is_named_in_the_refusal(make):
    bench = make(document([ALLOW, {"effect": "deny", "match": {"operations": ["delete"], "keys": ["**/keep"]}}]))
    bench.plant("t/keep")
    assert denied(lambda: bench.delete("t"), "DENIED").fact == 'object "t/keep": a rule denies it'


@WAYS
def test_a_save_of_a_directory_with_one_denied_file_stores_nothing(make, transfer):
    bench = make(NO_SECRETS, transfer=transfer)
    bench.file(name="tree/a")
    bench.file(name="tree/secret/x")
    denied(lambda: bench.save("t", bench.work / "tree"), "DENIED")
    assert bench.below.objects == {}
    assert bench.keys.requests == {}, "no data key was requested"


@WAYS
def test_an_object_that_may_not_be_written_is_not_replaced_by_writing_its_directory(make, transfer):
    bench = make(NO_SECRETS, transfer=transfer)
    bench.plant("t/secret/x")
    for write in (lambda: bench.save("t", bench.file()), lambda: bench.save_stream("t", [b"x"])):
        error = denied(write, "DENIED")
        assert error.fact.startswith("an object beneath it: ")
    assert set(bench.below.objects) == {"t/secret/x"}


class Leaving(Call):
    """A call whose caller goes away while the fifth of its steps begins."""

    def check(self) -> None:
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 5:
            self.cancel()
        super().check()


@pytest.mark.parametrize("stream", [False, True])
def test_the_objects_that_a_write_replaces_are_not_judged_for_a_caller_who_has_gone(make, stream):
    bench = make(NO_SECRETS)
    for number in range(10):
        bench.plant(f"t/a/{number}")
    bench.plant("t/secret/x")
    stored = dict(bench.below.objects)
    call = Leaving(Operation.SAVE_STREAM if stream else Operation.SAVE)
    write, content = (bench.governed.save_stream, iter([b"x"])) if stream else (bench.governed.save, bench.file())
    with pytest.raises(Cancelled):
        write(call, Artifact("t"), content)
    assert bench.below.objects == stored


@WAYS
def test_an_object_that_a_listing_hid_is_denied_when_it_arrives(make, transfer):
    class Hiding(MemoryPlugin):
        def list_objects(self, call, artifact):
            return [key for key in super().list_objects(call, artifact) if "secret" not in key]

    bench = make(NO_SECRETS, below=Hiding(), transfer=transfer)
    bench.plant_tree("t", {"a": b"stored", "secret/x": b"stored"})
    denied(lambda: bench.load("t"), "DENIED")
    assert list(bench.work.iterdir()) == []


def test_a_file_whose_key_would_not_be_canonical_is_not_saved_under_a_policy(make):
    bench = make(document([ALLOW]))
    bench.file(name="tree/a%2fb")
    denied(lambda: bench.save("t", bench.work / "tree"), "BAD_KEY", BadRequest)
    assert bench.below.objects == {}


def test_a_listing_names_only_what_may_be_read(make):
    bench = make(NO_SECRETS)
    for key in ("t/a", "t/secret/x"):
        bench.plant(key)
    assert bench.list("t") == ["t/a"]


@pytest.mark.parametrize("operation", ["Load", "OpenStream"])
def test_an_object_that_may_be_read_by_load_or_by_stream_is_listed(make, operation):
    bench = make(document([ALLOW, {"effect": "deny", "match": {"operations": [operation], "keys": ["t/a"]}}]))
    bench.plant("t/a")
    assert bench.list("t") == ["t/a"]


def test_a_listing_with_hidden_objects_is_denied_if_the_policy_says_so(make):
    bench = make({**NO_SECRETS, "spec": {**NO_SECRETS["spec"], "listing": "deny"}})
    bench.plant("t/a")
    assert bench.list("t") == ["t/a"]
    bench.plant("t/secret/x")
    assert "secret" not in denied(lambda: bench.list("t"), "DENIED").fact


def test_links_in_a_directory_are_refused_or_left_out(make):
    for written, stored in ((document([ALLOW]), set()), (document([ALLOW], symlinks="skip"), {"t/a", MANIFEST_OF_T})):
        bench = make(written)
        bench.file(name="tree/a")
        (bench.work / "tree" / "link").symlink_to("/etc/passwd")
        if stored:
            bench.save("t", bench.work / "tree")
        else:
            with pytest.raises(BadRequest, match="symbolic link"):
                bench.save("t", bench.work / "tree")
        assert set(bench.below.objects) == stored


# --- sizes and counts -------------------------------------------------------------------------------------

SMALL = document([{"effect": "allow", "limits": {"maxBytes": "2MiB"}}])


def test_a_stream_that_passes_the_limit_is_cut_off_and_stores_nothing(make):
    bench = make(SMALL)
    sent = []

    def chunks():
        for number in range(100):
            sent.append(number)
            yield bytes(MIB // 2)

    denied(lambda: bench.save_stream("a", chunks()), "LIMIT_BYTES")
    assert bench.below.objects == {}
    assert len(sent) <= 7, "the stream was read only up to the limit"


def test_the_denial_names_the_last_grant_that_was_exceeded(make):
    grants = [{"effect": "allow", "limits": {"maxBytes": f"{size}MiB"}} for size in (1, 3, 2)]
    bench = make(document(grants))
    bench.save_stream("a", [bytes(MIB)] * 3)
    error = denied(lambda: bench.save_stream("b", [bytes(MIB)] * 4), "rule r1, LIMIT_BYTES")
    assert error.fact == f"{4 * MIB} bytes (4 MiB) exceeds maxBytes {3 * MIB} (3 MiB)"


def test_a_read_that_passes_the_limit_gives_no_byte_beyond_it(make):
    bench = make(document([{"effect": "allow", "limits": {"maxBytes": "2MiB"}}]))
    bench.plant("a", bytes(5 * MIB))
    got: list[int] = []
    bench.call = Call(Operation.OPEN_STREAM)
    with closing(bench.governed.open_stream(bench.call, Artifact("a"))) as chunks:
        denied(lambda: got.extend(len(chunk) for chunk in chunks), "LIMIT_BYTES")
    assert MIB <= sum(got) <= 2 * MIB
    assert bench.call.decision.code == "LIMIT_BYTES"


@WAYS
def test_a_load_that_passes_the_limit_leaves_no_file(make, transfer):
    bench = make(SMALL, transfer=transfer)
    bench.plant("a", bytes(5 * MIB))
    denied(lambda: bench.load("a"), "LIMIT_BYTES")
    assert list(bench.work.iterdir()) == []


@WAYS
def test_a_file_of_a_terabyte_is_refused_without_reading_it(make, transfer):
    bench = make(SMALL, transfer=transfer)
    path = bench.file()
    os.truncate(path, 1 << 40)
    denied(lambda: bench.save("a", path), "LIMIT_BYTES")
    assert (bench.keys.requests, bench.below.calls) == ({}, ["list_objects"])


def test_a_file_that_grows_while_it_is_read_is_counted_by_what_was_read(make):
    class Slow(MemoryPlugin):
        def save_stream(self, call, artifact, chunks):
            def growing():
                for chunk in chunks:
                    with path.open("ab") as file:
                        file.write(bytes(MIB))
                    yield chunk

            super().save_stream(call, artifact, growing())

    bench = make(SMALL, below=Slow(), transfer=Transfer.STREAM)
    path = bench.file(bytes(MIB))
    denied(lambda: bench.save("a", path), "LIMIT_BYTES")
    assert bench.below.objects == {}


def test_a_denial_midway_through_a_directory_leaves_none_of_its_files(make):
    class Slow(MemoryPlugin):
        def save_stream(self, call, artifact, chunks):
            super().save_stream(call, artifact, chunks)
            (bench.work / "tree" / "b").write_bytes(bytes(3 * MIB))

    bench = make(SMALL, below=Slow(), transfer=Transfer.STREAM)
    bench.file(bytes(MIB), "tree/a")  # too large to be on its way beside another file
    for name in "bc":
        bench.file(name=f"tree/{name}")
    denied(lambda: bench.save("t", bench.work / "tree"), "LIMIT_BYTES")
    assert bench.below.objects == {}


@pytest.mark.parametrize(
    ("limits", "code"),
    [({"maxFiles": 2}, "LIMIT_FILES"), ({"maxTotalBytes": 29}, "LIMIT_TOTAL"), ({"minBytes": 11}, "LIMIT_BYTES")],
)
@WAYS
def test_limits_on_a_whole_request_count_all_its_files(make, transfer, limits, code):
    bench = make(document([{"effect": "allow", "limits": limits}]), transfer=transfer)
    for name in "abc":
        bench.file(b"0123456789", f"tree/{name}")
    denied(lambda: bench.save("t", bench.work / "tree"), code)
    assert bench.below.objects == {}


@WAYS
def test_a_directory_of_more_files_than_are_granted_is_neither_loaded_nor_deleted(make, transfer):
    bench = make(document([{"effect": "allow", "limits": {"maxFiles": 2}}]), transfer=transfer)
    bench.plant_tree("t", dict.fromkeys("abc", b"stored"))
    for act in (lambda: bench.load("t"), lambda: bench.delete("t")):
        assert "3 objects exceeds maxFiles 2" in denied(act, "LIMIT_FILES").fact
    assert "delete" not in bench.below.calls
    assert list(bench.work.iterdir()) == []
    bench.below.objects.clear()
    bench.plant_tree("t", dict.fromkeys("ab", b"stored"))
    assert {path.name for path in bench.load("t").iterdir()} == {"a", "b"}
    bench.delete("t")
    assert bench.below.objects == {}


def test_a_limit_on_the_directory_key_counts_the_files_in_it(make):
    rule = {"effect": "require", "match": {"keys": ["t"]}, "limits": {"maxFiles": 1}}
    bench = make(document([ALLOW, rule]))
    bench.file(name="tree/a")
    bench.file(name="tree/b")
    denied(lambda: bench.save("t", bench.work / "tree"), "LIMIT_FILES")


def test_a_type_is_required_of_files_and_not_of_their_directory(make):
    bench = make(document([ALLOW, {"effect": "require", "limits": {"extensions": [".csv"]}}]))
    bench.file(name="tree/a.csv")
    bench.save("t", bench.work / "tree")
    bench.file(name="tree/b.exe")
    denied(lambda: bench.save("t", bench.work / "tree"), "EXTENSION")
    denied(lambda: bench.save_stream("t/x", [b""]), "EXTENSION")


def test_a_name_that_is_too_long_to_match_in_time_is_refused(make):
    bench = make(document([{**ALLOW, "match": {"artifactNames": ["*a*b*c*d"]}}]))
    with pytest.raises(BadRequest, match="more than 4096 characters"):
        bench.governed.delete(Call(Operation.DELETE), Artifact("a", name="a" * 4097))


# --- local paths ------------------------------------------------------------------------------------------


def test_a_rule_about_local_paths_applies_to_the_resolved_path(make):
    bench = make()
    rule = {"effect": "deny", "match": {"localPaths": [f"{bench.work}/private/**"]}}
    bench.governed = Governed(bench.sealed, documents(document([ALLOW, rule])), stored=bench.sealed.stored)
    path = bench.file(name="private/x")
    (bench.work / "link").symlink_to("private")
    denied(lambda: bench.save("a", path), "DENIED")
    denied(lambda: bench.save("a", bench.work / "link" / "x"), "DENIED")
    denied(lambda: bench.load("a", "link/y"), "DENIED")
    assert not {"save", "load", "save_stream", "open_stream"} & set(bench.below.calls)
    bench.save("a", bench.file(name="public/x"))


def test_a_pipe_is_refused_and_never_waited_for(make):
    bench = make(SMALL)
    os.mkfifo(bench.work / "pipe")
    with pytest.raises(BadRequest, match="a pipe"):
        bench.save("a", bench.work / "pipe")


# --- what the audit record and the author see -------------------------------------------------------------


def test_the_call_contains_the_decision(make):
    deny = {"effect": "deny", "match": {"keys": ["x"]}, "audit": {"annotations": {"ticket": "S-1"}, "hmacKey": True}}
    bench = make(document([ALLOW, deny, {"effect": "deny", "enforcement": "warn", "match": {"keys": ["w"]}}]))
    bench.plant("w")
    bench.load("w")
    facts = bench.call.decision
    assert (facts.effective, facts.proposed, facts.code, facts.policy, facts.rule) == (
        "allow",
        "deny",
        "OK",
        "main",
        "r0",
    )
    assert (facts.mode, facts.would_deny, len(facts.digest)) == ("warn", ("main/r2",), 64)
    denied(lambda: bench.load("x"), "rule r1, DENIED")
    facts = bench.call.decision
    assert (facts.effective, facts.code, facts.rule, facts.mode) == ("deny", "DENIED", "r1", "enforce")
    assert facts.annotations == (("ticket", "S-1"),)


@pytest.mark.parametrize("key", ["x" * 1000, "é" * 500, "/".join(["a"] * 500)])
@pytest.mark.parametrize("message", ["", "m" * 240])
def test_a_refusal_is_one_line_of_at_most_400_bytes(make, key, message):
    bench = make(document([{"effect": "deny", "message": message}]))
    error = denied(lambda: bench.load(key), "DENIED")
    line = error.line(bench.call, key)
    assert len(line.encode()) <= 400
    assert line.isprintable()
    assert line.startswith('denied Load "')
    assert line.endswith(f"[d={bench.call.id}]")
    assert "(policy main, rule r0, DENIED)" in line


WARN, SHADOW = ({"effect": "deny", "enforcement": mode, "match": {"keys": ["w"]}} for mode in ("warn", "shadow"))
WARNING = "a policy on trial would deny the call: operation="


@pytest.mark.parametrize("trials", [[WARN, SHADOW], [SHADOW, WARN]])
def test_a_warning_is_logged_whichever_trial_comes_first_and_though_the_reader_goes_away(make, caplog, trials):
    bench = make(document([ALLOW, *trials]))
    bench.plant("w", bytes(3 * MIB))
    bench.load("w")
    assert caplog.text.count(WARNING) == 1
    bench.call = Call(Operation.OPEN_STREAM)
    with closing(bench.governed.open_stream(bench.call, Artifact("w"))) as chunks:
        assert next(chunks)
    assert caplog.text.count(WARNING) == 2


def test_a_shadow_alone_is_silent(make, caplog):
    bench = make(document([ALLOW, SHADOW]))
    bench.plant("w")
    bench.load("w")
    assert bench.call.decision.would_deny == ("main/r1",)
    assert "on trial" not in caplog.text


def test_an_identity_that_becomes_known_later_applies_from_then_on(make):
    text = policy_text("tenants")
    bench = make()
    bench.governed = Governed(
        bench.sealed,
        loaded([DocumentSource("t", read(text))]),
        identify=lambda _: bench.process,
        stored=bench.sealed.stored,
    )
    bench.plant("team-a/x", under="tenant-team-a")
    denied(lambda: bench.load("team-a/x"), "NO_RULE")
    bench.process = Process({"namespace": "team-a"}, attested=True)
    assert bench.load("team-a/x").exists()


@pytest.mark.parametrize(
    ("whole", "calls", "again"),
    [
        (True, ["save_stream", "open_stream", "delete"], ["save_stream", "delete"]),
        # One that keeps old objects has to list what is beneath the key, and to show that the object is gone.
        (
            False,
            ["save_stream", "is_directory", "open_stream", "list_objects", "delete", "is_directory", "open_stream"],
            ["save_stream", "is_directory", "list_objects", "delete", "is_directory", "open_stream"],
        ),
    ],
)
def test_without_a_policy_the_downstream_gets_no_additional_requests(make, whole, calls, again):
    bench = make(below=MemoryPlugin(whole=whole))
    bench.save("a", bench.file())
    bench.load("a")
    bench.delete("a")
    assert bench.below.calls == calls
    bench.below.calls.clear()
    bench.save("a", bench.file())
    bench.delete("a")
    assert bench.below.calls == again
