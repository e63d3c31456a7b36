"""One request to Vault, through hvac: what was answered, or why nothing was. The one file that knows hvac.

No exception of hvac or requests leaves it, not even as a context: their texts can hold whole answers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.keys.vault_faults import Answer, Request, Unanswered

if TYPE_CHECKING:
    import hvac

_CONNECT_WITHIN = 2.0
_LONGEST_RETRY_AFTER = 5.0
"""A server, or whatever stands before it, may ask for hours."""


class Wire:
    """Connections to one Vault server, each used by one request at a time and kept for the next.

    hvac and requests promise nothing about threads, so no client is ever shared by two. Proxies, netrc and CA
    variables of the environment are not looked at: `ca_file` alone adds to the public authorities.
    """

    def __init__(self, address: str, *, namespace: str = "", ca_file: Path | None = None) -> None:
        self._address = address
        self._namespace = namespace
        self._ca_file = ca_file
        self._idle: list[hvac.Client] = []
        self._lock = threading.Lock()

    def send(self, request: Request, token: str, timeout: float) -> Answer | Unanswered:
        """Send `request` once. `timeout` is in seconds, for the connection and again for the answer."""
        with self._client() as client:
            return _send(client, request, token, timeout)

    def close(self) -> None:
        """Close every connection that is not in use."""
        with self._lock:
            clients, self._idle = self._idle, []
        for client in clients:
            client.adapter.close()

    @contextmanager
    def _client(self) -> Iterator[hvac.Client]:
        with self._lock:
            client = self._idle.pop() if self._idle else None
        client = client or self._new_client()
        yield client
        with self._lock:
            self._idle.append(client)

    def _new_client(self) -> hvac.Client:
        import hvac  # noqa: PLC0415 - 0.6 s and 31 MB, off the path to the socket
        from hvac.adapters import RawAdapter  # noqa: PLC0415 - hvac brings it, see above
        from requests import Session  # noqa: PLC0415 - hvac brings it, see above

        session = Session()
        session.trust_env = False
        # On the session: hvac drops its own `verify` when it is given one.
        session.verify = str(self._ca_file) if self._ca_file else True
        return hvac.Client(
            self._address,
            token="",  # not the one that hvac would find in the environment or a home directory
            cert=(),  # type: ignore[arg-type]  # None would be the client certificate of the environment
            session=session,
            adapter=RawAdapter,
            namespace=self._namespace or None,
            allow_redirects=False,
        )


def _send(client: hvac.Client, request: Request, token: str, timeout: float) -> Answer | Unanswered:
    from requests import exceptions  # noqa: PLC0415 - hvac brings it, see above

    body = {} if request.body is None else {"json": request.body}
    try:
        response = client.adapter.request(
            "get" if request.body is None else "post",
            f"/v1/{request.path}",
            headers={
                name: value for name, value in (("X-Vault-Token", token), ("traceparent", request.traceparent)) if value
            },
            raise_exception=False,
            timeout=(min(_CONNECT_WITHIN, timeout), timeout),
            **body,
        )
    except exceptions.SSLError:
        return Unanswered.TLS
    except exceptions.Timeout:
        return Unanswered.TIMEOUT
    except exceptions.ConnectionError:
        return Unanswered.NO_CONNECTION
    except (exceptions.RequestException, ValueError):
        return Unanswered.ADDRESS
    except OSError:
        return Unanswered.CA_FILE
    return Answer(response.status_code, _parsed(response), _seconds(response.headers.get("Retry-After", "")))


def _parsed(response: Any) -> dict[str, Any]:
    try:
        body = response.json()
    except (ValueError, RecursionError):  # the library's error quotes what it could not parse
        return {}
    return body if isinstance(body, dict) else {}


def _seconds(text: str) -> float:
    return min(float(text), _LONGEST_RETRY_AFTER) if text.isascii() and text.isdigit() else 0.0
