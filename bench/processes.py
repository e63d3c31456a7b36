"""Servers in processes of their own: starting, measuring and ending them."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket as sockets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.setting import MIB, ROOT

SEALGATE = str(Path(sys.executable).with_name("sealgate"))
BARE = [sys.executable, str(Path(__file__).with_name("bare.py"))]
SERVERS = [sys.executable, "-m", "bench.servers"]
_STARTED_WITHIN = 30.0
_OURS = ("SEALGATE_", "VAULT_")


class Server(AbstractContextManager["Server"]):
    """A process that serves on `home/socket`. `command` gets that path as its last argument."""

    def __init__(
        self,
        home: Path,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        within: float = _STARTED_WITHIN,
    ) -> None:
        """Start the process, and wait until it accepts connections, for at most `within` seconds."""
        home.mkdir(exist_ok=True)
        self.socket = home / "socket"
        self._log = home / "log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        with self._log.open("ab") as log:
            began = time.perf_counter()
            self.process = subprocess.Popen(
                [*command, str(self.socket)],
                cwd=ROOT,
                env={**inherited, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._await_connection(within)
        self.seconds_to_accept = time.perf_counter() - began

    def _await_connection(self, within: float) -> None:
        until = time.monotonic() + within
        while not self._accepts():
            if time.monotonic() > until or self.process.poll() is not None:
                raise RuntimeError(f"a server did not start: {self._log.read_text(errors='replace')}")
            time.sleep(0.0005)

    def _accepts(self) -> bool:
        with sockets.socket(sockets.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.socket.unlink(missing_ok=True)

    def memory(self, kind: str = "Rss") -> float:
        """Return the memory of the process in MiB: `Rss`, or `Pss`, which divides shared pages among processes."""
        return _field(f"/proc/{self.process.pid}/smaps_rollup", kind)

    def forget_peak(self) -> None:
        """Reset the value of `peak`."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def peak(self) -> float:
        """Return the highest resident memory in MiB since the last `forget_peak`."""
        return _field(f"/proc/{self.process.pid}/status", "VmHWM")

    def settled_memory(self, kind: str = "Rss") -> float:
        """Return the memory in MiB once it has stopped changing after the start."""
        before, same = -1.0, 0
        while same < 5:
            time.sleep(0.1)
            now = self.memory(kind)
            same = same + 1 if now == before else 0
            before = now
        return before


def _field(path: str, name: str) -> float:
    for line in Path(path).read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / MIB
    raise LookupError(name)


def backend(home: Path) -> Server:
    """Start the bundled backend on a directory beneath `home`."""
    return Server(home, [SEALGATE, "backend"], _storage(home))


def s3_backend(home: Path, url: str, options: Mapping[str, object]) -> Server:
    """Start the bundled backend on the bucket at `url`."""
    return Server(home, [SEALGATE, "backend"], _bucket(url, options))


def slow_backend(home: Path, rate: int) -> Server:
    """Start the bundled backend on storage that is limited to `rate` bytes a second."""
    return Server(home, [*SERVERS, "slow", str(rate)], _storage(home))


def relay(home: Path, downstream: Path) -> Server:
    """Start the proxy's server and client without a layer between them."""
    return Server(home, [*SERVERS, "relay", str(downstream)])


def bare(home: Path) -> Server:
    return Server(home, BARE)


def proxy(
    home: Path,
    downstream: Path,
    root: Path,
    transfer: str = "auto",
    *,
    trail: Path | None = None,
    collector: Path | None = None,
    policy: str = "",
) -> Server:
    """Start Sealgate in front of the plugin on the socket `downstream`, with its spool beneath `home`.

    The audit trail goes to standard output, or to the file `trail`. Spans go to the socket `collector`, if given.
    `policy` is the text of its only policy. Sealgate has no policy if the text is empty.
    """
    settings = _settings(home, downstream, root, transfer)
    if policy:
        (home / "policy.yaml").write_text(policy)
        settings["policies"] = [str(home / "policy.yaml")]
    if trail is not None:
        settings["audit"] = {"sinks": [{"type": "file", "path": str(trail)}]}
    environment = {"SEALGATE_CONFIG_YAML": json.dumps(settings)}
    if collector is not None:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"unix:{collector}"
        environment["OTEL_EXPORTER_OTLP_INSECURE"] = "true"
    return Server(home, [SEALGATE, "serve"], environment)


def builtin(home: Path, backend: Path, root: Path, rate: int = 0) -> Server:
    """Start Sealgate with the bundled backend in its own process, on the storage of the one beneath `backend`.

    With `rate`, that storage is limited to so many bytes a second, and there is no audit trail.
    """
    settings = _settings(home, home, root, "auto") | {"downstream": {"builtin": {}}}
    command = [*SERVERS, "slow-builtin", str(rate)] if rate else [SEALGATE, "serve"]
    return Server(home, command, {**_storage(backend), "SEALGATE_CONFIG_YAML": json.dumps(settings)})


def imports(home: Path, kind: str) -> list[tuple[str, str, float, float]]:
    """Start the server `kind` of bench/imports.py, and return its lines: phase, package, KiB and seconds."""
    home.mkdir(exist_ok=True)
    settings = _settings(home, home, home, "auto") | {"downstream": {"builtin": {}}}
    environment = {**_storage(home), "SEALGATE_CONFIG_YAML": json.dumps(settings)}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    words = [sys.executable, "-m", "bench.imports", kind, str(home / "socket")]
    ended = subprocess.run(
        words, cwd=ROOT, env={**inherited, **environment}, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return [(phase, package, memory, seconds) for phase, package, memory, seconds in json.loads(ended.stdout)]


def s3_builtin(home: Path, url: str, options: Mapping[str, object], root: Path) -> Server:
    """Start Sealgate with the bundled backend in its own process, on the bucket at `url`."""
    settings = _settings(home, home, root, "auto") | {"downstream": {"builtin": {}}}
    environment = {**_bucket(url, options), "SEALGATE_CONFIG_YAML": json.dumps(settings)}
    return Server(home, [SEALGATE, "serve"], environment)


def silent_proxy(home: Path, downstream: Path, root: Path) -> Server:
    """Start Sealgate without its audit trail."""
    settings = _settings(home, downstream, root, "auto")
    return Server(home, [*SERVERS, "silent", "-"], {"SEALGATE_CONFIG_YAML": json.dumps(settings)})


def collector(home: Path) -> Server:
    """Start a collector that drops the spans that it receives."""
    return Server(home, [*SERVERS, "collector", "-"])


def _settings(home: Path, downstream: Path, root: Path, transfer: str) -> dict[str, Any]:
    home.mkdir(exist_ok=True)
    return {
        "apiVersion": "sealgate/v1alpha1",
        "kind": "Sealgate",
        "downstream": {"socket": str(downstream)},
        "keys": {"provider": "local", "local": {"keyring": str(_keyring(home))}},
        "paths": {"roots": [str(root)]},
        "spool": {"directory": str(home), "transfer": transfer},
    }


def _storage(home: Path) -> dict[str, str]:
    storage = home / "storage"
    storage.mkdir(parents=True, exist_ok=True)
    return {"SEALGATE_BACKEND_URL": f"file://{storage}"}


def _bucket(url: str, options: Mapping[str, object]) -> dict[str, str]:
    return {"SEALGATE_BACKEND_URL": url, "SEALGATE_BACKEND_CONFIG": json.dumps(options)}


def _keyring(home: Path) -> Path:
    path = home / "keyring.json"
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    path.write_text(json.dumps({"keys": {"default": {"latest": 1, "versions": {"1": key}}}}))
    path.chmod(0o600)
    return path


Start = Callable[[Path], Server]
