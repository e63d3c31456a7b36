"""Authorities and certificates that tests make, sound and defective."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = dt.timedelta(days=1)
PEM = serialization.Encoding.PEM
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass
class Certificate:
    """A certificate and its key."""

    made: x509.Certificate
    key: Key

    @property
    def pem(self) -> str:
        return self.made.public_bytes(PEM).decode()

    @property
    def key_pem(self) -> str:
        plain = serialization.NoEncryption()
        return self.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, plain).decode()

    def write(self, directory: Path, name: str, *sent_along: Certificate) -> tuple[Path, Path]:
        """Write the certificate, those that the server sends along, and the key; return both paths."""
        chain, key = directory / f"{name}.pem", directory / f"{name}.key"
        chain.write_text("".join(each.pem for each in (self, *sent_along)))
        key.write_text(self.key_pem)
        return chain, key


def authority(
    name: str = "an authority", *, issuer: Certificate | None = None, expired: bool = False, strict: bool = True
) -> Certificate:
    """Make an authority; without `strict`, one that lacks what RFC 5280 asks for beyond the chain itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _builder(subject, issuer.made.subject if issuer else subject, key, -3, -1 if expired else 3)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=strict)
    if strict:
        signs = [False] * 5 + [True, True, False, False]
        usage = x509.KeyUsage(*signs)
        builder = builder.add_extension(usage, critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        if issuer:
            builder = builder.add_extension(_issuer_identifier(issuer), critical=False)
    return Certificate(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def server(
    issuer: Certificate | None,
    *,
    names: Sequence[str] = ("127.0.0.1",),
    begins: int = -1,
    ends: int = 1,
    identifier: bool = True,
    usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
    key: Key | None = None,
) -> Certificate:
    """Make a server's certificate.

    Args:
        issuer: the authority that signs it; None if it signs itself.
        names: the addresses and host names that it is valid for; without any, only its common name is 127.0.0.1.
        begins: the day from which it is valid, counted from today.
        ends: the day until which it is valid.
        identifier: whether it names the key of its authority (the authority key identifier).
        usage: its extended key usage.
        key: its key; by default a new one on the curve P-256.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    builder = _builder(subject, issuer.made.subject if issuer else subject, key, begins, ends)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if identifier and issuer:
        builder = builder.add_extension(_issuer_identifier(issuer), critical=False)
    return Certificate(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def _builder(subject: x509.Name, issuer: x509.Name, key: Key, begins: int, ends: int) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins * DAY)
        .not_valid_after(now + ends * DAY)
    )


def _issuer_identifier(issuer: Certificate) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
