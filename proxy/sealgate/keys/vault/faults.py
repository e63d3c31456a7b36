"""Which error follows from an answer of Vault or from a missing one, and how often the request is tried.

This is the table of docs/vault.md, "When Vault does not answer as hoped". The server's own text selects a row and is
not shown, because it can quote what was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sealgate.errors import NotConfigured, NotPermitted, PluginError, Tampered, TimedOut, Unavailable
from sealgate.keys.vault.formats import Unanswered, VaultRequest, VaultResponse


class TokenRefused(NotPermitted):
    """Status 403: the token has expired, or its policies do not allow the request. Vault does not say which."""


class ContextMissing(NotConfigured):
    """A request without a context used a derived key, which proves that the key is derived."""


class VersionTooOld(NotConfigured):
    """The key version is below the key's `min_decryption_version`."""


@dataclass(frozen=True, slots=True)
class FaultRule:
    """One row of the table.

    `fact` and `remedy` may contain `{server}`, `{mount}`, `{key}` and `{version}` of the request, and `{status}`.
    """

    error: type[PluginError]
    fact: str
    remedy: str = ""
    tries: int = 1
    """How often the request is sent in all, within the time of the call."""
    outage: bool = False
    """Whether the server is down for all callers. They wait together until it answers, and `tries` does not count."""
    pause: float = 0.1
    """The longest wait before the second try, in seconds. It doubles for each further try."""

    def fault(self, request: VaultRequest, outcome: VaultResponse | Unanswered) -> PluginError:
        """Return the error of this row for `request`, which ended in `outcome`."""
        names = {name: getattr(request, name) for name in ("server", "mount", "key", "version")}
        names["status"] = outcome.status if isinstance(outcome, VaultResponse) else 0
        return self.error(self.fact.format(**names), says="vault", remedy=self.remedy.format(**names))


_OPERATOR = "Ask Vault's operator"
_AGAIN = "Try again; if this continues, ask Vault's operator"
_POLICY = "Give the role the policy for its task: policies/vault has one each for saving, loading and rewrapping"

GIVEN_TOKEN_REFUSED = FaultRule(
    TokenRefused,
    "Vault refuses the token for key {key} in {mount}: it has expired, or its policies do not allow this operation",
    "Put a valid token where keys.vault.auth reads it, with a policy from policies/vault",
)
"""Status 403 where the token was given to this process, so that it cannot log in again."""

UNANSWERED: Mapping[Unanswered, FaultRule] = {
    Unanswered.NO_CONNECTION: FaultRule(Unavailable, "Vault at {server} cannot be reached", _AGAIN, outage=True),
    Unanswered.TIMEOUT: FaultRule(TimedOut, "Vault at {server} did not answer in time", _AGAIN, outage=True),
    Unanswered.TLS: FaultRule(
        NotConfigured,
        "the certificate of Vault at {server} is not trusted",
        "Set VAULT_CACERT to a PEM file with the authority that issued Vault's certificate",
    ),
    Unanswered.ADDRESS: FaultRule(
        NotConfigured,
        "the address of Vault is not a URL",
        "Set keys.vault.address or VAULT_ADDR to an http or https URL",
    ),
    Unanswered.CA_FILE: FaultRule(
        NotConfigured, "the file of trusted certificates cannot be loaded", "Set VAULT_CACERT to a readable PEM file"
    ),
    Unanswered.NOT_VAULT: FaultRule(
        NotConfigured,
        "the server at {server} does not answer as Vault does",
        "Check keys.vault.address, and the proxies and load balancers in front of Vault",
    ),
}

LOGIN: tuple[tuple[int, str, FaultRule], ...] = (
    (
        400,
        "",
        FaultRule(
            NotPermitted,
            "Vault refuses the login",
            "Check role, audience and mount in keys.vault.auth against the configuration of that auth method in Vault",
        ),
    ),
    (
        403,
        "",
        # Vault also answers 403 when it cannot reach the cluster for a TokenReview, which may work at the next try.
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
        # A standby may not yet know of a rotation.
        FaultRule(
            NotConfigured,
            "Vault has no version {version} of key {key}",
            "Configure the Vault that the artifact was saved with; if a backup of Vault was restored, ask its operator",
            tries=4,
            pause=0.5,
        ),
    ),
    (
        400,
        "too old",
        FaultRule(
            VersionTooOld,
            "version {version} of key {key} is below the key's min_decryption_version",
            "Ask Vault's operator to lower min_decryption_version, and rewrap the artifact before it is raised again",
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
        FaultRule(NotConfigured, "key {key} is soft-deleted", "Ask Vault's operator to restore the key"),
    ),
    (
        400,
        "missing 'context'",
        FaultRule(
            ContextMissing,
            "key {key} is derived, but the data key has no context",
            "Set keys.vault.context, or use a key that is not derived",
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
    (
        403,
        "",
        FaultRule(
            TokenRefused, "Vault does not allow this role to use key {key} in {mount} for this operation", _POLICY
        ),
    ),
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
    (
        401,
        "",
        FaultRule(NotConfigured, "a proxy in front of Vault at {server} requires credentials (status 401)", _OPERATOR),
    ),
    (
        412,
        "",
        FaultRule(Unavailable, "this Vault server has not caught up with the others (status 412)", _AGAIN, tries=5),
    ),
    (
        429,
        "",
        FaultRule(
            Unavailable,
            "Vault limits the rate of requests (status 429)",
            "Raise the rate-limit quota in Vault, or keys.cache.ttl",
            tries=5,
            pause=1.0,
        ),
    ),
    (501, "", FaultRule(NotConfigured, "Vault is not initialised", _OPERATOR)),
    (503, "sealed", FaultRule(Unavailable, "Vault is sealed", "Ask Vault's operator to unseal it", outage=True)),
    (503, "", FaultRule(Unavailable, "Vault does not serve requests now (status 503)", _AGAIN, outage=True)),
)

PASSING = FaultRule(Unavailable, "Vault failed (status {status})", _AGAIN, tries=3)
"""Any other status from 472 on, for example during a change of leader or from a load balancer without servers."""
LASTING = FaultRule(
    NotConfigured,
    "Vault rejects the request (status {status})",
    "Check keys.vault.address, mount and key; Vault's audit log has the reason",
)
"""Any other status, including redirects: they are not followed, because the token must not go to another address."""
_FIRST_PASSING = 472
_PARTLY_DONE = 400
"""The status with which some servers answer a batch if some of its items failed. Each item then has its own error."""


def rule(outcome: VaultResponse | Unanswered, request: VaultRequest) -> FaultRule | None:
    """Return the row for `request`, which ended in `outcome`; None if the server carried it out."""
    if isinstance(outcome, Unanswered):
        return UNANSWERED[outcome]
    if outcome.status in (200, 204) or (outcome.status == _PARTLY_DONE and "batch_results" in outcome.data):
        return None
    text = outcome.text
    for status, mark, row in (*LOGIN, *ANY) if request.is_login else (*KEYS, *ANY):
        if status == outcome.status and mark in text:
            return row
    return PASSING if outcome.status >= _FIRST_PASSING else LASTING


# --- errors that no status expresses ---------------------------------------------------------------------


def item_fault(text: str, request: VaultRequest) -> PluginError:
    """Return the error for one item of a batch that the server refused with `text`, whatever the batch's status."""
    answer = VaultResponse(400, {"errors": [text]})
    return (rule(answer, request) or LASTING).fault(request, answer)


def not_vault(server: str) -> PluginError:
    """Return the error for an answer of `server` that Vault does not give."""
    return UNANSWERED[Unanswered.NOT_VAULT].fault(VaultRequest("", server=server), Unanswered.NOT_VAULT)


def unproven(request: VaultRequest) -> NotConfigured:
    """Return the error where this process cannot verify that a key is derived, so a context may protect nothing."""
    return NotConfigured(
        f"cannot verify that key {request.key} is derived: the role may neither use it without a context nor read it",
        says="vault",
        remedy=f"Add read on {request.mount}/keys/{request.key} to the role's policy",
    )


def underived(key: str) -> NotConfigured:
    """Return the error for a context with a key that is not derived, where it would protect nothing."""
    return NotConfigured(
        f"key {key} is not derived, so Vault would ignore the context",
        says="vault",
        remedy="Create a key with derived=true, or remove keys.vault.context",
    )
