"""The bundled backend in the proxy's own process: no socket, no second process, no spool, and every guarantee.

The contract of Argo is tried over it by the other files of this directory, with the fixture `builtin`.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import psutil
import pytest
from harness.argo import Argo
from harness.chain import SEALGATE, Proxy, eventually
from harness.content import blob, read_tree, write_tree
from harness.gateways import counting
from harness.otlp import Collector
from harness.outcome import IN_THE_ANSWER, outcome
from harness.policy import document
from harness.s3 import versitygw_at

from sealgate import envelope
from sealgate.envelope import MANIFEST
from sealgate.rpc import artifact_pb2 as pb

BUILTIN = {"builtin": {}}
ALLOW = {"effect": "allow"}
LARGE = 8 << 30
OF_A_DIRECTORY = 6
"""Requests to the store for a directory, beside one for each file and one for the manifest."""


def stored(proxy: Proxy, key: str) -> list[str]:
    place = proxy.storage / key
    walked = os.walk(place)  # it passes over a directory that is removed meanwhile
    return sorted(os.path.relpath(os.path.join(folder, name), place) for folder, _, names in walked for name in names)


def test_there_is_neither_a_second_process_nor_a_second_socket_nor_a_spool(builtin, key):
    tree = write_tree(builtin.work / "alone")
    builtin.argo().save(key, tree)
    builtin.argo().load(key, builtin.work / "alone-loaded")
    assert read_tree(builtin.work / "alone-loaded") == read_tree(tree)
    assert psutil.Process(builtin.process.pid).children() == []
    assert [path.name for path in builtin.socket.parent.iterdir()] == ["socket"]


def test_the_settings_may_name_the_store(start, tmp_path, key):
    other = tmp_path / "other"
    other.mkdir()
    proxy = start(downstream={"builtin": {"url": other.as_uri()}})
    proxy.argo().save_stream(key, b"some plaintext")
    assert (other / key).exists()
    assert stored(proxy, key) == []


def test_an_author_cannot_choose_another_store(builtin, key, tmp_path):
    found = outcome(lambda: builtin.argo(json.dumps({"url": tmp_path.as_uri()})).save_stream(key, b"plain"))
    assert found.code == "INVALID_ARGUMENT"
    assert "(sealgate)" in found.text


@pytest.mark.parametrize(
    ("url", "code", "says"),
    [
        ("file:///nowhere/at/all", "FAILED_PRECONDITION", "the directory of the store does not exist (the store)"),
        ("s3://bucket", "UNAVAILABLE", "the store cannot be reached (the store)"),
        ("ftp://host", "FAILED_PRECONDITION", "url must begin with one of"),
    ],
)
def test_a_fault_of_the_store_is_named_as_one(start, key, url, code, says):
    options = {"endpoint": "http://127.0.0.1:1", "allow_http": True, "retry_timeout_seconds": 0, "region": "x"}
    credentials = {"access_key_id": "key", "secret_access_key": "secret"}
    environment = {"SEALGATE_BACKEND_CONFIG": json.dumps(options | credentials) if url.startswith("s3") else ""}
    proxy = start(downstream={"builtin": {"url": url}}, environment=environment)
    source = proxy.work / "source"
    source.write_bytes(b"some plaintext")
    for attempt in (
        lambda argo: argo.save(key, source),
        lambda argo: argo.save_stream(key, b"some plaintext"),
        lambda argo: argo.load(key, proxy.work / "loaded"),
        lambda argo: argo.open_stream(key),
        lambda argo: argo.list_objects(key),
        lambda argo: argo.is_directory(key),
        lambda argo: argo.delete(key),
    ):
        found = outcome(lambda attempt=attempt: attempt(proxy.argo()))
        assert found.code == code, found
        assert says in found.text
        assert "127.0.0.1" not in found.text
    assert not (proxy.work / "loaded").exists()


def test_of_writes_at_the_same_time_one_is_stored(start, key):
    once = document([ALLOW, {"effect": "require", "require": {"overwrite": "deny"}}])
    proxy = start(downstream=BUILTIN, settings={"policies": [once]})
    together = threading.Barrier(8)

    def save(number: int) -> str:
        together.wait()
        return outcome(lambda: proxy.argo().save_stream(key, blob(2 << 20, number))).code

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(save, range(8)))
    assert codes.count("OK") == 1
    assert set(codes) <= {"OK", "ALREADY_EXISTS", "PERMISSION_DENIED"}
    assert proxy.argo().open_stream(key) == blob(2 << 20, codes.index("OK"))


def test_a_directory_of_which_one_file_is_denied_leaves_nothing(start, key):
    limited = document([{**ALLOW, "limits": {"maxTotalBytes": 1000}}])
    proxy = start(downstream=BUILTIN, settings={"policies": [limited]})
    tree = proxy.work / "tree"
    tree.mkdir()
    for name in "abc":
        (tree / name).write_bytes(blob(400))
    assert outcome(lambda: proxy.argo().save(key, tree)).code == "PERMISSION_DENIED"
    assert stored(proxy, key) == []


def begin_save(argo: Argo, key: str, tree) -> grpc.Future:
    stub = argo.channel().unary_unary(
        "/artifact.ArtifactService/Save",
        request_serializer=pb.SaveArtifactRequest.SerializeToString,
        response_deserializer=pb.SaveArtifactResponse.FromString,
    )
    return stub.future(pb.SaveArtifactRequest(output_artifact=argo.artifact(key), path=str(tree)))


@pytest.mark.parametrize("overwrite", ["allow", "deny"])
def test_a_directory_whose_caller_goes_away_leaves_nothing(start, key, overwrite):
    rules = [ALLOW] if overwrite == "allow" else [ALLOW, {"effect": "require", "require": {"overwrite": "deny"}}]
    proxy = start(downstream=BUILTIN, settings={"policies": [document(rules)]})
    tree = proxy.work / "tree"
    tree.mkdir()
    (tree / "a").write_bytes(b"some plaintext")
    with (tree / "z").open("wb") as file:
        os.truncate(file.fileno(), LARGE)
    call = begin_save(proxy.argo(), key, tree)
    # The number after # is 2 where the file was begun before its directory existed.
    assert eventually(lambda: [re.sub(r"#\d$", "#", name) for name in stored(proxy, key)] == ["a", "z#"])
    call.cancel()
    assert eventually(lambda: stored(proxy, key) == [], 30), stored(proxy, key)
    (tree / "z").write_bytes(b"small")
    proxy.argo().save(key, tree)
    assert stored(proxy, key) == sorted([MANIFEST, "a", "z"])


def test_an_absent_artifact_is_reported_in_the_answer(builtin, key):
    found = outcome(lambda: builtin.argo().load(key, builtin.work / "absent"))
    assert found.code == IN_THE_ANSWER
    assert found.text == "not found: nothing is stored under the artifact's key"


def test_rewrap_moves_what_is_stored_to_the_newest_key_version(start, key):
    proxy = start(downstream=BUILTIN)
    tree = write_tree(proxy.work / "tree")
    proxy.argo().save(key, tree)
    keyring = json.loads(proxy.keyring.read_text())
    key_of_default = keyring["keys"]["default"]
    key_of_default["versions"]["2"] = base64.b64encode(bytes(32)).decode()
    key_of_default["latest"] = 2
    proxy.keyring.write_text(json.dumps(keyring))
    done = subprocess.run(
        [*SEALGATE, "rewrap", "tests"],
        env={
            **os.environ,
            "SEALGATE_CONFIG_YAML": json.dumps(proxy.settings),
            "SEALGATE_BACKEND_URL": proxy.storage.as_uri(),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    stored_keys = [path.read_bytes() for path in proxy.storage.rglob("*") if path.is_file()]
    assert {envelope.split_stream(iter([sealed]))[0].key.key_version for sealed in stored_keys} == {2}


def test_what_the_store_does_is_a_step_of_the_calls_span(start, key):
    with Collector() as collector:
        proxy = start(downstream=BUILTIN, environment=collector.environment() | {"OTEL_BSP_SCHEDULE_DELAY": "10"})
        proxy.argo().save_stream(key, b"some plaintext")
        assert outcome(lambda: proxy.argo().open_stream(f"{key}-absent")).code == IN_THE_ANSWER

        def named(name: str) -> list:
            return [span for span in collector.spans() if span.name == name]

        assert eventually(lambda: named("store SaveStream") and named("store OpenStream")), collector.spans()
        (saved,), (absent,) = named("store SaveStream"), named("store OpenStream")
        assert saved.status == "UNSET"
        assert (absent.status, absent.attributes["error.type"]) == ("ERROR", "Missing")
        assert key not in str((saved, absent))


def test_a_new_directory_takes_one_request_a_file(start, key, tmp_path):
    (tmp_path / "buckets").mkdir()
    with versitygw_at(tmp_path / "buckets") as server, counting(server) as (endpoint, requests):
        options = {
            "SEALGATE_BACKEND_URL": f"s3://{server.new_bucket()}",
            "SEALGATE_BACKEND_CONFIG": json.dumps(server.config() | {"endpoint": endpoint}),
        }
        proxy = start(downstream=BUILTIN, environment=options)
        tree = write_tree(proxy.work / "tree")
        files = len([path for path in tree.rglob("*") if path.is_file()])
        proxy.argo().save(key, tree)
        assert requests.count("PUT") == files + 1, requests
        assert len(requests) <= files + 1 + OF_A_DIRECTORY, requests
        requests.clear()
        proxy.argo().load(key, proxy.work / "loaded")
        assert read_tree(proxy.work / "loaded") == read_tree(tree)
        assert len(requests) <= files + 1 + OF_A_DIRECTORY, requests


def test_spool_transfer_file_is_refused(start, key):
    proxy = start(downstream=BUILTIN, settings={"spool": {"transfer": "file"}})
    found = outcome(lambda: proxy.argo().list_objects(key))
    assert found.code == "FAILED_PRECONDITION"
    assert "`downstream.builtin`" in found.text
