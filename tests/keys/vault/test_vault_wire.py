"""What is sent to Vault and what is not: redirects, proxies, and answers that are not Vault's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from harness.http_server import serving

from sealgate.keys.vault.connections import Wire
from sealgate.keys.vault.formats import Unanswered, VaultRequest, VaultResponse

ROOT = Path(__file__).parents[3]
REQUEST = VaultRequest("transit/decrypt/artifacts", {"ciphertext": "vault:v1:AAAA"})


@contextmanager
def answering(status, body=b"", headers=()):
    """Serve the same answer to every request, and yield the address and the list of requests."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            size = int(self.headers.get("Content-Length", 0))
            seen.append((self.command, self.path, dict(self.headers), self.rfile.read(size)))
            self.send_response(status)
            for name, value in (*headers, ("Content-Length", str(len(body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.do_POST()

        def log_message(self, *_):
            pass

    seen = []
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        yield url, seen


def send(address, request=REQUEST, token="t-secret", **options):
    return Wire(address, **options).send(request, token, 10)


def test_a_request_is_what_vault_expects():
    with answering(200, json.dumps({"data": {"plaintext": "AAAA"}}).encode()) as (address, seen):
        answer = send(address, namespace="team/a")
    assert answer == VaultResponse(200, {"data": {"plaintext": "AAAA"}})
    [(method, path, headers, body)] = seen
    assert (method, path, json.loads(body)) == ("POST", "/v1/transit/decrypt/artifacts", REQUEST.body)
    assert headers["X-Vault-Token"] == "t-secret"
    assert headers["X-Vault-Namespace"] == "team/a"
    assert headers["X-Vault-Request"] == "true"


def test_reading_a_key_is_a_get_and_a_login_carries_no_token():
    with answering(200, b"{}") as (address, seen):
        send(address, VaultRequest("transit/keys/artifacts"))
        send(address, VaultRequest("auth/jwt/login", {"role": "r"}), token="")
    assert [method for method, *_ in seen] == ["GET", "POST"]
    assert "X-Vault-Token" not in seen[1][2]


def test_a_connection_is_used_again():
    with answering(200, b"{}") as (address, _):
        wire = Wire(address)
        for _ in range(3):
            wire.send(REQUEST, "t", 10)
        assert len(wire._idle) == 1


def test_a_redirect_is_not_followed_and_the_token_stays_here():
    with (
        answering(200) as (elsewhere, seen),
        answering(307, headers=[("Location", f"{elsewhere}/v1/x")]) as (address, _),
    ):
        assert send(address) == VaultResponse(307)
    assert seen == []


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"text"', b'{"data"', b"\xff\xfe", b"null", b"[" * 100_000])
def test_a_body_that_is_not_a_json_object_is_an_empty_answer(body):
    with answering(200, body) as (address, _):
        assert send(address) == VaultResponse(200, {})


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3), ("0", 0), ("99999", 5), ("-1", 0), ("soon", 0), ("", 0), ("1e9", 0)]
)
def test_the_requested_wait_before_the_next_try_is_limited(header, seconds):
    with answering(429, b"{}", [("Retry-After", header)]) as (address, _):
        assert send(address) == VaultResponse(429, {}, seconds)


@pytest.mark.parametrize("address", ["http://", "vault:8200", "ftp://vault", "http://[::1", "http://vault:port"])
def test_an_invalid_address_is_not_reported_as_a_server_that_is_down(address):
    assert send(address) is Unanswered.ADDRESS


def test_an_address_without_a_server_is_no_connection():
    with answering(200) as (address, _):
        pass
    assert send(address) is Unanswered.NO_CONNECTION


SCRIPT = """
import sys
from sealgate.keys.vault.provider import VaultKeys
from sealgate.keys.vault.server import TransitKey, VaultServer
from sealgate.keys.vault.login import StaticToken
from sealgate.call import Call, Operation
keys = VaultKeys(VaultServer(sys.argv[1], StaticToken("given")), TransitKey("transit", "artifacts"))
assert "hvac" not in sys.modules and "requests" not in sys.modules, "loaded before it is needed"
call = Call(Operation.SAVE)
made = keys.new_data_key(call)
assert keys.unwrap(call, made.wrapped) == made.plaintext
print(made.wrapped.provider, made.wrapped.mount, made.wrapped.key_name, made.wrapped.key_version)
assert "hvac" in sys.modules
"""


def test_the_client_is_loaded_by_the_first_request_and_takes_nothing_from_the_environment(tmp_path):
    data = {"plaintext": "A" * 43 + "=", "ciphertext": "vault:v1:AAAA"}
    (tmp_path / ".vault-token").write_text("from-home")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login from-netrc password from-netrc")
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "proxy"),
        "HOME": str(tmp_path),
        "VAULT_TOKEN": "from-environment",
        "VAULT_ADDR": "http://127.0.0.1:1",
        "VAULT_CACERT": "/nowhere",
        "VAULT_CLIENT_CERT": "/nowhere",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
    }
    with answering(200, json.dumps({"data": data}).encode()) as (address, seen):
        ended = subprocess.run(
            [sys.executable, "-c", SCRIPT, address], env=environment, capture_output=True, text=True, check=False
        )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "vault transit artifacts 1\n"
    assert {headers["X-Vault-Token"] for _, _, headers, _ in seen} == {"given"}
    assert not any("Authorization" in headers for _, _, headers, _ in seen)


WARM = """
import sys, threading
from pathlib import Path
from sealgate.keys.vault.provider import VaultKeys
from sealgate.keys.vault.server import TransitKey, VaultServer
from sealgate.keys.vault.login import StaticToken, TokenFile
auth = StaticToken("given") if sys.argv[1] == "token" else TokenFile(Path(sys.argv[1]))
keys = VaultKeys(VaultServer("http://127.0.0.1:1", auth), TransitKey("transit", "artifacts"))
assert "hvac" not in sys.modules
keys.warm_up()
[thread.join() for thread in threading.enumerate() if thread.name == "sealgate-vault"]
assert "hvac" in sys.modules
"""


@pytest.mark.parametrize("method", ["token", "file"])
def test_the_warm_up_loads_the_client_also_without_a_login(tmp_path, method):
    (tmp_path / "file").write_text("given")
    auth = "token" if method == "token" else str(tmp_path / "file")
    ended = subprocess.run([sys.executable, "-c", WARM, auth], capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
