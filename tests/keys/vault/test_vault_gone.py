"""What docs/vault-gone.md says of the key: how it can be lost, and that a backup brings it back."""

from __future__ import annotations

import pytest
from harness.openbao import ApiError


@pytest.fixture
def data_key(own_transit):
    return own_transit.post(f"{own_transit.mount}/datakey/plaintext/artifacts")["data"]


def test_a_key_cannot_be_deleted_or_backed_up_by_default(openbao, own_transit):
    with pytest.raises(ApiError, match="deletion is not allowed"):
        openbao.api("DELETE", f"{own_transit.mount}/keys/artifacts")
    with pytest.raises(ApiError, match="exporting is disallowed"):
        openbao.api("GET", f"{own_transit.mount}/backup/artifacts")


def test_a_version_can_be_trimmed_and_a_mount_be_deleted_without_the_right_to_delete_the_key(
    openbao, own_transit, data_key
):
    own_transit.rotate()
    own_transit.configure(min_decryption_version=2, min_encryption_version=2)
    own_transit.post(f"{own_transit.mount}/keys/artifacts/trim", {"min_available_version": 2})
    with pytest.raises(ApiError, match="version"):
        own_transit.configure(min_decryption_version=1)
    assert list(openbao.api("GET", f"{own_transit.mount}/keys/artifacts")["data"]["keys"]) == ["2"]
    openbao.api("DELETE", f"sys/mounts/{own_transit.mount}")
    with pytest.raises(ApiError, match="404"):
        own_transit.post(f"{own_transit.mount}/decrypt/artifacts", {"ciphertext": data_key["ciphertext"]})


def test_what_allows_a_backup_is_not_taken_back(openbao, own_transit):
    own_transit.configure(exportable=True, allow_plaintext_backup=True)
    own_transit.configure(exportable=False, allow_plaintext_backup=False)
    key = openbao.api("GET", f"{own_transit.mount}/keys/artifacts")["data"]
    assert (key["exportable"], key["allow_plaintext_backup"]) == (True, True)


def test_a_backup_of_the_one_key_opens_what_it_sealed_after_the_key_was_deleted_and_in_another_engine(
    openbao, own_transit, data_key
):
    key = f"{own_transit.mount}/keys/artifacts"
    options = {"exportable": True, "allow_plaintext_backup": True, "deletion_allowed": True}
    own_transit.post(f"{key}/config", options)
    backup = openbao.api("GET", f"{own_transit.mount}/backup/artifacts")["data"]["backup"]
    openbao.api("DELETE", key)
    wrapped = {"ciphertext": data_key["ciphertext"]}
    with pytest.raises(ApiError):
        own_transit.post(f"{own_transit.mount}/decrypt/artifacts", wrapped)
    own_transit.post(f"{own_transit.mount}/restore/artifacts", {"backup": backup})
    opened = own_transit.post(f"{own_transit.mount}/decrypt/artifacts", wrapped)["data"]
    assert opened["plaintext"] == data_key["plaintext"]
    assert list(openbao.api("GET", key)["data"]["keys"]) == ["1"]
    elsewhere = openbao.transit()
    elsewhere.delete_key()
    elsewhere.post(f"{elsewhere.mount}/restore/artifacts", {"backup": backup})
    assert elsewhere.post(f"{elsewhere.mount}/decrypt/artifacts", wrapped)["data"]["plaintext"] == data_key["plaintext"]
