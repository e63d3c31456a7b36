"""The requests for S3 keys that the store library cannot name: addressing, TLS, redirects and timeouts."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
from harness import pki
from harness.http_server import serving
from harness.recorder import recording

from sealgate.backend import ObjectStoreBackend
from sealgate.errors import NotConfigured, TimedOut, Unavailable

ODD = b"""<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>tree//odd</Key><Size>1</Size>
<LastModified>2026-11-28T12:00:00.000Z</LastModified></Contents></ListBucketResult>"""
EMPTY = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"


def backend_on(endpoint: str, **options) -> ObjectStoreBackend:
    config = {"endpoint": endpoint, "access_key_id": "id", "secret_access_key": "secret", "retry_timeout_seconds": 0}
    return ObjectStoreBackend(
        {"SEALGATE_BACKEND_URL": "s3://the-bucket", "SEALGATE_BACKEND_CONFIG": json.dumps(config | options)}
    )


class Odd(BaseHTTPRequestHandler):
    """A bucket with one object whose key the library cannot name, until a presigned request deletes it."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body of an answer in one packet
    listing = ODD

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "X-Amz-Signature" in self.path:
            self.presigned()
        else:
            self.send(200 if self.command == "GET" else 204, self.listing if self.command == "GET" else b"")

    do_GET = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

    def presigned(self) -> None:
        if self.command == "GET":
            self.send(200, ODD)
        else:
            type(self).listing = EMPTY
            self.send(200, b"<DeleteResult/>")

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(handler: type[Odd], tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Run a server with this handler; yield its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (handler,), {}))
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    with serving(server) as url:
        yield url.replace("http:", "https:") if tls else url


@pytest.mark.parametrize("virtual", [False, True])
def test_they_go_to_the_same_address_as_the_librarys_requests(monkeypatch, call, at, virtual):
    with recording() as recorder:
        recorder.listing = ODD
        for name, value in recorder.environment().items():
            monkeypatch.setenv(name, value)
        options = {"allow_http": True, "virtual_hosted_style_request": virtual}
        backend_on("http://s3.example:8080/base", **options).delete(call, at("tree"))
        hosts = {request.url.netloc for request in recorder.requests}
        assert hosts == {"the-bucket.s3.example:8080" if virtual else "s3.example:8080"}
        start = "/base/" if virtual else "/base/the-bucket/"
        assert all(f"{request.url.path}/".startswith(start) for request in recorder.requests)
        assert [request.method for request in recorder.requests if "X-Amz-Signature" in request.url.query][-1] == "POST"


def test_a_private_authority_is_trusted_if_it_is_configured(tmp_path, call, at):
    authority = pki.authority()
    certificate, key = pki.server(authority).write(tmp_path, "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with served(Odd, context) as endpoint:
        backend_on(endpoint, root_certificate=authority.pem).delete(call, at("tree"))
        with pytest.raises(Unavailable, match="cannot be reached"):
            backend_on(endpoint).delete(call, at("tree"))


@pytest.fixture
def as_on_python_3_13(monkeypatch):
    """Make the default rules for certificates those of Python 3.13."""
    create = ssl.create_default_context

    def strict() -> ssl.SSLContext:
        context = create()
        context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)


def without_key_identifier() -> tuple[pki.Certificate, pki.Certificate]:
    authority = pki.authority()
    return authority, pki.server(authority, identifier=False)


def without_key_usage() -> tuple[pki.Certificate, pki.Certificate]:
    authority = pki.authority(strict=False)
    return authority, pki.server(authority)


def of_an_intermediate() -> tuple[pki.Certificate, pki.Certificate]:
    authority = pki.authority("below", issuer=pki.authority())
    return authority, pki.server(authority)


@pytest.mark.parametrize("make", [without_key_identifier, without_key_usage, of_an_intermediate])
@pytest.mark.parametrize("rules", ["", "as_on_python_3_13"])
def test_certificates_that_the_library_accepts_are_accepted(request, tmp_path, call, at, make, rules):
    if rules:
        request.getfixturevalue(rules)
    authority, server = make()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*server.write(tmp_path, "server"))
    with served(Odd, context) as endpoint:
        backend_on(endpoint, root_certificate=authority.pem).delete(call, at("tree"))


def test_a_redirect_is_not_followed(call, at):
    received = []

    class Elsewhere(Odd):
        def answer(self) -> None:
            received.append(self.path)
            super().answer()

        do_GET = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

    with served(Elsewhere) as elsewhere:

        class Redirecting(Odd):
            def presigned(self) -> None:
                self.send(307, b"", Location=f"{elsewhere}{urlsplit(self.path).path}")

        rejected = pytest.raises(NotConfigured, match=r"rejected the request \(status 307\)")
        with served(Redirecting) as endpoint, rejected:
            backend_on(endpoint, allow_http=True).delete(call, at("tree"))
    assert received == []


def test_a_server_that_does_not_answer_is_given_up(call, at):
    ended = threading.Event()

    class Silent(Odd):
        def presigned(self) -> None:
            ended.wait(60)

    with served(Silent) as endpoint:
        with pytest.raises(TimedOut, match="in time"):
            backend_on(endpoint, allow_http=True, read_timeout_seconds=1).delete(call, at("tree"))
        ended.set()


def test_an_answer_that_stops_midway_is_given_up(call, at):
    ended = threading.Event()

    class Stopping(Odd):
        def presigned(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"<ListBucketResult>")
            self.wfile.flush()
            ended.wait(60)

    with served(Stopping) as endpoint:
        with pytest.raises(TimedOut, match="in time"):
            backend_on(endpoint, allow_http=True, read_timeout_seconds=1).delete(call, at("tree"))
        ended.set()


def test_a_server_that_accepts_no_connection_is_given_up(call, at):
    """Its queue of connections is full, so a connection is never established."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(address)
        options = {"allow_http": True, "connect_timeout_seconds": 1, "read_timeout_seconds": 1}
        with pytest.raises(Unavailable):
            backend_on(f"http://127.0.0.1:{address[1]}", **options).delete(call, at("tree"))
        for client in waiting:
            client.close()
