"""The public keys that `sealgate audit` trusts: those in a file, or those of the configured provider."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from sealgate import config
from sealgate.call import Call, Operation
from sealgate.compose.keys import key_provider
from sealgate.errors import BadRequest

_END = b"-----END PUBLIC KEY-----"
_LARGEST_KEYS = 1 << 20
"""Bytes."""


def trusted_keys(pem: Path | None, *, needed: bool) -> list[bytes]:
    """Return the public keys in `pem`, or without it those of the configured provider, 32 bytes each.

    Raises:
        BadRequest: the file cannot be read or holds no Ed25519 public keys, or keys are `needed` and there is no
            configuration.
    """
    if pem is not None:
        return _keys_in(pem)
    if not os.environ.get("SEALGATE_CONFIG") and not os.environ.get("SEALGATE_CONFIG_YAML"):
        if not needed:
            return []
        raise BadRequest(
            "there is no key to check the certificates of the trail with",
            says="command line",
            remedy="Pass the public key of the certifying key as --certifier, or the configuration as --config",
        )
    return list(configured_keys().values())


def configured_keys() -> dict[int, bytes]:
    """Return the public keys of the configured provider, by version."""
    return key_provider(config.load()).public_keys(Call(Operation.GET_CAPABILITIES))


def _keys_in(pem: Path) -> list[bytes]:
    fault = BadRequest(
        f"{pem} holds no Ed25519 public keys", says="command line", remedy="Use the output of sealgate audit public-key"
    )
    try:
        with pem.open("rb") as file:
            text = file.read(_LARGEST_KEYS)
        keys = [load_pem_public_key(part + _END) for part in text.split(_END)[:-1]]
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise BadRequest(f"{pem} cannot be read: {reason}", says="command line", remedy="Correct --certifier") from None
    except (ValueError, UnsupportedAlgorithm):
        raise fault from None
    raw = [key.public_bytes(Encoding.Raw, PublicFormat.Raw) for key in keys if isinstance(key, Ed25519PublicKey)]
    if not raw or len(raw) != len(keys):
        raise fault
    return raw


def pem_of(raw: bytes) -> str:
    """Return a public key of 32 bytes in PEM."""
    key = Ed25519PublicKey.from_public_bytes(raw)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
