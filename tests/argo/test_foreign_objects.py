"""Objects of others beneath a directory in S3, where `KEY/c` and `KEY/c/a` can exist together, and any name can.

They prevent that the bundled backend puts all objects into one local directory. They do not prevent the Load.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest
from argo.test_directories import ABC, READS, Place
from harness.chain import SEALGATE, Proxy
from harness.outcome import outcome
from harness.s3 import Server
from moto.server import ThreadedMotoServer

FOREIGN = {"a file that is also a directory": "c/a", "a name that is too long for a file": "n" * 300}


@pytest.fixture(scope="module")
def moto() -> Iterator[Server]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield Server(f"http://{host}:{port}")
    server.stop()


class Bucket:
    """A bucket, and proxies in front of it with a directory artifact in it."""

    def __init__(self, start, server: Server) -> None:
        self._start = start
        self._client = server.client
        self.name = server.new_bucket()
        self._environment = {
            "SEALGATE_BACKEND_URL": f"s3://{self.name}",
            "SEALGATE_BACKEND_CONFIG": json.dumps(server.config()),
        }

    def proxy(self, transfer: str, **settings) -> Proxy:
        return self._start(
            downstream=[*SEALGATE, "backend"],
            settings={"spool": {"transfer": transfer}, **settings},
            environment=self._environment,
        )

    def put(self, key: str, content: bytes) -> None:
        self._client.put_object(Bucket=self.name, Key=key, Body=content)

    def remove(self, key: str) -> None:
        self._client.delete_object(Bucket=self.name, Key=key)


@pytest.fixture
def bucket(start, moto) -> Bucket:
    return Bucket(start, moto)


def test_objects_that_fit_into_no_directory_are_left_out(bucket, key):
    place = Place(bucket.proxy("auto"), key)
    place.save("tree", ABC)
    for name in FOREIGN.values():
        bucket.put(f"{key}/{name}", b"foreign")
        assert place.load() == ABC
        assert place.records()[-1]["unmapped"]["io"]["left_out"] == 1
        bucket.remove(f"{key}/{name}")
    bucket.put(f"{key}/c/a", b"foreign")
    bucket.remove(f"{key}/b")
    place.assert_refused('"b" in the directory is missing')
    bucket.put(f"{key}/b", b"another content")
    place.assert_refused(code="PERMISSION_DENIED")


def test_with_transfer_file_the_error_says_what_to_do(bucket, key):
    place = Place(bucket.proxy("file"), key)
    place.save("tree", ABC)
    bucket.put(f"{key}/c/a", b"foreign")
    found = outcome(lambda: place.argo.load(key, place.target))
    assert found.code == "DATA_LOSS"
    assert f'"{key}/c" in the store is both a file and a directory' in found.text
    assert "Delete the one that does not belong there, or load it with spool.transfer auto." in found.text
    bucket.remove(f"{key}/c/a")
    assert place.load() == ABC


def test_plaintext_that_the_downstream_calls_lost_is_not_read_in_another_way(bucket, key):
    place = Place(bucket.proxy("auto", policies=[READS]), key)
    bucket.put(f"{key}/a", b"plaintext")
    assert place.load() == {"a": b"plaintext"}
    bucket.put(f"{key}/a/b", b"plaintext")
    shutil.rmtree(place.target)
    found = outcome(lambda: place.argo.load(key, place.target))
    assert found.code == "DATA_LOSS"
    assert not place.target.exists()
