"""Facts 59 to 65 of docs/argo-contract.md: messages, keys, concurrent calls, and the texts of errors."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.argo import FRAME
from harness.content import blob
from harness.outcome import IN_THE_ANSWER, assert_own_line, outcome

from sealgate.rpc import artifact_pb2 as pb

UNKNOWN = b"\xc2\x3e\x07unknown" + b"\xc8\x3e\x2a"  # field 1000 twice, once as bytes and once as a number

REQUESTS = {
    "Load": lambda artifact: pb.LoadArtifactRequest(input_artifact=artifact, path="/tmp/x"),
    "Save": lambda artifact: pb.SaveArtifactRequest(output_artifact=artifact, path="/tmp/x"),
    "Delete": lambda artifact: pb.DeleteArtifactRequest(artifact=artifact),
    "ListObjects": lambda artifact: pb.ListObjectsRequest(artifact=artifact),
    "IsDirectory": lambda artifact: pb.IsDirectoryRequest(artifact=artifact),
    "OpenStream": lambda artifact: pb.OpenStreamRequest(artifact=artifact),
    "SaveStream": lambda artifact: pb.SaveStreamArtifactRequest(output_artifact=artifact),
}
WITHOUT = {
    "no artifact": None,
    "no plugin": pb.Artifact(name="main"),
    "an empty plugin": pb.Artifact(name="main", plugin=pb.PluginArtifact()),
}


@pytest.mark.parametrize("operation", ["Delete", "ListObjects", "IsDirectory"])
def test_59_unknown_fields_are_ignored(proxy, key, operation):
    argo = proxy.argo()
    artifact = pb.Artifact.FromString(argo.artifact(key).SerializeToString() + UNKNOWN)
    message = REQUESTS[operation](artifact).SerializeToString() + UNKNOWN
    assert outcome(lambda: argo.raw(operation, message)).code == "OK"


@pytest.mark.parametrize("without", WITHOUT)
@pytest.mark.parametrize("operation", REQUESTS)
def test_59_a_request_without_an_artifact_is_refused(proxy, operation, without):
    # On the wire, a stream of one message equals a unary message: this covers the two operations with streams.
    message = REQUESTS[operation](WITHOUT[without]).SerializeToString()
    found = outcome(lambda: proxy.argo().raw(operation, message))
    assert_own_line(found, "INVALID_ARGUMENT", operation)
    assert proxy.argo().supports_save_stream()


CONFIGURATIONS = [
    "",
    " \n\t",
    "{",
    "plain words",
    "bucket: b\nsealgated: yes\n",
    "sealgate",
    "[sealgate: 1]",
    "größe: 尺寸\n",
]


@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=ascii)
def test_60_other_configuration_reaches_the_downstream_byte_for_byte(proxy, key, configuration):
    written = f"{configuration}\nfault: record on IsDirectory\n"
    proxy.argo(written).is_directory(key)
    assert json.loads((proxy.storage / "record.json").read_text())["configuration"] == written


@pytest.mark.parametrize("block", ["sealgate: {hunter: 2}", "sealgate: hunter2", "sealgate: [hunter2]"])
def test_60_an_invalid_authors_block_is_refused_without_its_content(proxy, key, block):
    found = outcome(lambda: proxy.argo(f"{block}\npassword: swordfish\n").is_directory(key))
    assert_own_line(found, "INVALID_ARGUMENT", "IsDirectory", key)
    assert "swordfish" not in found.text


KEYS = {
    "relative": "a/../b",
    "relative at the end": "a/..",
    "dot": "a/./b",
    "leading slash": "/a/b",
    "trailing slash": "a/b/",
    "empty segment": "a//b",
    "NUL": "a/\0b",
    "line break": "a/b\nc",
    "too long": "a/" + "k" * 1023,
    "10 KB": "a/" + "k" * 10_000,
    "empty": "",
    "escaped": "a/%2e%2e/b",
    "backslash": "a\\..\\b",
}


@pytest.mark.parametrize("operation", REQUESTS)
@pytest.mark.parametrize("name", KEYS)
def test_61_a_key_with_a_second_spelling_is_refused(proxy, operation, name):
    message = REQUESTS[operation](proxy.argo().artifact(KEYS[name])).SerializeToString()
    found = outcome(lambda: proxy.argo().raw(operation, message))
    assert_own_line(found, "INVALID_ARGUMENT", operation)
    assert not (proxy.storage / "b").exists()


def test_61_the_longest_key_is_accepted(proxy):
    longest = "/".join(["k" * 127] * 8)
    proxy.argo().save_stream(f"{longest}k", b"some plaintext")
    assert proxy.argo().open_stream(f"{longest}k") == b"some plaintext"


def failed_operations(proxy, number: int) -> list[str]:
    """Try every operation on a key of its own, and return the names of those that gave a wrong answer."""
    argo, key, data = proxy.argo(), f"crowd/{number}", blob(300_000 + number, number)
    source, target = proxy.work / f"in-{number}", proxy.work / f"out-{number}"
    source.write_bytes(data)
    if number % 2:
        argo.save(key, source)
    else:
        argo.save_stream(key, data)
    argo.load(key, target)
    correct = {
        "Load": target.read_bytes() == data,
        "OpenStream": argo.open_stream(key) == data,
        "IsDirectory": not argo.is_directory(key),
        "ListObjects": argo.list_objects(key) == [],
        "OpenStream of a missing key": outcome(lambda: argo.open_stream(f"{key}-missing")).code == IN_THE_ANSWER,
        "Delete of an invalid key": outcome(lambda: argo.delete(f"{key}//x")).code == "INVALID_ARGUMENT",
    }
    argo.delete(key)
    correct["Delete"] = not (proxy.storage / key).exists()
    argo.close()
    return [operation for operation, passed in correct.items() if not passed]


def test_62_a_hundred_concurrent_callers_get_the_right_answers(each):
    with ThreadPoolExecutor(100) as crowd:
        assert [wrong for wrong in crowd.map(lambda n: failed_operations(each, n), range(100)) if wrong] == []
    assert not each.spools()


def test_62_idle_connections_do_not_block_others(start):
    proxy = start()
    idle = [socket.socket(socket.AF_UNIX) for _ in range(300)]
    for connection in idle:
        connection.connect(str(proxy.socket))
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
    argo = proxy.argo()
    argo.save_stream("a/b", blob(FRAME))
    assert argo.open_stream("a/b") == blob(FRAME)
    for connection in idle:
        connection.close()


def test_63_a_call_without_a_trace_context_works(proxy, key):
    argo = proxy.argo("fault: record\n")
    argo.is_directory(key)
    assert "traceparent" not in json.loads((proxy.storage / "record.json").read_text())["metadata"]


def test_64_the_connection_timeout_is_not_a_deadline(proxy, key):
    argo = proxy.argo("fault: record\n", timeout=None)
    artifact = argo.artifact(key)
    artifact.plugin.connection_timeout_seconds = 1
    argo.unary("IsDirectory", pb.IsDirectoryRequest(artifact=artifact), pb.IsDirectoryResponse)
    remaining = json.loads((proxy.storage / "record.json").read_text())["remaining"]
    assert remaining is None or remaining > 10 * 365 * 86_400  # what grpcio has for no deadline


@pytest.mark.parametrize("mark", ["i/o timeout", "connection reset by peer", "invalid connection"])
def test_65_an_authors_text_never_makes_a_lasting_error_look_transient(proxy, mark):
    key = f"tests/{mark}/x"
    found = outcome(lambda: proxy.argo().save(key, proxy.work / "not there"))
    assert found.code == "INVALID_ARGUMENT"
    assert mark not in found.text
    for call in (
        lambda: proxy.argo().save("tests/x", proxy.work / mark / "not there"),
        lambda: proxy.argo(f"sealgate: {{key: '{mark}'}}\n").save_stream("tests/x", b"plain"),
        lambda: proxy.argo(f"sealgate: {{'{mark}': 1}}\n").save_stream("tests/x", b"plain"),
    ):
        found = outcome(call)
        assert found.code == "INVALID_ARGUMENT"
        assert mark not in found.text
        assert mark.replace(" ", "_") in found.text, "the author's text is shown, with underscores"
