"""A proxy as Argo starts it: a process that serves a socket, with a downstream behind it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from harness.argo import CONFIGURATION, Argo

from sealgate.log_event import LogEvent

SEALGATE = [sys.executable, "-m", "sealgate"]
VENDOR = [sys.executable, str(Path(__file__).with_name("vendor.py"))]
SECOND_VENDOR = [sys.executable, str(Path(__file__).with_name("second_vendor.py"))]
TESTS = Path(__file__).parent.parent
STARTED_WITHIN = 30.0
_OF_EVERY_LINE = {"timestamp", "level", "logger", "event"}


def write_keyring(path: Path, versions: int = 1) -> Path:
    keys = {str(n): base64.b64encode(os.urandom(32)).decode() for n in range(1, versions + 1)}
    path.write_text(json.dumps({"keys": {"default": {"latest": versions, "versions": keys}}}))
    path.chmod(0o600)
    return path


class Proxy:
    """`sealgate serve` in front of a downstream, with a home directory of its own.

    The home contains `work` (the allowed root), `storage` (the downstream's objects), `keyring.json`, `log` (standard
    error) and `audit.jsonl` (standard output). The socket is in a directory with a shorter path. The command `within`
    is put before that of the process.
    """

    def __init__(
        self,
        home: Path,
        *,
        downstream: list[str] | dict[str, object] | None = None,
        settings: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        within: tuple[str, ...] = (),
    ) -> None:
        self.home = home
        self.work = home / "work"
        self.storage = home / "storage"
        for directory in (self.work, self.storage):
            directory.mkdir(exist_ok=True)
        # The path of a socket may have 107 bytes; those of pytest's directories are longer.
        self._short = tempfile.TemporaryDirectory(prefix="sg-")
        self.socket = Path(self._short.name) / "crypt" / "socket"
        self.keyring = home / "keyring.json"
        if not self.keyring.exists():
            write_keyring(self.keyring)
        command = downstream if downstream is not None else VENDOR
        self.settings: dict[str, object] = {
            "apiVersion": "sealgate/v1alpha1",
            "kind": "Sealgate",
            "downstream": command if isinstance(command, dict) else {"command": command},
            "keys": {"provider": "local", "local": {"keyring": str(self.keyring)}},
            "paths": {"roots": [str(self.work)]},
            **(settings or {}),
        }
        self.log = home / "log"
        self.trail = home / "audit.jsonl"
        self.output_to: int | None = None
        """File descriptor that takes standard output instead of `trail`."""
        self.log_to: int | None = None
        """File descriptor that takes standard error instead of `log`."""
        self._environment = dict(environment or {})
        self._arguments = arguments
        self.within = within
        self.process: subprocess.Popen[bytes] | None = None
        self.clients: list[Argo] = []

    def start(self) -> Proxy:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SEALGATE_", "VENDOR_"))},
            "PYTHONPATH": str(TESTS.parent / "proxy"),
            "VENDOR_ROOT": str(self.storage),
            "SEALGATE_BACKEND_URL": f"file://{self.storage}",
            "SEALGATE_CONFIG_YAML": json.dumps(self.settings),
            **self._environment,
        }
        with self.log.open("ab") as log, self.trail.open("ab") as trail:
            self.process = subprocess.Popen(
                [*self.within, *SEALGATE, "serve", str(self.socket), *self._arguments],
                env={name: value for name, value in environment.items() if value},
                stdin=subprocess.DEVNULL,
                stdout=trail if self.output_to is None else self.output_to,
                stderr=log if self.log_to is None else self.log_to,
            )
        self.await_socket()
        return self

    def await_socket(self) -> None:
        """Wait until the socket accepts connections."""
        until = time.monotonic() + STARTED_WITHIN
        while not self._accepts():
            assert time.monotonic() < until, self.output()
            assert self.process is None or self.process.poll() is None, self.output()
            time.sleep(0.005)

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def argo(self, configuration: str = CONFIGURATION, timeout: float | None = 60) -> Argo:
        client = Argo(self.socket, configuration, timeout)
        self.clients.append(client)
        return client

    def output(self) -> str:
        """Return the log with level, logger, event and fields of each record in a line; of a child's line its text."""
        return "".join(map(_readable, self.log.read_text(errors="replace").splitlines(keepends=True)))

    def stop(self) -> int:
        """End the process by SIGTERM, and return its exit code."""
        for client in self.clients:
            client.close()
        self.clients.clear()
        process, self.process = self.process, None
        code = 0
        if process is not None:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(40)
            finally:
                process.kill()
        self._short.cleanup()
        return code

    def kill(self) -> None:
        """End the process by SIGKILL, as the end of an init container does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def spools(self) -> list[Path]:
        """Return everything in spools but their locks."""
        beside = self.socket.parent
        found: list[Path] = []
        for spool in beside.glob(".sealgate-spool-*"):
            with contextlib.suppress(FileNotFoundError):  # a spool of a killed process is removed by the next one
                found += [path for path in spool.iterdir() if path.name != "lock"]
        return found


def _readable(line: str) -> str:
    try:
        facts = json.loads(line)
        fields = {name: value for name, value in facts.items() if name not in _OF_EVERY_LINE}
        output = fields.get("output")
        event = output if isinstance(output, str) else LogEvent(facts["event"], **fields)
        return f"{facts['level'].upper()} {facts['logger']}: {event}\n"
    except (ValueError, KeyError, TypeError):
        return line


def eventually(condition, seconds: float = 20.0) -> bool:
    """Return whether `condition` becomes true within `seconds`, which are many because a machine may be busy."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= until:
            return False
        time.sleep(0.01)
    return True
