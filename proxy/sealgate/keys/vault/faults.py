"""What Vault may answer, and what follows: again or not, how often, and which error the caller gets.

The one table of docs/vault.md, "Failures". The server's own text decides between rows and goes no further:
it can quote what was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sealgate.errors import NotConfigured, NotPermitted, PluginError, Tampered, TimedOut, Unavailable

IGNORED_PARAMETER = "ignored"
"""Vault drops a parameter that it does not know, and says so in a warning that holds this word."""


@dataclass(frozen=True, slots=True)
class VaultResponse:
    """What the server answered to one request."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """May hold data keys and tokens."""
    retry_after: float = 0.0
    """Seconds, as the server asks; 0 where it does not."""

    @property
    def text(self) -> str:
        """The server's errors in lower case, to tell rows apart by; never for a reader."""
        errors = self.body.get("errors")
        return " ".join(str(error) for error in errors).lower() if isinstance(errors, list) else ""

    @property
    def data(self) -> Mapping[str, Any]:
        """The part of the answer that a secrets engine fills."""
        data = self.body.get("data")
        return data if isinstance(data, dict) else {}


class Unanswered(Enum):
    """Why there is no answer."""

    NO_CONNECTION = "no connection"
    TIMEOUT = "timeout"
    TLS = "TLS"
    ADDRESS = "address"
    CA_FILE = "CA file"
    NOT_VAULT = "not Vault's"


@dataclass(frozen=True, slots=True)
class VaultRequest:
    """One request, and what an error about it names."""

    path: str
    """Without `/v1/`."""
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    """None asks for what is there (GET)."""
    server: str = ""
    mount: str = ""
    key: str = ""
    version: int = 0
    """Of the wrapped data key, where there is one."""
    traceparent: str = ""
    """The W3C trace context that the server is asked in; empty without one."""

    @property
    def is_login(self) -> bool:
        """Whether this asks for a token."""
        return self.path.startswith("auth/") and self.path.endswith("/login")


class TokenRefused(NotPermitted):
    """403: the token has ended, or its policies do not allow this. The two look the same."""


class ContextMissing(NotConfigured):
    """A derived key was asked for something without a context. A proof that it is derived."""


class VersionTooOld(NotConfigured):
    """The key opens nothing any more that was wrapped under this version."""


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One row. `fact` and `remedy` may name fields of `Request`, and `status`, in braces."""

    error: type[PluginError]
    fact: str
    remedy: str = ""
    tries: int = 1
    """How often in all, while the call's time lasts."""
    outage: bool = False
    """The server serves nobody: the others need not find out by themselves, and `tries` does not count."""
    pause: float = 0.1
    """Seconds before the second try, at most; doubled for each further one."""

    def fault(self, request: VaultRequest, outcome: VaultResponse | Unanswered) -> PluginError:
        """The error of this row for what came of one request."""
        names = {name: getattr(request, name) for name in ("server", "mount", "key", "version")}
        names["status"] = outcome.status if isinstance(outcome, VaultResponse) else 0
        return self.error(self.fact.format(**names), says="vault", remedy=self.remedy.format(**names))


_OPERATOR = "Ask Vault's operator"
_AGAIN = "Try again; if it stays so, ask Vault's operator"
_POLICY = "Give the role the policy for what it does: policies/vault has those for saving, loading and rewrapping"

GIVEN_TOKEN_REFUSED = FaultRule(
    TokenRefused,
    "Vault refuses the token for key {key} in {mount}: it has ended, or its policies do not allow this",
    "Put a good one where keys.vault.auth has it from; policies/vault has what it needs",
)
"""403, and there is nobody to log in as."""

UNANSWERED: Mapping[Unanswered, FaultRule] = {
    Unanswered.NO_CONNECTION: FaultRule(Unavailable, "Vault at {server} cannot be reached", _AGAIN, outage=True),
    Unanswered.TIMEOUT: FaultRule(TimedOut, "Vault at {server} does not answer in time", _AGAIN, outage=True),
    Unanswered.TLS: FaultRule(
        NotConfigured,
        "the certificate of Vault at {server} is not trusted",
        "Set VAULT_CACERT to the certificates of Vault's authority",
    ),
    Unanswered.ADDRESS: FaultRule(
        NotConfigured, "the address of Vault is none", "Set keys.vault.address to an http or https address"
    ),
    Unanswered.CA_FILE: FaultRule(
        NotConfigured, "the file of trusted certificates cannot be used", "Set VAULT_CACERT to a readable PEM file"
    ),
    Unanswered.NOT_VAULT: FaultRule(
        NotConfigured,
        "what answers at {server} does not answer as Vault does",
        "Check keys.vault.address, and what stands before it",
    ),
}

LOGIN: tuple[tuple[int, str, FaultRule], ...] = (
    (
        400,
        "",
        FaultRule(
            NotPermitted,
            "Vault refuses the login",
            "Check role, audience and mount in keys.vault.auth against Vault's own configuration of that method",
        ),
    ),
    (
        403,
        "",
        # Vault says the same when it cannot ask the cluster who this is, which passes.
        FaultRule(
            NotPermitted,
            "Vault refuses the login",
            "Check that the role in keys.vault.auth admits this service account, namespace and audience",
            tries=3,
            pause=0.5,
        ),
    ),
    (
        404,
        "",
        FaultRule(
            NotConfigured,
            "Vault has no such auth mount or namespace",
            "Check keys.vault.auth.mount and keys.vault.namespace",
        ),
    ),
)

KEYS: tuple[tuple[int, str, FaultRule], ...] = (
    (
        400,
        "message authentication failed",
        FaultRule(
            Tampered,
            "the wrapped data key does not open under key {key}",
            "Restore the object from a copy that was not changed, or configure the Vault that it was saved with",
        ),
    ),
    (
        400,
        "version is too new",
        # A standby may be behind a rotation.
        FaultRule(
            NotConfigured,
            "Vault has no version {version} of key {key}",
            "Configure the Vault that it was saved with; after a restored backup, ask Vault's operator",
            tries=4,
            pause=0.5,
        ),
    ),
    (
        400,
        "too old",
        FaultRule(
            VersionTooOld,
            "version {version} of key {key} lies below the key's min_decryption_version",
            "Have Vault's operator lower min_decryption_version, then rewrap before it is raised again",
        ),
    ),
    (
        400,
        "encryption key not found",
        FaultRule(NotConfigured, "Vault has no key {key} in {mount}", "Check keys.vault.key and keys.vault.mount"),
    ),
    (
        400,
        "soft-deleted",
        FaultRule(NotConfigured, "key {key} is deleted, and can be restored", "Have Vault's operator restore it"),
    ),
    (
        400,
        "missing 'context'",
        FaultRule(
            ContextMissing,
            "key {key} is derived, and there is no context for it",
            "Set keys.vault.context, or name a key that is not derived",
        ),
    ),
    (
        400,
        "invalid ciphertext",
        FaultRule(
            Tampered,
            "the wrapped data key in the header is damaged",
            "Restore the object from a copy that was not changed",
        ),
    ),
    (403, "", FaultRule(TokenRefused, "Vault does not allow this role to use key {key} in {mount} for this", _POLICY)),
    (
        404,
        "",
        FaultRule(
            NotConfigured,
            "Vault has no key {key} in {mount}, or no such mount or namespace",
            "Check keys.vault.key, mount and namespace",
        ),
    ),
)

ANY: tuple[tuple[int, str, FaultRule], ...] = (
    (401, "", FaultRule(NotConfigured, "something before Vault at {server} asks for credentials", _OPERATOR)),
    (412, "", FaultRule(Unavailable, "this Vault server is behind the others", _AGAIN, tries=5)),
    (
        429,
        "",
        FaultRule(
            Unavailable,
            "Vault has had too many requests from here",
            "Raise the rate-limit quota, or keys.cache.ttl",
            tries=5,
            pause=1.0,
        ),
    ),
    (501, "", FaultRule(NotConfigured, "Vault is not initialised", _OPERATOR)),
    (503, "sealed", FaultRule(Unavailable, "Vault is sealed", "Have Vault's operator unseal it", outage=True)),
    (503, "", FaultRule(Unavailable, "Vault does not serve now (status 503)", _AGAIN, outage=True)),
)

PASSING = FaultRule(Unavailable, "Vault failed (status {status})", _AGAIN, tries=3)
"""Any other status from 472 on: a leader change, a standby, a load balancer without a server behind it."""
LASTING = FaultRule(
    NotConfigured,
    "Vault does not take the request (status {status})",
    "Check keys.vault.address, mount and key; Vault's audit log has its own text",
)
"""Any other status, a redirect among them: the token is not carried to another address."""
_FIRST_PASSING = 472
_IN_PART = 400
"""What some servers answer to a batch that they carried out but for some of its items; those tell it themselves."""


def rule(outcome: VaultResponse | Unanswered, request: VaultRequest) -> FaultRule | None:
    """The row for what came of a request; None if it was carried out."""
    if isinstance(outcome, Unanswered):
        return UNANSWERED[outcome]
    if outcome.status in (200, 204) or (outcome.status == _IN_PART and "batch_results" in outcome.data):
        return None
    text = outcome.text
    for status, mark, row in (*LOGIN, *ANY) if request.is_login else (*KEYS, *ANY):
        if status == outcome.status and mark in text:
            return row
    return PASSING if outcome.status >= _FIRST_PASSING else LASTING


def item_fault(text: str, request: VaultRequest) -> PluginError:
    """The error for one item of a batch, which the server may refuse with status 200."""
    answer = VaultResponse(400, {"errors": [text]})
    return (rule(answer, request) or LASTING).fault(request, answer)
