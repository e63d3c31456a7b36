"""Azurite, Microsoft's stand-in for Azure's blob storage, installed by npm once for each user."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import itertools
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlsplit
from xml.etree import ElementTree as ET

import pytest
from harness.tools import TOOLS

VERSION = "3.35.0"
ACCOUNT, KEY = "devaccount", base64.b64encode(b"a key of sixteen or more bytes").decode()
_INSTALLED_WITHIN, _STARTED_WITHIN = 120, 60
_containers = itertools.count()


def installed() -> Path:
    """Return the path of Azurite's program, and install it at the first call."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("Azurite did not run: npm is not installed")
    place = TOOLS / f"azurite-{VERSION}"
    program = place / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / ".installed").exists():
            command = [npm, "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(place)]
            try:
                subprocess.run([*command, f"azurite@{VERSION}"], check=True, timeout=_INSTALLED_WITHIN)
            except (subprocess.SubprocessError, OSError):
                pytest.skip(f"Azurite did not run: npm could not install version {VERSION}")
            (place / ".installed").touch()
    return program


@dataclass
class Azurite:
    """The server, and a client of it that is not the store library."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    def config(self, **options) -> dict[str, object]:
        """Return the backend's options for this server."""
        return {
            "endpoint": self.endpoint,
            "allow_http": True,
            "account_name": ACCOUNT,
            "account_key": KEY,
            "retry_timeout_seconds": 1,
        } | options

    def new_container(self) -> str:
        name = f"container-{os.getpid()}-{next(_containers)}"
        self._request("PUT", f"/{name}?restype=container")
        return name

    def keys(self, container: str) -> set[str]:
        names: set[str] = set()
        marker = ""
        while True:
            query = f"/{container}?restype=container&comp=list&marker={quote(marker)}"
            root = ET.fromstring(self._request("GET", query))
            names.update(blob.findtext("Name") or "" for blob in root.iter("Blob"))
            marker = root.findtext("NextMarker") or ""
            if not marker:
                return names

    def _request(self, method: str, rest: str) -> bytes:
        """Send a request that is signed as Azure documents it ("Authorize with Shared Key")."""
        url = urlsplit(f"{self.endpoint}{rest}")
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
        canonical = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        resource = f"/{ACCOUNT}{url.path}" + "".join(
            f"\n{name}:{value}" for name, value in sorted(parse_qsl(url.query, keep_blank_values=True))
        )
        text = f"{method}\n{chr(10) * 11}{canonical}{resource}"
        digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
        request = urllib.request.Request(url.geturl(), method=method, headers=headers)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.read()


@contextmanager
def azurite_at(place: Path) -> Iterator[Azurite]:
    """Run Azurite in the directory `place`. It keeps its blobs in memory."""
    program = installed()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--blobPort", str(port), "--silent", "--skipApiVersionCheck", "--inMemoryPersistence"]
    process = subprocess.Popen(
        ["node", str(program), "--blobHost", "127.0.0.1", *options, "--disableTelemetry"],
        env=os.environ | {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"},
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + _STARTED_WITHIN
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, "Azurite ended"
            assert time.monotonic() < until, "Azurite does not start"
            time.sleep(0.05)
        yield Azurite(port)
    finally:
        process.kill()
        process.wait(10)
