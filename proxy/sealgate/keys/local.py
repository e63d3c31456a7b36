"""The local key provider: key-encryption keys in a file, for tests, demos and recovery drills.

The keyring is read for each request, so a rotated keyring needs no restart. docs/format.md, "Local keyring", defines
its format and that of the wrapped data keys.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typing_extensions import override

from sealgate.call import Call, WrappedKey
from sealgate.errors import NotConfigured, PluginError, Tampered, out_of_descriptors, shown_key
from sealgate.keys.provider import DataKey, KeyProvider, KeyVersions, Rewrapper, SignedBy

_KEY_SIZE = 32
_NONCE_SIZE = 12
_LARGEST_KEYRING = 1 << 20
_CERTIFYING_LABEL = b"sealgate audit certifying key v1"


_Version = Annotated[int, msgspec.Meta(ge=1, le=(1 << 32) - 1)]
"""A header stores a version in 32 bits; 0 means that it has none."""
_Name = Annotated[str, msgspec.Meta(min_length=1)]


class _Key(msgspec.Struct, forbid_unknown_fields=True):
    latest: _Version
    versions: dict[_Version, str]


class _Keyring(msgspec.Struct, forbid_unknown_fields=True):
    keys: dict[_Name, _Key]


class LocalKeys(KeyProvider, Rewrapper):
    """Wraps data keys under one key of a keyring file; unwraps with any key in the file."""

    def __init__(self, keyring: Path, key: str = "default") -> None:
        """Use the file `keyring`, which is read at the first request, and wrap new data keys under `key`."""
        self._path = keyring
        self._key = key

    @override
    def new_data_key(self, call: Call, key: str = "") -> DataKey:
        data_key = os.urandom(_KEY_SIZE)
        return DataKey(data_key, self._wrap(data_key, key or self._key))

    @override
    def unwrap(self, call: Call, wrapped: WrappedKey) -> bytes:
        version, sealed = _parse_wrapped(wrapped)
        key = self._version(self._keyring(), wrapped.key_name, version)
        nonce, ciphertext = sealed[:_NONCE_SIZE], sealed[_NONCE_SIZE:]
        try:
            return AESGCM(key).decrypt(nonce, ciphertext, wrapped.key_name.encode())
        except InvalidTag:
            raise Tampered(
                f"the wrapped data key does not open under version {version} of key {shown_key(wrapped.key_name)}",
                says="local keyring",
                remedy="Use the keyring that the artifact was saved with",
            ) from None

    def rewrap(self, call: Call, wrapped: WrappedKey) -> WrappedKey:
        """Wrap the same data key under the newest version of the key that wraps it now."""
        return self._wrap(self.unwrap(call, wrapped), wrapped.key_name)

    @override
    def rewrap_many(self, call: Call, wrapped: Sequence[WrappedKey]) -> list[WrappedKey | PluginError]:
        outcomes: list[WrappedKey | PluginError] = []
        for key in wrapped:
            try:
                outcomes.append(self.rewrap(call, key))
            except PluginError as fault:
                outcomes.append(fault)
        return outcomes

    @override
    def require_own(self, wrapped: WrappedKey) -> None:
        _parse_wrapped(wrapped)

    @override
    def versions(self, call: Call, key: str) -> KeyVersions:
        entry = self._entry(self._keyring(), key)
        return KeyVersions(entry.latest, min(entry.versions, default=entry.latest))

    @override
    def attested(self, call: Call) -> Mapping[str, str]:
        return self.attested_already()

    @override
    def attested_already(self) -> Mapping[str, str]:
        return {}  # a file that this process can read proves nothing about it

    @override
    def sign(self, call: Call, data: bytes) -> SignedBy:
        keyring = self._keyring()
        version = self._entry(keyring, self._key).latest
        signature = _certifying_key(self._version(keyring, self._key, version)).sign(data)
        return SignedBy(self._key, version, signature)

    @override
    def public_keys(self, call: Call) -> dict[int, bytes]:
        keyring = self._keyring()
        return {
            version: _certifying_key(self._version(keyring, self._key, version))
            .public_key()
            .public_bytes(Encoding.Raw, PublicFormat.Raw)
            for version in self._entry(keyring, self._key).versions
        }

    def _wrap(self, data_key: bytes, name: str) -> WrappedKey:
        keyring = self._keyring()
        latest = self._entry(keyring, name).latest
        nonce = os.urandom(_NONCE_SIZE)
        sealed = nonce + AESGCM(self._version(keyring, name, latest)).encrypt(nonce, data_key, name.encode())
        text = f"local:v{latest}:{base64.b64encode(sealed).decode()}"
        return WrappedKey(provider="local", mount="", key_name=name, wrapped_key=text, key_version=latest)

    def _entry(self, keyring: _Keyring, name: str) -> _Key:
        if name not in keyring.keys:
            raise self._fault(f"has no key named {shown_key(name)}")
        return keyring.keys[name]

    def _version(self, keyring: _Keyring, name: str, version: int) -> bytes:
        text = self._entry(keyring, name).versions.get(version)
        if text is None:
            raise self._fault(f"has no version {version} of key {shown_key(name)}")
        key = _decode(text)
        if len(key) != _KEY_SIZE:
            raise self._fault(
                f"is damaged: version {version} of key {shown_key(name)} is not {_KEY_SIZE} bytes in base64"
            )
        return key

    def _keyring(self) -> _Keyring:
        try:
            # O_NONBLOCK: opening a pipe must not wait for a writer.
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if busy := out_of_descriptors(error):
                raise busy from None
            raise self._fault(f"cannot be read: {os.strerror(error.errno or 0).lower()}") from None
        try:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode) or mode & 0o077:
                raise self._fault("must be a regular file that only its owner can read (chmod 600)")
            with open(fd, "rb", closefd=False) as file:
                text = file.read(_LARGEST_KEYRING)
        finally:
            os.close(fd)
        try:
            return msgspec.json.decode(text, type=_Keyring)
        except (msgspec.MsgspecError, ValueError):
            # The library's own text could quote key material from the file.
            raise self._fault("is not a keyring: docs/format.md defines the format") from None

    def _fault(self, fact: str) -> NotConfigured:
        return NotConfigured(
            f"the keyring {self._path} {fact}",
            says="local keyring",
            remedy="Fix the file that keys.local.keyring names",
        )


def _certifying_key(key: bytes) -> Ed25519PrivateKey:
    """Derive the signing key for audit trails from one version of a key (docs/audit.md)."""
    seed = HKDF(SHA256(), _KEY_SIZE, salt=None, info=_CERTIFYING_LABEL).derive(key)
    return Ed25519PrivateKey.from_private_bytes(seed)


def _parse_wrapped(wrapped: WrappedKey) -> tuple[int, bytes]:
    """Return the key version of `wrapped`, and its nonce and ciphertext in one piece.

    Raises:
        NotConfigured: another provider wrapped it.
        Tampered: it is not what this provider writes.
    """
    if wrapped.provider != "local":
        raise NotConfigured(
            f"the data key was wrapped by {wrapped.provider}, but this installation uses a local keyring",
            remedy="Set keys.provider to the provider that the artifact was saved with",
        )
    scheme, _, rest = wrapped.wrapped_key.partition(":v")
    version, _, text = rest.partition(":")
    sealed = _decode(text)
    if scheme != "local" or version != str(wrapped.key_version) or len(sealed) != _NONCE_SIZE + _KEY_SIZE + 16:
        raise Tampered("the wrapped data key in the header is damaged", says="local keyring")
    return wrapped.key_version, sealed


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
