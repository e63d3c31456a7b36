"""Which error follows if a request has no answer: the rows for the network, for TLS and for certificates."""

from __future__ import annotations

from collections.abc import Mapping

from sealgate.errors import NotConfigured, TimedOut, Unavailable
from sealgate.keys.vault.fault_rule import AGAIN, FaultRule
from sealgate.keys.vault.formats import Unanswered, VaultRequest

_ADDRESS = "keys.vault.address or VAULT_ADDR"

UNANSWERED: Mapping[Unanswered, FaultRule] = {
    Unanswered.NO_CONNECTION: FaultRule(Unavailable, "Vault at {server} cannot be reached", AGAIN, outage=True),
    Unanswered.TIMEOUT: FaultRule(TimedOut, "Vault at {server} did not answer in time", AGAIN, outage=True),
    Unanswered.ADDRESS: FaultRule(
        NotConfigured, "the address of Vault is not a URL", f"Set {_ADDRESS} to an http or https URL"
    ),
    Unanswered.AUTHORITIES: FaultRule(
        NotConfigured,
        "the certificates in {authorities} cannot be loaded",
        "Put certificates in PEM there that this process can read",
    ),
    Unanswered.UNKNOWN_AUTHORITY: FaultRule(
        NotConfigured,
        "the certificate of Vault at {server} was not issued by an authority in {authorities}",
        "Add the certificate of the authority that issued it to {authorities}",
    ),
    Unanswered.HOST_NAME: FaultRule(
        NotConfigured,
        "the certificate of Vault at {server} is valid, but not for this host",
        f"Use a host from the certificate in {_ADDRESS}, or issue a certificate with this host as a subject "
        "alternative name",
    ),
    Unanswered.EXPIRED: FaultRule(
        NotConfigured,
        "the certificate of Vault at {server}, or that of its authority, has expired",
        "Renew the certificate; if it has not expired, correct the clock of this machine",
    ),
    Unanswered.NOT_YET_VALID: FaultRule(
        NotConfigured,
        "the certificate of Vault at {server}, or that of its authority, is not valid yet",
        "Correct the clock of this machine or of the one that issued the certificate",
    ),
    Unanswered.WRONG_USE: FaultRule(
        NotConfigured,
        "the certificate of Vault at {server} was not issued for a server, or not by an authority",
        "Issue it with the extended key usage serverAuth, by certificates with CA:TRUE",
    ),
    Unanswered.WEAK: FaultRule(
        NotConfigured,
        "the key or the signature of the certificate of Vault at {server} is too weak",
        "Issue it with an RSA key of 2048 bits or a key on P-256, and with SHA-256",
    ),
    Unanswered.BAD_CERTIFICATE: FaultRule(
        NotConfigured,
        "the certificate of Vault at {server} is not valid",
        "Check it with openssl verify -purpose sslserver",
    ),
    Unanswered.PLAIN_HTTP: FaultRule(
        NotConfigured,
        "the server at {server} speaks http without TLS, but the address begins with https://",
        f"Begin {_ADDRESS} with http:// if that server is on this machine, such as Vault Agent; otherwise name a port "
        "with TLS",
    ),
    Unanswered.NOT_TLS: FaultRule(
        NotConfigured,
        "the server at {server} speaks neither TLS nor http",
        f"Check host and port in {_ADDRESS}",
    ),
    Unanswered.NEEDS_TLS: FaultRule(
        NotConfigured,
        "the server at {server} expects TLS, but the address begins with http://",
        f"Begin {_ADDRESS} with https://",
    ),
    Unanswered.CLIENT_CERTIFICATE: FaultRule(
        NotConfigured,
        "Vault at {server} requires a client certificate, which Sealgate does not have",
        "Use a listener of Vault without tls_require_and_verify_client_cert",
    ),
    Unanswered.HANDSHAKE: FaultRule(
        NotConfigured,
        "the server at {server} refuses the TLS handshake",
        f"Check the host in {_ADDRESS}, and that the server accepts TLS 1.2 or 1.3",
    ),
    Unanswered.NOT_VAULT: FaultRule(
        NotConfigured,
        "the server at {server} does not answer as Vault does",
        "Check keys.vault.address, and the proxies and load balancers in front of Vault",
    ),
}

_NOT_PUBLIC = FaultRule(
    NotConfigured,
    "the certificate of Vault at {server} was not issued by a public authority",
    "Get the certificate of the authority that issued it. Put it into keys.vault.caBundle, or name its PEM file in "
    "VAULT_CACERT",
)
"""An unknown authority where no other certificates than those of the public authorities are configured."""


def rule_without_answer(reason: Unanswered, request: VaultRequest) -> FaultRule:
    """Return the row for `request`, which has no answer because of `reason`."""
    if reason is Unanswered.UNKNOWN_AUTHORITY and not request.authorities:
        return _NOT_PUBLIC
    return UNANSWERED[reason]
