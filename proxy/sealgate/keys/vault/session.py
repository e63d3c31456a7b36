"""Who this process is to Vault: how it gets a token, and how the token stays good.

One login a process, by whoever needs it first, and a fresh one near the end of the token's life. A token is
never looked up or renewed: both are requests, and the login's own answer says how long it lasts.
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
from sealgate.keys.vault.faults import TokenRefused, VaultRequest, VaultResponse
from sealgate.keys.vault.login import Auth, Login, StaticToken, TokenFile, is_header, read_secret
from sealgate.keys.vault.requests import Clock, Jitter, Requests, uniform

log = logging.getLogger("sealgate.vault")

_RENEWED_AFTER = (0.7, 0.9)
"""The part of its life after which a token is replaced: somewhere between, so that pods do not come at once."""
_POSTPONED = 0.25
"""The part of what is left after which a failed replacement is tried again."""
_FUTILE_FOR = 5.0
"""Seconds in which a path that was refused to a fresh token too causes no further login."""


class Tokens(Protocol):
    """Where the token of the next request comes from."""

    def current(self, call: Call) -> str:
        """A token that is good as far as this process knows."""

    def replacement(self, call: Call, refused: str) -> str | None:
        """Another token than `refused`; None if there is no other to be had."""

    def lives_for(self) -> float | None:
        """Seconds that the token which was given last still lives; None if nobody said so."""

    def metadata(self, call: Call) -> Mapping[str, str]:
        """What Vault told of this process when it gave the token; empty where it told nothing."""


class GivenToken(Tokens):
    """The one token that there is."""

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


class FileTokens(Tokens):
    """The token that a file holds now: read anew when the file is another, or its token was refused."""

    def __init__(self, file: TokenFile) -> None:
        self._path = file.path
        self._seen: tuple[int, int, int] | None = None
        self._token = ""
        self._lock = threading.Lock()

    @override
    def current(self, call: Call) -> str:
        with self._lock:
            if self._seen is None or self._seen != self._state():
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

    def _read(self) -> None:
        self._seen = self._state()
        self._token = read_secret(self._path, "keys.vault.auth.path")

    def _state(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size


@dataclass(frozen=True, slots=True)
class _CurrentToken:
    token: str = field(repr=False)
    replaced_at: float
    ends_at: float
    metadata: Mapping[str, str] = field(default_factory=dict)


class LoginTokens(Tokens):
    """Tokens by login: one at a time for the whole process, whoever asks for it."""

    def __init__(
        self, login: Login, requests: Requests, server: str, clock: Clock = time.monotonic, jitter: Jitter = uniform
    ) -> None:
        self._login = login
        self._requests = requests
        self._server = server
        self._clock = clock
        self._jitter = jitter
        self._held: _CurrentToken | None = None
        self._replacing = threading.Lock()
        self._flights: SingleFlight[str, str] = SingleFlight()

    @override
    def current(self, call: Call) -> str:
        held, now = self._held, self._clock()
        if held is None or now >= held.ends_at:
            return self._flights.run(call, "", lambda: self._unless_held(call, refused=""))
        if now >= held.replaced_at and self._replacing.acquire(blocking=False):
            try:
                self._replace_early(call, held)
            finally:
                self._replacing.release()
        return held.token if self._held is None else self._held.token

    @override
    def replacement(self, call: Call, refused: str) -> str | None:
        return self._flights.run(call, "", lambda: self._unless_held(call, refused))

    @override
    def lives_for(self) -> float | None:
        held = self._held
        return None if held is None else max(0.0, held.ends_at - self._clock())

    @override
    def metadata(self, call: Call) -> Mapping[str, str]:
        if not self._login.attests:
            return {}
        self.current(call)
        held = self._held
        return held.metadata if held else {}

    def _unless_held(self, call: Call, refused: str) -> str:
        """A login, unless somebody who was quicker has brought a token."""
        held = self._held
        if held is None or held.token == refused or self._clock() >= held.ends_at:
            held = self._held = self._log_in(call)
        return held.token

    def _replace_early(self, call: Call, held: _CurrentToken) -> None:
        try:
            self._held = self._log_in(call)
        except (Cancelled, DeadlineExceeded):
            raise
        except PluginError as fault:
            # The token that is held is still good.
            log.warning("no new token yet: %s", fault.fact)
            now = self._clock()
            later = now + (held.ends_at - now) * _POSTPONED
            self._held = _CurrentToken(held.token, later, held.ends_at, held.metadata)

    def _log_in(self, call: Call) -> _CurrentToken:
        asked = self._login.request()
        begun = self._clock()
        answer = self._requests.send(call, VaultRequest(asked.path, asked.body, self._server))
        auth = answer.body.get("auth")
        token = auth.get("client_token") if isinstance(auth, dict) else None
        seconds = auth.get("lease_duration") if isinstance(auth, dict) else None
        if not isinstance(token, str) or not token or not is_header(token) or not isinstance(seconds, int):
            raise NotConfigured(
                "Vault's answer to the login holds no token",
                says="vault",
                remedy="Check that nothing but Vault answers at its address, and that the role needs no second factor",
            )
        log.info("logged in to vault")
        metadata = _texts(auth.get("metadata") if isinstance(auth, dict) else None)
        if seconds <= 0:
            return _CurrentToken(token, float("inf"), float("inf"), metadata)
        return _CurrentToken(token, begun + seconds * self._jitter(*_RENEWED_AFTER), begun + seconds, metadata)


def _texts(found: object) -> dict[str, str]:
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: text for name, text in pairs if isinstance(name, str) and isinstance(text, str)}


def tokens(
    auth: Auth, requests: Requests, server: str, clock: Clock = time.monotonic, jitter: Jitter = uniform
) -> Tokens:
    """The source of tokens for a method."""
    if isinstance(auth, StaticToken):
        return GivenToken(auth)
    if isinstance(auth, TokenFile):
        return FileTokens(auth)
    return LoginTokens(auth, requests, server, clock, jitter)


class Authenticated:
    """Requests with this process's token, and once more with a fresh one where the first was refused."""

    def __init__(self, requests: Requests, tokens: Tokens, clock: Clock = time.monotonic) -> None:
        self._requests = requests
        self._tokens = tokens
        self._clock = clock
        self._futile: Mapping[str, float] = {}

    def metadata(self, call: Call) -> Mapping[str, str]:
        """What Vault said about this process at its login; empty where it said nothing."""
        return self._tokens.metadata(call)

    def ready(self, call: Call) -> None:
        """Have a token at hand."""
        self._tokens.current(call)

    def lives_for(self) -> float | None:
        """Seconds that the current token still lives; None if that is not known."""
        return self._tokens.lives_for()

    def send(self, call: Call, request: VaultRequest, *, log_in_again: bool = True) -> VaultResponse:
        """See `Requests.send`."""
        token = self._tokens.current(call)
        try:
            answer = self._requests.send(call, request, token)
        except TokenRefused:
            if not log_in_again or self._clock() < self._futile.get(request.path, 0):
                raise
            fresh = self._tokens.replacement(call, token)
            if fresh is None:
                raise faults.GIVEN_TOKEN_REFUSED.fault(request, VaultResponse(403)) from None
        else:
            self._note(request.path, futile=False)
            return answer
        try:
            return self._requests.send(call, request, fresh)
        except TokenRefused:
            # It is the policy: a login for each of these would only be load.
            self._note(request.path, futile=True)
            raise

    def _note(self, path: str, *, futile: bool) -> None:
        if futile or path in self._futile:
            now = self._clock()
            kept = {other: until for other, until in self._futile.items() if until > now and other != path}
            self._futile = {**kept, path: now + _FUTILE_FOR} if futile else kept
