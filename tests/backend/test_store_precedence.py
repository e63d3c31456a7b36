"""The options that are configured win over the variables of the platform, and an author never chooses the bucket."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

import pytest
from harness.recorder import Recorder, recording
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealgate.backend import ObjectStoreBackend
from sealgate.errors import NotConfigured, PluginError
from sealgate.plugin import Artifact

PLATFORM = "AKIAOFTHEPLATFORM"
OWN = "AKIACONFIGURED"
ELSEWHERE = "http://elsewhere.example:9"
VARIABLES = {
    "s3": {
        "AWS_ENDPOINT_URL_S3": ELSEWHERE,
        "AWS_ENDPOINT_URL": ELSEWHERE,
        "AWS_ENDPOINT": ELSEWHERE,
        "AWS_endpoint_url": ELSEWHERE,
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_S3_EXPRESS": "true",
        "AWS_ALLOW_HTTP": "true",
        "AWS_PROXY_URL": ELSEWHERE,
        "AWS_BUCKET": "elsewhere",
        "AWS_BUCKET_NAME": "elsewhere",
        "AWS_REGION": "elsewhere-1",
        "AWS_DEFAULT_REGION": "elsewhere-1",
        "AWS_ACCESS_KEY_ID": PLATFORM,
        "AWS_SECRET_ACCESS_KEY": PLATFORM,
        "AWS_SESSION_TOKEN": PLATFORM,
        "AWS_TOKEN": PLATFORM,
    },
    "gs": {
        "GOOGLE_BASE_URL": ELSEWHERE,
        "GOOGLE_SKIP_SIGNATURE": "true",
        "GOOGLE_BEARER_TOKEN": PLATFORM,
        "GOOGLE_BUCKET": "elsewhere",
        "GOOGLE_BUCKET_NAME": "elsewhere",
        "GOOGLE_PROXY_URL": ELSEWHERE,
    },
    "az": {
        "AZURE_STORAGE_USE_EMULATOR": "true",
        "AZURE_STORAGE_ENDPOINT": ELSEWHERE,
        "AZURE_ENDPOINT": ELSEWHERE,
        "AZURE_USE_FABRIC_ENDPOINT": "true",
        "AZURITE_BLOB_STORAGE_URL": ELSEWHERE,
        "AZURE_SKIP_SIGNATURE": "true",
        "AZURE_CONTAINER_NAME": "elsewhere",
        "AZURE_STORAGE_ACCOUNT_NAME": "elsewhere",
        "AZURE_STORAGE_ACCOUNT_KEY": "ZWxzZXdoZXJl",
        "AZURE_STORAGE_SAS_TOKEN": f"sig={PLATFORM}",
        "AZURE_STORAGE_TOKEN": PLATFORM,
        "AZURE_CREDENTIAL_TYPE": "bearer_token",
    },
}
CREDENTIALS = {
    "s3": [{"access_key_id": OWN, "secret_access_key": "x"}, {"skip_signature": True}],
    "gs": [{"skip_signature": True}],
    "az": [{"account_key": "b3du"}, {"sas_key": f"sig={OWN}&sv=2020-01-01"}, {"skip_signature": True}],
}
ENDPOINTS = ["http://store.example", "http://store.example:8080/", "http://store.example/base", "https://store.example"]
KEYS = ["other-bucket/key", "elsewhere/key", "a.b/c", "key"]
many = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with recording() as recorder:
        yield recorder


@contextmanager
def platform(recorder: Recorder, variables: dict[str, str]) -> Iterator[None]:
    """Set the variables of the platform for this process, because the store library reads them itself."""
    before = dict(os.environ)
    names = ("AWS_", "GOOGLE_", "AZURE_", "AZURITE_")
    for name in [name for name in before if name.startswith(names)]:
        del os.environ[name]
    os.environ.update(recorder.environment() | variables)
    recorder.requests.clear()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def use(backend: ObjectStoreBackend, call, key: str, configuration: str = "") -> list[str]:
    """Try one operation of each kind, and return the texts of the errors."""
    errors = []
    artifact = Artifact(key, configuration=configuration)
    for operation in (
        lambda: backend.save_stream(call, artifact, iter([b"x"])),
        lambda: next(backend.open_stream(call, artifact), None),
        lambda: backend.list_objects(call, artifact),
        lambda: backend.is_directory(call, artifact),
        lambda: backend.delete(call, artifact),
    ):
        try:
            operation()
        except PluginError as error:
            errors.append(error.fact)
    return errors


def of_the_bucket(url, endpoint, bucket, *, virtual: bool) -> bool:
    """Return whether a request is for `bucket` at `endpoint`."""
    scheme, rest = endpoint.rstrip("/").split("://")
    host, slash, base = rest.partition("/")
    host = f"{bucket}.{host}" if virtual else host
    if scheme == "https":  # only the server is visible
        return url.scheme == "https" and url.netloc == f"{host}:443"
    start = f"{slash}{base}" if virtual else f"{slash}{base}/{bucket}"
    return url.netloc in {host, f"{host}:80"} and f"{unquote(url.path)}/".startswith(f"{start}/")


def options_of(scheme: str):
    """Return a strategy for the options of a store that name its server and its credentials."""
    given_options = st.sampled_from(ENDPOINTS).map(lambda endpoint: {"endpoint": endpoint, "allow_http": True})
    credentials = st.sampled_from(CREDENTIALS[scheme])
    styles = [{}, {"virtual_hosted_style_request": True}, {"virtual_hosted_style_request": False}]
    style = st.sampled_from(styles if scheme == "s3" else [{}])
    names = {"account_name": "configured"} if scheme == "az" else {}
    return st.tuples(given_options, credentials, style).map(lambda parts: parts[0] | parts[1] | parts[2] | names)


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
@pytest.mark.parametrize("by_author", [False, True])
@many
@given(data=st.data())
def test_requests_go_to_the_configured_bucket_with_the_configured_credentials(recorder, call, scheme, by_author, data):
    options = data.draw(options_of(scheme)) | {"retry_timeout_seconds": 0, "connect_timeout_seconds": 1}
    names = data.draw(st.sets(st.sampled_from(sorted(VARIABLES[scheme]))))
    key = data.draw(st.sampled_from(KEYS))
    url = f"{scheme}://the-bucket/a/prefix"
    with platform(recorder, {name: VARIABLES[scheme][name] for name in names}):
        if by_author:
            errors = use(ObjectStoreBackend({}), call, key, json.dumps(options | {"url": url}))
        else:
            environment = {"SEALGATE_BACKEND_URL": url, "SEALGATE_BACKEND_CONFIG": json.dumps(options)}
            errors = use(ObjectStoreBackend(environment), call, key)
        assert recorder.requests, errors
        virtual = options.get("virtual_hosted_style_request", False)
        for request in recorder.requests:
            assert of_the_bucket(request.url, options["endpoint"], "the-bucket", virtual=virtual), request.url.geturl()
            assert PLATFORM not in request.text
            if request.url.scheme == "http":
                # Without a signature, the library sends an empty token to Google when it writes.
                token = request.headers.get("authorization", "").removeprefix("Bearer").strip()
                signed = bool(token) or "sig" in request.url.query.lower()
                assert signed is not options.get("skip_signature", False), request.text


def fact_of(recorder, call, variables, url, options) -> str:
    with platform(recorder, variables):
        backend = ObjectStoreBackend({"SEALGATE_BACKEND_URL": url, "SEALGATE_BACKEND_CONFIG": json.dumps(options)})
        with pytest.raises(NotConfigured) as caught:
            backend.list_objects(call, Artifact("key"))
        assert recorder.requests == []
    return caught.value.fact


@pytest.mark.parametrize(
    ("variable", "named"),
    [
        ("GOOGLE_BEARER_TOKEN", "GOOGLE_BEARER_TOKEN"),
        ("GOOGLE_service_account", "GOOGLE_SERVICE_ACCOUNT"),
        ("SERVICE_ACCOUNT", "SERVICE_ACCOUNT"),
    ],
)
@pytest.mark.parametrize("value", [PLATFORM, ""])
def test_a_second_credential_of_google_is_refused_by_name(recorder, call, variable, named, value):
    # The library also uses an empty one.
    fact = fact_of(recorder, call, {variable: value}, "gs://bucket", {"service_account_key": "{}"})
    assert fact == f"service_account_key is configured, and the variable {named} names another credential"


@pytest.mark.parametrize(
    ("endpoint", "bucket"),
    [("http://127.0.0.1:9", "b"), ("http://[::1]:9", "b"), ("http://[::1]", "b"), ("http://s.example", "A_b")],
)
@pytest.mark.parametrize("by_platform", [False, True])
def test_a_bucket_that_cannot_be_part_of_the_host_name_is_refused(recorder, call, endpoint, bucket, by_platform):
    options = {"endpoint": endpoint, "virtual_hosted_style_request": True}
    variables = {"AWS_ENDPOINT_URL": endpoint, "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true", "AWS_ALLOW_HTTP": "1"}
    if by_platform:
        fact = fact_of(recorder, call, variables, f"s3://{bucket}", {})
    else:
        fact = fact_of(recorder, call, {}, f"s3://{bucket}", options | {"allow_http": True})
    assert "virtual_hosted_style_request" in fact


ACCOUNT = {"account_name": "configured", "allow_http": True}


@pytest.mark.parametrize("credential", CREDENTIALS["az"], ids=lambda credential: next(iter(credential)))
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AZURE_STORAGE_ENDPOINT", ELSEWHERE),
        ("AZURE_ENDPOINT", ELSEWHERE),
        ("AZURE_storage_endpoint", ELSEWHERE),
        ("AZURE_STORAGE_ENDPOINT", ""),
        ("AZURE_USE_FABRIC_ENDPOINT", "true"),
        ("AZURE_USE_FABRIC_ENDPOINT", "1"),
    ],
)
def test_a_variable_that_sends_a_configured_account_elsewhere_is_refused_by_name(
    recorder, call, credential, variable, value
):
    fact = fact_of(recorder, call, {variable: value}, "az://container", ACCOUNT | credential)
    assert fact == f"account_name is configured, and the variable {variable.upper()} names another server"


@pytest.mark.parametrize(
    "variables", [{}, {"AZURE_USE_FABRIC_ENDPOINT": "false"}, {"AZURE_STORAGE_ACCOUNT_NAME": "elsewhere"}]
)
def test_a_configured_account_of_azure_receives_the_requests(recorder, call, variables):
    options = ACCOUNT | CREDENTIALS["az"][0] | {"retry_timeout_seconds": 0}
    environment = {"SEALGATE_BACKEND_URL": "az://container", "SEALGATE_BACKEND_CONFIG": json.dumps(options)}
    with platform(recorder, variables):
        use(ObjectStoreBackend(environment), call, "key")
        assert {request.url.netloc for request in recorder.requests} == {"configured.blob.core.windows.net:443"}


def test_an_account_of_azure_with_the_platforms_credential_is_at_the_platforms_endpoint(recorder, call):
    environment = {"SEALGATE_BACKEND_URL": "az://container", "SEALGATE_BACKEND_CONFIG": json.dumps(ACCOUNT)}
    variables = {"AZURE_STORAGE_ENDPOINT": "http://platform.example", "AZURE_STORAGE_ACCOUNT_KEY": "b3du"}
    with platform(recorder, variables):
        use(ObjectStoreBackend(environment), call, "key")
        assert {request.url.hostname for request in recorder.requests} == {"platform.example"}


@pytest.mark.parametrize("value", ["true", "ON", "1"])
def test_a_bucket_that_the_variable_for_s3_express_cannot_be_about_is_refused_by_name(recorder, call, value):
    options = {"region": "us-west-2", "access_key_id": OWN, "secret_access_key": "x"}
    fact = fact_of(recorder, call, {"AWS_S3_EXPRESS": value}, "s3://bucket", options)
    assert fact == "the variable AWS_S3_EXPRESS is set, and the bucket is not a directory bucket"


def test_the_variable_for_s3_express_does_not_apply_with_an_endpoint(recorder, call):
    options = {"endpoint": "http://store.example", "allow_http": True, "access_key_id": OWN, "secret_access_key": "x"}
    bucket = "b--usw2-az1--x-s3"
    environment = {"SEALGATE_BACKEND_URL": f"s3://{bucket}", "SEALGATE_BACKEND_CONFIG": json.dumps(options)}
    with platform(recorder, {"AWS_S3_EXPRESS": "true"}):
        use(ObjectStoreBackend(environment), call, "key")
        assert recorder.requests
        for request in recorder.requests:
            assert of_the_bucket(request.url, "http://store.example", bucket, virtual=False)


@pytest.mark.parametrize("virtual", [False, True])
@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"])
def test_what_is_not_configured_comes_from_the_platform(recorder, call, variable, virtual):
    variables = {
        variable: "http://platform.example",
        "AWS_ALLOW_HTTP": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": str(virtual).lower(),
        "AWS_ACCESS_KEY_ID": PLATFORM,
        "AWS_SECRET_ACCESS_KEY": "x",
    }
    with platform(recorder, variables):
        assert use(ObjectStoreBackend({"SEALGATE_BACKEND_URL": "s3://bucket"}), call, "other/key")
        assert all(PLATFORM in request.text for request in recorder.requests)
        for request in recorder.requests:
            assert of_the_bucket(request.url, "http://platform.example", "bucket", virtual=virtual)
