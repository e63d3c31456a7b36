"""Which error follows from an answer of Vault or from a missing one, and how often the request is tried.

This is the table of docs/vault.md, "When Vault does not answer as hoped". The server's own text selects a row and is
not shown, because it can quote what was sent.
"""

from __future__ import annotations

from sealgate.errors import NotConfigured, NotPermitted, PluginError, Tampered, Unavailable
from sealgate.keys.vault.fault_rule import (
    AGAIN,
    ContextMissing,
    DataKeysUnsupported,
    FaultRule,
    TokenRefused,
    VersionTooOld,
)
from sealgate.keys.vault.formats import Unanswered, VaultRequest, VaultResponse
from sealgate.keys.vault.no_answer import UNANSWERED, rule_without_answer

_OPERATOR = "Ask Vault's operator"
_POLICY = "Give the role the policy for its task: policies/vault has one each for saving, loading and rewrapping"

GIVEN_TOKEN_REFUSED = FaultRule(
    TokenRefused,
    "Vault refuses the token for key {key} in {mount}: it has expired, or its policies do not allow this operation",
    "Put a valid token where keys.vault.auth reads it, with a policy from policies/vault",
)
"""Status 403 where the token was given to this process, so that it cannot log in again."""

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

_NOT_ALLOWED = FaultRule(
    TokenRefused, "Vault does not allow this role to use key {key} in {mount} for this operation", _POLICY
)
_NO_KEY = FaultRule(NotConfigured, "Vault has no key {key} in {mount}", "Check keys.vault.key and keys.vault.mount")

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
        _NO_KEY,
    ),
    (400, "unknown key type", _NO_KEY),
    (
        400,
        "ryption not supported for key type",
        FaultRule(
            NotConfigured,
            "key {key} is of a type that cannot wrap data keys, as the key that signs audit trails is",
            "Set keys.vault.key to a key of type aes256-gcm96",
        ),
    ),
    (
        400,
        "does not support signing",
        FaultRule(
            NotConfigured,
            "key {key} is of a type that cannot sign, as the key that seals artifacts is",
            "Set audit.signingKey to a key of type ed25519",
        ),
    ),
    (
        400,
        "signing key not found",
        FaultRule(
            NotConfigured,
            "Vault has no key {key} in {mount}",
            "Create it with vault write -f {mount}/keys/{key} type=ed25519, or correct audit.signingKey",
        ),
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
        "failed to fetch external key",
        FaultRule(
            NotConfigured,
            "OpenBao may not use the external key behind key {key}, or there is none",
            "Ask OpenBao's operator to grant it to the mount {mount}, in sys/external-keys",
        ),
    ),
    (
        400,
        "with external key",
        # The service may be away. A changed data key has this text too, in the words of that service.
        FaultRule(
            Unavailable,
            "the HSM or KMS behind key {key} did not carry out the request",
            "Try again; if this continues for all artifacts, ask Vault's operator about that service; if for one, "
            "restore the object from a copy that was not changed",
            tries=3,
            pause=0.5,
        ),
    ),
    (
        500,
        "external key not found or no factory",
        FaultRule(
            DataKeysUnsupported,
            "Vault can only encrypt and decrypt with key {key}, because it is in an HSM or KMS",
            "Set keys.vault.dataKeys: local, and give the role the policy for it: docs/vault.md",
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
        _NOT_ALLOWED,
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
        FaultRule(Unavailable, "this Vault server has not caught up with the others (status 412)", AGAIN, tries=5),
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
    (503, "", FaultRule(Unavailable, "Vault does not serve requests now (status 503)", AGAIN, outage=True)),
)

PASSING = FaultRule(Unavailable, "Vault failed (status {status})", AGAIN, tries=3)
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
        return rule_without_answer(outcome, request)
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


def not_vault(request: VaultRequest) -> PluginError:
    """Return the error for an answer to `request` that Vault does not give."""
    return UNANSWERED[Unanswered.NOT_VAULT].fault(request, Unanswered.NOT_VAULT)


def no_key(request: VaultRequest) -> PluginError:
    """Return the error for `request`, whose key does not exist."""
    return _NO_KEY.fault(request, VaultResponse(400))


def refused_or_absent(request: VaultRequest, refused: TokenRefused, usable: str | None) -> TokenRefused:
    """Return the error for `request`, which Vault refused, where no right of the role names its key.

    Args:
        request: the request.
        refused: its error so far.
        usable: the keys that the role may use in this way, in words; empty for none, None if that is unknown.
    """
    if usable is None:
        return TokenRefused(f"{refused.fact}, or there is no such key", says=refused.says, remedy=refused.remedy)
    # Vault answered with the role's rights, so the token is valid.
    others = f"it may use {usable}" if usable else "it may use no key"
    return TokenRefused(
        f"{_NOT_ALLOWED.fault(request, VaultResponse(403)).fact}, or there is no such key; {others} for this operation",
        says=refused.says,
        remedy=f"Check keys.vault.mount, and the key that keys.vault or a policy names. {_NOT_ALLOWED.remedy}",
    )


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
