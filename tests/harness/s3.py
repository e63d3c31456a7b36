"""S3 servers for tests, and a client of theirs that shows their content without the backend."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import boto3
from harness.golang import installed

VERSITYGW = ("github.com/versity/versitygw/cmd/versitygw", "v1.8.0")
ACCESS, SECRET = "an-access-key", "a-secret-key"
_buckets = itertools.count()


@dataclass
class Server:
    """An S3 server: its address, and a client that is not obstore."""

    endpoint: str
    client: object = field(init=False)

    def __post_init__(self):
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=ACCESS,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )

    def new_bucket(self) -> str:
        name = f"bucket-{os.getpid()}-{next(_buckets)}"
        self.client.create_bucket(Bucket=name)
        return name

    def config(self, **options) -> dict[str, object]:
        """Return the backend's options for this server."""
        return {
            "endpoint": self.endpoint,
            "allow_http": True,
            "region": "us-east-1",
            "access_key_id": ACCESS,
            "secret_access_key": SECRET,
            "retry_timeout_seconds": 1,
        } | options

    def keys(self, bucket: str) -> set[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {found["Key"] for page in pages for found in page.get("Contents", [])}

    def uploads(self, bucket: str) -> list[str]:
        """Return the keys of multipart uploads that were neither completed nor aborted."""
        return [found["Key"] for found in self.client.list_multipart_uploads(Bucket=bucket).get("Uploads") or []]


@contextmanager
def versitygw_at(root: Path, host: str = "127.0.0.1") -> Iterator[Server]:
    """Run versitygw, which keeps each object of a bucket as the file `root/BUCKET/KEY`; it listens on `host`."""
    process, port = _started(installed(*VERSITYGW), root, host)
    try:
        yield Server(f"http://{host}:{port}")
    finally:
        process.kill()  # after SIGTERM it would wait until idle connections end
        process.wait(10)


def _started(program: Path, root: Path, host: str) -> tuple[subprocess.Popen, int]:
    for _ in range(5):
        with socket.socket() as probe:
            probe.bind((host, 0))
            port = probe.getsockname()[1]
        options = ["--port", f"{host}:{port}", "--access", ACCESS, "--secret", SECRET, "--keep-alive", "--quiet"]
        process = subprocess.Popen(
            [program, *options, "posix", root], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 10
        while process.poll() is None and time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex((host, port)) == 0:
                    return process, port
            time.sleep(0.02)
        process.kill()  # another process took the port first
    raise AssertionError("versitygw does not start")
