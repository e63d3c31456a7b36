"""Servers between a client and an S3 server: versitygw with options of a test's own, weak ETags, refused deletions."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

from harness.golang import installed
from harness.http_server import serving
from harness.s3 import Server

_PROGRAM = ("github.com/versity/versitygw/cmd/versitygw", "v1.8.0")


@contextmanager
def gateway(access: str, secret: str, storage: list[str], *options: str) -> Iterator[int]:
    """Start versitygw in front of `storage` (`["posix", DIRECTORY]` or `["s3", …]`); yield its port on 127.0.0.1."""
    program = installed(*_PROGRAM)
    for _ in range(5):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [program, "--port", f"127.0.0.1:{port}", "--access", access, "--secret", secret, "--quiet", *options]
        process = subprocess.Popen(
            [*command, *storage],
            # A bundle of certificates that the platform names keeps a gateway in front of another server from starting.
            env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            if _answers(process, port):
                yield port
                return
        finally:
            process.kill()  # after SIGTERM it would wait until idle connections end
            process.wait(10)
    raise AssertionError("versitygw does not start")


def in_front_of(endpoint: str) -> list[str]:
    """Return the storage of a gateway that forwards to the S3 server at `endpoint`."""
    return ["s3", "--access", "any", "--secret", "any", "--endpoint", endpoint, "--use-path-style"]


def directory(root: Path) -> list[str]:
    """Return the storage of a gateway that keeps each object of a bucket as the file `root/BUCKET/KEY`."""
    return ["posix", str(root)]


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Return whether the process accepts connections; False if it ended, because another process took the port."""
    until = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.02)
    return False


class _WeakEtags(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body of an answer in one packet; else the body waits 40 ms for an acknowledgement
    target = ""

    def forward(self) -> None:
        if "If-Match" in self.headers:  # compared strongly, it matches no weak ETag
            self.send_response(412)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        connection = HTTPConnection(self.target)
        connection.request(self.command, self.path, headers=dict(self.headers))
        answer = connection.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() in {"content-range", "last-modified", "content-type"}:
                self.send_header(name, value)
            elif name.lower() == "etag":
                self.send_header(name, f"W/{value}")
        self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        connection.close()

    do_GET = do_HEAD = forward  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def weak_etags(endpoint: str) -> Iterator[str]:
    """Run a server that reads from the S3 server at `endpoint`, and marks its ETags as weak; yield its endpoint."""
    handler = type("Handler", (_WeakEtags,), {"target": urlsplit(endpoint).netloc})
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as url:
        yield url


_DENIED_KEY = "<Error><Key>{}</Key><Code>AccessDenied</Code><Message>no</Message></Error>"


class _LimitedDeletions(BaseHTTPRequestHandler):
    """Forwards requests to the S3 server `target`, except for some deletions."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body of an answer in one packet; else the body waits 40 ms for an acknowledgement
    target, bulk, denied = "", 200, ""
    deletions: ClassVar[list[str]] = []

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, answer = self.refusal(body.decode(errors="replace"))
        if status:
            self.send(status, answer.encode())
            return
        connection = HTTPConnection(self.target)
        connection.request(self.command, self.path, body, dict(self.headers))
        forwarded = connection.getresponse()
        self.send(forwarded.status, forwarded.read(), forwarded.getheaders())
        connection.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward  # noqa: N815 - http.server's names

    def refusal(self, body: str) -> tuple[int, str]:
        """Return status and text of the answer to a deletion; 0 for a request that is forwarded."""
        path = urlsplit(self.path).path
        if self.command == "POST" and "delete" in urlsplit(self.path).query:
            self.deletions.append("bulk")
            if self.bulk != 200:
                return self.bulk, "<Error><Code>NotImplemented</Code></Error>"
            if self.denied:
                errors = map(_DENIED_KEY.format, re.findall(r"<Key>(.*?)</Key>", body))
                return 200, f"<DeleteResult>{''.join(errors)}</DeleteResult>"
        elif self.command == "DELETE":
            self.deletions.append(path)
            if self.denied and path.endswith(self.denied):
                return 403, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
        return 0, ""

    def send(self, status: int, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in {"content-length", "transfer-encoding", "connection", "date", "server"}:
                self.send_header(name, value)
        length = len(body) if self.command != "HEAD" else dict(headers).get("Content-Length", 0)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Counted(_LimitedDeletions):
    """Forwards every request, and notes its method with what it is for."""

    def refusal(self, body: str) -> tuple[int, str]:
        is_listing = "list-type" in urlsplit(self.path).query
        self.deletions.append("LIST" if is_listing else self.command)
        return 0, ""


@contextmanager
def counting(server: Server) -> Iterator[tuple[str, list[str]]]:
    """Run a server that forwards to `server`. Yield its endpoint, and the methods of the requests that it received."""
    requests: list[str] = []
    facts = {"target": urlsplit(server.endpoint).netloc, "deletions": requests}
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Counted,), facts))) as endpoint:
        yield endpoint, requests


@contextmanager
def limiting_deletions(server: Server, bulk: int = 200, denied: str = "") -> Iterator[tuple[str, list[str]]]:
    """Run a server that forwards to `server`, except for some deletions.

    Args:
        server: the S3 server behind it.
        bulk: the status of the answer to a bulk deletion, if it is not 200.
        denied: the end of the keys that may not be deleted.

    Yields:
        Its endpoint, and the requests for deletions that it received.
    """
    deletions: list[str] = []
    facts = {"target": urlsplit(server.endpoint).netloc, "bulk": bulk, "denied": denied, "deletions": deletions}
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_LimitedDeletions,), facts))) as endpoint:
        yield endpoint, deletions
