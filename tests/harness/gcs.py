"""A server with the part of Google Cloud Storage's XML interface that the store library uses.

It stands in for the real one, which no test can reach: PUT, GET, HEAD and DELETE of an object, copies, listings of the
second version, uploads in parts, and preconditions by generation. As Google does, it has no bulk deletion, answers a
DELETE of an absent object with 404, and refuses the empty list of parts.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from harness.http_server import serving

_DATE = "Sat, 28 Nov 2026 12:00:00 GMT"
_PAGE = 1000
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>'


@dataclass
class _Object:
    content: bytes
    generation: int
    etag: str = field(init=False)

    def __post_init__(self) -> None:
        self.etag = f'"{hashlib.md5(self.content, usedforsecurity=False).hexdigest()}-{self.generation}"'


@dataclass
class Gcs:
    """The server: its address, and what its buckets contain."""

    endpoint: str = ""
    buckets: dict[str, dict[str, _Object]] = field(default_factory=dict)
    parts: dict[str, tuple[str, str, dict[int, bytes]]] = field(default_factory=dict)
    """Uploads that have not ended, by their identifiers: bucket, key and parts."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def number(self) -> int:
        return next(self._numbers)

    def new_bucket(self) -> str:
        name = f"bucket-{self.number()}"
        self.buckets[name] = {}
        return name

    def keys(self, bucket: str) -> set[str]:
        return set(self.buckets[bucket])

    def uploads(self, bucket: str) -> list[str]:
        return [key for owner, key, _ in self.parts.values() if owner == bucket]

    def config(self, **options) -> dict[str, object]:
        """Return the backend's options for this server."""
        return {"endpoint": self.endpoint, "allow_http": True, "skip_signature": True, "retry_timeout_seconds": 1} | (
            options
        )


class _Failed(Exception):
    """An answer that is an error: its status and its code."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body of an answer in one packet; else the body waits 40 ms for an acknowledgement
    server_state: Gcs

    def answer(self) -> None:
        url = urlsplit(self.path)
        self.query = dict(parse_qsl(url.query, keep_blank_values=True))
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        bucket, _, key = url.path.lstrip("/").partition("/")
        try:
            with self.server_state.lock:
                self.do(unquote(bucket), unquote(key))
        except _Failed as failed:
            status, code = failed.args
            self.send(status, f"{_HEAD}<Error><Code>{code}</Code></Error>".encode())
        with suppress(ConnectionError):  # the client did not want the rest
            self.write()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - http.server's names

    def do(self, bucket: str, key: str) -> None:
        objects = self.server_state.buckets.get(bucket)
        if objects is None:
            raise _Failed(404, "NoSuchBucket")
        if not key:
            if self.command != "GET":
                raise _Failed(405, "MethodNotAllowed")  # for one, the bulk deletion of S3
            self.list(objects)
        elif "uploads" in self.query or "uploadId" in self.query:
            self.upload(bucket, key, objects)
        elif self.command in {"GET", "HEAD"}:
            self.read(self.existing(objects, key))
        elif self.command == "PUT":
            source = self.headers.get("x-goog-copy-source")
            _, _, name = unquote(source or "").lstrip("/").partition("/")
            self.store(objects, key, self.existing(objects, name).content if source else self.body)
        elif self.command == "DELETE":
            self.existing(objects, key)
            del objects[key]
            self.send(204)
        else:
            raise _Failed(400, "InvalidArgument")

    def existing(self, objects: dict[str, _Object], key: str) -> _Object:
        if key not in objects:
            raise _Failed(404, "NoSuchKey")
        return objects[key]

    def store(self, objects: dict[str, _Object], key: str, content: bytes) -> None:
        required = self.headers.get("x-goog-if-generation-match")
        if required is not None and int(required) != (objects[key].generation if key in objects else 0):
            raise _Failed(412, "PreconditionFailed")
        stored = objects[key] = _Object(content, self.server_state.number())
        result = f"{_HEAD}<CopyObjectResult><ETag>{escape(stored.etag)}</ETag></CopyObjectResult>"
        is_copy = self.headers.get("x-goog-copy-source")
        self.send(200, result.encode() if is_copy else b"", self.facts(stored))

    def read(self, stored: _Object) -> None:
        if self.headers.get("If-Match", stored.etag) != stored.etag:
            raise _Failed(412, "PreconditionFailed")
        content, status, headers = stored.content, 200, self.facts(stored)
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        self.send(status, content, headers)

    def facts(self, stored: _Object) -> dict[str, str]:
        return {"ETag": stored.etag, "Last-Modified": _DATE, "x-goog-generation": str(stored.generation)}

    def list(self, objects: dict[str, _Object]) -> None:
        if self.query.get("list-type") != "2":
            raise _Failed(400, "InvalidArgument")
        prefix, after = self.query.get("prefix", ""), self.query.get("continuation-token", "")
        names = sorted(name for name in objects if name.startswith(prefix) and name > after)
        entries = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>2026-11-28T12:00:00.000Z</LastModified>"
            f"<ETag>{escape(objects[name].etag)}</ETag><Size>{len(objects[name].content)}</Size></Contents>"
            for name in names[:_PAGE]
        )
        more = len(names) > _PAGE
        token = f"<NextContinuationToken>{escape(names[_PAGE - 1])}</NextContinuationToken>" if more else ""
        truncated = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        self.send(200, f"{_HEAD}<ListBucketResult>{truncated}{token}{entries}</ListBucketResult>".encode())

    def upload(self, bucket: str, key: str, objects: dict[str, _Object]) -> None:
        state, name = self.server_state, self.query.get("uploadId", "")
        if "uploads" in self.query:
            name = f"upload-{state.number()}"
            state.parts[name] = (bucket, key, {})
            facts = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{name}</UploadId>"
            self.send(200, f"{_HEAD}<InitiateMultipartUploadResult>{facts}</InitiateMultipartUploadResult>".encode())
            return
        if name not in state.parts:
            raise _Failed(404, "NoSuchUpload")
        _, _, parts = state.parts[name]
        if self.command == "PUT":
            parts[int(self.query["partNumber"])] = self.body
            etag = hashlib.md5(self.body, usedforsecurity=False).hexdigest()
            self.send(200, b"", {"ETag": f'"{etag}"'})
        elif self.command == "DELETE":
            del state.parts[name]
            self.send(204)
        else:
            numbers = [int(number) for number in re.findall(r"<PartNumber>(\d+)</PartNumber>", self.body.decode())]
            if not numbers or numbers != sorted(parts):
                raise _Failed(400, "MalformedCompleteMultipartUploadRequest")
            del state.parts[name]
            stored = objects[key] = _Object(b"".join(parts[number] for number in numbers), state.number())
            facts = f"<Bucket>{bucket}</Bucket><Key>{quote(key)}</Key><ETag>{escape(stored.etag)}</ETag>"
            result = f"{_HEAD}<CompleteMultipartUploadResult>{facts}</CompleteMultipartUploadResult>"
            self.send(200, result.encode(), self.facts(stored))

    def send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        """Set the answer, which is written once the lock is free."""
        self.status, self.content, self.facts_sent = status, body, headers or {}

    def write(self) -> None:
        self.send_response(self.status)
        for name, value in self.facts_sent.items():
            self.send_header(name, value)
        if self.status != 204:
            self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def gcs_server() -> Iterator[Gcs]:
    """Run the server."""
    state = Gcs()
    handler = type("Handler", (_Handler,), {"server_state": state})
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as state.endpoint:
        yield state
