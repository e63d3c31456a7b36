"""The local key provider: wraps under the newest version, unwraps with any version, and shows no secret."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from harness.data_keys import make_and_open
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealgate.call import WrappedKey
from sealgate.errors import NotConfigured, PluginError, Tampered
from sealgate.keys.local import LocalKeys

OLD, NEW, OTHER = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2, 3))
MARKER = "c2VjcmV0IG1hcmtlciE="


@pytest.fixture
def written(keyring) -> Callable[..., LocalKeys]:
    """Write the keyring again, as text or as keys, and return its provider."""

    def write(content: str | bytes | dict[str, object]) -> LocalKeys:
        text = json.dumps({"keys": content}) if isinstance(content, dict) else content
        keyring.write_bytes(text if isinstance(text, bytes) else text.encode())
        return LocalKeys(keyring)

    return write


def key(latest: int, **versions: str) -> dict[str, object]:
    return {"latest": latest, "versions": {name.removeprefix("v"): text for name, text in versions.items()}}


@pytest.fixture
def keys(written) -> LocalKeys:
    return written({"default": key(1, v1=OLD)})


def test_a_data_key_comes_back(keys, call):
    made = keys.new_data_key(call)
    assert len(made.plaintext) == 32
    assert keys.unwrap(call, made.wrapped) == made.plaintext
    assert keys.new_data_key(call).plaintext != made.plaintext


def test_a_data_key_is_not_shown(keys, call):
    made = keys.new_data_key(call)
    assert made.plaintext.hex() not in repr(made)
    assert repr(made.plaintext) not in repr(made)


def test_the_wrap_is_as_the_format_says(keys, call):
    made = keys.new_data_key(call)
    scheme, version, text = made.wrapped.wrapped_key.split(":")
    assert made.wrapped == WrappedKey("local", "", "default", made.wrapped.wrapped_key, 1)
    assert (scheme, version) == ("local", "v1")
    sealed = base64.b64decode(text, validate=True)
    plaintext = AESGCM(bytes([1]) * 32).decrypt(sealed[:12], sealed[12:], b"default")
    assert plaintext == made.plaintext


def test_a_wrap_that_was_made_by_hand_opens(written, call):
    nonce, data_key = bytes(12), bytes(range(32))
    sealed = nonce + AESGCM(bytes([3]) * 32).encrypt(nonce, data_key, "ключ".encode())
    wrapped = WrappedKey("local", "", "ключ", f"local:v7:{base64.b64encode(sealed).decode()}", 7)
    assert written({"ключ": key(7, v7=OTHER)}).unwrap(call, wrapped) == data_key


# --- rotation --------------------------------------------------------------------------------------------


def test_after_a_rotation_the_new_version_wraps_and_the_old_one_unwraps(keys, written, call):
    before = keys.new_data_key(call)
    written({"default": key(2, v1=OLD, v2=NEW)})
    after = keys.new_data_key(call)
    assert after.wrapped.key_version == 2
    assert after.wrapped.wrapped_key.startswith("local:v2:")
    assert keys.unwrap(call, before.wrapped) == before.plaintext
    assert keys.unwrap(call, after.wrapped) == after.plaintext


def test_rewrapping_moves_a_data_key_to_the_newest_version(keys, written, call):
    made = keys.new_data_key(call)
    written({"default": key(2, v1=OLD, v2=NEW)})
    moved = keys.rewrap(call, made.wrapped)
    assert moved.key_version == 2
    written({"default": key(2, v2=NEW)})
    assert keys.unwrap(call, moved) == made.plaintext


def test_rewrapping_stays_with_the_key_that_wraps_it(keys, keyring, written, call):
    made = keys.new_data_key(call)
    written({"default": key(1, v1=OLD), "other": key(1, v1=OTHER)})
    assert LocalKeys(keyring, "other").rewrap(call, made.wrapped).key_name == "default"


def test_a_key_of_another_name_is_used_where_it_is_requested(keyring, written, call):
    written({"default": key(1, v1=OLD), "other": key(4, v4=OTHER)})
    made = LocalKeys(keyring, "other").new_data_key(call)
    assert (made.wrapped.key_name, made.wrapped.key_version) == ("other", 4)
    assert LocalKeys(keyring).unwrap(call, made.wrapped) == made.plaintext


def test_a_new_data_key_names_the_key_and_its_version(written, call):
    wrapped = make_and_open(written({"default": key(3, v3=NEW)}), call)
    assert (wrapped.provider, wrapped.key_name, wrapped.key_version) == ("local", "default", 3)


# --- refused --------------------------------------------------------------------------------


def test_another_key_of_the_same_version_does_not_unwrap(keys, written, call):
    made = keys.new_data_key(call)
    with pytest.raises(Tampered, match="does not open under version 1 of key default"):
        written({"default": key(1, v1=OTHER)}).unwrap(call, made.wrapped)


@pytest.mark.parametrize(
    ("left", "fact"),
    [
        ({"default": key(2, v2=NEW)}, "has no version 1 of key default"),
        ({"other": key(1, v1=OLD)}, "has no key named default"),
        ({}, "has no key named default"),
    ],
)
def test_a_version_or_key_that_is_gone_is_named(keys, written, call, left, fact):
    made = keys.new_data_key(call)
    with pytest.raises(NotConfigured, match=fact):
        written(left).unwrap(call, made.wrapped)


def test_what_another_provider_wrapped_is_refused(keys, call):
    with pytest.raises(NotConfigured, match="was wrapped by vault"):
        keys.unwrap(call, WrappedKey("vault", "transit", "artifacts", "vault:v1:abcd", 1))


def test_a_wrap_that_was_changed_anywhere_is_refused(keys, call):
    wrapped = keys.new_data_key(call).wrapped
    text = wrapped.wrapped_key
    for at in range(len(text)):
        for changed in (text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :], text[:at] + text[at + 1 :], text[:at]):
            with pytest.raises(Tampered):
                keys.unwrap(call, replace(wrapped, wrapped_key=changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"wrapped_key": ""},
        {"wrapped_key": "vault:v1:abcd"},
        {"wrapped_key": "local:v1:"},
        {"wrapped_key": "local:v1:äöü"},
        {"key_version": 2},
        {"key_version": 0},
    ],
    ids=str,
)
def test_a_malformed_wrap_is_refused(keys, call, changed):
    with pytest.raises(Tampered):
        keys.unwrap(call, replace(keys.new_data_key(call).wrapped, **changed))


def test_a_wrap_under_the_name_of_another_key_is_refused(written, call):
    keys = written({"default": key(1, v1=OLD), "twin": key(1, v1=OLD)})
    with pytest.raises(Tampered):
        keys.unwrap(call, replace(keys.new_data_key(call).wrapped, key_name="twin"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=120))
def test_any_text_for_a_wrap_gives_a_named_error(keys, call, text):
    with pytest.raises(Tampered):
        keys.unwrap(call, WrappedKey("local", "", "default", text, 1))


# --- the file --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610, 0o777])
def test_a_keyring_that_others_could_read_is_refused(keys, keyring, call, mode):
    keyring.chmod(mode)
    with pytest.raises(NotConfigured, match="chmod 600"):
        keys.new_data_key(call)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_private_keyring_is_taken(keys, keyring, call, mode):
    keyring.chmod(mode)
    make_and_open(keys, call)


def test_a_keyring_that_is_not_there_is_named(keyring, call):
    keyring.unlink()
    with pytest.raises(NotConfigured, match=rf"{keyring} cannot be read: no such file") as raised:
        LocalKeys(keyring).new_data_key(call)
    assert "keys.local.keyring" in raised.value.remedy


def test_a_directory_or_a_pipe_is_not_a_keyring(tmp_path, call):
    (tmp_path / "directory").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("directory", "pipe"):
        with pytest.raises(NotConfigured, match="must be a regular file"):
            LocalKeys(tmp_path / name).new_data_key(call)


MALFORMED = {
    "empty": "",
    "not JSON": f"keys: {MARKER}",
    "cut": f'{{"keys": {{"default": {{"latest": 1, "versions": {{"1": "{MARKER}',
    "not UTF-8": b'{"keys": {"' + MARKER.encode() + b'\xff": 1}}',
    "nested": "[" * 100_000 + MARKER,
    "a list": f'["{MARKER}"]',
    "no keys": f'{{"{MARKER}": {{}}}}',
    "unknown field": f'{{"keys": {{}}, "{MARKER}": 1}}',
    "unknown field of a key": f'{{"keys": {{"default": {{"latest": 1, "versions": {{}}, "{MARKER}": 1}}}}}}',
    "no latest": f'{{"keys": {{"default": {{"versions": {{"1": "{MARKER}"}}}}}}}}',
    "latest is text": f'{{"keys": {{"default": {{"latest": "{MARKER}", "versions": {{}}}}}}}}',
    "version is text": f'{{"keys": {{"default": {{"latest": 1, "versions": {{"{MARKER}": "x"}}}}}}}}',
    "key is a list": f'{{"keys": {{"default": {{"latest": 1, "versions": {{"1": ["{MARKER}"]}}}}}}}}',
    "key too short": {"default": key(1, v1=MARKER)},
    "key in hexadecimal": {"default": key(1, v1=MARKER.encode().hex())},
    "key with line breaks": {"default": key(1, v1=f"{OLD[:20]}\n{MARKER}")},
    "latest is missing": {"default": key(2, v1=MARKER)},
    # A header cannot store these versions, so an artifact sealed under one could never be opened.
    "version 0": {"default": key(0, v0=OLD)},
    "version below 0": {"default": {"latest": -1, "versions": {"-1": OLD}}},
    "version of 33 bits": {"default": {"latest": 1 << 32, "versions": {str(1 << 32): OLD}}},
    "key without a name": {"": key(1, v1=OLD)},
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_keyring_is_refused_without_quoting_it(written, call, content):
    with pytest.raises(NotConfigured) as raised:
        written(content).new_data_key(call)
    line = raised.value.line(call, "a/b")
    for secret in (MARKER, OLD, MARKER.encode().hex()):
        assert secret not in line
    assert raised.value.__cause__ is None
    assert "local keyring" in line


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_arbitrary_content_is_a_named_error(written, call, content):
    with pytest.raises(NotConfigured):
        written(content).new_data_key(call)


def test_no_error_shows_key_material(keys, written, call):
    made = keys.new_data_key(call)
    faults = [
        replace(made.wrapped, wrapped_key=made.wrapped.wrapped_key[:-4] + "AAAA"),
        replace(made.wrapped, key_version=2),
        replace(made.wrapped, key_name="other"),
    ]
    for wrapped in faults:
        with pytest.raises(PluginError) as raised:
            written({"default": key(1, v1=OLD)}).unwrap(call, wrapped)
        line = raised.value.line(call, "a/b")
        assert made.wrapped.wrapped_key[10:30] not in line
        assert OLD not in line


def test_the_key_that_certifies_trails_has_a_version_and_survives_a_rotation(keyring, call):
    keys = LocalKeys(keyring)
    made = keys.sign(call, b"a certificate")
    document = json.loads(keyring.read_text())
    document["keys"]["default"]["versions"]["2"] = base64.b64encode(bytes(32)).decode()
    document["keys"]["default"]["latest"] = 2
    keyring.write_text(json.dumps(document))
    public = keys.public_keys(call)
    assert (made.version, keys.sign(call, b"").version, set(public)) == (1, 2, {1, 2})
    Ed25519PublicKey.from_public_bytes(public[1]).verify(made.signature, b"a certificate")
    assert public[1] != public[2]


def test_the_key_that_certifies_trails_is_derived_as_the_document_says(keyring, call):
    (key,) = json.loads(keyring.read_text())["keys"]["default"]["versions"].values()
    seed = HKDF(SHA256(), 32, salt=None, info=b"sealgate audit certifying key v1").derive(base64.b64decode(key))
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert LocalKeys(keyring).public_keys(call) == {1: public}
