"""Objects that other programs store beneath an artifact's key never change the artifact, and go with it."""

from __future__ import annotations

import itertools
import json
import os
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from xml.sax.saxutils import escape

import pytest
from harness.gateways import gateway, in_front_of
from harness.http_server import serving
from harness.layer_bench import WAYS, Bench
from harness.s3 import ACCESS, SECRET, Server
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sealgate.backend import ObjectStoreBackend
from sealgate.backend.beneath import Beneath
from sealgate.backend.bucket import ListedObject
from sealgate.backend.errors import NotAPath
from sealgate.errors import BadRequest, DataLoss, Refused
from sealgate.storage.stored_objects import Transfer

SAVED = {"a": b"1", "b/c": b"", "b/d": b"2", "z": b"3"}
ODD = [
    "",
    "/x",
    "//",
    "a//b",
    "b//c",
    "./x",
    "../x",
    "b/../a",
    "b/./c",
    "..",
    "newfolder/",
    "b/newfolder/",
    "new/folder/",
    "a/",
    "b/c/",
    "b/c/new/",
    "a/new/",
    "b/",
    "~ü &<>'\"+%2F%/",
    "]]>/../&amp;",
    "control\x01",
    "b/\x7f",
]
"""Ends of keys that cannot be paths. The parts that are paths may be those of saved files."""
CONTENTS = st.sampled_from([b"", b"foreign"])
_numbers = itertools.count()
on_a_server = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)

SEGMENTS = st.sampled_from(["", ".", "..", "a", "b", "c", "d", "new", "..a", "\x01", "%2e%2e", "ü +&"])
PATHS = (
    st.lists(SEGMENTS, min_size=1, max_size=4)
    .map("/".join)
    .filter(lambda end: not (is_relative(end) and has_control(end)))
)
"""Without the keys that S3 can delete neither by a URL nor by XML."""


def cannot_be_a_path(end: str) -> bool:
    return is_relative(end) or "" in end.split("/") or has_control(end)


def is_relative(end: str) -> bool:
    return not {".", ".."}.isdisjoint(end.split("/"))


def has_control(end: str) -> bool:
    return any(ord(c) < 32 or ord(c) == 127 for c in end)


@pytest.fixture(scope="session")
def verifying(moto):
    """A server that verifies signatures, with moto behind it, which keeps every key as it is."""
    with gateway(ACCESS, SECRET, in_front_of(moto.endpoint)) as port:
        yield Server(f"http://127.0.0.1:{port}")


@pytest.fixture(params=["moto", "verifying"])
def front(request):
    """Return a server with the buckets of moto: moto itself, and one that verifies signatures."""
    return request.getfixturevalue(request.param)


def plant_foreign(server, bucket, ends, prefix=""):
    """Store an object for each item of `ends`, and return those that the server accepted."""
    stored = {}
    for end, content in ends.items():
        with suppress(server.client.exceptions.ClientError):
            server.client.put_object(Bucket=bucket, Key=f"{prefix}tree/{end}", Body=content)
            stored[end] = content
    return stored


def check_saved(backend, call, at, seen, path):
    """Assert that `SAVED` is loaded and listed, and nothing else."""
    assert backend.is_directory(call, at("tree"))
    backend.load(call, at("tree"), path)
    assert seen(path) == SAVED
    assert sorted(path.parent.iterdir()) == [path]
    assert backend.list_objects(call, at("tree")) == sorted(f"tree/{name}" for name in SAVED)


OPTIONS = [
    {},
    {"disable_bulk_delete": True},
    {"unsigned_payload": True, "checksum_algorithm": "SHA256"},
    {"request_payer": True},
    {"session_token": "a-session/token+="},
    {"server_side_encryption": "AES256"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
def test_all_kinds_of_keys_are_left_out_and_removed(moto, front, call, at, plant, seen, fresh, backend_at, options):
    if front is not moto and "session_token" in options:
        pytest.skip("versitygw has no session tokens")
    bucket = moto.new_bucket()
    # Through the gateway, moto does not accept what the gateway uploads.
    writing, backend = (backend_at(server, bucket, prefix="a/p +", **options) for server in (moto, front))
    ends = [end for end in ODD if not (options.get("disable_bulk_delete") and is_relative(end))]
    if front is not moto:
        ends = [end for end in ends if not has_control(end)]  # the gateway cannot read them in moto's listing
    neighbours = {"a/p +/tre/x", "a/p +/tree2/", "a/p +/tree2//x", "a/p +/tree.x"}
    writing.save(call, at("tree"), plant(SAVED))
    for key in neighbours:
        moto.client.put_object(Bucket=bucket, Key=key, Body=b"n")
    assert len(plant_foreign(moto, bucket, dict.fromkeys(ends, b""), "a/p +/")) == len(ends)
    check_saved(backend, call, at, seen, fresh())
    writing.save(call, at("tree"), plant(SAVED))
    assert moto.keys(bucket) == neighbours | {f"a/p +/tree/{name}" for name in SAVED}
    plant_foreign(moto, bucket, dict.fromkeys(ends, b"foreign"), "a/p +/")
    check_saved(backend, call, at, seen, fresh())
    backend.delete(call, at("tree"))
    assert moto.keys(bucket) == neighbours
    assert not backend.is_directory(call, at("tree"))
    assert backend.list_objects(call, at("tree")) == []


@pytest.mark.parametrize("end", ODD)
def test_each_kind_alone_is_left_out_and_removed(moto, call, at, plant, seen, fresh, backend_at, end):
    bucket = moto.new_bucket()
    backend = backend_at(moto, bucket)
    for content in (b"", b"foreign"):
        backend.save(call, at("tree"), plant(SAVED))
        assert plant_foreign(moto, bucket, {end: content})
        backend.load(call, at("tree"), path := fresh())
        assert seen(path) == SAVED
        if not content:
            check_saved(backend, call, at, seen, fresh())
        backend.delete(call, at("tree"))
        assert moto.keys(bucket) == set()
        assert not backend.is_directory(call, at("tree"))


@pytest.mark.parametrize("end", ODD)
def test_a_file_that_is_saved_has_none_of_them_beneath_it(moto, call, at, plant, seen, fresh, backend_at, end):
    bucket = moto.new_bucket()
    backend = backend_at(moto, bucket)
    for content in (b"", b"foreign"):
        plant_foreign(moto, bucket, {end: content, "b/c": b"old"})
        backend.save(call, at("tree"), plant(b"a file"))
        assert moto.keys(bucket) == {"tree"}
        assert not backend.is_directory(call, at("tree"))
        plant_foreign(moto, bucket, {end: content})
        backend.save_stream(call, at("tree"), iter([b"streamed"]))
        assert moto.keys(bucket) == {"tree"}
    backend.load(call, at("tree"), path := fresh())
    assert seen(path) == b"streamed"


@pytest.mark.parametrize("end", ["", "newfolder/", "/x", "a/./b"])
def test_a_key_with_nothing_but_foreign_objects_is_a_directory_that_cannot_be_loaded(
    moto, call, at, fresh, backend_at, end
):
    bucket = moto.new_bucket()
    backend = backend_at(moto, bucket)
    plant_foreign(moto, bucket, {end: b""})
    assert backend.is_directory(call, at("tree"))
    assert backend.list_objects(call, at("tree")) == []
    with pytest.raises(Refused, match="not found"):
        backend.load(call, at("tree"), path := fresh())
    assert list(path.parent.iterdir()) == []
    with pytest.raises(Refused, match="a directory"):
        list(backend.open_stream(call, at("tree")))
    backend.delete(call, at("tree"))
    assert not backend.is_directory(call, at("tree"))
    assert moto.keys(bucket) == set()


@on_a_server
@given(foreign=st.dictionaries(PATHS.filter(cannot_be_a_path), CONTENTS, max_size=6))
@example(foreign={"b/": b"foreign", "a/": b"foreign", "a//": b"", "b//c": b"", "new/": b"foreign"})
@example(foreign={"": b"", "a/": b"foreign"})
def test_no_set_of_them_changes_what_is_loaded_or_survives_a_delete(
    moto, call, at, plant, seen, fresh, backend_at, foreign
):
    bucket = moto.new_bucket()
    backend = backend_at(moto, bucket)
    backend.save(call, at("tree"), plant(SAVED))
    plant_foreign(moto, bucket, foreign)
    backend.load(call, at("tree"), path := fresh())
    assert seen(path) == SAVED
    backend.save(call, at("tree"), plant(SAVED))
    backend.load(call, at("tree"), path := fresh())
    assert seen(path) == SAVED
    plant_foreign(moto, bucket, foreign)
    backend.delete(call, at("tree"))
    assert not backend.is_directory(call, at("tree"))
    assert moto.keys(bucket) == set()


@pytest.mark.parametrize("page", [100, pytest.param(1000, marks=pytest.mark.large)])
def test_more_of_them_than_one_page_has_are_removed(moto, call, at, plant, seen, fresh, backend_at, monkeypatch, page):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", str(page))
    bucket = moto.new_bucket()
    backend = backend_at(moto, bucket)
    backend.save(call, at("tree"), plant(SAVED))
    plant_foreign(moto, bucket, {f"/{number:04}": b"" for number in range(page * 6 // 5)})
    check_saved(backend, call, at, seen, fresh())
    backend.delete(call, at("tree"))
    assert moto.keys(bucket) == set()


def test_what_was_left_out_is_logged(moto, call, at, plant, fresh, backend_at, caplog):
    bucket = moto.new_bucket()
    backend = backend_at(moto, bucket)
    backend.save(call, at("tree"), plant(SAVED))

    def logged():
        return [record.getMessage() for record in caplog.records if record.name == "sealgate.backend"]

    backend.load(call, at("tree"), fresh())
    assert logged() == []
    plant_foreign(moto, bucket, {"/x": b"", "new/": b""})
    backend.load(call, at("tree"), fresh())
    backend.list_objects(call, at("tree"))
    left_out = (
        f"objects were left out: operation=Load, key=(hidden), reason=their keys cannot be paths, objects=2,"
        f" decision_id={call.id}"
    )
    assert logged() == [left_out] * 2


@pytest.mark.parametrize(("end", "options"), [("b/../x", {"disable_bulk_delete": True}), ("b/./\x01", {})])
def test_a_key_that_no_request_can_delete_is_named(moto, call, at, plant, seen, fresh, backend_at, end, options):
    bucket = moto.new_bucket()
    backend = backend_at(moto, bucket, **options)
    backend.save(call, at("tree"), plant(SAVED))
    plant_foreign(moto, bucket, {end: b""})
    check_saved(backend, call, at, seen, fresh())
    with pytest.raises(BadRequest, match=r'"tree/b/.*" cannot be deleted: its key has a relative segment') as caught:
        backend.delete(call, at("tree"))
    assert "own tool" in caught.value.remedy


# --- through the layer that seals -------------------------------------------------------------------------


def can_be_beside(end: str, saved: set[str]) -> bool:
    """Return whether a file system could have the path `end` beside the saved files."""
    return not any(one.startswith(f"{end}/") or end.startswith(f"{one}/") for one in saved)


@WAYS
@on_a_server
@given(foreign=st.dictionaries(PATHS, CONTENTS, max_size=6))
@example(foreign={"a/b": b"foreign"})
@example(foreign={"b": b"foreign", "a/./b": b"", "new/": b"foreign"})
@example(foreign={"b": b"", "new/x": b"foreign", "b/new/": b""})
def test_a_sealed_directory_is_exactly_what_was_saved_or_refused(
    moto, tmp_path, plant, seen, backend_at, transfer, foreign
):
    bucket = moto.new_bucket()
    backend = backend_at(moto, bucket)
    bench = Bench(tmp_path / str(next(_numbers)), transfer=transfer, below=backend)
    saved = {**SAVED, "empty": None}
    names = {*SAVED, ".sealgate-manifest"}
    plain = plant(saved).rename(bench.work / "saved")
    bench.save("tree", plain)
    planted = plant_foreign(moto, bucket, {end: content for end, content in foreign.items() if end not in names})
    others = {end: {*names, *planted} - {end} for end in planted}
    if transfer is Transfer.STREAM or all(cannot_be_a_path(end) or can_be_beside(end, others[end]) for end in planted):
        assert seen(bench.load("tree")) == saved
    else:
        with suppress(DataLoss):  # no directory can have both, so the backend refuses to load into one
            assert seen(bench.load("tree")) == saved
    bench.save("tree", plain)
    assert seen(bench.load("tree", "again")) == saved
    plant_foreign(moto, bucket, foreign)
    bench.delete("tree")
    assert moto.keys(bucket) == set()


# --- other stores -----------------------------------------------------------------------------------------


def test_a_local_directory_keeps_what_cannot_be_a_key_out_and_removes_it(call, at, plant, seen, fresh, tmp_path):
    (root := tmp_path / "root").mkdir()
    backend = ObjectStoreBackend({"SEALGATE_BACKEND_URL": root.as_uri()})

    beneath = root / "tree"
    backend.save(call, at("tree"), plant(SAVED))
    for name in ("control\x01", "line\nbreak", "C:", os.fsdecode(b"not UTF-8 \xff")):
        (beneath / name).write_bytes(b"foreign")
    (beneath / "empty" / "folder").mkdir(parents=True)
    (beneath / "link").symlink_to("/etc/passwd")
    (beneath / "linked").symlink_to("/etc")
    (beneath / "dangling").symlink_to("/nothing")
    os.mkfifo(beneath / "pipe")
    check_saved(backend, call, at, seen, fresh())
    backend.delete(call, at("tree"))
    assert list(root.iterdir()) == []
    assert not backend.is_directory(call, at("tree"))


def test_empty_local_directories_do_not_prevent_that_a_file_is_saved(call, at, plant, tmp_path):
    (tmp_path / "root" / "key" / "empty" / "folder").mkdir(parents=True)
    backend = ObjectStoreBackend({"SEALGATE_BACKEND_URL": (tmp_path / "root").as_uri()})
    assert not backend.is_directory(call, at("key"))
    backend.save(call, at("key"), plant(b"a file"))
    assert (tmp_path / "root" / "key").read_bytes() == b"a file"


class Listing(BaseHTTPRequestHandler):
    """Answers as Google Cloud Storage or Azure Blob Storage with one object, which can only be listed."""

    def do_GET(self):
        azure = "restype=container" in self.path
        if not azure and "list-type=2" not in self.path:
            self.send_error(404)
            return
        key = escape(self.server.key)
        xml = (
            f"<EnumerationResults><Blobs><Blob><Name>{key}</Name><Properties>"
            "<Last-Modified>Sat, 28 Nov 2026 00:00:00 GMT</Last-Modified><Content-Length>0</Content-Length>"
            "<Content-Type>x</Content-Type><Etag>x</Etag></Properties></Blob></Blobs></EnumerationResults>"
            if azure
            else f"<ListBucketResult><Contents><Key>{key}</Key><Size>0</Size>"
            "<LastModified>2026-11-28T00:00:00.000Z</LastModified><ETag>x</ETag></Contents></ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(xml)))
        self.end_headers()
        self.wfile.write(xml)

    def log_message(self, *_):
        pass


ACCOUNT = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}


@pytest.mark.parametrize("end", ["/x", "a//b", "b/./c", "../x"])
@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("gs://bucket", {"service_account_key": json.dumps(ACCOUNT)}),
        ("az://container", {"account_name": "account", "skip_signature": True}),
    ],
)
def test_google_and_azure_name_the_key_that_they_cannot_list(call, at, plant, fresh, url, options, end):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listing)
    server.key = f"tree/{end}"
    with serving(server) as endpoint:
        config = options | {"endpoint": endpoint, "allow_http": True}
        backend = ObjectStoreBackend({"SEALGATE_BACKEND_URL": url, "SEALGATE_BACKEND_CONFIG": json.dumps(config)})
        assert backend.is_directory(call, at("tree"))
        for operation in (
            lambda: backend.load(call, at("tree"), fresh()),
            lambda: backend.list_objects(call, at("tree")),
            lambda: backend.delete(call, at("tree")),
        ):
            with pytest.raises(DataLoss) as caught:
                operation()
            assert caught.value.fact == f'the store has the object "tree/{end}", whose key cannot be a path'
            assert "own tool" in caught.value.remedy


def test_a_store_without_raw_requests_does_not_report_a_folder_as_deleted(call):
    removed = []
    bucket = SimpleNamespace(
        is_directory=False,
        has_raw=False,
        beneath=lambda _call, key: iter([ListedObject(f"{key}/", 0), ListedObject(f"{key}/new", 0)]),
        delete=lambda _call, doomed: removed.extend(doomed),
        exists=lambda _key: False,
    )
    with pytest.raises(NotAPath, match='"tree/new", whose key cannot be a path'):
        Beneath(bucket, call, "tree").delete_all()
    assert removed == ["tree/new"]
