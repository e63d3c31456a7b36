"""How one request is sent and its answer read. This is the only file that imports hvac.

No exception of hvac, requests or urllib3 leaves this file, not even as the context of another one: their texts can
contain whole answers. Importing this file takes 0.6 s and 31 MB.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import hvac
from hvac.adapters import RawAdapter
from requests import Response, Session, exceptions
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as TimeIsUp

from sealgate.keys.vault import tls
from sealgate.keys.vault.formats import Unanswered, VaultRequest, VaultResponse
from sealgate.keys.vault.server import Authorities

LARGEST = 4 << 20
"""The largest answer that is read, in bytes. The description of a key with ten thousand versions is smaller."""
_CONNECT_WITHIN = 2.0
_LONGEST_RETRY_AFTER = 5.0
"""The largest value of `Retry-After` that is respected, in seconds. A proxy in front of Vault may send hours."""

_REASONS: tuple[tuple[tuple[type[Exception], ...], Unanswered], ...] = (
    ((exceptions.Timeout, TimeIsUp), Unanswered.TIMEOUT),
    ((exceptions.InvalidURL, exceptions.InvalidSchema, exceptions.MissingSchema), Unanswered.ADDRESS),
    # All other exceptions of the libraries mean an incomplete or malformed answer; another try may succeed.
    ((exceptions.RequestException, HTTPError), Unanswered.NO_CONNECTION),
    ((ValueError,), Unanswered.ADDRESS),
    ((OSError,), Unanswered.NO_CONNECTION),
)
"""The first match counts: all exceptions of requests are an OSError, and some of each library are a ValueError."""


class Client:
    """Keeps one connection to one server. Serves one thread at a time.

    Ignores the environment's variables for proxies, netrc and certificate authorities.
    """

    def __init__(self, address: str, namespace: str, authorities: Authorities) -> None:
        """Prepare a connection; the first request opens it.

        Args:
            address: the URL of the server, without `/v1`.
            namespace: the namespace of all requests; empty for none.
            authorities: the certificates that the server's certificate is checked against.
        """
        self._address = address
        self._hvac = hvac.Client(
            address,
            token="",  # otherwise hvac takes one from the environment or the home directory
            cert=(),  # type: ignore[arg-type]  # with None, hvac takes one from the environment
            session=_session(authorities),
            adapter=RawAdapter,
            namespace=namespace or None,
            allow_redirects=False,
        )

    def send(self, request: VaultRequest, token: str, timeout: float) -> VaultResponse | Unanswered:
        """Send `request` once with `token`, and return the answer or the reason why there is none.

        `timeout` is in seconds, for connecting, sending and receiving the whole answer.
        """
        until = time.monotonic() + timeout
        try:
            with self._response(request, token, timeout) as response:
                body = _body(response)
        except (exceptions.RequestException, HTTPError, ValueError, OSError) as error:
            return self._reason(error, until)
        if len(body) > LARGEST:
            return Unanswered.NOT_VAULT
        document = _parsed(body)
        if not document and tls.expects_tls(response.status_code, body):
            return Unanswered.NEEDS_TLS
        return VaultResponse(response.status_code, document, _retry_after(response.headers.get("Retry-After", "")))

    def _reason(self, error: Exception, until: float) -> Unanswered:
        """Return why a request has no answer. `until` is when its time ends."""
        of_tls = tls.reason(error)
        if of_tls is Unanswered.NOT_TLS:
            seconds = min(_CONNECT_WITHIN, until - time.monotonic())
            if seconds > 0 and tls.speaks_http(self._address, seconds):
                return Unanswered.PLAIN_HTTP
        return of_tls or next(reason for kinds, reason in _REASONS if isinstance(error, kinds))

    def _response(self, request: VaultRequest, token: str, timeout: float) -> Response:
        headers = {"X-Vault-Token": token, "traceparent": request.traceparent}
        body = {} if request.body is None else {"json": request.body}
        response: Response = self._hvac.adapter.request(
            "get" if request.body is None else "post",
            f"/v1/{request.path}",
            headers={name: value for name, value in headers.items() if value},
            raise_exception=False,
            stream=True,
            timeout=Timeout(connect=min(_CONNECT_WITHIN, timeout), total=timeout),
            **body,
        )
        return response


def _session(authorities: Authorities) -> Session:
    session = _HttpSession()
    session.trust_env = False
    session.verify = True
    # A small compressed answer can expand to a very large one.
    session.headers["Accept-Encoding"] = "identity"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))  # or each would be kept for ever
    adapter = _Adapter()
    adapter.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _tls_pool(authorities)}
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session


def _body(response: Response) -> bytes:
    """Return the undecoded body, cut after `LARGEST` + 1 bytes."""
    body = b""
    while chunk := response.raw.read(LARGEST + 1 - len(body), decode_content=False):
        body += chunk
    return body


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _retry_after(text: str) -> float:
    return min(float(text), _LONGEST_RETRY_AFTER) if text.isascii() and text.isdigit() else 0.0


# --- limits in time and size -----------------------------------------------------------------------------


class _HttpSession(Session):
    def get_redirect_target(self, resp: Response) -> None:
        """Follow no redirect: the library would read its whole body first."""


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket for at most its timeout in all. The timeout of the socket itself restarts at each read."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        self._ends = time.monotonic() + (sock.gettimeout() or 0.0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp = io.BufferedReader(_DeadlineReader(sock, self.fp.detach()))

    def begin(self) -> None:
        super().begin()
        has_length = self.length is not None or self.chunked
        if self.headers.defects or not (has_length or self.fp.peek(1)):
            # The answer ended within its headers. The library would take it for an empty answer and log a warning.
            raise http.client.IncompleteRead(b"")


class _Connection(HTTPConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


def _tls_pool(authorities: Authorities) -> type[HTTPSConnectionPool]:
    """Return a kind of pool whose servers must have a certificate from `authorities`."""

    class TlsConnection(HTTPSConnection):
        response_class = _Response

        def connect(self) -> None:
            # Loaded for each connection, because a file may be replaced while the process runs.
            self.ssl_context = tls.trusting(authorities)
            super().connect()

    class TlsPool(HTTPSConnectionPool):
        ConnectionCls = TlsConnection

    return TlsPool


class _Adapter(HTTPAdapter):
    def cert_verify(self, *_: Any) -> None:
        """Leave the choice of authorities to the connection: the library would add its own to every choice."""
