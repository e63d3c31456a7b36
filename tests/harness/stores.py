"""The stores and the options with which every operation is tried through the socket, each as a row of a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from harness.gateways import limiting_deletions
from harness.http_server import serving
from harness.s3 import ACCESS, SECRET, Server

PREFIX = "a/prefix"
NOWHERE = "http://127.0.0.1:9"
"""An address at which nothing listens: a request that is sent there fails."""
WITHOUT_PROXY = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "")


@dataclass(frozen=True)
class Row:
    """A store as the environment of a proxy and the configuration of an artifact name it."""

    environment: dict[str, str]
    names: Callable[[], set[str]] | None = None
    """Returns the names of all objects in the bucket; None where no other client can see them."""
    configuration: str = "{}"
    prefix: str = f"{PREFIX}/"
    in_bulk: list[str] | None = field(default=None)
    """The requests for deletions that the store received, if it was watched."""


@contextmanager
def in_a_directory(home: Path, _: Callable[[str], Any]) -> Iterator[Row]:
    (root := home / "a store").mkdir()

    def keys() -> set[str]:
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}

    yield Row({"SEALGATE_BACKEND_URL": root.as_uri()}, keys, prefix="")


@contextmanager
def in_memory(_: Path, __: Callable[[str], Any]) -> Iterator[Row]:
    yield Row({"SEALGATE_BACKEND_URL": "memory://a-store"})


def on(server: str, scheme: str, options: dict[str, object] | None = None, **variables: str):
    """Return a row for a server with its usual options, those in `options`, and variables of the platform.

    An option that is None is left out.
    """

    @contextmanager
    def row(_: Path, find: Callable[[str], Any]) -> Iterator[Row]:
        yield _row(find(server), scheme, options or {}, variables)

    return row


def _row(server: Any, scheme: str, options: dict[str, object], variables: dict[str, str]) -> Row:
    bucket = server.new_container() if scheme == "az" else server.new_bucket()
    config = {name: value for name, value in server.config(**options).items() if value is not None}
    environment = {
        "SEALGATE_BACKEND_URL": f"{scheme}://{bucket}/{PREFIX}",
        "SEALGATE_BACKEND_CONFIG": json.dumps(config),
    }
    named = {name: value.replace("{endpoint}", server.endpoint) for name, value in variables.items()}
    return Row(WITHOUT_PROXY | environment | named, lambda: server.keys(bucket))


@contextmanager
def by_host_name(_: Path, find: Callable[[str], Any]) -> Iterator[Row]:
    """The bucket is in the host name. The server is reached as an HTTP proxy, so that no name has to be resolved."""
    server: Server = find("moto")
    options = {"endpoint": "http://s3.us-east-1.amazonaws.com", "virtual_hosted_style_request": True}
    row = _row(server, "s3", options, {})
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy"), server.endpoint) | {"NO_PROXY": "", "no_proxy": ""}
    yield Row(row.environment | proxies, row.names)


@contextmanager
def that_everyone_may_use(_: Path, find: Callable[[str], Any]) -> Iterator[Row]:
    server: Server = find("moto")
    row = _row(server, "s3", {"skip_signature": True, "access_key_id": None, "secret_access_key": None}, {})
    bucket = row.environment["SEALGATE_BACKEND_URL"].split("/")[2]
    everything = {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": [f"arn:aws:s3:::{bucket}/*"]}
    server.client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": [everything]}))
    yield row


@contextmanager
def of_the_author(_: Path, find: Callable[[str], Any]) -> Iterator[Row]:
    row = _row(find("versitygw"), "s3", {}, {})
    url, config = (row.environment[f"SEALGATE_BACKEND_{name}"] for name in ("URL", "CONFIG"))
    nothing = {"SEALGATE_BACKEND_URL": "", "SEALGATE_BACKEND_CONFIG": ""}
    yield Row(WITHOUT_PROXY | nothing, row.names, json.dumps({"url": url, **json.loads(config)}))


@contextmanager
def of_a_profile(home: Path, find: Callable[[str], Any]) -> Iterator[Row]:
    (home / "credentials").write_text(f"[own]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {SECRET}\n")
    without = dict.fromkeys(("access_key_id", "secret_access_key"))
    variables = {"AWS_PROFILE": "own", "AWS_SHARED_CREDENTIALS_FILE": str(home / "credentials")}
    yield _row(find("versitygw"), "s3", without, variables)


@contextmanager
def of_a_pod(home: Path, find: Callable[[str], Any]) -> Iterator[Row]:
    """EKS Pod Identity, with a token file that ends in a line break."""

    class Agent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            keys = {"AccessKeyId": ACCESS, "SecretAccessKey": SECRET, "Token": "", "Expiration": "2099-01-01T00:00:00Z"}
            known = self.headers["Authorization"] == "a-token-of-the-pod"
            body = json.dumps(keys if known else {"message": "unknown token"}).encode()
            self.send_response(200 if known else 400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    (home / "token").write_text("a-token-of-the-pod\n")
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Agent)) as url:
        variables = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/v1/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(home / "token"),
        }
        yield _row(find("moto"), "s3", dict.fromkeys(("access_key_id", "secret_access_key")), variables)


@contextmanager
def without_bulk_deletion(_: Path, find: Callable[[str], Any]) -> Iterator[Row]:
    server: Server = find("moto")
    with limiting_deletions(server, bulk=501) as (endpoint, deletions):
        row = _row(server, "s3", {"endpoint": endpoint}, {})
        yield Row(row.environment, row.names, in_bulk=deletions)


ROWS = {
    "directory": in_a_directory,
    "memory": in_memory,
    "s3: versitygw 1.8.0, path style, keys as options": on("versitygw", "s3"),
    "s3: versitygw, options beside variables that contradict them": on(
        "versitygw",
        "s3",
        AWS_ENDPOINT_URL_S3=NOWHERE,
        AWS_ENDPOINT_URL=NOWHERE,
        AWS_SKIP_SIGNATURE="true",
        AWS_VIRTUAL_HOSTED_STYLE_REQUEST="true",
        AWS_ACCESS_KEY_ID="of-the-platform",
        AWS_SECRET_ACCESS_KEY="of-the-platform",
        AWS_SESSION_TOKEN="of-the-platform",
    ),
    "s3: versitygw, all in the author's configuration": of_the_author,
    "s3: versitygw, keys of a profile in the shared file": of_a_profile,
    "s3: moto, endpoint and keys in variables": on(
        "moto",
        "s3",
        dict.fromkeys(("endpoint", "allow_http", "access_key_id", "secret_access_key")),
        AWS_ENDPOINT_URL_S3="{endpoint}",
        AWS_ALLOW_HTTP="true",
        AWS_ACCESS_KEY_ID=ACCESS,
        AWS_SECRET_ACCESS_KEY=SECRET,
    ),
    "s3: moto, virtual-hosted style": by_host_name,
    "s3: moto, unsigned": that_everyone_may_use,
    "s3: moto, keys of EKS Pod Identity": of_a_pod,
    "s3: moto, `disable_bulk_delete`": on("moto", "s3", {"disable_bulk_delete": True}),
    "s3: moto that answers bulk deletions with 501": without_bulk_deletion,
    "s3: moto without create-only writes": on("moto", "s3", AWS_CONDITIONAL_PUT="disabled"),
    "az: Azurite 3.35.0, account key": on("azurite", "az"),
    "az: Azurite, options beside variables that contradict them": on(
        "azurite",
        "az",
        AZURE_STORAGE_USE_EMULATOR="true",
        AZURE_ENDPOINT=NOWHERE,
        AZURE_STORAGE_ENDPOINT=NOWHERE,
        AZURE_SKIP_SIGNATURE="true",
        AZURE_STORAGE_ACCOUNT_NAME="elsewhere",
        AZURE_STORAGE_ACCOUNT_KEY="ZWxzZXdoZXJl",
    ),
    "gs: stand-in for the XML interface, unsigned": on("gcs", "gs"),
    "gs: stand-in, options beside variables that contradict them": on(
        "gcs", "gs", GOOGLE_BASE_URL=NOWHERE, GOOGLE_SKIP_SIGNATURE="false", GOOGLE_BEARER_TOKEN="of-the-platform"
    ),
}
"""The context managers that open each row, by the name in the table. Each takes a directory, and finds a server."""
