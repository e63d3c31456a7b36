"""One request to Vault, through hvac: what was answered, or why nothing was. The one file that knows hvac.

No exception of hvac or what it stands on leaves it, not even as a context: their texts can hold whole answers.
Importing it costs 0.6 s and 31 MB.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
import time
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Any

import hvac
from hvac.adapters import RawAdapter
from requests import Response, Session, exceptions
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as TimeIsUp

from sealgate.keys.vault.faults import Unanswered, VaultRequest, VaultResponse

LARGEST = 4 << 20
"""Bytes of an answer. A key with ten thousand versions has fewer; nothing else comes near."""
_CONNECT_WITHIN = 2.0
_LONGEST_RETRY_AFTER = 5.0
"""A server, or whatever stands before it, may ask for hours."""

_WHY: tuple[tuple[tuple[type[Exception], ...], Unanswered], ...] = (
    ((exceptions.SSLError,), Unanswered.TLS),
    ((exceptions.Timeout, TimeIsUp), Unanswered.TIMEOUT),
    ((exceptions.InvalidURL, exceptions.InvalidSchema, exceptions.MissingSchema), Unanswered.ADDRESS),
    # Whatever else the libraries name is an answer that broke off or is garbled, which passes.
    ((exceptions.RequestException, HTTPError), Unanswered.NO_CONNECTION),
    ((ValueError,), Unanswered.ADDRESS),
    ((OSError,), Unanswered.CA_FILE),
)
"""The first that fits. All of requests' exceptions are an OSError, and some of each library's a ValueError."""


class Client:
    """One connection to one server, kept for the next request. For one thread at a time.

    Proxies, netrc and CA variables of the environment are not looked at. Of a `ca_file` the certificates are trusted
    instead of the public authorities.
    """

    def __init__(self, address: str, namespace: str, ca_file: Path | None) -> None:
        self._hvac = hvac.Client(
            address,
            token="",  # not the one that hvac would find in the environment or a home directory
            cert=(),  # type: ignore[arg-type]  # None would be the client certificate of the environment
            session=_session(ca_file),
            adapter=RawAdapter,
            namespace=namespace or None,
            allow_redirects=False,
        )

    def send(self, request: VaultRequest, token: str, timeout: float) -> VaultResponse | Unanswered:
        """Send `request` once. `timeout` is in seconds, for connecting, asking and the whole answer together."""
        try:
            with self._response(request, token, timeout) as response:
                body = _body(response)
        except (exceptions.RequestException, HTTPError, ValueError, OSError) as error:
            return _why(error)
        if len(body) > LARGEST:
            return Unanswered.NOT_VAULT
        return VaultResponse(response.status_code, _parsed(body), _seconds(response.headers.get("Retry-After", "")))

    def close(self) -> None:
        """Close the connection."""
        self._hvac.adapter.close()

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


def _session(ca_file: Path | None) -> Session:
    session = _HttpSession()
    session.trust_env = False
    # On the session: hvac drops its own `verify` when it is given one.
    session.verify = str(ca_file) if ca_file else True
    # A small answer can be made to unpack into a large one.
    session.headers["Accept-Encoding"] = "identity"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))  # each would be kept for ever
    adapter = HTTPAdapter()
    adapter.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session


def _why(error: BaseException) -> Unanswered:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLEOFError):
            return Unanswered.NO_CONNECTION  # hung up on: no certificate was looked at
        cause = cause.__context__
    return next(why for kinds, why in _WHY if isinstance(error, kinds))


def _body(response: Response) -> bytes:
    """What was answered, as it came; if it is more than `LARGEST`, so much of it as shows that."""
    body = b""
    while chunk := response.raw.read(LARGEST + 1 - len(body), decode_content=False):
        body += chunk
    return body


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _seconds(text: str) -> float:
    return min(float(text), _LONGEST_RETRY_AFTER) if text.isascii() and text.isdigit() else 0.0


# --- an answer has an end ----------------------------------------------------------------------------------


class _HttpSession(Session):
    def get_redirect_target(self, resp: Response) -> None:
        """Nowhere: the library would read the whole of a redirect's body, to follow it or not."""


class _Arriving(io.RawIOBase):
    """What comes from a socket while its timeout lasts in all. The socket's own begins anew with each byte."""

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
        self.fp = io.BufferedReader(_Arriving(sock, self.fp.detach()))

    def begin(self) -> None:
        super().begin()
        says_its_length = self.length is not None or self.chunked
        if self.headers.defects or not (says_its_length or self.fp.peek(1)):
            # Cut in its headers. The library would take it for an empty answer, and log what came of it.
            raise http.client.IncompleteRead(b"")


class _Connection(HTTPConnection):
    response_class = _Response


class _TlsConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection
