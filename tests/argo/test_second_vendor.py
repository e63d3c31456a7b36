"""A vendor's plugin with the habits of the one that is published for S3 (tests/harness/second_vendor.py).

What Sealgate promises holds behind it: what was deleted is gone, a Save replaces what was there, an absent key is
absent, and nothing that the plugin says or does makes a part of an artifact look whole.
"""

from __future__ import annotations

import itertools
import re
import time
from pathlib import Path

import grpc
import pytest
from harness.argo import Failed
from harness.chain import SECOND_VENDOR, Proxy, eventually
from harness.content import blob, read_tree
from harness.outcome import IN_THE_ANSWER, assert_own_line, outcome
from harness.policy import document
from harness.trails import read

from sealgate.envelope import MANIFEST
from sealgate.rpc import artifact_pb2 as pb
from sealgate.rpc.edge import CREATE_ONLY

ALLOW = {"effect": "allow"}
POLICIES = {
    "no policy": [],
    "enforced": [document([ALLOW])],
    "write once": [document([ALLOW, {"effect": "require", "require": {"overwrite": "deny"}}])],
}
TREE = {"a": b"first", "deeper/b": b"second"}
_numbers = itertools.count()


ROWS = [f"{policy}, {way}" for way in ("file", "stream") for policy in POLICIES]


def in_front_of_the_second_vendor(row: str, directory: Path) -> Proxy:
    """Return a proxy for one of `ROWS`, which is not started yet."""
    policy, _, way = row.partition(", ")
    return Proxy(
        directory,
        downstream=SECOND_VENDOR,
        settings={"policies": POLICIES[policy], "spool": {"transfer": way}},
        environment={"VENDOR_STREAMS": "1"} if way == "stream" else {},
    )


@pytest.fixture(scope="module", params=ROWS)
def second(request, tmp_path_factory):
    """A proxy in front of the second vendor, with each of the policies and each way of transfer."""
    proxy = in_front_of_the_second_vendor(request.param, tmp_path_factory.mktemp("second")).start()
    proxy.overwrites = not request.param.startswith("write once")
    yield proxy
    assert proxy.stop() == 0, proxy.output()


@pytest.fixture
def key() -> str:
    """A key without a word by which a store could say that something is absent."""
    return f"ns/x{next(_numbers)}"


def tree(proxy: Proxy, files: dict[str, bytes]) -> Path:
    root = proxy.work / f"tree-{next(_numbers)}"
    root.mkdir()
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def file(proxy: Proxy, data: bytes) -> Path:
    path = proxy.work / f"file-{next(_numbers)}"
    path.write_bytes(data)
    return path


def loaded(proxy: Proxy, key: str):
    target = proxy.work / f"loaded-{next(_numbers)}"
    proxy.argo().load(key, target)
    return target.read_bytes() if target.is_file() else read_tree(target)


def loaded_files(proxy: Proxy, key: str):
    """Load the artifact, and return its content without the names of directories."""
    content = loaded(proxy, key)
    return content if isinstance(content, bytes) else {name: data for name, data in content.items() if data is not None}


def stored(proxy: Proxy, key: str) -> set[str]:
    """Return the keys in the bucket that are `key` or beneath it."""
    aside = [path.name.replace("%2F", "/") for path in (proxy.home / "storage-aside").iterdir()]
    files = [str(path.relative_to(proxy.storage)) for path in proxy.storage.rglob("*") if path.is_file()]
    return {name for name in (*aside, *files) if f"{name}/".startswith(f"{key}/")}


def deletes(proxy: Proxy, key: str) -> list[dict]:
    return [
        record
        for record in read(proxy.trail)
        if record.get("api", {}).get("operation") == "Delete"
        and record["resource"]["uid"] == key
        and record["unmapped"]["phase"] == "outcome"
    ]


# --- absent keys ------------------------------------------------------------------------------------------


def test_an_absent_key_is_absent_for_every_operation(second, key):
    argo = second.argo()
    assert argo.list_objects(key) == []
    assert argo.is_directory(key) is False
    for _ in range(2):
        argo.delete(key)
    for do in (lambda: argo.open_stream(key), lambda: argo.load(key, second.work / "none")):
        found = outcome(do)
        assert found.code in {IN_THE_ANSWER, "INTERNAL"}
        assert found.text == "The specified key does not exist.", "the vendor's own words"
    assert not (second.work / "none").exists()


def test_a_new_key_is_saved_and_a_stored_one_replaced_unless_a_rule_forbids_it(second, key):
    argo = second.argo()
    saves = {
        f"{key}-file": lambda name: argo.save(name, file(second, b"a file")),
        f"{key}-upload": lambda name: argo.save_stream(name, b"an upload"),
        f"{key}-directory": lambda name: argo.save(name, tree(second, TREE)),
    }
    for name, save in saves.items():
        save(name)
        again = outcome(lambda save=save, name=name: save(name))
        assert again.code == ("OK" if second.overwrites else "PERMISSION_DENIED"), again
        assert second.overwrites or "OVERWRITE" in again.text
    assert loaded(second, f"{key}-file") == b"a file"
    assert argo.open_stream(f"{key}-upload") == b"an upload"
    assert loaded_files(second, f"{key}-directory") == TREE


def test_an_author_cannot_have_a_stored_object_taken_for_an_absent_one(second, key):
    argo = second.argo("bucket: the specified key does not exist\n")
    found = outcome(lambda: argo.delete(f"{key}/specified/does/not/exist"))
    assert found.code == "FAILED_PRECONDITION"
    assert "downstream.absentTexts" in found.text


@pytest.mark.parametrize("policy", POLICIES)
def test_an_answer_that_does_not_say_whether_something_is_there_fails_and_names_the_setting(start, key, policy):
    second = start(
        downstream=SECOND_VENDOR,
        settings={"policies": POLICIES[policy]},
        environment={"VENDOR_ABSENT": "the drawer is vacant"},
    )
    argo = second.argo()
    found = outcome(lambda: argo.delete(key))
    assert_own_line(found, "FAILED_PRECONDITION", "Delete", key)
    assert "downstream.absentTexts" in found.text
    if second.settings["policies"]:
        found = outcome(lambda: argo.save(key, file(second, b"x")))
        assert "downstream.absentTexts" in found.text
        assert not stored(second, key)


# --- what is deleted is gone ------------------------------------------------------------------------------


def test_a_deleted_artifact_is_gone_whatever_it_was(second, key):
    argo = second.argo()
    argo.save(f"{key}/file", file(second, b"a file"))
    argo.save(f"{key}/directory", tree(second, TREE))
    argo.save(f"{key}/beside", file(second, b"beside"))
    argo.save(f"{key}/directory-beside", tree(second, TREE))
    for name in (f"{key}/file", f"{key}/directory"):
        argo.delete(name)
        assert not stored(second, name)
        assert outcome(lambda name=name: loaded(second, name)).code != "OK"
        assert [record["status"] for record in deletes(second, name)] == ["Success"]
    assert argo.open_stream(f"{key}/beside") == b"beside"
    argo.delete(key)
    assert not stored(second, key)


def test_a_delete_that_did_not_happen_fails_and_is_recorded_as_a_failure(second, key):
    argo = second.argo("delete: nothing\n")
    argo.delete(f"{key}/absent")  # its success proves nothing
    argo.save(f"{key}/file", file(second, b"a file"))
    argo.save(f"{key}/directory", tree(second, TREE))
    for name, says in ((f"{key}/file", "can still be read"), (f"{key}/directory", "are still stored")):
        before = stored(second, name)
        found = outcome(lambda name=name: argo.delete(name))
        assert_own_line(found, "DATA_LOSS", "Delete", name)
        assert says in found.text
        assert stored(second, name) == before
        last = deletes(second, name)[-1]
        assert (last["status"], last["status_code"]) == ("Failure", "DATA_LOSS")


def test_a_key_that_ends_in_a_slash_says_to_leave_it_out(second, key):
    for operation, do in (
        ("Delete", lambda: second.argo().delete(f"{key}/")),
        ("ListObjects", lambda: second.argo().list_objects(f"{key}/")),
        ("Load", lambda: second.argo().load(f"{key}/", second.work / "none")),
    ):
        found = outcome(do)
        assert_own_line(found, "INVALID_ARGUMENT", operation, f"{key}/")
        assert "the key ends with a slash" in found.text
        assert "Leave out the slash at the end: a directory has a key without one" in found.text


# --- a Save replaces what was there -----------------------------------------------------------------------


def test_a_save_leaves_nothing_of_an_earlier_one(second, key):
    argo = second.argo()
    if not second.overwrites:
        argo.save(key, file(second, b"a file"))
        assert "OVERWRITE" in outcome(lambda: argo.save(key, tree(second, TREE))).text
        assert loaded(second, key) == b"a file"
        return
    for content in (b"a file", TREE, {"other": b"tree"}, b"again", {"other/deeper": b"x", "a": b"y"}, {}):
        if isinstance(content, bytes):
            argo.save(key, file(second, content))
            assert loaded(second, key) == content
            assert stored(second, key) == {key}
        else:
            argo.save(key, tree(second, content))
            assert loaded_files(second, key) == content
            assert stored(second, key) == {f"{key}/{name}" for name in (*content, MANIFEST)}
        assert argo.is_directory(key) is not isinstance(content, bytes)


def test_an_upload_leaves_nothing_of_a_directory(second, key):
    argo = second.argo()
    argo.save(key, tree(second, {**TREE, "deeper/still": b"x"}))
    if not second.overwrites:
        assert "OVERWRITE" in outcome(lambda: argo.save_stream(key, b"uploaded")).text
        assert loaded(second, key)["deeper/still"] == b"x"
        return
    argo.save(f"{key}/deeper", tree(second, {"own": b"with a manifest of its own"}))
    argo.save_stream(key, b"uploaded")
    assert stored(second, key) == {key}
    assert argo.open_stream(key) == b"uploaded"


def test_empty_directories_come_back_though_the_vendor_drops_them(second, key):
    source = tree(second, TREE)
    (source / "empty" / "deeper").mkdir(parents=True)
    second.argo().save(key, source)
    assert loaded(second, key) == read_tree(source)
    assert loaded(second, key)["empty/deeper"] is None
    only = tree(second, {})
    second.argo().save(f"{key}-empty", only)
    assert loaded(second, f"{key}-empty") == {}


# --- reads ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 3 << 20])
def test_a_stream_that_ends_after_a_failed_read_is_no_artifact(second, key, size):
    argo = second.argo()
    argo.save_stream(key, blob(size))
    argo.save(f"{key}-tree", tree(second, {"a": blob(size)}))
    broken = second.argo("read: fails\n")
    target = second.work / f"broken-{next(_numbers)}"
    for do in (
        lambda: broken.open_stream(key),
        lambda: broken.load(key, target),
        lambda: broken.load(f"{key}-tree", target),
    ):
        with pytest.raises((grpc.RpcError, Failed)) as raised:
            do()
        if isinstance(raised.value, grpc.RpcError):
            assert raised.value.code() is grpc.StatusCode.DATA_LOSS
        assert not target.exists()
    assert argo.open_stream(key) == blob(size)
    assert eventually(lambda: not second.spools()), "the vendor's temporary file is removed with the spool"


def test_what_the_vendor_prints_of_the_authors_configuration_is_not_in_the_log(second, key):
    secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCY"
    argo = second.argo(f"endpoint: s3.example.com\nsecretAccessKey: {secret}\n")
    argo.save(key, file(second, b"x"))
    argo.open_stream(key)
    argo.delete(key)
    printed = re.compile(f"DeleteArtifactRequest.*{re.escape(key)}")
    assert eventually(lambda: printed.search(second.output())), "the vendor's lines are in the log"
    log = second.output()
    for part in ("wJalrXUtnFEMI", "K7MDENG", "RfiCY"):
        assert part not in log
    assert "s3.example.com" not in log


# --- unsealed by a policy ---------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["file", "stream"])
def test_a_directory_that_passes_through_is_no_mixture_of_two_saves(start, key, way):
    passes = document([ALLOW], encryption=[{"write": "passthrough", "readPlaintext": "allow"}])
    proxy = start(
        downstream=SECOND_VENDOR,
        settings={"policies": [passes], "spool": {"transfer": way}, "allowPassthrough": True},
        environment={"VENDOR_STREAMS": "1"} if way == "stream" else {},
    )
    for content in (TREE, {"a": b"newer"}, b"a file", {"only": b"this"}):
        save = file if isinstance(content, bytes) else tree
        proxy.argo().save(key, save(proxy, content))
        assert loaded_files(proxy, key) == content


# --- taught texts, and what is remembered -----------------------------------------------------------------


def test_a_text_that_an_administrator_teaches_is_obeyed(start, key):
    proxy = start(
        downstream={"command": SECOND_VENDOR, "absentTexts": ["drawer is VACANT"]},
        settings={"policies": POLICIES["write once"]},
        environment={"VENDOR_ABSENT": "sorry: the drawer is vacant!"},
    )
    argo = proxy.argo()
    argo.delete(key)
    assert argo.list_objects(key) == []
    argo.save(key, file(proxy, b"x"))
    assert "OVERWRITE" in outcome(lambda: argo.save(key, file(proxy, b"y"))).text
    other = outcome(lambda: proxy.argo("bucket: a vacant drawer is here\n").delete(f"{key}-other"))
    assert "downstream.absentTexts" in other.text, "the author could have put these words into the answer"


def test_the_requests_of_a_delete_are_bounded_and_get_fewer(start, key):
    proxy = start(downstream=SECOND_VENDOR)
    argo = proxy.argo()

    def requests() -> int:
        return len(re.findall(r"Request", proxy.output()))

    def settled() -> int:
        """Return the number of requests once the vendor's output, which arrives a moment later, has come."""
        seen = -1
        while seen != (seen := requests()):
            time.sleep(0.5)
        return seen

    counts = []
    for number in range(3):
        name = f"{key}-{number}"
        argo.save(name, tree(proxy, dict.fromkeys("abcd", b"x")))
        before = settled()
        argo.delete(name)
        assert not stored(proxy, name)
        counts.append(settled() - before)
    # Two or three listings, and one Delete for each of the five objects and the key.
    assert counts == [9, 8, 8]


def test_a_proxy_ignores_the_mark_of_a_create_only_write(start, key):
    """It does not offer such writes. A caller that marks one would have objects of an earlier Save kept."""
    proxy = start(downstream=SECOND_VENDOR)
    argo = proxy.argo()
    argo.save(key, tree(proxy, TREE))
    request = pb.SaveArtifactRequest(output_artifact=argo.artifact(key), path=str(file(proxy, b"new")))
    save = argo.channel().unary_unary(
        "/artifact.ArtifactService/Save",
        request_serializer=pb.SaveArtifactRequest.SerializeToString,
        response_deserializer=pb.SaveArtifactResponse.FromString,
    )
    assert save(request, timeout=60, metadata=(CREATE_ONLY,)).success
    assert argo.list_objects(key) == []
    assert argo.open_stream(key) == b"new"
