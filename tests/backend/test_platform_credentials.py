"""The credentials of AWS that come from the shared files and from EKS Pod Identity."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, ThreadingTCPServer

import pytest
from harness.http_server import serving
from harness.recorder import Recorder, recording

from sealgate.backend import ObjectStoreBackend
from sealgate.errors import NotConfigured, PluginError

TOKEN = "a-token-of-the-pod"
CONFIG = {"endpoint": "http://s3.example", "allow_http": True, "retry_timeout_seconds": 0}
ENVIRONMENT = {"SEALGATE_BACKEND_URL": "s3://bucket", "SEALGATE_BACKEND_CONFIG": json.dumps(CONFIG)}
FILE = """[default]
aws_access_key_id = DEFAULT1
aws_secret_access_key = s
[other]
aws_access_key_id=OTHER222
aws_secret_access_key=s
aws_session_token=session
[empty]
region=x
"""


@pytest.fixture
def recorder(monkeypatch, tmp_path) -> Iterator[Recorder]:
    with recording() as recorder:
        for name, value in recorder.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        yield recorder


def used(recorder: Recorder, call, at) -> str:
    ObjectStoreBackend(ENVIRONMENT).list_objects(call, at("key"))
    return recorder.requests[-1].headers["authorization"]


@pytest.mark.parametrize(("profile", "key"), [("", "DEFAULT1"), ("default", "DEFAULT1"), ("other", "OTHER222")])
@pytest.mark.parametrize("named", [False, True])
def test_keys_come_from_the_shared_credentials_file(monkeypatch, tmp_path, recorder, call, at, profile, key, named):
    file = tmp_path / ("elsewhere" if named else ".aws/credentials")
    file.parent.mkdir(exist_ok=True)
    file.write_text(FILE)
    if named:
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    assert f"Credential={key}/" in used(recorder, call, at)
    session = recorder.requests[-1].headers.get("x-amz-security-token")
    assert session == ("session" if key == "OTHER222" else None)


def test_keys_come_from_the_configuration_file_too(monkeypatch, tmp_path, recorder, call, at):
    (tmp_path / "config").write_text("[profile own]\naws_access_key_id=CONFIG33\naws_secret_access_key=s\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_PROFILE", "own")
    assert "Credential=CONFIG33/" in used(recorder, call, at)


def test_keys_in_variables_come_first(monkeypatch, tmp_path, recorder, call, at):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(FILE)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "VARIABLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    assert "Credential=VARIABLE/" in used(recorder, call, at)


@pytest.mark.parametrize("profile", ["empty", "absent"])
def test_a_profile_without_keys_is_refused_by_name(monkeypatch, tmp_path, recorder, call, at, profile):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(FILE)
    monkeypatch.setenv("AWS_PROFILE", profile)
    with pytest.raises(NotConfigured, match="the profile that AWS_PROFILE names") as caught:
        ObjectStoreBackend(ENVIRONMENT).list_objects(call, at("key"))
    assert "not supported" in caught.value.remedy
    assert recorder.requests == []


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", " \n\n"])
@pytest.mark.parametrize("answers", [True, False])
def test_pod_identity_ignores_a_line_break_after_the_token(monkeypatch, tmp_path, recorder, call, at, ending, answers):
    received = []

    class Agent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            received.append(self.headers["Authorization"])
            expires = "2099-01-01T00:00:00Z"
            keys = {"AccessKeyId": "PODPOD44", "SecretAccessKey": "s", "Token": "t", "Expiration": expires}
            body = json.dumps(keys if answers else {"message": "no"}).encode()
            self.send_response(200 if answers else 400)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "token").write_text(f"{TOKEN}{ending}", newline="")
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), Agent)) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/v1/credentials")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
        if answers:
            assert "Credential=PODPOD44/" in used(recorder, call, at)
        else:
            with pytest.raises(PluginError, match="no credentials for the store were found") as caught:
                ObjectStoreBackend(ENVIRONMENT).list_objects(call, at("key"))
            assert TOKEN not in caught.value.line(call, "key")
    assert set(received) == {TOKEN}


def test_an_agent_that_does_not_speak_http_gives_no_credentials(monkeypatch, tmp_path, recorder, call, at):
    class Agent(BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            self.request.sendall(b"something else\r\n\r\n")

    (tmp_path / "token").write_text(TOKEN)
    with serving(ThreadingTCPServer(("127.0.0.1", 0), Agent)) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/")
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
        with pytest.raises(PluginError, match="no credentials for the store were found"):
            ObjectStoreBackend(ENVIRONMENT).list_objects(call, at("key"))
