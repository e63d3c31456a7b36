"""An HTTP proxy that answers every request itself and records it, so a test sees which server a client would reach."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import SplitResult, urlsplit

from harness.http_server import serving

_LISTING = b'<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>'
_AZURE_LISTING = b'<?xml version="1.0"?><EnumerationResults><Blobs/><NextMarker/></EnumerationResults>'
_DELETED = b'<?xml version="1.0"?><DeleteResult></DeleteResult>'


@dataclass(frozen=True)
class Request:
    """A request as the proxy received it."""

    method: str
    url: SplitResult
    headers: dict[str, str]
    """By names in lower case."""

    @property
    def text(self) -> str:
        """Everything that the request sent but its body."""
        return f"{self.method} {self.url.geturl()} {self.headers}"


@dataclass
class Recorder:
    """The proxy: its URL, and what it received."""

    url: str
    requests: list[Request] = field(default_factory=list)
    listing: bytes = _LISTING
    """The answer to a listing of S3 and of Google, until something is deleted."""

    def environment(self) -> dict[str, str]:
        """Return the variables with which every client sends its requests here."""
        names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy")
        return dict.fromkeys(names, self.url) | {"NO_PROXY": "", "no_proxy": ""}


@contextmanager
def recording() -> Iterator[Recorder]:
    """Run the proxy. It refuses to connect to a TLS server, and records for which server it was asked to."""
    recorder = Recorder("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body of an answer in one packet

        def _answer(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            secure = self.command == "CONNECT"
            url = urlsplit(f"https://{self.path}" if secure else self.path)
            headers = {name.lower(): value for name, value in self.headers.items()}
            recorder.requests.append(Request(self.command, url, headers))
            if secure:
                return self._send(502, b"")
            if self.command == "GET" and "list" in url.query:
                return self._send(200, _AZURE_LISTING if "comp=list" in url.query else recorder.listing)
            if self.command == "POST":
                recorder.listing = _LISTING
                return self._send(200, _DELETED)
            return self._send({"PUT": 200, "DELETE": 204}.get(self.command, 404), b"")

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_CONNECT = _answer  # noqa: N815 - http.server's names

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"0"')
            self.send_header("Last-Modified", "Sat, 28 Nov 2026 12:00:00 GMT")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as recorder.url:
        yield recorder
