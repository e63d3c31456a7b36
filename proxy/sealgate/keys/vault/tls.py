"""Which certificates of Vault are accepted, and what is wrong with the others (docs/vault.md, "Certificates").

Accepted is what Vault's own command line accepts: the chain must end in a trusted certificate, and the host name must
be one of the certificate's subject alternative names. Python's further rules (`VERIFY_X509_STRICT`, which Python 3.13
sets by default) refuse certificates that private authorities issue, such as those without an authority key identifier.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import certifi

from sealgate.keys.vault.formats import Unanswered
from sealgate.keys.vault.server import Authorities

_VERIFIED: tuple[tuple[frozenset[int], Unanswered], ...] = (
    (frozenset({2, 7, 18, 19, 20, 21, 27, 30}), Unanswered.UNKNOWN_AUTHORITY),
    (frozenset({62, 64}), Unanswered.HOST_NAME),
    (frozenset({10}), Unanswered.EXPIRED),
    (frozenset({9}), Unanswered.NOT_YET_VALID),
    (frozenset({24, 25, 26, 32, 79}), Unanswered.WRONG_USE),
    (frozenset({66, 67, 68}), Unanswered.WEAK),
)
"""What OpenSSL's results of a verification (`X509_V_ERR_*`) mean."""
_FOREIGN = (
    "WRONG_VERSION_NUMBER",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
    "UNKNOWN_PROTOCOL",
    "BAD_RECORD_TYPE",
)
"""OpenSSL's reasons for data that is not TLS. Which one it gives depends on its version and on the data."""
_BROKEN = ("BAD_RECORD_MAC", "DECRYPT")
"""Its reasons for a connection that was damaged on the way."""
_ALERT = "\x15\x03"
"""The first bytes of an alert, with which a server answers a request that is not TLS."""
_HTTP = b"HTTP/"
"""How each answer begins."""
_SAYS_TLS = (b"https", b"ssl")
"""Words in the answer (400) of a server that received http where it expects TLS."""


class AuthoritiesUnreadable(OSError):
    """The certificates to trust cannot be read, or are not in PEM."""


def trusting(authorities: Authorities) -> ssl.SSLContext:
    """Return the rules for connections whose server must have a certificate from `authorities`.

    Raises:
        AuthoritiesUnreadable: these certificates cannot be loaded.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    # A certificate that is trusted need not be a root.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        if authorities.pem:
            # Comments between certificates may be in any language, but this function takes ASCII alone.
            context.load_verify_locations(cadata=authorities.pem.encode("ascii", "replace").decode())
        else:
            context.load_verify_locations(cafile=authorities.file or certifi.where())
    except (OSError, ValueError) as error:
        raise AuthoritiesUnreadable from error
    return context


def reason(error: BaseException) -> Unanswered | None:
    """Return what is wrong with TLS if that caused `error`; None if TLS did not cause it."""
    for cause in _causes(error):
        if isinstance(cause, AuthoritiesUnreadable):
            return Unanswered.AUTHORITIES
        if isinstance(cause, http.client.BadStatusLine) and str(cause).startswith(_ALERT):
            return Unanswered.NEEDS_TLS
        if isinstance(cause, ssl.SSLCertVerificationError):
            return next((fault for codes, fault in _VERIFIED if cause.verify_code in codes), Unanswered.BAD_CERTIFICATE)
        if isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return Unanswered.NO_CONNECTION  # the server closed the connection before its certificate was checked
        if isinstance(cause, ssl.SSLError):
            return _of_library(cause.reason or "")
    return None


def _of_library(text: str) -> Unanswered:
    """Return what OpenSSL's reason for an error other than a failed verification means."""
    if "CERTIFICATE_REQUIRED" in text:
        return Unanswered.CLIENT_CERTIFICATE
    if any(mark in text for mark in _BROKEN):
        return Unanswered.NO_CONNECTION
    return Unanswered.NOT_TLS if any(mark in text for mark in _FOREIGN) else Unanswered.HANDSHAKE


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__context__


def expects_tls(status: int, body: bytes) -> bool:
    """Return whether an answer without JSON comes from a server that received http where it expects TLS."""
    return status == http.HTTPStatus.BAD_REQUEST and any(word in body.lower() for word in _SAYS_TLS)


def speaks_http(address: str, timeout: float) -> bool:
    """Return whether the server at an https address answers http without TLS. Send it no token and no path.

    `timeout` is in seconds, for connecting and for the beginning of the answer, which is all that is read.
    """
    parts = urlsplit(address)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), timeout) as connection:
            connection.sendall(b"HEAD / HTTP/1.0\r\n\r\n")
            return connection.recv(len(_HTTP)) == _HTTP
    except OSError:
        return False
