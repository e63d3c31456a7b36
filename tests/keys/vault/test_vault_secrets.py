"""Nothing secret is in any log, error or representation, whatever goes wrong."""

from __future__ import annotations

import base64
import logging
from dataclasses import replace

import logins
import pytest
from harness.openbao import OpenBao

from proxy.keys.vault import TransitKey, VaultServer
from proxy.keys.vault_auth import StaticToken, TokenFile
from proxy.keys.vault_faults import Answer, Request
from proxy.plugin import PluginError, WrappedKey


class Secrets:
    """What must not be seen, in every way of writing it, and what was written."""

    def __init__(self):
        self._texts = {}
        self.written = []

    def add(self, name, value):
        data = value if isinstance(value, bytes) else value.encode()
        self._texts |= {base64.b64encode(data).decode(): name, data.hex(): name, repr(data)[2:-1]: name}
        if isinstance(value, str):
            self._texts[value] = name

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
        return {name for text, name in self._texts.items() if any(text in line for line in self.written)}


@pytest.fixture
def secrets():
    return Secrets()


def test_no_fault_shows_a_data_key_or_a_token(openbao: OpenBao, own_transit, provider, call, tmp_path, caplog, secrets):
    caplog.set_level(logging.DEBUG)
    policies = own_transit.shipped_policies("saver", "loader")
    login = logins.approle(own_transit, tmp_path, policies)
    given = own_transit.token(*policies)
    secrets.add("root token", openbao.root)
    secrets.add("given token", given)
    secrets.add("secret id", login.secret_id_file.read_text().strip())
    keys = [provider(own_transit, auth, patience=1.0) for auth in (login, StaticToken(given))]
    made = [each.new_data_key(call) for each in keys]
    for item in made:
        secrets.add("data key", item.plaintext)
        secrets.written += [repr(item), str(item)]

    def all_operations():
        for each, item in zip(keys, made, strict=True):
            changed = replace(item.wrapped, wrapped_key=item.wrapped.wrapped_key[:-8] + "AAAAAAA=")
            faults = [
                secrets.collect(call, lambda each=each, item=item: each.unwrap(call, item.wrapped)),
                secrets.collect(call, lambda each=each, changed=changed: each.unwrap(call, changed)),
                secrets.collect(call, lambda each=each: each.new_data_key(call)),
                secrets.collect(call, lambda each=each, item=item: each.rewrap(call, item.wrapped)),
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
    login.secret_id_file.write_text("wrong-secret-id")
    secrets.add("wrong secret id", "wrong-secret-id")
    secrets.collect(call, lambda: provider(own_transit, login).new_data_key(call))
    file = tmp_path / "token"
    file.write_text("token-that-nobody-gave")
    secrets.add("token of a file", "token-that-nobody-gave")
    secrets.collect(call, lambda: provider(own_transit, TokenFile(file)).new_data_key(call))

    assert len(secrets.written) > 30
    secrets.written += [record.getMessage() for record in caplog.records] + [caplog.text]
    assert secrets.found() == set()


SECRET = base64.b64encode(b"the data key of another artifact").decode()


@pytest.mark.parametrize("status", [200, 307, 400, 403, 404, 412, 429, 500, 501, 503])
def test_a_body_that_holds_data_keys_is_never_quoted(status, transit, provider, call, secrets, caplog):
    caplog.set_level(logging.DEBUG)

    class Leaking:
        """Part of a batch was carried out: such an answer has data keys in it, whatever its status."""

        def send(self, request, token, timeout):
            results = [{"plaintext": SECRET}, {"error": f"invalid ciphertext {SECRET}"}]
            body = {"data": {"batch_results": results}, "errors": [SECRET], "warnings": [SECRET]}
            return Answer(status, body)

    secrets.add("data key", SECRET)
    keys = provider(transit, StaticToken("t"), patience=0.2, transport=Leaking())
    wrapped = WrappedKey("vault", transit.mount, "artifacts", "vault:v1:AAAA", 1)
    for do in (
        lambda: keys.new_data_key(call),
        lambda: keys.unwrap(call, wrapped),
        lambda: keys.rewrap_many(call, [wrapped] * 2),
    ):
        assert secrets.collect(call, do)
    secrets.written.append(caplog.text)
    assert secrets.found() == set()


def test_what_holds_a_secret_does_not_show_it():
    shown = [
        repr(StaticToken("s-e-c-r-e-t")),
        repr(VaultServer("http://vault", StaticToken("s-e-c-r-e-t"))),
        repr(Request("auth/jwt/login", {"jwt": "s-e-c-r-e-t"})),
        repr(Answer(200, {"auth": {"client_token": "s-e-c-r-e-t"}})),
        repr(TransitKey("transit", "artifacts")),
    ]
    assert not any("s-e-c-r-e-t" in text for text in shown)
