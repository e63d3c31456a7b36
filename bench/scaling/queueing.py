"""A server between clients and the key service that is as slow as a test wants."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import urlsplit


class _Queueing(BaseHTTPRequestHandler):
    """Forwards one request at a time to `target`, each `delay` seconds after its turn has come."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body of an answer in one packet; else the body waits 40 ms for an acknowledgement
    target = ""
    delay = 0.0
    turn = threading.Lock()
    accepted: ClassVar[list[str]] = []
    """The requests that are not carried out yet."""

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.accepted.append(self.path)
        try:
            status, headers, content = self.carried_out(body)
        finally:
            self.accepted.pop()
        with suppress(OSError):  # the client may have left
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in {"content-length", "transfer-encoding", "connection", "date", "server"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def carried_out(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        """Return status, headers and body of the answer."""
        with self.turn:
            time.sleep(self.delay)
            connection = HTTPConnection(self.target)
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            return answer.status, answer.getheaders(), content

    do_GET = do_POST = forward  # noqa: N815 - http.server's names

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 1024  # all clients connect at the same moment
    daemon_threads = True  # they wait for further requests on connections that clients keep

    def handle_error(self, *_: object) -> None:
        """Print nothing: a client may leave before it has its answer."""


@contextmanager
def one_at_a_time(address: str, delay: float) -> Iterator[str]:
    """Run the server in front of the one at `address`, and yield its own. At the end it finishes what it accepted."""
    accepted: list[str] = []
    facts = {"target": urlsplit(address).netloc, "delay": delay, "turn": threading.Lock(), "accepted": accepted}
    with _Server(("127.0.0.1", 0), type("Handler", (_Queueing,), facts)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            while accepted:
                time.sleep(0.05)
            server.shutdown()
            thread.join()
