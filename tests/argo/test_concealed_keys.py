"""A key that a policy hides is in no log line, no record and no span, whatever happens to the call."""

from __future__ import annotations

import hmac
import json

import pytest
from harness.chain import SEALGATE, Proxy, eventually
from harness.otlp import Collector
from harness.outcome import outcome
from harness.trails import read

from sealgate.rpc import artifact_pb2 as pb

SECRET = b"s" * 32
NAME = "list-of-holders"


def policy(*rules, **spec):
    return {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "ArtifactPolicy",
        "metadata": {"name": "main"},
        "spec": {"rules": list(rules), **spec},
    }


OPEN = {"name": "open", "effect": "allow", "match": {"keys": ["**"], "exceptKeys": ["cardholders/refused/**"]}}
HIDDEN = {"name": "hidden", "effect": "allow", "match": {"keys": ["cardholders/**"]}, "audit": {"hmacKey": True}}
FROZEN = {"name": "frozen", "effect": "deny", "match": {"keys": ["cardholders/frozen/**"]}}
ELSEWHERE = {**HIDDEN, "match": {"keys": ["cardholders/**"], "identity": {"namespaces": ["payments"]}}}
TRIAL = {"name": "trial", "effect": "deny", "enforcement": "warn", "match": {"keys": ["cardholders/trial"]}}
MIGRATION = {"encryption": [{"name": "migration", "match": {"keys": ["**"]}, "readPlaintext": "allow"}]}


def proxy_with(home, policies, collector=None, downstream=None, **settings) -> Proxy:
    (home / "secret").write_bytes(SECRET)
    environment = {"VENDOR_STREAMS": "1", **(collector.environment() if collector else {})}
    settings = {"policies": policies, "audit": {"hmacKeyFile": str(home / "secret")}, **settings}
    return Proxy(home, settings=settings, environment=environment, downstream=downstream).start()


def tries(proxy, key, name=NAME, configuration="{}"):
    """Yield each operation on `key`, with the artifact's name `name`."""
    argo, path = proxy.argo(configuration), proxy.work / "cards"
    path.write_bytes(b"4111 1111")
    found = argo.artifact(key, name)
    requests = {
        "Load": (pb.LoadArtifactRequest(input_artifact=found, path=str(proxy.work / "to")), pb.LoadArtifactResponse),
        "Save": (pb.SaveArtifactRequest(output_artifact=found, path=str(path)), pb.SaveArtifactResponse),
        "ListObjects": (pb.ListObjectsRequest(artifact=found), pb.ListObjectsResponse),
        "IsDirectory": (pb.IsDirectoryRequest(artifact=found), pb.IsDirectoryResponse),
        "Delete": (pb.DeleteArtifactRequest(artifact=found), pb.DeleteArtifactResponse),
    }
    for method, (request, answer) in requests.items():
        yield outcome(lambda method=method, request=request, answer=answer: argo.unary(method, request, answer))
    yield outcome(lambda: argo.save_stream(key, b"4111 1111"))
    yield outcome(lambda: argo.open_stream(key))
    directory = proxy.work / "tree"
    directory.mkdir(exist_ok=True)
    (directory / "june-statement.csv").write_bytes(b"4111 1111")
    yield outcome(lambda: argo.save(key, directory))


def assert_hidden(proxy, collector, *texts):
    assert proxy.stop() == 0
    spans = str(collector.spans()) if collector else ""
    for place in (proxy.log.read_text(), proxy.trail.read_text(), spans):
        assert place or not collector
        assert [text for text in texts if text in place] == [], place


@pytest.mark.parametrize(
    "downstream", [None, [*SEALGATE, "backend"], {"builtin": {}}], ids=["vendor", "bundled", "builtin"]
)
def test_no_rule_shows_a_hidden_key_that_it_decides_on(tmp_path, downstream):
    with Collector() as collector:
        proxy = proxy_with(tmp_path, [policy(OPEN, FROZEN, TRIAL, HIDDEN, **MIGRATION)], collector, downstream)
        (proxy.storage / "cardholders").mkdir()
        (proxy.storage / "cardholders/never-sealed-statement").write_bytes(b"4111 1111")
        assert proxy.argo().open_stream("cardholders/never-sealed-statement") == b"4111 1111"
        for key in ("cardholders/refused/statement-1", "cardholders/frozen/statement-2", "cardholders/trial"):
            list(tries(proxy, key))
        assert eventually(collector.spans)
        assert_hidden(proxy, collector, "cardholders/", "statement", NAME)
    hidden = {f"hmac-sha256:{hmac.digest(SECRET, text.encode(), 'sha256').hex()}" for text in (NAME, "main")}
    names = {record["resource"]["name"] for record in read(proxy.trail) if "resource" in record}
    assert names == hidden


def test_a_key_is_hidden_that_no_rule_of_this_process_allows(tmp_path):
    proxy = proxy_with(tmp_path, [policy(ELSEWHERE)])
    assert {found.code for found in tries(proxy, "cardholders/statement")} == {"PERMISSION_DENIED"}
    assert_hidden(proxy, None, "cardholders/", "statement", NAME)


@pytest.mark.parametrize(
    "key",
    [
        "cardholders/../cardholders/statement",
        "/cardholders/statement",
        "cardholders%2Fstatement",
        "cardholders/statement\x1b",
    ],
)
def test_a_key_that_is_refused_as_malformed_is_hidden(tmp_path, key):
    proxy = proxy_with(tmp_path, [policy(OPEN, HIDDEN)])
    assert {found.code for found in tries(proxy, key)} == {"INVALID_ARGUMENT"}
    long = proxy.argo().artifact("cardholders/statement", "n" * 5000)
    request = pb.IsDirectoryRequest(artifact=long)
    refused = outcome(lambda: proxy.argo().unary("IsDirectory", request, pb.IsDirectoryResponse))
    assert "more than 4096 characters" in refused.text
    assert_hidden(proxy, None, "cardholders", "statement", "nnnn")


def test_a_key_is_hidden_while_the_policies_do_not_load(tmp_path):
    proxy = proxy_with(tmp_path, [policy(HIDDEN, {"name": "wrong", "effect": "perhaps"})])
    assert {found.code for found in tries(proxy, "cardholders/statement")} == {"FAILED_PRECONDITION"}
    assert_hidden(proxy, None, "cardholders/", "statement", NAME)


@pytest.mark.parametrize("transfer", ["file", "stream"])
def test_a_downstream_that_prints_and_repeats_a_key_does_not_bring_it_into_the_log(tmp_path, transfer):
    with Collector() as collector:
        proxy = proxy_with(tmp_path, [policy(OPEN, HIDDEN)], collector, spool={"transfer": transfer})
        key = "cardholders/june statement é"
        assert {"ABORTED"} <= {found.code for found in tries(proxy, key, configuration="fault: repeat-key")}
        assert eventually(lambda: "on IsDirectory of …" in proxy.output())
        assert_hidden(proxy, collector, "cardholders/", "statement")


def test_a_file_beneath_a_hidden_key_is_hidden_and_other_keys_are_shown(tmp_path):
    one = {**HIDDEN, "match": {"keys": ["cardholders/*"]}}
    proxy = proxy_with(tmp_path, [policy(OPEN, one)])
    list(tries(proxy, "cardholders/cards/statement"))
    list(tries(proxy, "team/a"))
    assert_hidden(proxy, None, "cardholders/", "statement")
    assert "team/a" in proxy.log.read_text()
    assert "team/a" in {record["resource"]["uid"] for record in read(proxy.trail) if "resource" in record}
    assert json.loads(proxy.log.read_text().splitlines()[0])
