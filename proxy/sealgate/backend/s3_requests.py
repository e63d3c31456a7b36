"""Requests to one S3 bucket whose URLs contain exactly the characters that the caller chose.

The store library normalises keys, and has no request of its own for the others. It signs these requests (presigned
URLs), so every source of credentials works that works for the library. What it would normalise is passed to it as the
end of the endpoint, which it leaves as it is. The `#` at that end takes the slash that the library appends.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, lru_cache, partial
from http import HTTPStatus
from typing import Any, Literal

import obstore
from obstore.store import S3Store
from typing_extensions import override

from sealgate.backend.errors import SAYS, by_status, store_errors
from sealgate.call import Call
from sealgate.errors import NotConfigured, PluginError, TimedOut, Unavailable

Method = Literal["GET", "POST", "DELETE"]

LARGEST_ANSWER = 8 << 20
"""Bytes. A page of a listing has at most 1,000 keys of 1,024 bytes, each byte in up to three characters."""
_VALID_FOR = timedelta(minutes=5)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two tries, as in the library."""
_OPEN_STORES = 4
_READ_SIZE = 1 << 16


@dataclass(frozen=True, slots=True)
class HttpClient:
    """How requests are sent: the same options as the store library has."""

    root_certificate: str = ""
    """PEM text of an authority that is trusted beside the system's; empty for the system's alone."""
    allow_http: bool = False
    connect_timeout: float = 5
    """Seconds."""
    read_timeout: float = 60
    """Seconds without a byte of the answer."""
    retry_timeout: float = 30
    """Seconds in which a request that failed is repeated."""


class S3Requests:
    """Sends requests to one bucket.

    Args:
        store: the library's store of the bucket, which signs and knows the bucket's address.
        open_at: opens a store with the same credentials whose bucket is at the URL that it is given.
        signed: whether requests are signed; False for a bucket that everyone may use.
        client: how requests are sent.
    """

    def __init__(
        self,
        store: S3Store,
        open_at: Callable[[str], S3Store],
        *,
        signed: bool = True,
        client: HttpClient = HttpClient(),
    ) -> None:
        self._store = store
        self._open_at = lru_cache(_OPEN_STORES)(open_at)  # an open store keeps the credentials that it was given
        self._signed = signed
        self._client = client

    def send(self, call: Call, method: Method, rest: str, body: bytes | None = None) -> bytes:
        """Send a request and return the body of the answer.

        A request that the store does not answer is sent again, as the store library does it.

        Args:
            call: the call that the request is for.
            method: the HTTP method. Repeating the request must have no further effect.
            rest: what follows the bucket's address: a path that begins with `/`, a query that begins with `?`.
            body: the body of the request.

        Raises:
            PluginError: the store did not answer, or with an error. A DELETE of an absent object is none.
        """
        until, pause = time.monotonic() + self._client.retry_timeout, _FIRST_PAUSE
        while True:
            call.check()
            try:
                return self._send_once(call, method, rest, body)
            except Unavailable:
                if time.monotonic() + pause > until:
                    raise
            call.cancelled_within(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _send_once(self, call: Call, method: Method, rest: str, body: bytes | None) -> bytes:
        request = urllib.request.Request(self._url(method, rest), data=body, method=method)  # noqa: S310 - see `_url`
        if body is not None:
            request.add_header("Content-Type", "application/xml")
            request.add_header("Content-MD5", _md5(body))
        try:
            with self._opener.open(request, timeout=self._client.read_timeout) as answer:
                status, text = answer.status, _bounded(call, answer)
        except (OSError, http.client.HTTPException) as error:
            raise _unanswered(error) from None
        if status == HTTPStatus.NOT_FOUND and method == "DELETE":
            return b""
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise by_status(status)
        return text

    def _url(self, method: Method, rest: str) -> str:
        with store_errors():
            if not self._signed:
                return f"{self._address}{rest}"
            signed = obstore.sign(self._open_at(f"{self._address}{rest}#"), method, "", _VALID_FOR)
        return signed.partition("#")[0]

    @cached_property
    def _address(self) -> str:
        """The URL of the bucket. It depends on the options and on the platform's variables, which the library reads."""
        url = obstore.sign(self._store, "GET", "", _VALID_FOR).partition("?")[0].rstrip("/")
        if not url.startswith("https:") and not self._client.allow_http:
            raise NotConfigured("the store's address is an http:// url, and allow_http is not true")
        return url

    @cached_property
    def _opener(self) -> urllib.request.OpenerDirector:
        """Sends a request, through the proxy that the environment names, and follows no redirect."""
        context = ssl.create_default_context()
        # The library accepts a trusted certificate that is no root, and those of private authorities that Python's
        # further rules refuse (the default since 3.13), such as one without an authority key identifier.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self._client.root_certificate:
            context.load_verify_locations(cadata=self._client.root_certificate)
        opener = urllib.request.OpenerDirector()
        timeout = self._client.connect_timeout
        for handler in (urllib.request.ProxyHandler(), _Http(timeout), _Https(timeout, context)):
            opener.add_handler(handler)
        return opener


def _md5(body: bytes) -> str:
    """Return the value of the header Content-MD5, which S3 requires for a bulk deletion."""
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _bounded(call: Call, answer: http.client.HTTPResponse) -> bytes:
    parts, size = [], 0
    while part := answer.read1(_READ_SIZE):
        call.check()
        parts.append(part)
        size += len(part)
        if size > LARGEST_ANSWER:
            raise PluginError(f"the store's answer has more than {LARGEST_ANSWER} bytes", says=SAYS)
    return b"".join(parts)


def _unanswered(error: Exception) -> PluginError:
    if isinstance(getattr(error, "reason", error), TimeoutError):
        return TimedOut("the store did not answer in time", says=SAYS)
    return Unavailable("the store cannot be reached", says=SAYS)


class _Connecting(http.client.HTTPConnection):
    """A connection whose opening has a timeout of its own."""

    def __init__(self, *arguments: Any, connect_timeout: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._connect_timeout = connect_timeout

    @override
    def connect(self) -> None:
        reading, self.timeout = self.timeout, self._connect_timeout
        super().connect()
        self.sock.settimeout(reading)


class _ConnectingTls(_Connecting, http.client.HTTPSConnection):
    """The same over TLS."""


class _Http(urllib.request.HTTPHandler):
    def __init__(self, connect_timeout: float) -> None:
        super().__init__()
        self._connection: Any = partial(_Connecting, connect_timeout=connect_timeout)

    @override
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, connect_timeout: float, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._connection: Any = partial(_ConnectingTls, connect_timeout=connect_timeout, context=context)

    @override
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)
