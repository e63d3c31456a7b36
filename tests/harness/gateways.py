"""versitygw with options of a test's own. It verifies signatures, and moto does not."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.golang import installed

_PROGRAM = ("github.com/versity/versitygw/cmd/versitygw", "v1.8.0")


@contextmanager
def gateway(access: str, secret: str, storage: list[str], *options: str) -> Iterator[int]:
    """Start versitygw in front of `storage` (`["posix", DIRECTORY]` or `["s3", …]`); yield its port on 127.0.0.1."""
    program = installed(*_PROGRAM)
    for _ in range(5):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [program, "--port", f"127.0.0.1:{port}", "--access", access, "--secret", secret, "--quiet", *options]
        process = subprocess.Popen(
            [*command, *storage],
            # A bundle of certificates that the platform names keeps a gateway in front of another server from starting.
            env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            if _answers(process, port):
                yield port
                return
        finally:
            process.kill()  # after SIGTERM it would wait until idle connections end
            process.wait(10)
    raise AssertionError("versitygw does not start")


def in_front_of(endpoint: str) -> list[str]:
    """Return the storage of a gateway that forwards to the S3 server at `endpoint`."""
    return ["s3", "--access", "any", "--secret", "any", "--endpoint", endpoint, "--use-path-style"]


def directory(root: Path) -> list[str]:
    """Return the storage of a gateway that keeps each object of a bucket as the file `root/BUCKET/KEY`."""
    return ["posix", str(root)]


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Return whether the process accepts connections; False if it ended, because another process took the port."""
    until = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < until:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.02)
    return False
