"""Policies of a running process: invalid and missing ones, and denials during a transfer."""

from __future__ import annotations

import os

import grpc
import pytest
from harness.chain import eventually
from harness.outcome import assert_own_line, outcome
from harness.policy import document
from harness.stand import OPERATIONS, Stand

ALLOW = {"effect": "allow"}


def attempts(proxy):
    stand = Stand(proxy, "tests/policies")
    return {operation: stand.attempt(operation) for operation in OPERATIONS}


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"policies": [document([{"effect": "alow"}])]}, "Invalid enum value 'alow'; did you mean `allow`?"),
        ({"policies": ["/nowhere/policies"]}, "/nowhere/policies: cannot be read: no such file or directory"),
        ({"requirePolicy": True}, "a policy is required, and the configuration names none"),
        ({"policies": [document(encryption=[{"key": "kv/keys/x"}])]}, "the key is in mount kv"),
        (
            {"policies": [document(encryption=[{"write": "passthrough", "readPlaintext": "allow"}])]},
            "`write: passthrough` needs `allowPassthrough: true`",
        ),
    ],
)
def test_a_policy_that_does_not_load_fails_every_call(start, settings, text):
    proxy = start(settings=settings)
    for operation, found in attempts(proxy).items():
        assert_own_line(found, "FAILED_PRECONDITION", operation)
        assert text in found.text
    assert proxy.argo().supports_save_stream(), "the process still serves"
    with pytest.raises(grpc.RpcError) as raised:
        proxy.argo().is_directory("a")
    metadata = dict(raised.value.trailing_metadata())
    assert metadata["sealgate-code"] == "POLICY_INVALID"
    assert metadata["sealgate-decision-id"] in raised.value.details()


def test_policies_come_from_directories_files_and_the_configuration(start, tmp_path):
    directory = tmp_path / "policies"
    directory.mkdir()
    (directory / "deny.yaml").write_text(
        "apiVersion: sealgate/v1alpha1\nkind: ArtifactPolicy\nmetadata: {name: platform}\n"
        "spec:\n  rules: [{name: no-pem, effect: deny, match: {keys: ['**/*.pem']}}]\n"
    )
    (directory / "deny.test.yaml").write_text("apiVersion: sealgate/v1alpha1\nkind: ArtifactPolicyTest\n")
    (directory / "README.md").write_text("not a policy")
    proxy = start(settings={"policies": [str(directory), document([ALLOW])]})
    argo = proxy.argo()
    argo.save_stream("a/x", b"plain")
    found = outcome(lambda: argo.save_stream("a/x.pem", b"plain"))
    assert_own_line(found, "PERMISSION_DENIED", "SaveStream", "a/x.pem")
    assert "(policy platform, rule no-pem, DENIED)" in found.text


LIMITED = document([{"effect": "allow", "limits": {"maxBytes": "3MiB"}}])


@pytest.mark.parametrize("transfer", ["file", "stream"])
def test_a_denial_during_an_upload_leaves_nothing_and_the_next_call_works(start, transfer):
    proxy = start(
        settings={"policies": [LIMITED], "spool": {"transfer": transfer}}, environment={"VENDOR_STREAMS": "1"}
    )
    argo = proxy.argo()
    found = outcome(lambda: argo.save_stream("a/x", [os.urandom(1 << 20)] * 9))
    assert_own_line(found, "PERMISSION_DENIED", "SaveStream", "a/x")
    assert "exceeds maxBytes 3145728 (3 MiB) (policy main, rule r0, LIMIT_BYTES)" in found.text
    # The vendor's plugin removes its partial file after it has noticed the cancelled call.
    assert eventually(lambda: not [path for path in proxy.storage.rglob("*") if path.is_file()])
    argo.save_stream("a/x", b"plain")
    assert argo.open_stream("a/x") == b"plain"
    assert proxy.spools() == []


def test_a_download_beyond_its_limit_ends_with_the_reason(start, make):
    proxy = start(settings={"policies": [document([{**ALLOW, "match": {"operations": ["write"]}}])]})
    proxy.argo().save_stream("a/x", os.urandom(9 << 20))
    reader = make(home=proxy.home, settings={"policies": [LIMITED]}).start()
    got = []
    found = outcome(lambda: got.extend(len(chunk) for chunk in reader.argo().stream("a/x")))
    assert_own_line(found, "PERMISSION_DENIED", "OpenStream", "a/x")
    assert 0 < sum(got) <= 3 << 20
    found = outcome(lambda: reader.argo().load("a/x", reader.work / "loaded"))
    assert_own_line(found, "PERMISSION_DENIED", "Load", "a/x")
    assert list(reader.work.iterdir()) == []
