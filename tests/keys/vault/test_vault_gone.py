"""What docs/vault-gone.md says of the key: it cannot be deleted by default, and a backup brings it back."""

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


def test_a_backup_of_the_one_key_opens_what_it_sealed_after_the_key_was_deleted(openbao, own_transit, data_key):
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
