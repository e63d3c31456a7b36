"""Which store is used, and what a workflow's author may set."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from sealgate.backend import ObjectStoreBackend
from sealgate.errors import BadRequest, LimitReached, NotConfigured, PluginError
from sealgate.layers.digested import Digested
from sealgate.rpc.in_process import InProcess

VALUE = "S3CR3T-value"
FIXED = {"SEALGATE_BACKEND_URL": "memory://fixed/a/prefix"}


def backend(**environment):
    return ObjectStoreBackend(environment)


def stores_apart(call, at, one, other):
    """Return whether two backends, each with its configuration, use different stores."""
    (first, said), (second, says) = one, other
    first.save_stream(call, at("apart/key", said), iter([b"x"]))
    return second.list_objects(call, at("apart", says)) == []


@pytest.mark.parametrize(
    ("environment", "is_local"),
    [
        ({"SEALGATE_BACKEND_URL": "file:///a"}, True),
        ({"SEALGATE_BACKEND_CONFIG": "url: file:///a"}, True),
        (FIXED, False),
        ({"SEALGATE_BACKEND_URL": "s3://bucket"}, False),
        ({"SEALGATE_BACKEND_URL": "unknown://bucket"}, False),
        ({}, False),
    ],
)
def test_a_store_is_local_if_the_environment_names_a_directory(environment, is_local):
    plugin = backend(**environment)
    assert (plugin.is_local(), InProcess(plugin).is_local(), Digested(plugin).is_local()) == (is_local,) * 3


# --- from the environment ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment",
    [
        FIXED,
        {"SEALGATE_BACKEND_CONFIG": "url: memory://fixed/a/prefix"},
        {"SEALGATE_BACKEND_CONFIG": '{"url": "memory://fixed/a/prefix/"}', **FIXED},
        {"SEALGATE_BACKEND_CONFIG": "{}", **FIXED},
    ],
)
@pytest.mark.parametrize("says", ["", "{}", "  \n", "# nothing", "url: memory://fixed/a/prefix"])
def test_the_environment_names_the_store(call, at, environment, says):
    store = backend(**environment)
    store.save_stream(call, at("key", says), iter([b"x"]))
    assert not stores_apart(call, at, (store, says), (store, ""))


@pytest.mark.parametrize(
    "says",
    [
        "url: memory://other",
        "url: memory://fixed",
        "url: memory://fixed/a/prefix/b",
        "url: file:///etc",
        "url: s3://bucket",
        "region: us-east-1",
        "endpoint: https://example.org",
        "{url: memory://fixed/a/prefix, skip_signature: true}",
    ],
)
def test_an_author_changes_nothing_of_a_store_from_the_environment(call, at, says):
    with pytest.raises(BadRequest, match="SEALGATE_BACKEND_URL"):
        backend(**FIXED).list_objects(call, at("key", says))


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "no store is configured"),
        ({"SEALGATE_BACKEND_URL": "nonsense"}, r"^downstream\.builtin\.url .*SEALGATE_BACKEND_CONFIG: url must begin"),
        ({"SEALGATE_BACKEND_URL": "http://example.org"}, "url must begin"),
        ({"SEALGATE_BACKEND_CONFIG": "[1]"}, "not a mapping"),
        ({"SEALGATE_BACKEND_CONFIG": "region: us-east-1"}, "has no url"),
        ({"SEALGATE_BACKEND_CONFIG": "url: memory://other", **FIXED}, "two different urls"),
        ({"SEALGATE_BACKEND_CONFIG": "mistake: 1", **FIXED}, "mistake is not known"),
        ({"SEALGATE_BACKEND_URL": "file://relative/path"}, "absolute path"),
        ({"SEALGATE_BACKEND_URL": "file:///a/../b"}, "absolute path"),
    ],
)
def test_a_wrong_environment_is_reported_when_it_is_used(call, at, environment, says):
    store = backend(**environment)
    assert store.get_capabilities(call).save_stream
    with pytest.raises(NotConfigured, match=says):
        store.list_objects(call, at("key"))


# --- from an author ---------------------------------------------------------------------------------------


def test_an_author_may_name_a_store_where_the_environment_names_none(call, at):
    store = backend()
    store.save_stream(call, at("key", "url: memory://one"), iter([b"1"]))
    store.save_stream(call, at("key", "url: memory://two/x"), iter([b"2"]))
    assert bytes(next(store.open_stream(call, at("key", '{"url": "memory://one"}')))) == b"1"
    assert bytes(next(store.open_stream(call, at("key", "url: memory://two/x")))) == b"2"


@pytest.mark.parametrize(
    ("says", "error"),
    [
        ("url: file:///etc", "file:// url is allowed only in downstream.builtin.url or SEALGATE_BACKEND_URL"),
        ("url: FILE:///etc", "url must begin"),
        ("url: http://example.org", "url must begin"),
        ("url: [a]", "url must be a string"),
        ("url: s3://", "bucket"),
        ("url: s3://..", "bucket"),
        ("url: 's3://b ucket'", "bucket"),
        ("url: 's3://user:pass@bucket'", "bucket"),
        ("url: s3://bucket/../x", "prefix"),
        ("url: s3://bucket//x", "prefix"),
        ("url: s3://bucket/%2e%2e/x", "prefix"),
        ("region: us-east-1", "no url"),
        ("- a", "not a mapping"),
        ("just text", "not a mapping"),
        ("1: 2", "it has options but no url"),
        ("a: b: c", "mapping values are not allowed"),
        ("date: 2024-99-99", "YAML readers disagree about"),
        ("!!python/object/apply:os.system [id]", "YAML tags are not supported"),
        ("[" * 5000, "nested too deeply"),
        ("x" * 200_000, "has more than"),
        ("{url: memory://m, region: x}", "region is not known for memory://"),
        ("{url: s3://b, bucket: x}", "bucket is not known for s3://"),
        ("{url: s3://b, web_identity_token_file: /x}", "web_identity_token_file is not known"),
        ("{url: s3://b, container_credentials_full_uri: x}", "container_credentials_full_uri is not known"),
        ("{url: s3://b, proxy_url: x}", "proxy_url is not known"),
        ("{url: s3://b, region: example.org/}", "region must be"),
        ("{url: az://c, account_name: example.org/}", "account_name must be"),
        ("{url: s3://b, allow_http: 'yes'}", "allow_http must be true or false"),
        ("{url: s3://b, access_key_id: 5}", "access_key_id must be a string"),
        ("{url: s3://b, read_timeout_seconds: 0}", "read_timeout_seconds must be a number from 1 to 3600"),
        ("{url: s3://b, read_timeout_seconds: true}", "read_timeout_seconds must be a number"),
        ("{url: s3://b, secret_access_key: x}", "require access_key_id"),
        ("{url: s3://b, session_token: x}", "require access_key_id"),
        ("{url: s3://b, access_key_id: x}", "requires secret_access_key"),
        (f"{{url: s3://b, access_key_id:{VALUE}}}", "an option is not known"),
        (f"{{url: s3://b, {VALUE}: x}}", "an option is not known"),
        (f"{{url: s3://b, region: '{VALUE}!'}}", "region must be"),
        (f"{{url: '{VALUE}://b'}}", "url must begin"),
        (f"{{url: s3://b, endpoint: 'https://{VALUE}@x', skip_signature: true}}", "endpoint must be"),
        ("{url: s3://b, endpoint: 'http://x', skip_signature: true}", "allow_http is not true"),
    ],
)
def test_a_wrong_configuration_is_refused_and_never_shown(call, at, says, error):
    with pytest.raises(BadRequest, match=error) as caught:
        backend().list_objects(call, at("key", says))
    assert VALUE not in caught.value.line(call, "key")


OWN = {
    "s3": [{"access_key_id": "a", "secret_access_key": "b"}, {"skip_signature": True}],
    "gs": [],
    "az": [{"account_key": "YQ=="}, {"sas_key": "a"}, {"skip_signature": True}],
}
NOT_OWN = {
    "s3": [{"region": "us-east-1"}, {"skip_signature": False}],
    "gs": [{"service_account_key": "{}"}],
    "az": [{"account_name": "name"}, {"skip_signature": False}],
}
REACH = [
    {"endpoint": "https://127.0.0.1:1"},
    {"allow_http": True, "endpoint": "http://127.0.0.1:1"},
    {"allow_http": True},
    {"root_certificate": "x"},
]


@pytest.mark.parametrize("reach", REACH)
@pytest.mark.parametrize("scheme", OWN)
def test_an_author_directs_only_credentials_of_his_own(call, at, scheme, reach):
    url = {"url": f"{scheme}://bucket", "retry_timeout_seconds": 0}
    for options in ({}, *NOT_OWN[scheme]):
        with pytest.raises(BadRequest, match=r"requires|allowed only in SEALGATE_BACKEND_CONFIG"):
            backend().list_objects(call, at("key", json.dumps(url | options | reach)))
    if "endpoint" in reach:
        for own in OWN[scheme]:
            with pytest.raises(PluginError) as caught:
                backend().list_objects(call, at("key", json.dumps(url | NOT_OWN[scheme][0] | own | reach)))
            assert not isinstance(caught.value, BadRequest), "the request is sent"


@pytest.mark.parametrize("account", ['{"gcs_base_url": "http://x"}', '{"gcs_base\\u005furl": "http://x"}', "[]", "no"])
def test_a_service_account_cannot_set_an_endpoint(call, at, account):
    with pytest.raises(BadRequest, match="service_account_key"):
        backend().list_objects(call, at("key", json.dumps({"url": "gs://bucket", "service_account_key": account})))


@pytest.mark.parametrize("name", ["AWS_SSE_CUSTOMER_KEY_BASE64", "AZURE_ENCRYPTION_KEY"])
def test_a_key_that_the_platform_sends_with_each_request_forbids_an_authors_endpoint(call, at, name):
    says = {"url": "s3://b", "endpoint": "https://127.0.0.1:1", "skip_signature": True, "retry_timeout_seconds": 0}
    with pytest.raises(BadRequest, match=name):
        backend(**{name: VALUE}).list_objects(call, at("key", json.dumps(says)))


def test_the_platforms_credentials_are_not_added_to_an_authors():
    received = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def answer():
            connection, _ = listener.accept()
            received.append(connection.recv(1 << 16).decode())
            connection.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
            connection.close()

        server = threading.Thread(target=answer)
        server.start()
        configuration = {
            "url": "s3://bucket",
            "endpoint": f"http://127.0.0.1:{listener.getsockname()[1]}",
            "allow_http": True,
            "access_key_id": "the-authors",
            "secret_access_key": "s",
        }
        program = (
            "import sys\n"
            "from sealgate.backend import ObjectStoreBackend\n"
            "from sealgate.call import Call, Operation\n"
            "from sealgate.errors import NotConfigured\n"
            "from sealgate.plugin import Artifact\n"
            "try: ObjectStoreBackend().is_directory(Call(Operation.LOAD), Artifact('key', configuration=sys.argv[1]))\n"
            "except NotConfigured: sys.exit(7)\n"
        )
        platform = {
            "AWS_ACCESS_KEY_ID": "the-platforms",
            "AWS_SECRET_ACCESS_KEY": "the-platforms",
            "AWS_SESSION_TOKEN": "the-platforms",
        }
        command = [sys.executable, "-c", program, json.dumps(configuration)]
        assert subprocess.run(command, env=os.environ | platform, check=False).returncode == 7
        server.join(10)
    assert "the-authors" in received[0]
    assert "the-platforms" not in received[0]
    assert "security-token" not in received[0].lower()


def test_an_administrator_may_direct_the_platforms_credentials(call, at):
    config = {"endpoint": "http://127.0.0.1:1", "allow_http": True, "retry_timeout_seconds": 0}
    store = backend(SEALGATE_BACKEND_URL="s3://bucket", SEALGATE_BACKEND_CONFIG=json.dumps(config))
    with pytest.raises(PluginError) as caught:
        store.list_objects(call, at("key"))
    assert not isinstance(caught.value, BadRequest)
    assert "SEALGATE" not in caught.value.fact


def test_a_store_in_memory_is_kept_and_their_number_is_limited(call, at):
    store = backend()
    store.save_stream(call, at("key", "url: memory://first"), iter([b"x"]))
    for number in range(63):
        assert store.list_objects(call, at("key", f"url: memory://m{number}")) == []
    with pytest.raises(LimitReached, match="64"):
        store.list_objects(call, at("key", "url: memory://one-too-many"))
    assert bytes(next(store.open_stream(call, at("key", "url: memory://first")))) == b"x"


def test_a_store_that_was_closed_is_opened_again(call, at, moto):
    """Use more stores than are kept open."""
    store = backend()
    names = [moto.new_bucket() for _ in range(20)]
    said = [json.dumps(moto.config(url=f"s3://{name}/p")) for name in names]
    for configuration in said:
        store.save_stream(call, at("key", configuration), iter([configuration.encode()]))
    for configuration, name in zip(said, names, strict=True):
        assert bytes(next(store.open_stream(call, at("key", configuration)))) == configuration.encode()
        assert moto.keys(name) == {"p/key"}


def test_a_url_is_decoded_as_urls_are(call, at, moto, tmp_path):
    name = moto.new_bucket()
    configuration = json.dumps(moto.config(url=f"s3://{name}/a%20prefix/%25"))
    backend().save_stream(call, at("key", configuration), iter([b"x"]))
    assert moto.keys(name) == {"a prefix/%/key"}
    (tmp_path / "a % b").mkdir()
    backend(SEALGATE_BACKEND_URL=(tmp_path / "a % b").as_uri()).save_stream(call, at("key"), iter([b"x"]))
    assert (tmp_path / "a % b" / "key").read_bytes() == b"x"
