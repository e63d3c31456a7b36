"""Which token a request carries, when this process logs in, and what follows when a token is refused (403).

The first request of a process logs in, and a later one logs in again before the token expires. Tokens are neither
looked up nor renewed, because both are requests; the answer to the login says how long the token is valid.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from typing_extensions import override

from sealgate.call import Call
from sealgate.errors import Cancelled, DeadlineExceeded, NotConfigured, PluginError
from sealgate.keys.single_flight import SingleFlight
from sealgate.keys.vault import faults
from sealgate.keys.vault.fault_rule import TokenRefused
from sealgate.keys.vault.formats import VaultRequest, VaultResponse, is_header
from sealgate.keys.vault.login import Login, StaticToken, TokenFile, read_secret
from sealgate.keys.vault.requests import Clock, Jitter, Requests, uniform
from sealgate.keys.vault.server import VaultServer
from sealgate.log_event import LogEvent

log = logging.getLogger("sealgate.vault")

_RENEWED_AFTER = (0.7, 0.9)
"""A token is replaced after a random fraction of its lifetime between these, so that pods do not log in together."""
_POSTPONED = 0.25
"""After a failed replacement, the next is tried after this fraction of the remaining lifetime."""
_FIRST_REST, _LONGEST_REST = 5.0, 60.0
"""After a new token was refused too, no refusal causes a login for this many seconds. It doubles while that repeats."""


class Tokens(Protocol):
    """Where the token of the next request comes from."""

    def current(self, call: Call) -> str:
        """Return a token that is valid as far as this process knows."""

    def replacement(self, call: Call, refused: str) -> str | None:
        """Return another token than `refused`; None if there is none."""

    def lives_for(self) -> float | None:
        """Return for how many seconds the latest token is still valid; None if that is unknown."""

    def metadata(self, call: Call) -> Mapping[str, str]:
        """Return what Vault said about this process when it issued the token; empty if it said nothing."""

    def metadata_already(self) -> Mapping[str, str]:
        """Return what Vault said with the latest token, without a request; empty before the first one."""


class GivenToken(Tokens):
    """The one token that the environment contains."""

    def __init__(self, given: StaticToken) -> None:
        self._token = given.token

    @override
    def current(self, call: Call) -> str:
        return self._token

    @override
    def replacement(self, call: Call, refused: str) -> str | None:
        return None

    @override
    def lives_for(self) -> float | None:
        return None

    @override
    def metadata(self, call: Call) -> Mapping[str, str]:
        return {}

    @override
    def metadata_already(self) -> Mapping[str, str]:
        return {}


class FileTokens(Tokens):
    """The token in a file, which is read again when the file changes or its token is refused."""

    def __init__(self, file: TokenFile) -> None:
        self._path = file.path
        self._read_state: tuple[int, int, int] | None = None
        self._token = ""
        self._lock = threading.Lock()

    @override
    def current(self, call: Call) -> str:
        with self._lock:
            if self._read_state is None or self._read_state != self._file_state():
                self._read()
            return self._token

    @override
    def replacement(self, call: Call, refused: str) -> str | None:
        with self._lock:
            self._read()
            return self._token if self._token != refused else None

    @override
    def lives_for(self) -> float | None:
        return None

    @override
    def metadata(self, call: Call) -> Mapping[str, str]:
        return {}

    @override
    def metadata_already(self) -> Mapping[str, str]:
        return {}

    def _read(self) -> None:
        self._read_state = self._file_state()
        self._token = read_secret(self._path, "keys.vault.auth.path")

    def _file_state(self) -> tuple[int, int, int] | None:
        try:
            facts = self._path.stat()
        except OSError:
            return None
        return facts.st_mtime_ns, facts.st_ino, facts.st_size


@dataclass(frozen=True, slots=True)
class _CurrentToken:
    token: str = field(repr=False)
    replaced_at: float
    ends_at: float
    metadata: Mapping[str, str] = field(default_factory=dict)


class LoginTokens(Tokens):
    """Tokens from logins. One login at a time serves all callers in the process."""

    def __init__(
        self,
        login: Login,
        requests: Requests,
        server: VaultServer,
        clock: Clock = time.monotonic,
        jitter: Jitter = uniform,
    ) -> None:
        self._login = login
        self._requests = requests
        self._server = server
        self._clock = clock
        self._jitter = jitter
        self._latest: _CurrentToken | None = None
        self._replacing = threading.Lock()
        self._flights: SingleFlight[str, str] = SingleFlight()

    @override
    def current(self, call: Call) -> str:
        latest, now = self._latest, self._clock()
        if latest is None or now >= latest.ends_at:
            return self._flights.run(call, "", lambda: self._valid_token(call, refused=""))
        if now >= latest.replaced_at and self._replacing.acquire(blocking=False):
            try:
                self._replace_early(call, latest)
            finally:
                self._replacing.release()
        return latest.token if self._latest is None else self._latest.token

    @override
    def replacement(self, call: Call, refused: str) -> str | None:
        return self._flights.run(call, "", lambda: self._valid_token(call, refused))

    @override
    def lives_for(self) -> float | None:
        latest = self._latest
        return None if latest is None else max(0.0, latest.ends_at - self._clock())

    @override
    def metadata(self, call: Call) -> Mapping[str, str]:
        if not self._login.attests:
            return {}
        self.current(call)
        return self.metadata_already()

    @override
    def metadata_already(self) -> Mapping[str, str]:
        latest = self._latest
        return latest.metadata if latest and self._login.attests else {}

    def _valid_token(self, call: Call, refused: str) -> str:
        """Log in, unless another caller already brought a valid token that is not `refused`."""
        latest = self._latest
        if latest is None or latest.token == refused or self._clock() >= latest.ends_at:
            latest = self._latest = self._log_in(call)
        return latest.token

    def _replace_early(self, call: Call, latest: _CurrentToken) -> None:
        try:
            self._latest = self._log_in(call)
        except (Cancelled, DeadlineExceeded):
            raise
        except PluginError as fault:
            log.warning(LogEvent("the token could not be replaced yet", reason=fault.fact))
            now = self._clock()
            later = now + (latest.ends_at - now) * _POSTPONED
            self._latest = _CurrentToken(latest.token, later, latest.ends_at, latest.metadata)

    def _log_in(self, call: Call) -> _CurrentToken:
        request = self._login.request()
        asked_at = self._clock()
        answer = self._requests.send(call, self._server.request(request.path, request.body))
        auth = answer.body.get("auth")
        token = auth.get("client_token") if isinstance(auth, dict) else None
        seconds = auth.get("lease_duration") if isinstance(auth, dict) else None
        if not isinstance(token, str) or not token or not is_header(token) or not isinstance(seconds, int):
            raise NotConfigured(
                "Vault's answer to the login contains no token",
                says="vault",
                remedy="Check that Vault itself answers at keys.vault.address, and that the role has no second factor",
            )
        log.info(LogEvent("logged in to vault"))
        metadata = _texts(auth.get("metadata") if isinstance(auth, dict) else None)
        if seconds <= 0:
            return _CurrentToken(token, float("inf"), float("inf"), metadata)
        return _CurrentToken(token, asked_at + seconds * self._jitter(*_RENEWED_AFTER), asked_at + seconds, metadata)


def _texts(value: object) -> dict[str, str]:
    """Return the entries of `value` that map text to text."""
    pairs = value.items() if isinstance(value, dict) else ()
    return {name: text for name, text in pairs if isinstance(name, str) and isinstance(text, str)}


def tokens(server: VaultServer, requests: Requests, clock: Clock = time.monotonic, jitter: Jitter = uniform) -> Tokens:
    """Return the source of tokens for `server`, by its auth method."""
    auth = server.auth
    if isinstance(auth, StaticToken):
        return GivenToken(auth)
    if isinstance(auth, TokenFile):
        return FileTokens(auth)
    return LoginTokens(auth, requests, server, clock, jitter)


class Authenticated:
    """Sends requests with this process's token, and once more with a new token if the first is refused.

    Objects of others are sealed under keys that this process may not use, and there may be many of them. So a login
    that did not help prevents further ones for a while, whichever key is refused next. An exception is what the
    current token was allowed before: if that is refused, the token itself has ended.
    """

    def __init__(self, requests: Requests, tokens: Tokens, clock: Clock = time.monotonic) -> None:
        self._requests = requests
        self._tokens = tokens
        self._clock = clock
        self._lock = threading.Lock()
        self._allowed: tuple[str, set[tuple[str, object]]] = ("", set())
        """A token, and the path and context of each request that it was allowed."""
        self._newest = ""
        """The latest token that replaced a refused one."""
        self._rests_until = 0.0
        self._rest = _FIRST_REST

    def metadata(self, call: Call) -> Mapping[str, str]:
        """Return what Vault said about this process at its login; empty if it said nothing."""
        return self._tokens.metadata(call)

    def metadata_already(self) -> Mapping[str, str]:
        """Return what Vault said at the latest login, without a request; empty before the first one."""
        return self._tokens.metadata_already()

    def ready(self, call: Call) -> None:
        """Log in if there is no valid token yet."""
        self._tokens.current(call)

    def lives_for(self) -> float | None:
        """Return for how many seconds the current token is still valid; None if that is unknown."""
        return self._tokens.lives_for()

    def send(self, call: Call, request: VaultRequest, *, log_in_again: bool = True) -> VaultResponse:
        """Send `request` with a token, as `Requests.send` does.

        Args:
            call: the call that waits for the answer.
            request: what to send.
            log_in_again: whether a refused token is replaced and the request sent once more.

        Raises:
            TokenRefused: Vault refused the token, and the new one if there was one.
            PluginError: the request or the login failed.
        """
        token = self._tokens.current(call)
        try:
            answer = self._requests.send(call, request, token)
        except TokenRefused:
            if not log_in_again or self._is_futile(request, token):
                raise
            fresh = self._tokens.replacement(call, token)
            if fresh is None:
                raise faults.GIVEN_TOKEN_REFUSED.fault(request, VaultResponse(403)) from None
        else:
            self._record_allowed(request, token)
            return answer
        self._record_replaced(fresh)
        answer = self._requests.send(call, request, fresh)
        self._record_allowed(request, fresh, replaced=True)
        return answer

    def _is_futile(self, request: VaultRequest, token: str) -> bool:
        """Return whether another token than the refused `token` would not help."""
        with self._lock:
            allowed_to, allowed = self._allowed
            if token == allowed_to and _identity(request) in allowed:
                return False
            return token == self._newest and self._clock() < self._rests_until

    def _record_replaced(self, fresh: str) -> None:
        """Begin a time without logins, which ends at once if the `fresh` token is not refused."""
        with self._lock:
            if fresh == self._newest:
                return
            self._newest = fresh
            self._rests_until = self._clock() + self._rest
            self._rest = min(2 * self._rest, _LONGEST_REST)

    def _record_allowed(self, request: VaultRequest, token: str, *, replaced: bool = False) -> None:
        with self._lock:
            if token != self._allowed[0]:
                self._allowed = (token, set())
            self._allowed[1].add(_identity(request))
            if replaced:
                self._rests_until, self._rest = 0.0, _FIRST_REST


def _identity(request: VaultRequest) -> tuple[str, object]:
    """Return what a policy decides on: the path, and the context that it can be bound to."""
    return request.path, (request.body or {}).get("context")
