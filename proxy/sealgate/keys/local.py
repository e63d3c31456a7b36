"""The local key provider: key-encryption keys in a file, for tests, demos and recovery drills.

The keyring is read anew for each request, so a rotated keyring needs no restart. Its format and that of
the wrap are docs/format.md, "Local keyring".
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
from sealgate.errors import NotConfigured, PluginError, Tampered, shown_key
from sealgate.keys.provider import DataKey, KeyProvider, KeyVersions, Rewrapper, SignedBy

_KEY_SIZE = 32
_NONCE_SIZE = 12
_LARGEST_KEYRING = 1 << 20
_CERTIFYING_LABEL = b"sealgate audit certifying key v1"


_Version = Annotated[int, msgspec.Meta(ge=1, le=(1 << 32) - 1)]
"""A header stores 32 bits of it, and 0 stands for none."""
_Name = Annotated[str, msgspec.Meta(min_length=1)]


class _Key(msgspec.Struct, forbid_unknown_fields=True):
    latest: _Version
    versions: dict[_Version, str]


class _Keyring(msgspec.Struct, forbid_unknown_fields=True):
    keys: dict[_Name, _Key]


class LocalKeys(KeyProvider, Rewrapper):
    """Wraps data keys under one key of a keyring file; unwraps under any key that the file holds."""

    def __init__(self, keyring: Path, key: str = "default") -> None:
        self._path = keyring
        self._key = key

    def new_data_key(self, call: Call, key: str = "") -> DataKey:  # noqa: ARG002 - a file answers at once
        """A fresh data key, wrapped under the newest version of `key`, or of this provider's own."""
        data_key = os.urandom(_KEY_SIZE)
        return DataKey(data_key, self._wrap(data_key, key or self._key))

    def unwrap(self, call: Call, wrapped: WrappedKey) -> bytes:  # noqa: ARG002 - a file answers at once
        """The data key that `wrapped` stands for; see `KeyProvider.unwrap`."""
        _require_ours(wrapped)
        version, sealed = _parse_wrap(wrapped)
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
        """The same data key wrapped under the newest version of the key that wraps it now."""
        return self._wrap(self.unwrap(call, wrapped), wrapped.key_name)

    def rewrap_many(self, call: Call, wrapped: Sequence[WrappedKey]) -> list[WrappedKey | PluginError]:
        """Each data key wrapped under the newest version of its key, or why it cannot be; in the same order."""
        outcomes: list[WrappedKey | PluginError] = []
        for key in wrapped:
            try:
                outcomes.append(self.rewrap(call, key))
            except PluginError as fault:
                outcomes.append(fault)
        return outcomes

    @override
    def require_own(self, wrapped: WrappedKey) -> None:
        _require_ours(wrapped)
        _parse_wrap(wrapped)

    def versions(self, call: Call, key: str) -> KeyVersions:  # noqa: ARG002 - a file answers at once
        """Which versions of a key the file holds; see `Rewrapper.versions`."""
        found = self._find(self._keyring(), key)
        return KeyVersions(found.latest, min(found.versions, default=found.latest))

    def attested(self, call: Call) -> Mapping[str, str]:  # noqa: ARG002 - nobody logs in to a file
        """Nothing: whoever can read a file proves nothing by it."""
        return {}

    def sign(self, call: Call, data: bytes) -> SignedBy:  # noqa: ARG002 - a file answers at once
        """Sign with the key that is derived from the newest version of this provider's key."""
        keyring = self._keyring()
        version = self._find(keyring, self._key).latest
        signature = _certifying_key(self._version(keyring, self._key, version)).sign(data)
        return SignedBy(self._key, version, signature)

    @override
    def public_keys(self, call: Call) -> dict[int, bytes]:
        keyring = self._keyring()
        return {
            version: _certifying_key(self._version(keyring, self._key, version))
            .public_key()
            .public_bytes(Encoding.Raw, PublicFormat.Raw)
            for version in self._find(keyring, self._key).versions
        }

    def check(self, call: Call) -> str:
        """Make a data key and unwrap it."""
        made = self.new_data_key(call)
        if self.unwrap(call, made.wrapped) != made.plaintext:
            raise NotConfigured("the keyring does not give back the data key that it wrapped", says="local keyring")
        return f"local keyring, key {made.wrapped.key_name} version {made.wrapped.key_version}"

    def _wrap(self, data_key: bytes, name: str) -> WrappedKey:
        keyring = self._keyring()
        latest = self._find(keyring, name).latest
        nonce = os.urandom(_NONCE_SIZE)
        sealed = nonce + AESGCM(self._version(keyring, name, latest)).encrypt(nonce, data_key, name.encode())
        text = f"local:v{latest}:{base64.b64encode(sealed).decode()}"
        return WrappedKey(provider="local", mount="", key_name=name, wrapped_key=text, key_version=latest)

    def _find(self, keyring: _Keyring, name: str) -> _Key:
        if name not in keyring.keys:
            raise self._fault(f"holds no key named {shown_key(name)}")
        return keyring.keys[name]

    def _version(self, keyring: _Keyring, name: str, version: int) -> bytes:
        text = self._find(keyring, name).versions.get(version)
        if text is None:
            raise self._fault(f"holds no version {version} of key {shown_key(name)}")
        key = _decode(text)
        if len(key) != _KEY_SIZE:
            raise self._fault(
                f"is damaged: version {version} of key {shown_key(name)} is not {_KEY_SIZE} bytes in base64"
            )
        return key

    def _keyring(self) -> _Keyring:
        try:
            # A pipe must not make this wait.
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise self._fault(f"cannot be read: {os.strerror(error.errno or 0).lower()}") from None
        try:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode) or mode & 0o077:
                raise self._fault("must be a file that its owner alone can read: chmod 600")
            with open(fd, "rb", closefd=False) as file:
                text = file.read(_LARGEST_KEYRING)
        finally:
            os.close(fd)
        try:
            return msgspec.json.decode(text, type=_Keyring)
        except (msgspec.MsgspecError, ValueError):
            # The library's text could quote what the file holds.
            raise self._fault("is not a keyring: see docs/format.md for its format") from None

    def _fault(self, fact: str) -> NotConfigured:
        return NotConfigured(
            f"the keyring {self._path} {fact}",
            says="local keyring",
            remedy="Mend the file that keys.local.keyring names",
        )


def _require_ours(wrapped: WrappedKey) -> None:
    if wrapped.provider != "local":
        raise NotConfigured(
            f"the data key was wrapped by {wrapped.provider}, and this installation has a local keyring",
            remedy="Configure keys.provider as where the artifact was saved",
        )


def _certifying_key(key: bytes) -> Ed25519PrivateKey:
    seed = HKDF(SHA256(), _KEY_SIZE, salt=None, info=_CERTIFYING_LABEL).derive(key)
    return Ed25519PrivateKey.from_private_bytes(seed)


def _parse_wrap(wrapped: WrappedKey) -> tuple[int, bytes]:
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
