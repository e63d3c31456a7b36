"""Every login method on a real server, tokens that expire, and the number of logins."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
from harness import vault_logins as logins
from harness.chain import eventually
from harness.data_keys import make_and_open
from harness.vault_logins import ServiceAccount

from sealgate.call import Call, Operation
from sealgate.errors import NotConfigured, NotPermitted
from sealgate.keys.vault.formats import VaultResponse
from sealgate.keys.vault.login import AppRoleLogin, JwtLogin, StaticToken, TokenFile

BOTH = ("saver", "loader")


@pytest.fixture
def policies(transit):
    return transit.shipped_policies(*BOTH)


class Clock:
    """A clock that a test sets."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def first(low, high):
    """Return the earliest time, without jitter."""
    return low


# --- methods ---------------------------------------------------------------------------------------------


def test_a_token(transit, provider, call, policies):
    make_and_open(provider(transit, StaticToken(transit.token(*policies))), call)


def test_approle(transit, provider, call, policies, tmp_path):
    make_and_open(provider(transit, logins.approle(transit, tmp_path, policies)), call)


def test_jwt(transit, provider, call, policies, tmp_path, account):
    make_and_open(provider(transit, logins.jwt(transit, account, tmp_path / "jwt", policies)), call)


def test_kubernetes(transit, provider, call, policies, tmp_path, account):
    with logins.token_reviewer() as address:
        make_and_open(provider(transit, logins.kubernetes(transit, address, tmp_path / "jwt", account, policies)), call)


def test_a_token_file(transit, provider, call, policies, tmp_path):
    (tmp_path / "token").write_text(transit.token(*policies) + "\n")
    make_and_open(provider(transit, TokenFile(tmp_path / "token")), call)


def test_a_login_in_a_namespace(vault, provider, call, tmp_path):
    inside = vault.transit(vault.new_namespace())
    login = logins.approle(inside, tmp_path, inside.shipped_policies(*BOTH))
    make_and_open(provider(inside, login), call)


# --- methods that are not set up -------------------------------------------------------------------------


def test_a_wrong_secret_is_refused_as_a_login(transit, provider, call, policies, tmp_path):
    login = logins.approle(transit, tmp_path, policies)
    login.secret_id_file.write_text("00000000-0000-0000-0000-000000000000")
    with pytest.raises(NotPermitted, match="Vault refuses the login"):
        provider(transit, login).new_data_key(call)


def test_a_token_of_another_cluster_is_refused_as_a_login(transit, provider, call, policies, tmp_path, account):
    login = logins.jwt(transit, account, tmp_path / "jwt", policies)
    for wrong in (ServiceAccount().token(), account.token(aud=["other"]), account.token(sub="other"), "no.jwt.at-all"):
        login.jwt_path.write_text(wrong)
        with pytest.raises(NotPermitted, match="Vault refuses the login"):
            provider(transit, login).new_data_key(call)


def test_a_cluster_that_cannot_be_asked_is_a_login_refused(transit, provider, call, policies, tmp_path, account):
    with logins.token_reviewer() as address:
        login = logins.kubernetes(transit, address, tmp_path / "jwt", account, policies)
        keys = provider(transit, login)
        make_and_open(keys, call)
    with pytest.raises(NotPermitted, match="Vault refuses the login"):
        provider(transit, login).new_data_key(call)
    make_and_open(keys, call)  # a provider with a token needs no login


def test_a_mount_that_is_not_there_is_named_as_what_to_check(transit, provider, call, tmp_path):
    (tmp_path / "jwt").write_text("a.b.c")
    with pytest.raises((NotConfigured, NotPermitted)) as raised:
        provider(transit, JwtLogin("nowhere", "role", tmp_path / "jwt")).new_data_key(call)
    assert "keys.vault.auth" in raised.value.remedy


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (None, "no such file"),
        (b"", "it is empty"),
        (b" \n", "it is empty"),
        (b"\xff", "not ASCII text"),
        (b"a\nb", "one line"),
    ],
    ids=str,
)
def test_a_secret_that_cannot_be_read_is_named_by_its_setting(transit, provider, call, tmp_path, content, fact):
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    for auth, setting in (
        (TokenFile(file), "path"),
        (JwtLogin("jwt", "role", file), "jwtPath"),
        (AppRoleLogin("approle", "id", file), "secretIdFile"),
    ):
        with pytest.raises(NotConfigured, match=fact) as raised:
            provider(transit, auth).new_data_key(call)
        assert raised.value.remedy == f"Check keys.vault.auth.{setting}"


@pytest.mark.parametrize("written_to", [False, True])
def test_a_pipe_or_a_device_is_not_a_secret_and_is_not_waited_for(transit, provider, call, tmp_path, written_to):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR) if written_to else None
    for path in (pipe, Path("/dev/zero")):
        for auth in (TokenFile(path), JwtLogin("jwt", "role", path), AppRoleLogin("approle", "id", path)):
            with pytest.raises(NotConfigured, match="it is not a regular file"):
                provider(transit, auth).new_data_key(call)
    if writer is not None:
        os.close(writer)


@pytest.mark.parametrize("token", ["", "a\nb", "a\r\nX-Vault-Namespace: b", "schlüssel", " a", 7], ids=repr)
def test_an_answer_without_a_valid_token_is_an_error_of_the_login(transit, provider, call, tmp_path, token):
    class Giving:
        def send(self, request, _, timeout):
            return VaultResponse(200, {"auth": {"client_token": token, "lease_duration": 60}})

    (tmp_path / "jwt").write_text("a.b.c")
    with pytest.raises(NotConfigured, match="answer to the login contains no token"):
        provider(transit, JwtLogin("jwt", "role", tmp_path / "jwt"), transport=Giving()).new_data_key(call)


# --- tokens that end -------------------------------------------------------------------------------------


def test_a_token_that_was_revoked_is_replaced_within_the_call(openbao, own_transit, provider, call, tmp_path):
    login = logins.approle(own_transit, tmp_path, own_transit.shipped_policies(*BOTH))
    keys = provider(own_transit, login)
    make_and_open(keys, call)
    own_transit.post("sys/leases/revoke-prefix/auth/" + login.mount)
    make_and_open(keys, call)
    assert openbao.calls()[f"auth/{login.mount}/login"] == 2


def test_a_token_that_expired_is_replaced_within_the_call(transit, provider, call, policies, tmp_path):
    # This process's clock does not move, so only the server knows that the token expired.
    keys = provider(transit, logins.approle(transit, tmp_path, policies, token_ttl="1s"), clock=Clock())
    made = keys.new_data_key(call)
    token = StaticToken(transit.token(*policies, ttl="1s", no_parent=True))
    short = provider(transit, token)

    def has_ended():
        try:
            short.unwrap(call, made.wrapped)
        except NotPermitted:
            return True
        return False

    assert eventually(has_ended)
    assert keys.unwrap(call, made.wrapped) == made.plaintext


def test_a_role_that_was_revoked_is_refused_and_the_next_call_is_right_once_it_is_back(
    transit, provider, call, tmp_path
):
    clock = Clock()
    policy, *_ = transit.shipped_policies("saver")
    keys = provider(transit, logins.approle(transit, tmp_path, [policy]), clock=clock)
    keys.new_data_key(call)
    transit.write_policy(policy, 'path "transit/*" { capabilities = ["deny"] }')
    for _ in range(2):
        with pytest.raises(NotPermitted, match="does not allow this role to use key artifacts"):
            keys.new_data_key(call)
    transit.write_policy(policy, 'path "transit/datakey/plaintext/artifacts" { capabilities = ["update"] }')
    keys.new_data_key(call)


def test_a_token_that_is_revoked_after_a_policy_was_corrected_is_replaced(transit, provider, call, policies, tmp_path):
    login = logins.approle(transit, tmp_path, policies)
    keys = provider(transit, login, clock=Clock())
    transit.write_policy(policies[0], 'path "transit/*" { capabilities = ["deny"] }')
    with pytest.raises(NotPermitted):
        keys.new_data_key(call)
    transit.write_policy(policies[0], 'path "transit/datakey/plaintext/artifacts" { capabilities = ["update"] }')
    keys.new_data_key(call)
    transit.post(f"sys/leases/revoke-prefix/auth/{login.mount}")
    keys.new_data_key(call)


def test_a_token_that_is_given_and_refused_is_an_error_at_once(openbao, own_transit, provider, call):
    token = own_transit.token(*own_transit.shipped_policies("loader"))
    with pytest.raises(NotPermitted, match="it has expired, or its policies do not allow this") as raised:
        provider(own_transit, StaticToken(token)).new_data_key(call)
    assert "keys.vault.auth" in raised.value.remedy
    assert openbao.calls()[f"{own_transit.mount}/datakey/plaintext/artifacts"] == 1


def test_a_changed_token_file_is_read_again(transit, provider, call, policies, tmp_path):
    file = tmp_path / "token"
    tokens = [transit.token(*policies) for _ in range(3)]
    file.write_text(tokens[0])
    keys = provider(transit, TokenFile(file))
    make_and_open(keys, call)
    for old, new in pairwise(tokens):
        transit.post("auth/token/revoke", {"token": old})
        other = tmp_path / "other"
        other.write_text(new)
        other.replace(file)
        make_and_open(keys, call)


def test_a_token_file_with_unchanged_metadata_is_read_again_when_its_token_was_refused(
    transit, provider, call, policies, tmp_path
):
    file = tmp_path / "token"
    old, new = transit.token(*policies), transit.token(*policies)
    file.write_text(old)
    keys = provider(transit, TokenFile(file))
    make_and_open(keys, call)
    before = file.stat()
    transit.post("auth/token/revoke", {"token": old})
    file.write_text(new)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    make_and_open(keys, call)


# --- how many logins -------------------------------------------------------------------------------------


@pytest.fixture
def login(own_transit, tmp_path):
    return logins.approle(own_transit, tmp_path, own_transit.shipped_policies(*BOTH))


def test_callers_at_the_same_time_share_one_login(openbao, own_transit, provider, login):
    keys = provider(own_transit, login)
    together = threading.Barrier(20)

    def work(_):
        together.wait()
        return keys.new_data_key(Call(Operation.SAVE)).plaintext

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(work, range(20)))) == 20
    assert openbao.calls()[f"auth/{login.mount}/login"] == 1


def test_callers_at_the_same_time_share_the_login_after_a_revocation(openbao, own_transit, provider, login, call):
    keys = provider(own_transit, login)
    keys.new_data_key(call)
    own_transit.post("sys/leases/revoke-prefix/auth/" + login.mount)
    with ThreadPoolExecutor(20) as pool:
        assert len({made.plaintext for made in pool.map(lambda _: keys.new_data_key(call), range(20))}) == 20
    assert openbao.calls()[f"auth/{login.mount}/login"] == 2


def test_the_warm_up_is_the_login_of_the_first_call(openbao, own_transit, provider, login, call):
    keys = provider(own_transit, login)
    keys.warm_up()
    keys.new_data_key(call)
    assert openbao.calls()[f"auth/{login.mount}/login"] == 1


def test_a_warm_up_that_fails_leaves_the_first_call_to_try_again(openbao, own_transit, provider, login, call, caplog):
    secret = login.secret_id_file.read_text()
    login.secret_id_file.write_text("wrong")
    keys = provider(own_transit, login)
    keys.warm_up()
    assert eventually(lambda: "not logged in to vault yet" in caplog.text)
    login.secret_id_file.write_text(secret)
    make_and_open(keys, call)


def test_a_token_is_replaced_near_its_end_and_not_before(openbao, own_transit, provider, login, call):
    clock = Clock()
    keys = provider(own_transit, login, clock=clock, jitter=first)
    seen = []
    for seconds in (0, 419, 1, 1, 418, 1, 1):  # of 600, of which 0.7 is 420
        clock.now += seconds
        keys.new_data_key(call)
        seen.append(openbao.calls()[f"auth/{login.mount}/login"])
    assert seen == [1, 1, 2, 2, 2, 3, 3]


def test_a_token_is_used_until_it_expires_if_no_login_succeeds(openbao, own_transit, provider, login, call):
    clock = Clock()
    keys = provider(own_transit, login, clock=clock, jitter=first)
    keys.new_data_key(call)
    login.secret_id_file.write_text("wrong")
    clock.now += 500
    for _ in range(3):
        keys.new_data_key(call)
    assert openbao.calls()[f"auth/{login.mount}/login"] == 2  # the second failed, and there is no third for now
    clock.now += 101
    with pytest.raises(NotPermitted, match="refuses the login"):
        keys.new_data_key(call)


def test_a_refusal_by_policy_does_not_cause_a_login_for_each_call(openbao, own_transit, provider, login, call):
    clock = Clock()
    own_transit.create_key("other")
    keys = provider(own_transit, login, key="other", clock=clock)
    for seconds, so_far in ((0, 2), (1, 2), (3, 2), (2, 3)):
        clock.now += seconds
        with pytest.raises(NotPermitted):
            keys.new_data_key(call)
        assert openbao.calls()[f"auth/{login.mount}/login"] == so_far


def test_nothing_is_looked_up_or_renewed(openbao, own_transit, provider, login, call):
    before = openbao.calls()
    keys = provider(own_transit, login)
    for _ in range(3):
        make_and_open(keys, call)
    asked = openbao.calls() - before
    mount = own_transit.mount
    assert asked == {
        f"auth/{login.mount}/login": 1,
        f"{mount}/datakey/plaintext/artifacts": 3,
        f"{mount}/decrypt/artifacts": 3,
    }


def test_the_identity_of_a_login_is_known_without_a_request(transit, provider, tmp_path, call, policies, account):
    claims = {
        "/kubernetes.io/namespace": "service_account_namespace",
        "/kubernetes.io/serviceaccount/name": "service_account_name",
    }
    keys = provider(transit, logins.jwt(transit, account, tmp_path / "jwt", policies, claim_mappings=claims))
    assert keys.attested_already() == {}, "it does not log in"
    found = keys.attested(call)
    assert (found["service_account_namespace"], found["service_account_name"]) == ("ns", "sa")
    assert keys.attested(call) is keys.attested_already() is found


def test_a_kubernetes_login_proves_namespace_and_service_account(transit, provider, tmp_path, call, policies, account):
    with logins.token_reviewer() as address:
        login = logins.kubernetes(transit, address, tmp_path / "jwt", account, policies)
        found = provider(transit, login).attested(call)
    assert (found["service_account_namespace"], found["service_account_name"]) == ("ns", "sa")


def test_the_metadata_of_a_secret_id_proves_nothing(transit, provider, tmp_path, call, policies):
    forged = '{"service_account_namespace": "payments", "service_account_name": "runner"}'
    keys = provider(transit, logins.approle(transit, tmp_path, policies, metadata=forged))
    assert keys.attested(call) == keys.attested_already() == {}


def test_a_token_from_elsewhere_proves_nothing(keys, call):
    assert keys.attested(call) == keys.attested_already() == {}
