"""No log, error or representation contains a secret, whatever fails."""

from __future__ import annotations

import base64
import logging
from dataclasses import replace

import pytest
from harness import vault_logins as logins
from harness.openbao import OpenBao
from harness.secrecy import Secrets

from sealgate.call import WrappedKey
from sealgate.errors import PluginError
from sealgate.keys.vault.formats import VaultRequest, VaultResponse
from sealgate.keys.vault.login import StaticToken, TokenFile
from sealgate.keys.vault.server import TransitKey, VaultServer


class Shown:
    """The texts of failures that a person could read."""

    def __init__(self):
        self.secrets = Secrets()
        self.written = []

    def collect(self, call, do):
        try:
            do()
        except PluginError as fault:
            chain = [fault]
            while chain[-1].__context__ or chain[-1].__cause__:
                chain.append(chain[-1].__cause__ or chain[-1].__context__)
            self.written += [fault.line(call, "a/b"), *map(repr, chain), *map(str, chain)]
            return fault
        return None

    def found(self):
        return self.secrets.found_in(*self.written)


@pytest.fixture
def shown():
    return Shown()


def test_no_fault_shows_a_data_key_or_a_token(openbao: OpenBao, own_transit, provider, call, tmp_path, caplog, shown):
    caplog.set_level(logging.DEBUG)
    policies = own_transit.shipped_policies("saver", "loader")
    login = logins.approle(own_transit, tmp_path, policies)
    given = own_transit.token(*policies)
    shown.secrets.add("root token", openbao.root)
    shown.secrets.add("given token", given)
    shown.secrets.add("secret id", login.secret_id_file.read_text().strip())
    keys = [provider(own_transit, auth, patience=1.0) for auth in (login, StaticToken(given))]
    made = [each.new_data_key(call) for each in keys]
    for item in made:
        shown.secrets.add("data key", item.plaintext)
        shown.written += [repr(item), str(item)]

    def all_operations():
        for each, item in zip(keys, made, strict=True):
            changed = replace(item.wrapped, wrapped_key=item.wrapped.wrapped_key[:-8] + "AAAAAAA=")
            faults = [
                shown.collect(call, lambda each=each, item=item: each.unwrap(call, item.wrapped)),
                shown.collect(call, lambda each=each, changed=changed: each.unwrap(call, changed)),
                shown.collect(call, lambda each=each: each.new_data_key(call)),
                shown.collect(call, lambda each=each, item=item: each.rewrap(call, item.wrapped)),
            ]
            yield [fault for fault in faults if fault]

    assert [len(faults) for faults in all_operations()] == [2, 2]  # the changed wrap, and no right to rewrap
    own_transit.rotate()
    own_transit.configure(min_decryption_version=2)
    list(all_operations())
    own_transit.post("auth/token/revoke", {"token": given})
    list(all_operations())
    openbao.seal()
    assert [len(faults) for faults in all_operations()] == [4, 4]
    openbao.unseal()
    openbao.stop()
    assert [len(faults) for faults in all_operations()] == [4, 4]
    openbao.start()
    login.secret_id_file.write_text("a-wrong-secret-id")
    shown.secrets.add("wrong secret id", "a-wrong-secret-id")
    shown.collect(call, lambda: provider(own_transit, login).new_data_key(call))
    file = tmp_path / "token"
    file.write_text("token-that-was-never-issued")
    shown.secrets.add("token of a file", "token-that-was-never-issued")
    shown.collect(call, lambda: provider(own_transit, TokenFile(file)).new_data_key(call))

    assert len(shown.written) > 30
    shown.written += [record.getMessage() for record in caplog.records] + [caplog.text]
    assert shown.found() == set()


SECRET = base64.b64encode(b"the data key of another artifact").decode()


@pytest.mark.parametrize("status", [200, 307, 400, 403, 404, 412, 429, 500, 501, 503])
def test_a_body_that_holds_data_keys_is_never_quoted(status, transit, provider, call, shown, caplog):
    caplog.set_level(logging.DEBUG)

    class Leaking:
        """A batch that was carried out in part. Such an answer contains data keys, whatever its status."""

        def send(self, request, token, timeout):
            results = [{"plaintext": SECRET}, {"error": f"invalid ciphertext {SECRET}"}]
            body = {"data": {"batch_results": results}, "errors": [SECRET], "warnings": [SECRET]}
            return VaultResponse(status, body)

    shown.secrets.add("data key", SECRET)
    keys = provider(transit, StaticToken("t"), patience=0.2, transport=Leaking())
    wrapped = WrappedKey("vault", transit.mount, "artifacts", "vault:v1:AAAA", 1)
    for do in (
        lambda: keys.new_data_key(call),
        lambda: keys.unwrap(call, wrapped),
        lambda: keys.rewrap_many(call, [wrapped] * 2),
    ):
        assert shown.collect(call, do)
    shown.written.append(caplog.text)
    assert shown.found() == set()


def test_what_holds_a_secret_does_not_show_it():
    shown = [
        repr(StaticToken("s-e-c-r-e-t")),
        repr(VaultServer("http://vault", StaticToken("s-e-c-r-e-t"))),
        repr(VaultRequest("auth/jwt/login", {"jwt": "s-e-c-r-e-t"})),
        repr(VaultResponse(200, {"auth": {"client_token": "s-e-c-r-e-t"}})),
        repr(TransitKey("transit", "artifacts")),
    ]
    assert not any("s-e-c-r-e-t" in text for text in shown)
