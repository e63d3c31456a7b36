"""A server in front of an S3 server that counts the requests in flight, and holds them until enough are."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from harness.http_server import serving

_PATIENCE = 20


class Gate:
    """What happened to the requests for which `counts` is true.

    Args:
        counts: decides by a request's method, path and header Range.
        until: how many must be in flight at once before the first is answered. Where so many never are, all are
            answered after a while.
    """

    def __init__(self, counts: Callable[[str, str, str], bool], until: int) -> None:
        self.counts = counts
        self.until = until
        self.most = 0
        """The most that were in flight at once."""
        self.abandoned = 0
        """How many the client gave up while they were held."""
        self.first: Callable[[], object] = lambda: None
        """Runs once, before the first of them goes on."""
        self._now = 0
        self._opened = False
        self._changed = threading.Condition()

    def wait_for(self, count: int) -> bool:
        """Wait until so many are in flight."""
        with self._changed:
            return self._changed.wait_for(lambda: self._now >= count, _PATIENCE)

    def wait_for_abandoned(self, count: int) -> bool:
        """Wait until the client has given up so many."""
        with self._changed:
            return self._changed.wait_for(lambda: self.abandoned >= count, _PATIENCE)

    def close(self, until: int) -> None:
        """Hold requests again, until so many are in flight at once."""
        with self._changed:
            self.until, self.most, self._opened = until, 0, False

    def enter(self, connection: socket.socket) -> bool:
        """Hold a request; return whether its client still waits."""
        with self._changed:
            self._now += 1
            self.most = max(self.most, self._now)
            self._changed.notify_all()
            until = time.monotonic() + _PATIENCE
            while not self._opened and self.most < self.until and time.monotonic() < until:
                if _is_closed(connection):
                    self.abandoned += 1
                    self._changed.notify_all()
                    return False
                self._changed.wait(0.1)
            if not self._opened:
                self._opened = True
                self.first()
            return True

    def leave(self) -> None:
        with self._changed:
            self._now -= 1
            self._changed.notify_all()


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


class _Forwarding(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body of an answer in one packet; else the body waits 40 ms for an acknowledgement
    target = ""
    gate: Gate

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.gate.counts(self.command, self.path, self.headers.get("Range", "")):
            self.pass_on(body)
            return
        try:
            if self.gate.enter(self.connection):
                self.pass_on(body)
            else:
                self.close_connection = True
        finally:
            self.gate.leave()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward  # noqa: N815 - http.server's names

    def pass_on(self, body: bytes) -> None:
        connection = HTTPConnection(self.target)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"content-length", "transfer-encoding", "connection", "date", "server"}:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the client is gone
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_: object) -> None:
        """Say nothing: the client of a test goes away."""


@contextmanager
def gated(endpoint: str, gate: Gate) -> Iterator[str]:
    """Run the server in front of the S3 server at `endpoint`; yield its endpoint."""
    handler = type("Handler", (_Forwarding,), {"target": urlsplit(endpoint).netloc, "gate": gate})
    with serving(_Server(("127.0.0.1", 0), handler)) as url:
        yield url
