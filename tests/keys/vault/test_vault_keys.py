"""Data keys from a real server: made, opened, moved to a newer version, and refused for a named reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from harness.data_keys import make_and_open

from sealgate.call import WrappedKey
from sealgate.errors import NotConfigured, Tampered, Unavailable
from sealgate.keys.provider import BATCH, KeyVersions
from sealgate.keys.vault.formats import VaultResponse


def test_a_data_key_comes_back(keys, transit, call):
    made = keys.new_data_key(call)
    assert len(made.plaintext) == 32
    assert keys.unwrap(call, made.wrapped) == made.plaintext == transit.decrypt(made.wrapped)
    assert keys.new_data_key(call).plaintext != made.plaintext


def test_the_wrapped_data_key_contains_everything_that_opening_it_needs(keys, transit, call):
    wrapped = keys.new_data_key(call).wrapped
    assert wrapped == WrappedKey("vault", transit.mount, "artifacts", wrapped.wrapped_key, 1, b"")
    assert wrapped.wrapped_key.startswith("vault:v1:")


def test_a_new_data_key_names_the_key_and_its_version(keys, transit, call):
    transit.rotate()
    wrapped = make_and_open(keys, call)
    assert (wrapped.provider, wrapped.mount) == ("vault", transit.mount)
    assert (wrapped.key_name, wrapped.key_version) == ("artifacts", 2)


def test_a_mount_may_have_several_parts(vault, transit, provider, call):
    transit.mount = f"team/{transit.mount}"
    vault.post(f"sys/mounts/{transit.mount}", {"type": "transit"})
    transit.create_key("artifacts")
    make_and_open(provider(transit), call)


def test_a_namespace_has_keys_of_its_own(vault, provider, call):
    inside = vault.transit(vault.new_namespace())
    made = provider(inside).new_data_key(call)
    assert provider(inside).unwrap(call, made.wrapped) == made.plaintext
    inside.namespace = ""
    with pytest.raises(NotConfigured, match="no key artifacts in"):
        provider(inside).unwrap(call, made.wrapped)


# --- rotation --------------------------------------------------------------------------------------------


def test_after_a_rotation_the_new_version_wraps_and_the_old_one_unwraps(keys, transit, call):
    before = keys.new_data_key(call)
    transit.rotate()
    after = keys.new_data_key(call)
    assert (before.wrapped.key_version, after.wrapped.key_version) == (1, 2)
    assert keys.unwrap(call, before.wrapped) == before.plaintext
    assert keys.unwrap(call, after.wrapped) == after.plaintext


def test_rewrapping_moves_a_data_key_to_the_newest_version(keys, transit, call):
    made = keys.new_data_key(call)
    transit.rotate()
    moved = keys.rewrap(call, made.wrapped)
    assert moved.key_version == 2
    transit.configure(min_decryption_version=2)
    assert keys.unwrap(call, moved) == made.plaintext


def test_many_are_rewrapped_in_order_whatever_their_keys_and_contexts(transit, provider, call):
    transit.create_key("other")
    transit.create_key("derived", derived=True)
    providers = [
        provider(transit),
        provider(transit, key="other"),
        provider(transit, key="derived", context=b"team-a"),
        provider(transit, key="derived", context=b"team-b"),
    ]
    made = [providers[number % 4].new_data_key(call) for number in range(12)]
    for name in ("artifacts", "other", "derived"):
        transit.rotate(name)
    moved = provider(transit).rewrap_many(call, [item.wrapped for item in made])
    assert [(key.key_name, key.derivation_context) for key in moved] == [
        (item.wrapped.key_name, item.wrapped.derivation_context) for item in made
    ]
    assert {key.key_version for key in moved} == {2}
    assert [transit.decrypt(key) for key in moved] == [item.plaintext for item in made]


def test_more_are_rewrapped_than_one_request_carries(keys, transit, call):
    wrapped = keys.new_data_key(call).wrapped
    transit.rotate()
    moved = keys.rewrap_many(call, [wrapped] * (2 * BATCH + 1))
    assert len(moved) == 2 * BATCH + 1
    assert {key.key_version for key in moved} == {2}


def test_a_full_batch_of_derived_keys_is_not_too_large_for_the_server(transit, provider, call):
    transit.create_key("derived", derived=True)
    keys = provider(transit, key="derived", context=b"team-a")
    assert len(keys.rewrap_many(call, [keys.new_data_key(call).wrapped] * BATCH)) == BATCH


def test_none_are_rewrapped_without_a_request(provider, transit, call):
    assert provider(transit, transport=Unreachable()).rewrap_many(call, []) == []


def test_one_that_cannot_be_rewrapped_is_an_error_although_the_server_says_200(keys, call):
    good = keys.new_data_key(call)
    bad = replace(good.wrapped, wrapped_key=changed(good.wrapped.wrapped_key))
    foreign = replace(good.wrapped, mount="elsewhere")
    first, *faults, last = keys.rewrap_many(call, [good.wrapped, bad, foreign, good.wrapped])
    assert keys.unwrap(call, first) == keys.unwrap(call, last) == good.plaintext
    assert [type(fault) for fault in faults] == [Tampered, NotConfigured]
    assert "does not open under key artifacts" in faults[0].fact
    with pytest.raises(Tampered, match="does not open under key artifacts"):
        keys.rewrap(call, bad)


@pytest.mark.parametrize("status", [200, 400])
def test_a_batch_that_was_carried_out_in_part_is_taken_item_by_item_whatever_its_status(
    transit, provider, call, status
):
    results = [{"ciphertext": WRAP}, {"error": "cipher: message authentication failed"}]
    keys = provider(transit, transport=Answers(status, {"data": {"batch_results": results}}))
    moved, fault = keys.rewrap_many(call, [WrappedKey("vault", transit.mount, "artifacts", WRAP, 1)] * 2)
    assert moved.wrapped_key == WRAP
    assert isinstance(fault, Tampered)


def test_the_versions_of_a_key_are_read_without_opening_a_data_key(keys, transit, call):
    assert keys.versions(call, "artifacts") == KeyVersions(1, 1)
    transit.rotate()
    transit.configure(min_decryption_version=2)
    assert keys.versions(call, "artifacts") == KeyVersions(2, 2)
    with pytest.raises(NotConfigured, match="no key missing"):
        keys.versions(call, "missing")


# --- what does not open ----------------------------------------------------------------------------------


def changed(text: str) -> str:
    return text[:20] + ("A" if text[20] != "A" else "B") + text[21:]


def test_a_version_below_the_minimum_is_named_until_it_is_allowed_again(keys, transit, call):
    made = keys.new_data_key(call)
    transit.rotate()
    transit.configure(min_decryption_version=2)
    for refused in (keys.unwrap, keys.rewrap):
        with pytest.raises(NotConfigured, match="version 1 of key artifacts is below the key's min_decryption"):
            refused(call, made.wrapped)
    transit.configure(min_decryption_version=1)
    assert keys.unwrap(call, made.wrapped) == made.plaintext


def test_a_key_that_was_deleted_is_named(keys, transit, call):
    made = keys.new_data_key(call)
    transit.delete_key()
    for refused in (lambda: keys.unwrap(call, made.wrapped), lambda: keys.new_data_key(call)):
        with pytest.raises(NotConfigured, match=f"no key artifacts in {transit.mount}"):
            refused()


def test_a_soft_deleted_key_is_named_until_it_is_restored(keys, transit, call):
    made = keys.new_data_key(call)
    transit.server.api("DELETE", f"{transit.mount}/keys/artifacts/soft-delete")
    with pytest.raises(NotConfigured, match="key artifacts is soft-deleted"):
        keys.unwrap(call, made.wrapped)
    transit.post(f"{transit.mount}/keys/artifacts/soft-delete-restore")
    assert keys.unwrap(call, made.wrapped) == made.plaintext


def test_a_key_of_the_same_name_that_was_made_anew_does_not_open_it(keys, transit, call):
    made = keys.new_data_key(call)
    transit.delete_key()
    transit.create_key("artifacts")
    with pytest.raises(Tampered, match="does not open under key artifacts"):
        keys.unwrap(call, made.wrapped)


def test_another_key_of_the_mount_is_used_where_the_header_names_it(keys, transit, provider, call):
    transit.create_key("other")
    made = provider(transit, key="other").new_data_key(call)
    assert keys.unwrap(call, made.wrapped) == made.plaintext
    with pytest.raises(Tampered):
        keys.unwrap(call, replace(made.wrapped, key_name="artifacts"))


def test_a_key_that_is_not_there_is_never_created(transit, provider, call):
    for _ in range(2):
        with pytest.raises(NotConfigured, match="no key missing"):
            provider(transit, key="missing").new_data_key(call)


def test_a_version_that_the_server_does_not_have_yet_is_waited_for_but_not_for_ever(keys, call):
    made = keys.new_data_key(call)
    newer = replace(made.wrapped, key_version=2, wrapped_key=made.wrapped.wrapped_key.replace(":v1:", ":v2:"))
    with pytest.raises(NotConfigured, match="no version 2 of key artifacts"):
        keys.unwrap(call, newer)


def test_a_wrap_that_was_changed_is_refused(keys, call):
    wrapped = keys.new_data_key(call).wrapped
    with pytest.raises(Tampered):
        keys.unwrap(call, replace(wrapped, wrapped_key=changed(wrapped.wrapped_key)))


def test_a_ciphertext_that_is_not_a_data_key_is_refused(keys, transit, call):
    answer = transit.post(f"{transit.mount}/encrypt/artifacts", {"plaintext": "c2hvcnQ="})
    wrapped = WrappedKey("vault", transit.mount, "artifacts", answer["data"]["ciphertext"], 1)
    with pytest.raises(Tampered, match="decrypted with key artifacts, but it is not a data key"):
        keys.unwrap(call, wrapped)


# --- a header may hold anything --------------------------------------------------------------------------


class Unreachable:
    """A server that must receive no request."""

    def send(self, request, token, timeout):
        raise AssertionError(request.path)


WRAP = "vault:v1:" + "A" * 80


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "../keys/a",
        "a/../b",
        "a..b",
        "a?b",
        "a#b",
        "a%2fb",
        "a b",
        "a\nb",
        "ключ",
        ".a",
        "a.",
        "-a",
    ],
)
def test_an_invalid_name_of_a_key_causes_no_request(transit, provider, call, name):
    keys = provider(transit, transport=Unreachable())
    wrapped = WrappedKey("vault", transit.mount, name, WRAP, 1)
    for refused in (keys.unwrap, keys.rewrap):
        with pytest.raises(NotConfigured, match="is not a valid name for a key in Vault"):
            refused(call, wrapped)


def test_another_mount_is_not_asked(transit, provider, call):
    keys = provider(transit, transport=Unreachable())
    for mount in ("", "transit", f"{transit.mount}/", f"{transit.mount}/../sys"):
        with pytest.raises(NotConfigured, match="was wrapped in the mount"):
            keys.unwrap(call, WrappedKey("vault", mount, "artifacts", WRAP, 1))


def test_what_another_provider_wrapped_is_refused(transit, provider, call):
    with pytest.raises(NotConfigured, match="was wrapped by local"):
        provider(transit, transport=Unreachable()).unwrap(call, WrappedKey("local", "", "default", "local:v1:AAAA", 1))


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("", 1),
        ("vault:v1:", 1),
        ("vault:v0:AAAA", 0),
        ("vault:v01:AAAA", 1),
        ("vault:v2:AAAA", 1),
        ("vault:v4294967296:AAAA", 4294967296),
        ("vault:v1:AAAA\n", 1),
        ("vault:v1:AA AA", 1),
        ("vault:v1:AA-_", 1),
        ("vault:v1:AAAA:v1", 1),
        ("local:v1:AAAA", 1),
        ("vault:v\u0661:AAAA", 1),
    ],
)
def test_a_wrapped_data_key_that_vault_cannot_have_written_is_not_sent(transit, provider, call, text, version):
    keys = provider(transit, transport=Unreachable())
    with pytest.raises(Tampered, match="damaged"):
        keys.unwrap(call, WrappedKey("vault", transit.mount, "artifacts", text, version))


@pytest.mark.parametrize("mount", ["", "/transit", "transit/", "a//b", "../sys", "a/../b", "tran sit", "transit?x"])
def test_an_invalid_mount_is_refused(transit, provider, mount):
    transit.mount = mount
    with pytest.raises(NotConfigured, match="is not a valid mount path in Vault"):
        provider(transit)


# --- an answer that is not Vault's ------------------------------------------------------------------------


class Answers:
    """A server that gives the same answer to every request."""

    def __init__(self, status, body):
        self._answer = VaultResponse(status, body)

    def send(self, request, token, timeout):
        return self._answer


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"ciphertext": WRAP},
        {"ciphertext": WRAP, "plaintext": "AAAA"},
        {"ciphertext": WRAP, "plaintext": 7},
        {"ciphertext": WRAP, "plaintext": "!" * 44},
        {"ciphertext": "AAAA", "plaintext": "A" * 43 + "="},
        {"ciphertext": ["vault:v1:AAAA"], "plaintext": "A" * 43 + "="},
    ],
    ids=str,
)
def test_a_data_key_in_a_form_that_vault_does_not_use_is_refused(transit, provider, call, data):
    keys = provider(transit, transport=Answers(200, {"data": data}))
    with pytest.raises(NotConfigured, match="does not answer as Vault does"):
        keys.new_data_key(call)


@pytest.mark.parametrize("data", [None, {}, {"plaintext": 7}], ids=str)
def test_the_answer_of_a_proxy_in_front_of_vault_is_not_reported_as_a_damaged_artifact(transit, provider, call, data):
    keys = provider(transit, transport=Answers(200, {"data": data}))
    with pytest.raises(NotConfigured, match="does not answer as Vault does"):
        keys.unwrap(call, WrappedKey("vault", transit.mount, "artifacts", WRAP, 1))


@pytest.mark.parametrize(
    "results",
    [None, [], [{}], [{"ciphertext": "AAAA"}], [None], [{"ciphertext": WRAP}] * 2, [{"ciphertext": "vault:v1:AAAA"}]],
    ids=str,
)
def test_a_rewrapped_key_in_a_form_that_vault_does_not_use_is_refused(transit, provider, call, results):
    keys = provider(transit, transport=Answers(200, {"data": {"batch_results": results}}))
    with pytest.raises(NotConfigured, match="does not answer as Vault does"):
        keys.rewrap(call, WrappedKey("vault", transit.mount, "artifacts", WRAP.replace("v1", "v2"), 2))


@pytest.mark.parametrize("status", [500, 502, 599])
def test_an_error_page_of_a_proxy_in_front_of_vault_may_pass(transit, provider, call, status):
    keys = provider(transit, transport=Answers(status, {}))
    with pytest.raises(Unavailable, match=f"status {status}"):
        keys.new_data_key(call)
